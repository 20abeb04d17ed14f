"""What an account may do: its status, and how far its balance may go below zero."""

from decimal import Decimal
from typing import Any

import pytest

from tests.conftest import Connection
from tests.sql.calls import Row, held, paid, refusal, refusal_of, row, rows
from tests.sql.test_make_payment import MOST
from tests.support import account, balance, ledger_problems

LEAST = Decimal("0.000000000000001")


@pytest.fixture
def one(ops: Connection) -> int:
    return account(ops, "one", 10)


@pytest.fixture
def other(ops: Connection) -> int:
    return account(ops, "other", 10)


@pytest.fixture
def empty(ops: Connection) -> int:
    return account(ops, "empty")


def changes(connection: Connection) -> list[tuple[Any, ...]]:
    """The record of what accounts were allowed to do, which only a superuser may read."""
    query = "select account_id, status, credit_limit, last_payment_id from ledger.account_change order by id"
    return connection.execute(query).fetchall()


# Status.


def test_it_returns_the_account_as_it_is_then(ops: Connection, one: int) -> None:
    frozen = row(ops, "set_account_status", one, "frozen")
    assert frozen.pop("replayed") is None
    assert frozen == row(ops, "get_account", one)
    assert frozen == {
        "id": one,
        "name": "one",
        "currency_id": 1,
        "currency_name": "USD",
        "amount": 10,
        "status": "frozen",
        "held": 0,
        "available": 10,
        "credit_limit": 0,
        "metadata": None,
    }


def test_as_ops_type_it(ops: Connection, one: int) -> None:
    assert ops.execute(f"select status from set_account_status({one}, 'frozen')").fetchall() == [("frozen",)]
    assert ops.execute(f"select available from set_credit_limit({one}, 2.5)").fetchall() == [(Decimal("12.5"),)]


def test_a_frozen_account_receives_and_does_not_pay(ops: Connection, one: int, other: int) -> None:
    row(ops, "set_account_status", one, "frozen")
    paid(ops, other, one, 1)
    assert refusal(ops, "make_payment", one, other, 1) == "WB010"
    assert refusal(ops, "create_hold", one, other, 1) == "WB010"
    held(ops, other, one, 1)
    batch = rows(ops, "make_payments", [other, one, other], [one, other, one], [Decimal(1)] * 3)
    assert [outcome["error_code"] for outcome in batch] == [None, "WB010", None]
    assert balance(ops, one) == 13
    row(ops, "set_account_status", one, "active")
    paid(ops, one, other, 13)
    assert ledger_problems(ops) == []


def test_a_blocked_account_neither_pays_nor_receives(ops: Connection, one: int, other: int) -> None:
    sold, bought = paid(ops, other, one, 2), paid(ops, one, other, 2)
    of_one, for_one = held(ops, one, other, 1), held(ops, other, one, 1)
    assert row(ops, "set_account_status", one, "blocked")["status"] == "blocked"
    for function, *arguments, code in (
        ("make_payment", one, other, 1, "WB042"),
        ("make_payment", other, one, 1, "WB043"),
        ("create_hold", one, other, 1, "WB042"),
        ("create_hold", other, one, 1, "WB043"),
        ("capture_hold", of_one, "WB042"),
        ("capture_hold", for_one, "WB043"),
        ("refund_payment", sold, "WB044"),
        ("refund_payment", bought, "WB045"),
    ):
        assert refusal(ops, function, *arguments) == code
    batch = rows(ops, "make_payments", [other, one, other], [one, other, one], [Decimal(1)] * 3)
    assert [outcome["error_code"] for outcome in batch] == ["WB043", "WB042", "WB043"]
    assert [(outcome["error"], outcome["error_field"]) for outcome in batch[:2]] == [
        ("Seller account is blocked", "seller_account_id"),
        ("Buyer account is blocked", "buyer_account_id"),
    ]
    assert balance(ops, one) == 10
    assert row(ops, "get_account", one)["held"] == 1
    row(ops, "set_account_status", one, "active")
    row(ops, "capture_hold", of_one)
    row(ops, "capture_hold", for_one)
    row(ops, "refund_payment", sold)
    row(ops, "refund_payment", bought)
    assert ledger_problems(ops) == []


