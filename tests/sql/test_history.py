"""get_account() at a moment: what was on the account after its last payment up to then."""

from decimal import Decimal

import pytest

from tests.conftest import Connection
from tests.sql.calls import at, held, opened_at, paid, refusal_of, row, rows
from tests.support import account

HOURS = [f"2020-01-01 {hour:02}:00:00+00" for hour in range(24)]


@pytest.fixture
def saver(keeper: Connection) -> int:
    """Opened with 10.5 at one; paid 1 at two, received 2 at three and 4 in the same microsecond."""
    identity, other = account(keeper, "saver", "10.50"), account(keeper, "other", 100)
    opened_at(keeper, identity, HOURS[1])
    at(keeper, paid(keeper, identity, other, 1), HOURS[2])
    for amount in (2, 4):
        at(keeper, paid(keeper, other, identity, amount), HOURS[3])
    return identity


BALANCES = [
    ("-infinity", "0"),
    ("0001-01-01 00:00:00+00", "0"),
    ("2020-01-01 00:59:59.999999+00", "0"),
    (HOURS[1], "10.5"),
    ("2020-01-01 01:59:59.999999+00", "10.5"),
    (HOURS[2], "9.5"),  # with what was made at that moment
    ("2020-01-01 02:59:59.999999+00", "9.5"),
    (HOURS[3], "15.5"),  # and with all of it
    (HOURS[4], "15.5"),
    ("9999-12-31 23:59:59.999999+00", "15.5"),
    ("infinity", "15.5"),
]


@pytest.mark.parametrize(("moment", "balance"), BALANCES)
def test_the_balance_at_a_moment(keeper: Connection, saver: int, moment: str, balance: str) -> None:
    assert row(keeper, "get_account", saver, moment)["amount"] == Decimal(balance)


def test_it_is_shown_like_the_one_of_now_without_what_is_true_only_now(keeper: Connection, saver: int) -> None:
    row(keeper, "set_credit_limit", saver, 5)
    held(keeper, saver, rows(keeper, "list_accounts", name="other")[0]["id"], 1)
    now = row(keeper, "get_account", saver)
    then = row(keeper, "get_account", saver, HOURS[23])
    terms = ("status", "held", "available", "credit_limit")
    assert [now[name] for name in terms] == ["active", 1, Decimal("19.5"), 5]
    assert then == now | dict.fromkeys(terms)


def test_a_balance_below_zero(keeper: Connection, saver: int) -> None:
    bank, other = account(keeper, "bank"), account(keeper, "another")
    row(keeper, "set_credit_limit", bank, 10)
    opened_at(keeper, bank, HOURS[0])
    at(keeper, paid(keeper, bank, other, "7.50"), HOURS[5])
    assert row(keeper, "get_account", bank, HOURS[4])["amount"] == 0
    assert row(keeper, "get_account", bank, HOURS[5])["amount"] == Decimal("-7.5")


def test_of_an_account_without_payments(keeper: Connection, saver: int) -> None:
    idle = account(keeper, "idle", 7)
    opened_at(keeper, idle, HOURS[2])
    assert [row(keeper, "get_account", idle, HOURS[hour])["amount"] for hour in (1, 2, 3)] == [0, 7, 7]


def test_of_an_account_whose_payments_all_came_later(keeper: Connection, saver: int) -> None:
    """Though others were paid before."""
    late, other = account(keeper, "late", 7), account(keeper, "another", 7)
    opened_at(keeper, late, HOURS[1])
    at(keeper, paid(keeper, late, other, 1), HOURS[9])
    assert row(keeper, "get_account", late, HOURS[8])["amount"] == 7


def test_it_is_the_opening_of_the_statement_from_then_on(keeper: Connection, saver: int) -> None:
    for hour in range(1, 6):
        moment = f"2020-01-01 {hour:02}:30:00+00"
        opening, *_ = rows(keeper, "get_statement", saver, None, None, moment)
        assert row(keeper, "get_account", saver, moment)["amount"] == opening["balance"]


@pytest.mark.parametrize("minutes", range(0, 12 * 60, 30))
def test_whatever_the_clocks_said_it_is_what_there_was_between_one_before_it_and_one_after_it(
    keeper: Connection, saver: int, minutes: int
) -> None:
    """Where times go back, there may be several such places in the history; it is one of them."""
    other = rows(keeper, "list_accounts", name="other")[0]["id"]
    for amount, hour in ((8, 7), (16, 5), (32, 2), (1, 9), (2, 4), (4, 10)):
        at(keeper, paid(keeper, other, saver, amount), HOURS[hour])
        at(keeper, paid(keeper, other, account(keeper, f"{amount}"), "0.5"), HOURS[11 - hour])
    opening, *lines = rows(keeper, "get_statement", saver)
    [(moment,)] = keeper.execute(
        "select timestamptz '2020-01-01 01:00:00+00' + %s * interval '1 minute'", [minutes]
    ).fetchall()
    # Before each line, and after the last one: whether the line before it was up to then, and it was not.
    before = [True, *(line["operation_timestamp"] <= moment for line in lines)]
    after = [*(line["operation_timestamp"] > moment for line in lines), True]
    balances = [line["balance"] for line in (opening, *lines)]
    allowed = {balance for balance, *fits in zip(balances, before, after, strict=True) if all(fits)}
    assert row(keeper, "get_account", saver, moment)["amount"] in allowed


REFUSALS = [
    ("get_account(null, now())", "WN001"),
    ("get_account(0, now())", "WN001"),
    ("get_account(9223372036854775807, '-infinity')", "WN001"),
]


@pytest.mark.parametrize(("call", "code"), REFUSALS)
def test_refusals(keeper: Connection, saver: int, call: str, code: str) -> None:
    assert refusal_of(keeper, call) == code
