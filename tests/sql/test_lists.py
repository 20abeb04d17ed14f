"""list_accounts(), list_payments() and list_holds(): filters, and pages that together are the whole."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.conftest import Connection
from tests.sql.calls import Row, as_if_an_hour_ago, at, held, paid, refusal_of, row, rows
from tests.support import account

HOURS = [f"2020-01-01 {hour:02}:00:00+00" for hour in range(24)]
Names = dict[str, int]


@pytest.fixture
def ledger(keeper: Connection) -> Names:
    """Accounts in two currencies, and payments among them, one an hour from 1 on, each of as much as its hour."""
    names = {name: account(keeper, name, 1000, currency) for name, currency in
             (("Anna", 1), ("Anton", 1), ("anna", 1), ("Bert", 1), ("Än%", 2), ("An_", 2), ("An\\", 2))}  # fmt: skip
    payments = [
        ("Anna", "Anton", "one"), ("Anton", "Anna", None), ("Anna", "Bert", "two"), ("Än%", "An_", "one"),
        ("Bert", "Anna", None), ("Anna", "Anton", "two"), ("An_", "Än%", None), ("Anton", "Bert", "one"),
    ]  # fmt: skip
    for hour, (buyer, seller, reference) in enumerate(payments, 1):
        number = paid(keeper, names[buyer], names[seller], hour, description=f"hour {hour}", reference=reference)
        names[f"payment {hour}"] = at(keeper, number, HOURS[hour])
    row(keeper, "set_account_status", names["Anton"], "frozen")
    return names


@pytest.fixture
def refunds(keeper: Connection, ledger: Names) -> Names:
    """Refunds of the payments of hours 6 and 3, one an hour from 9 on, of a tenth, two tenths and so on."""
    row(keeper, "set_account_status", ledger["Anton"], "active")
    for hour, (payment, reference) in enumerate([(6, None), (6, "back"), (3, "back"), (6, "back")], 9):
        terms = {"amount": (hour - 8) / Decimal(10), "reference": reference}
        refund = row(keeper, "refund_payment", ledger[f"payment {payment}"], **terms)["id"]
        ledger[f"payment {hour}"] = at(keeper, refund, HOURS[hour])
    return ledger


def whole(connection: Connection, function: str, limit: int, **filters: object) -> list[Row]:
    """All pages, one after another."""
    found: list[Row] = []
    after = None
    while True:
        page = rows(connection, function, after, limit, **filters)
        assert len(page) <= limit
        assert not {shown["id"] for shown in page} & {shown["id"] for shown in found}
        found += page
        if not page or not page[-1]["more"]:
            return [shown | {"more": False} for shown in found]
        assert all(shown["more"] for shown in page)
        after = page[-1]["id"]


# Payments.


def hours(payments: list[Row]) -> list[int]:
    """The payments by their hours, which are their amounts."""
    return [int(payment["amount"]) for payment in payments]


FILTERS: list[tuple[dict[str, Any], list[int]]] = [
    ({}, [1, 2, 3, 4, 5, 6, 7, 8]),
    ({"account_id": "Anna"}, [1, 2, 3, 5, 6]),
    ({"buyer_account_id": "Anna"}, [1, 3, 6]),
    ({"seller_account_id": "Anna"}, [2, 5]),
    ({"account_id": "anna"}, []),
    ({"account_id": 0}, []),
    ({"buyer_account_id": 2**63 - 1}, []),
    ({"buyer_account_id": "Anna", "seller_account_id": "Anton"}, [1, 6]),
    ({"buyer_account_id": "Anna", "account_id": "Bert"}, [3]),
    ({"seller_account_id": "Anna", "account_id": "Bert"}, [5]),
    ({"buyer_account_id": "Anna", "account_id": "Anna"}, [1, 3, 6]),
    ({"buyer_account_id": "Anna", "seller_account_id": "Anna"}, []),
    ({"currency": "RUB"}, [4, 7]),
    ({"currency": "2"}, [4, 7]),
    ({"currency": "BTC"}, []),
    ({"account_id": "Anna", "currency": "RUB"}, []),
    ({"from": HOURS[3]}, [3, 4, 5, 6, 7, 8]),
    ({"to": HOURS[3]}, [1, 2]),
    ({"from": HOURS[3], "to": HOURS[6]}, [3, 4, 5]),
    ({"from": HOURS[6], "to": HOURS[3]}, []),
    ({"from": "2020-01-01 05:30:00+02:30", "to": HOURS[4]}, [3]),
    ({"from": "-infinity", "to": "infinity"}, [1, 2, 3, 4, 5, 6, 7, 8]),
    ({"account_id": "Anna", "from": HOURS[2], "to": HOURS[6]}, [2, 3, 5]),
    ({"seller_account_id": "Anton", "from": HOURS[2]}, [6]),
    ({"min": 5}, [5, 6, 7, 8]),
    ({"max": "5.000"}, [1, 2, 3, 4, 5]),
    ({"min": "2.5", "max": "5.5"}, [3, 4, 5]),
    ({"min": 6, "max": 5}, []),
    ({"min": -1}, [1, 2, 3, 4, 5, 6, 7, 8]),
    ({"account_id": "Anna", "min": 3, "max": 5}, [3, 5]),
    ({"from": HOURS[2], "min": 4, "currency": "USD"}, [5, 6, 8]),
    ({"reference": "one"}, [1, 4, 8]),
    ({"reference": "One"}, []),
    ({"reference": ""}, []),
    ({"reference": "one", "currency": "USD"}, [1, 8]),
    ({"reference": "one", "from": HOURS[2]}, [4, 8]),
    ({"reference": "one", "from": HOURS[2], "to": HOURS[8]}, [4]),
    ({"reference": "two", "seller_account_id": "Anton"}, [6]),
    ({"reference": "one", "buyer_account_id": "Anton"}, [8]),
    ({"reference": "two", "account_id": "Anna", "to": HOURS[6]}, [3]),
    ({"reference": "two", "account_id": "Anna", "min": 4}, [6]),
]


def asked(names: Names, filters: dict[str, Any]) -> dict[str, Any]:
    return {name: names.get(value, value) for name, value in filters.items()}


@pytest.mark.parametrize(("filters", "expected"), FILTERS, ids=lambda value: " ".join(map(str, value)))
def test_what_is_asked_for(keeper: Connection, ledger: Names, filters: dict[str, Any], expected: list[int]) -> None:
    found = rows(keeper, "list_payments", **asked(ledger, filters))
    assert hours(found) == expected
    assert {payment["more"] for payment in found} <= {False}
    for limit in (1, 2, 3, 1000):
        assert whole(keeper, "list_payments", limit, **asked(ledger, filters)) == found
    # After any payment, one that was asked for or not: after is an id of any payment.
    for hour in range(1, 9):
        rest = rows(keeper, "list_payments", ledger[f"payment {hour}"], **asked(ledger, filters))
        assert hours(rest) == [later for later in expected if later > hour]


def test_a_payment_as_it_is_listed_and_as_it_is_shown(keeper: Connection, ledger: Names) -> None:
    listed = rows(keeper, "list_payments")[3]
    assert list(listed) == [
        "id", "currency_id", "currency_name", "amount", "buyer_account_id", "seller_account_id", "operation_timestamp",
        "description", "reference", "refunded_payment_id", "hold_id", "more", "metadata",
    ]  # fmt: skip
    assert (listed["currency_id"], listed["currency_name"]) == (2, "RUB")
    assert (listed["description"], listed["reference"]) == ("hour 4", "one")
    shown = row(keeper, "get_payment", listed["id"])
    del listed["more"]
    assert shown == listed | {"refunded_amount": None, "made_by": keeper.info.user}


@pytest.mark.parametrize("after", [None, 0, -1, -(2**63)])
def test_after_nothing_is_from_the_beginning(keeper: Connection, ledger: Names, after: int | None) -> None:
    for filters in ({}, {"from": HOURS[0]}, {"reference": "one"}, {"account_id": ledger["Anna"]}, {"min": 0}):
        assert hours(rows(keeper, "list_payments", after, 1, **filters)) == [1]


def test_after_what_there_is_not_yet_is_nothing(keeper: Connection, ledger: Names) -> None:
    for filters in ({}, {"from": HOURS[0]}, {"reference": "one"}, {"account_id": ledger["Anna"]}, {"min": 0}):
        assert rows(keeper, "list_payments", 2**63 - 1, 10, **filters) == []


def test_by_time_they_come_in_the_order_of_time_and_then_of_ids(keeper: Connection, ledger: Names) -> None:
    for hour, moment in ((2, 20), (5, 10), (6, 20), (7, 10)):
        at(keeper, ledger[f"payment {hour}"], HOURS[moment])
    expected = [1, 3, 4, 8, 5, 7, 2, 6]
    assert hours(rows(keeper, "list_payments", **{"from": HOURS[0]})) == expected
    for limit in (1, 2, 3):
        assert hours(whole(keeper, "list_payments", limit, **{"from": HOURS[0]})) == expected
        assert hours(whole(keeper, "list_payments", limit, min=3, to=HOURS[20])) == [3, 4, 8, 5, 7]
    # Without a time, or of an account, by ids.
    assert hours(rows(keeper, "list_payments")) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert hours(rows(keeper, "list_payments", account_id=ledger["Anna"], **{"from": HOURS[0]})) == [1, 2, 3, 5, 6]


# Holds.


@pytest.fixture
def holds(keeper: Connection) -> Names:
    """Accounts, and holds among them, each of as much as its number: of every status, one of them expired but still
    stored as open."""
    names = {name: account(keeper, name, 1000, currency) for name, currency in
             (("Anna", 1), ("Anton", 1), ("anna", 1), ("Bert", 1), ("Än%", 2), ("An_", 2))}  # fmt: skip
    made = [
        ("Anna", "Anton", "one"), ("Anton", "Anna", None), ("Anna", "Bert", "two"), ("Än%", "An_", "one"),
        ("Bert", "Anna", None), ("Anna", "Anton", "two"), ("Bert", "Anton", "one"), ("Anna", "Bert", "one"),
    ]  # fmt: skip
    for number, (buyer, seller, reference) in enumerate(made, 1):
        seconds = 60 if number == 7 else 604_800
        hold = held(keeper, names[buyer], names[seller], number, expires_in=seconds, reference=reference)
        names[f"hold {number}"] = hold
        if number == 5:
            as_if_an_hour_ago(keeper, hold, "59 minutes")  # released by the next hold on the account
    row(keeper, "capture_hold", names["hold 2"], 1)
    row(keeper, "void_hold", names["hold 3"])
    row(keeper, "capture_hold", names["hold 8"])
    as_if_an_hour_ago(keeper, names["hold 6"], "59 minutes")
    return names


SOON = datetime.now(UTC) + timedelta(days=1)
HOLD_FILTERS: list[tuple[dict[str, Any], list[int]]] = [
    ({}, [1, 2, 3, 4, 5, 6, 7, 8]),
    ({"account_id": "Anna"}, [1, 2, 3, 5, 6, 8]),
    ({"account_id": "Anton"}, [1, 2, 6, 7]),
    ({"account_id": "anna"}, []),
    ({"account_id": 0}, []),
    ({"account_id": -1}, []),
    ({"account_id": 2**63 - 1}, []),
    ({"status": "open"}, [1, 4, 7]),
    ({"status": "captured"}, [2, 8]),
    ({"status": "voided"}, [3]),
    ({"status": "expired"}, [5, 6]),
    ({"account_id": "Anna", "status": "open"}, [1]),
    ({"account_id": "Anton", "status": "open"}, [1, 7]),
    ({"account_id": "Anna", "status": "captured"}, [2, 8]),
    ({"account_id": "Anna", "status": "expired"}, [5, 6]),
    ({"account_id": "Bert", "status": "voided"}, [3]),
    ({"account_id": "An_", "status": "voided"}, []),
    ({"reference": "one"}, [1, 4, 7, 8]),
    ({"reference": "One"}, []),
    ({"reference": ""}, []),
    ({"reference": "one", "status": "open"}, [1, 4, 7]),
    ({"reference": "two", "status": "expired"}, [6]),
    ({"reference": "one", "account_id": "Anna"}, [1, 8]),
    ({"reference": "one", "account_id": "Anton", "status": "open"}, [1, 7]),
    ({"reference": "one", "expires_before": SOON}, [7]),
    ({"expires_before": SOON}, [5, 6, 7]),
    ({"expires_before": datetime.now(UTC)}, [5, 6]),
    ({"expires_before": "infinity"}, [1, 2, 3, 4, 5, 6, 7, 8]),
    ({"expires_before": "-infinity"}, []),
    ({"status": "open", "expires_before": SOON}, [7]),
    ({"status": "expired", "expires_before": "2020-01-01 05:30:00+02:30"}, []),
    ({"account_id": "Anna", "expires_before": SOON}, [5, 6]),
    ({"account_id": "Anton", "expires_before": SOON, "status": "open"}, [7]),
    ({"account_id": "Anna", "expires_before": "infinity", "status": "captured"}, [2, 8]),
]


@pytest.mark.parametrize(("filters", "expected"), HOLD_FILTERS, ids=lambda value: " ".join(map(str, value)))
def test_the_holds_that_are_asked_for(
    keeper: Connection, holds: Names, filters: dict[str, Any], expected: list[int]
) -> None:
    found = rows(keeper, "list_holds", **asked(holds, filters))
    assert hours(found) == expected
    assert {hold["more"] for hold in found} <= {False}
    for limit in (1, 2, 3, 1000):
        assert whole(keeper, "list_holds", limit, **asked(holds, filters)) == found
    for number in range(1, 9):
        rest = rows(keeper, "list_holds", holds[f"hold {number}"], **asked(holds, filters))
        assert hours(rest) == [later for later in expected if later > number]
    for after in (None, 0, -(2**63)):
        assert hours(rows(keeper, "list_holds", after, 3, **asked(holds, filters))) == expected[:3]
    assert rows(keeper, "list_holds", 2**63 - 1, 3, **asked(holds, filters)) == []


def test_a_hold_is_listed_as_it_is_shown(keeper: Connection, holds: Names) -> None:
    listed = rows(keeper, "list_holds")
    assert [hold["status"] for hold in listed] == [
        "open", "captured", "voided", "open", "expired", "expired", "open", "captured",
    ]  # fmt: skip
    for hold in listed:
        assert hold.pop("more") is False
        shown = row(keeper, "get_hold", hold["id"])
        assert (list(shown), shown) == (list(hold), hold)


def test_a_hold_whose_answer_was_lost_is_found_and_its_account_can_be_closed(keeper: Connection, holds: Names) -> None:
    """By its reference, or by its account."""
    assert refusal_of(keeper, f"set_account_status({holds['Än%']}, 'closed')") == "WC041"
    paid(keeper, holds["Än%"], holds["An_"], 996)
    [hold] = rows(keeper, "list_holds", reference="one", account_id=holds["Än%"], status="open")
    assert [hold] == rows(keeper, "list_holds", account_id=holds["Än%"], status="open")
    row(keeper, "capture_hold", hold["id"])
    assert row(keeper, "set_account_status", holds["Än%"], "closed")["status"] == "closed"
    assert rows(keeper, "list_holds", account_id=holds["Än%"], status="open") == []


# Refunds.


REFUNDS: list[tuple[dict[str, Any], list[str]]] = [
    ({"refunded_payment_id": "payment 6"}, ["0.1", "0.2", "0.4"]),
    ({"refunded_payment_id": "payment 3"}, ["0.3"]),
    ({"refunded_payment_id": "payment 1"}, []),
    ({"refunded_payment_id": "payment 9"}, []),
    ({"refunded_payment_id": 0}, []),
    ({"refunded_payment_id": -(2**63)}, []),
    ({"refunded_payment_id": 2**63 - 1}, []),
    ({"refunded_payment_id": "payment 6", "reference": "back"}, ["0.2", "0.4"]),
    ({"refunded_payment_id": "payment 6", "reference": ""}, []),
    ({"refunded_payment_id": "payment 6", "from": HOURS[10]}, ["0.2", "0.4"]),
    ({"refunded_payment_id": "payment 6", "from": HOURS[9], "to": HOURS[11]}, ["0.1", "0.2"]),
    ({"refunded_payment_id": "payment 6", "buyer_account_id": "Anton"}, ["0.1", "0.2", "0.4"]),
    ({"refunded_payment_id": "payment 6", "seller_account_id": "Anton"}, []),
    ({"refunded_payment_id": "payment 6", "account_id": "Anna", "min": "0.2", "currency": "USD"}, ["0.2", "0.4"]),
    ({"refunded_payment_id": "payment 6", "max": "0.1"}, ["0.1"]),
    ({"refunded_payment_id": "payment 6", "currency": "RUB"}, []),
]


@pytest.mark.parametrize(("filters", "expected"), REFUNDS, ids=str)
def test_the_refunds_of_a_payment(
    keeper: Connection, refunds: Names, filters: dict[str, Any], expected: list[str]
) -> None:
    found = rows(keeper, "list_payments", **asked(refunds, filters))
    assert [str(refund["amount"]) for refund in found] == expected
    assert {refund["refunded_payment_id"] for refund in found} <= {asked(refunds, filters)["refunded_payment_id"]}
    for limit in (1, 2, 3, 1000):
        assert whole(keeper, "list_payments", limit, **asked(refunds, filters)) == found
    for place, refund in enumerate(found):
        assert rows(keeper, "list_payments", refund["id"], **asked(refunds, filters)) == found[place + 1 :]


# Accounts.


ACCOUNT_FILTERS: list[tuple[dict[str, Any], list[str]]] = [
    ({}, ["Anna", "Anton", "anna", "Bert", "Än%", "An_", "An\\"]),
    ({"name": "Anna"}, ["Anna"]),
    ({"name": "ANNA"}, []),
    ({"name": "An%"}, []),
    ({"name": ""}, []),
    ({"name_prefix": "An"}, ["Anna", "Anton", "An_", "An\\"]),
    ({"name_prefix": "an"}, ["anna"]),
    ({"name_prefix": "Ä"}, ["Än%"]),
    ({"name_prefix": "%"}, []),
    ({"name_prefix": "_"}, []),
    ({"name_prefix": "An_"}, ["An_"]),
    ({"name_prefix": "An\\"}, ["An\\"]),
    ({"name_prefix": "Än%"}, ["Än%"]),
    ({"name_prefix": "Anna Karenina"}, []),
    ({"name_prefix": "'; drop"}, []),
    ({"name_prefix": ""}, ["Anna", "Anton", "anna", "Bert", "Än%", "An_", "An\\"]),
    ({"currency": "USD"}, ["Anna", "Anton", "anna", "Bert"]),
    ({"currency": "2"}, ["Än%", "An_", "An\\"]),
    ({"currency": "ETC"}, []),
    ({"status": "active"}, ["Anna", "anna", "Bert", "Än%", "An_", "An\\"]),
    ({"status": "frozen"}, ["Anton"]),
    ({"status": "closed"}, []),
    ({"name_prefix": "An", "currency": "1", "status": "active"}, ["Anna"]),
    ({"name": "Anna", "name_prefix": "B"}, []),
]


@pytest.mark.parametrize(("filters", "expected"), ACCOUNT_FILTERS, ids=str)
def test_the_accounts_that_are_asked_for(
    keeper: Connection, ledger: Names, filters: dict[str, Any], expected: list[str]
) -> None:
    found = rows(keeper, "list_accounts", **filters)
    assert [shown["name"] for shown in found] == expected
    assert {shown["more"] for shown in found} <= {False}
    for limit in (1, 2, 3, 1000):
        assert whole(keeper, "list_accounts", limit, **filters) == found


def test_an_account_is_listed_as_it_is_shown(keeper: Connection, ledger: Names) -> None:
    row(keeper, "set_credit_limit", ledger["Anna"], "5.5")
    held(keeper, ledger["Anna"], ledger["Bert"], 7)
    for listed in rows(keeper, "list_accounts"):
        assert row(keeper, "get_account", listed["id"]) == {name: listed[name] for name in listed if name != "more"}


def test_accounts_after_an_id(keeper: Connection, ledger: Names) -> None:
    assert [shown["name"] for shown in rows(keeper, "list_accounts", ledger["Bert"], 2)] == ["Än%", "An_"]
    assert [shown["name"] for shown in rows(keeper, "list_accounts", -5, 1)] == ["Anna"]
    assert rows(keeper, "list_accounts", 2**63 - 1, 1) == []


def test_a_currency_is_named_by_its_id_first(keeper: Connection, ledger: Names) -> None:
    """Even where another one has that for a name."""
    odd = row(keeper, "create_currency", "2", 2)["id"]
    account(keeper, "odd", 0, odd)
    assert [shown["name"] for shown in rows(keeper, "list_accounts", currency=str(odd))] == ["odd"]
    assert len(rows(keeper, "list_accounts", currency="2")) == 3


REFUSALS = [
    ("list_payments(null, 0)", "WB061"),
    ("list_payments(null, -1)", "WB061"),
    ("list_payments(null, 1001)", "WB061"),
    ("list_payments(null, 9223372036854775807)", "WB061"),
    ("list_accounts(null, 0)", "WB061"),
    ("list_holds(null, 0)", "WB061"),
    ("list_holds(null, 1001)", "WB061"),
    ("list_holds(p_status => '')", "WB036"),
    ("list_holds(p_status => 'Open')", "WB036"),
    ("list_holds(p_status => 'active')", "WB036"),
    ("list_accounts(null, 1001)", "WB061"),
    ("list_payments(p_min => 'NaN')", "WB062"),
    ("list_payments(p_max => 'NaN')", "WB062"),
    ("list_payments(p_min => '-Infinity')", "WB062"),
    ("list_payments(p_max => 'Infinity')", "WB062"),
    ("list_payments(p_min => -1e15)", "WB062"),
    ("list_payments(p_min => 1, p_max => 0.0000000000000001)", "WB062"),
    ("list_payments(p_currency => '')", "WB013"),
    ("list_payments(p_currency => 'usd')", "WB013"),
    ("list_payments(p_currency => '0')", "WB013"),
    ("list_payments(p_currency => '01')", "WB013"),
    ("list_payments(p_currency => ' 1')", "WB013"),
    ("list_payments(p_currency => '99')", "WB013"),
    ("list_payments(p_currency => '9223372036854775807')", "WB013"),
    ("list_payments(p_currency => repeat('9', 1000))", "WB013"),
    ("list_accounts(p_currency => 'XXX')", "WB013"),
    ("list_accounts(p_status => '')", "WB041"),
    ("list_accounts(p_status => 'Frozen')", "WB041"),
    ("list_payments(p_order => 'up')", "WB064"),
    ("list_payments(p_before_id => 5)", "WB065"),
    # Of two reasons, the one that is checked first:
    ("list_payments(null, 0, p_min => 'NaN')", "WB061"),
    ("list_accounts(null, 0, p_status => '')", "WB061"),
    ("list_holds(null, 0, p_status => '')", "WB061"),
]


@pytest.mark.parametrize(("call", "code"), REFUSALS)
def test_refusals(keeper: Connection, ledger: Names, call: str, code: str) -> None:
    assert refusal_of(keeper, call) == code