def test_an_account_is_blocked_whatever_its_balance_and_unblocked_by_the_rules_of_the_new_status(
    ops: Connection, one: int, other: int, empty: int
) -> None:
    row(ops, "set_credit_limit", empty, 5)
    paid(ops, empty, other, 3)
    hold = held(ops, empty, other, 1)
    for id_ in (one, empty):
        row(ops, "set_account_status", id_, "blocked")
        assert refusal(ops, "set_account_status", id_, "closed") == "WC041"
    assert row(ops, "set_credit_limit", empty, 4)["status"] == "blocked"
    row(ops, "set_account_status", empty, "frozen")
    assert refusal(ops, "make_payment", empty, other, 1) == "WB010"
    row(ops, "set_account_status", one, "active")
    paid(ops, one, empty, 3)
    row(ops, "set_account_status", empty, "blocked")
    assert refusal(ops, "set_account_status", empty, "closed") == "WC042"
    row(ops, "void_hold", hold)
    row(ops, "set_account_status", empty, "closed")
    row(ops, "set_account_status", empty, "blocked")
    assert [listed["id"] for listed in rows(ops, "list_accounts", status="blocked")] == [empty]
    assert ledger_problems(ops) == []


def test_a_payment_that_was_made_before_its_account_was_blocked_is_answered_again(
    ops: Connection, one: int, other: int
) -> None:
    made = row(ops, "make_payment", one, other, 1, "key")
    for id_ in (one, other):
        row(ops, "set_account_status", id_, "blocked")
    assert row(ops, "make_payment", one, other, 1, "key") == made | {"replayed": True}


def test_a_closed_account_neither_pays_nor_receives(ops: Connection, one: int, empty: int) -> None:
    row(ops, "set_account_status", empty, "closed")
    assert refusal(ops, "make_payment", one, empty, 1) == "WB015"
    assert refusal(ops, "create_hold", one, empty, 1) == "WB015"
    assert refusal(ops, "make_payment", empty, one, 1) == "WB014"
    assert refusal(ops, "create_hold", empty, one, 1) == "WB014"
    batch = rows(ops, "make_payments", [one, empty], [empty, one], [Decimal(1)] * 2)
    assert [outcome["error_code"] for outcome in batch] == ["WB015", "WB014"]
    assert ledger_problems(ops) == []


def test_a_closed_account_can_be_opened_again(ops: Connection, one: int, empty: int) -> None:
    for status in ("active", "frozen"):
        row(ops, "set_account_status", empty, "closed")
        row(ops, "set_account_status", empty, status)
        paid(ops, one, empty, 1)
        row(ops, "set_account_status", empty, "active")
        paid(ops, empty, one, 1)
    assert ledger_problems(ops) == []


def test_of_a_closed_account_everything_is_still_shown(ops: Connection, one: int, empty: int) -> None:
    payment = paid(ops, one, empty, 5)
    paid(ops, empty, one, 5)
    row(ops, "set_account_status", empty, "closed")
    assert row(ops, "get_account", empty)["status"] == "closed"
    assert [line["balance"] for line in rows(ops, "get_statement", empty)] == [0, 5, 0]
    assert row(ops, "get_payment", payment)["seller_account_id"] == empty
    assert refusal(ops, "create_account", "empty", 0, 1) == "WC011"


def test_only_an_account_with_nothing_on_it_is_closed(ops: Connection, one: int, other: int, empty: int) -> None:
    assert refusal(ops, "set_account_status", one, "closed") == "WC041"
    paid(ops, one, other, Decimal("9.999999999999999"))
    assert refusal(ops, "set_account_status", one, "closed") == "WC041"
    paid(ops, one, other, LEAST)
    row(ops, "set_account_status", one, "closed")
    row(ops, "set_credit_limit", empty, 5)
    hold = held(ops, empty, other, 5)
    assert refusal(ops, "set_account_status", empty, "closed") == "WC042"
    row(ops, "void_hold", hold)
    paid(ops, empty, other, 5)
    assert refusal(ops, "set_account_status", empty, "closed") == "WC041"
    paid(ops, other, empty, 5)
    row(ops, "set_account_status", empty, "closed")
    assert ledger_problems(ops) == []


@pytest.mark.parametrize("status", ["active", "frozen", "blocked", "closed"])
def test_what_is_so_already_is_no_change(keeper: Connection, status: str) -> None:
    empty = account(keeper, "empty")
    before = row(keeper, "set_account_status", empty, status)
    recorded = changes(keeper)
    assert len(recorded) == 1 + (status != "active")
    assert row(keeper, "set_account_status", empty, status) == before
    assert row(keeper, "set_credit_limit", empty, "0.00") == before
    assert changes(keeper) == recorded


def test_the_opening_and_every_change_are_recorded_with_its_place_among_the_payments(keeper: Connection) -> None:
    one, other = account(keeper, "one", 10), account(keeper, "other")
    [(opened,)] = keeper.execute("select last_payment_id from ledger.account_change where account_id = %s", [one])
    first = paid(keeper, one, other, 1)
    assert opened < first
    row(keeper, "set_account_status", other, "frozen")
    second = paid(keeper, one, other, 1)
    row(keeper, "set_credit_limit", other, "5.50")
    row(keeper, "set_account_status", other, "active")
    assert changes(keeper) == [
        (one, "active", 0, opened),
        (other, "active", 0, opened),
        (other, "frozen", 0, first),
        (other, "frozen", Decimal("5.5"), second),
        (other, "active", Decimal("5.5"), second),
    ]


def test_a_change_before_the_first_payment_ever(admin: Connection) -> None:
    one, other = account(admin, "one", 10), account(admin, "other")
    row(admin, "set_account_status", other, "frozen")
    assert changes(admin) == [(one, "active", 0, 0), (other, "active", 0, 0), (other, "frozen", 0, 0)]
    assert paid(admin, one, other, 1) == 1
    assert ledger_problems(admin) == []


# Credit limit: money comes into the wallet, and leaves it, through an account of the outside world.


def test_deposits_and_withdrawals_go_through_an_account_with_a_credit_limit(ops: Connection) -> None:
    bank, customer = account(ops, "bank"), account(ops, "customer")
    assert refusal(ops, "make_payment", bank, customer, 1) == "WB006"
    opened = row(ops, "set_credit_limit", bank, "1000.50")
    assert (opened["credit_limit"], opened["available"], opened["amount"]) == (Decimal("1000.5"), Decimal("1000.5"), 0)
    paid(ops, bank, customer, 400, description="deposit")
    assert refusal(ops, "make_payment", bank, customer, "600.500000000000001") == "WB006"
    batch = rows(ops, "make_payments", [bank] * 3, [customer] * 3, [Decimal(text) for text in ("600", "1", "0.5")])
    assert [outcome["error_code"] for outcome in batch] == [None, "WB006", None]
    shown = row(ops, "get_account", bank)
    assert (shown["amount"], shown["available"]) == (Decimal("-1000.5"), 0)
    paid(ops, customer, bank, 300, description="withdrawal")
    shown = row(ops, "get_account", bank)
    assert (shown["amount"], shown["available"]) == (Decimal("-700.5"), 300)
    assert [line["balance"] for line in rows(ops, "get_statement", bank)] == [
        0, -400, -1000, Decimal("-1000.5"), Decimal("-700.5"),
    ]  # fmt: skip
    assert ledger_problems(ops) == []


def test_within_a_batch_what_comes_in_covers_what_goes_out(ops: Connection, one: int, other: int) -> None:
    row(ops, "set_credit_limit", one, 5)
    asked = [(one, other, 15), (one, other, 1), (other, one, 3), (one, other, 3), (one, other, LEAST)]
    buyers, sellers, amounts = (list(column) for column in zip(*asked, strict=True))
    batch = rows(ops, "make_payments", buyers, sellers, [Decimal(amount) for amount in amounts])
    assert [outcome["error_code"] for outcome in batch] == [None, "WB006", None, None, "WB006"]
    assert balance(ops, one) == -5
    assert ledger_problems(ops) == []


def test_the_limit_covers_what_is_used_of_it(ops: Connection, other: int, empty: int) -> None:
    row(ops, "set_credit_limit", empty, 10)
    paid(ops, empty, other, 4)
    hold = held(ops, empty, other, 3)
    for too_low in ("6.999999999999999", 0):
        assert refusal(ops, "set_credit_limit", empty, too_low) == "WC043"
    assert row(ops, "set_credit_limit", empty, 7)["available"] == 0
    row(ops, "void_hold", hold)
    assert row(ops, "set_credit_limit", empty, 4)["available"] == 0
    paid(ops, other, empty, 4)
    assert row(ops, "set_credit_limit", empty, 0)["credit_limit"] == 0
    assert refusal(ops, "make_payment", empty, other, LEAST) == "WB006"
    assert ledger_problems(ops) == []


def test_the_highest_limit(ops: Connection, other: int, empty: int) -> None:
    assert row(ops, "set_credit_limit", empty, MOST)["available"] == MOST
    assert refusal(ops, "make_payment", empty, other, MOST) == "WB007"
    paid(ops, empty, account(ops, "sink"), MOST)
    assert balance(ops, empty) == MOST.copy_negate()
    assert refusal(ops, "make_payment", empty, other, LEAST) == "WB006"
    paid(ops, other, empty, 10)
    assert ledger_problems(ops) == []


def test_the_richest_with_the_highest_limit_can_have_it_all_held(ops: Connection) -> None:
    rich, seller = account(ops, "rich", MOST), account(ops, "seller")
    assert row(ops, "set_credit_limit", rich, MOST)["available"] == Decimal("1999999999999999.999999999999998")
    holds = [held(ops, rich, seller, MOST) for _ in range(2)]
    assert row(ops, "get_account", rich)["available"] == 0
    row(ops, "capture_hold", holds[0])
    assert refusal(ops, "capture_hold", holds[1]) == "WB007"
    paid(ops, seller, account(ops, "sink"), MOST)
    row(ops, "capture_hold", holds[1])
    assert balance(ops, rich) == MOST.copy_negate()
    assert ledger_problems(ops) == []


def test_a_limit_without_needless_zeros(ops: Connection, one: int) -> None:
    query = f"select credit_limit::text, available::text from wallet.set_credit_limit({one}, 5.500)"
    assert ops.execute(query).fetchall() == [("5.5", "15.5")]


def test_the_limit_stays_whatever_the_status_becomes(ops: Connection, other: int, empty: int) -> None:
    row(ops, "set_credit_limit", empty, 5)
    for status in ("frozen", "closed"):
        assert row(ops, "set_account_status", empty, status)["credit_limit"] == 5
    row(ops, "set_credit_limit", empty, 6)
    assert row(ops, "set_account_status", empty, "active")["credit_limit"] == 6
    paid(ops, empty, other, 6)
    assert ledger_problems(ops) == []


# {one} has 10, {empty} nothing, {cents} 10 of a currency with 2 decimals; of {holding}, with 0 and a limit, 5 are held,
# and of {both}, which has 5 and a limit, 2.
REFUSALS = [
    ("set_account_status({one}, null)", "WB041"),
    ("set_account_status({one}, '')", "WB041"),
    ("set_account_status({one}, 'Active')", "WB041"),
    ("set_account_status({one}, 'open')", "WB041"),
    ("set_account_status({one}, 'Blocked')", "WB041"),
    ("set_account_status(0, 'blocked')", "WN001"),
    ("set_account_status(0, 'active')", "WN001"),
    ("set_account_status(null, 'active')", "WN001"),
    ("set_account_status(-1, 'closed')", "WN001"),
    ("set_account_status(9223372036854775807, 'frozen')", "WN001"),
    ("set_account_status({one}, 'closed')", "WC041"),
    ("set_account_status({holding}, 'closed')", "WC042"),
    ("set_credit_limit({one}, -0.000000000000001)", "WB012"),
    ("set_credit_limit({one}, '-Infinity')", "WB012"),
    ("set_credit_limit({one}, null)", "WB003"),
    ("set_credit_limit({one}, 'NaN')", "WB003"),
    ("set_credit_limit({one}, 'Infinity')", "WB003"),
    ("set_credit_limit({one}, 1e15)", "WB003"),
    ("set_credit_limit({one}, 0.0000000000000001)", "WB003"),
    ("set_credit_limit(0, 1)", "WN001"),
    ("set_credit_limit(null, 1)", "WN001"),
    ("set_credit_limit(9223372036854775807, 1)", "WN001"),
    ("set_credit_limit({cents}, 1.001)", "WB009"),
    ("set_credit_limit({holding}, 4.999999999999999)", "WC043"),
    # Of two reasons, the one that is checked first:
    ("set_account_status(0, 'open')", "WB041"),
    ("set_account_status({both}, 'closed')", "WC041"),
    ("set_credit_limit(0, -1)", "WB012"),
    ("set_credit_limit(0, 'NaN')", "WB003"),
    ("set_credit_limit({cents_held}, 0.001)", "WB009"),
]


@pytest.mark.parametrize(("call", "code"), REFUSALS)
def test_refusals(ops: Connection, one: int, empty: int, call: str, code: str) -> None:
    cents = row(ops, "create_currency", "CENT", 2)["id"]
    names = {"one": one, "empty": empty, "cents": account(ops, "cents", 10, cents)}
    for name, opening, limit, amount, currency in (
        ("holding", 0, 9, 5, 1), ("both", 5, 9, 2, 1), ("cents_held", 0, 1, 1, cents)
    ):  # fmt: skip
        names[name] = account(ops, name, opening, currency)
        row(ops, "set_credit_limit", names[name], limit)
        held(ops, names[name], names["cents"] if currency == cents else empty, amount)

    def shown() -> list[Row]:
        return rows(ops, "list_accounts")

    before = shown()
    assert refusal_of(ops, call.format(**names)) == code
    assert shown() == before
    assert ledger_problems(ops) == []


# Their history.


def test_the_changes_of_an_account_are_pages_that_together_are_the_whole(keeper: Connection) -> None:
    one, two = account(keeper, "one"), account(keeper, "two")
    for limit in range(1, 8):
        row(keeper, "set_credit_limit", one, limit)
        row(keeper, "set_credit_limit", two, 100)
    whole = rows(keeper, "list_account_changes", one)
    assert [(change["status"], change["credit_limit"], change["more"]) for change in whole] == [
        ("active", limit, False) for limit in range(8)
    ]
    assert sorted(change["changed_at"] for change in whole) == [change["changed_at"] for change in whole]
    for limit in (1, 3, 4, 7, 8, 1000):
        found, after = [], None
        while True:
            page = rows(keeper, "list_account_changes", one, after, limit)
            found += page
            assert {change["more"] for change in page} == {len(found) < len(whole)}
            if not page[-1]["more"]:
                break
            assert len(page) == limit
            after = page[-1]["id"]
        assert [change | {"more": False} for change in found] == whole
    assert rows(keeper, "list_account_changes", one, -(2**63)) == whole
    assert rows(keeper, "list_account_changes", one, 2**63 - 1, 5) == []


@pytest.mark.parametrize(
    ("call", "code"),
    [
        ("list_account_changes(null)", "WN001"),
        ("list_account_changes(0)", "WN001"),
        ("list_account_changes(-9223372036854775808)", "WN001"),
        ("list_account_changes(9223372036854775807)", "WN001"),
        ("list_account_changes(0, null, 0)", "WB061"),
        ("list_account_changes(0, null, 1001)", "WB061"),
    ],
)
def test_changes_that_cannot_be_listed(keeper: Connection, call: str, code: str) -> None:
    assert refusal_of(keeper, call) == code
