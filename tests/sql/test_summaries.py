"""What pages for people show: payments by hour, the curve of a balance, and with whom an account trades."""

from decimal import Decimal

import pytest

from tests.conftest import Connection
from tests.sql.calls import at, opened_at, paid, refusal_of, row, rows
from tests.support import account, ledger_problems

DAY = "2020-01-01"


def moment(hour: int, minute: int = 0) -> str:
    return f"{DAY} {hour:02}:{minute:02}:00+00"


@pytest.fixture
def saver(keeper: Connection) -> int:
    """Opened with 10.5 at one; paid 1 at two; received 2.25 and 4 at four."""
    identity, other = account(keeper, "saver", "10.50"), account(keeper, "other", 100)
    opened_at(keeper, identity, moment(1))
    at(keeper, paid(keeper, identity, other, 1), moment(2))
    at(keeper, paid(keeper, other, identity, "2.25"), moment(4))
    at(keeper, paid(keeper, other, identity, 4), moment(4, 59))
    return identity


def hours(connection: Connection, *arguments: object, **named: object) -> list[tuple[str, int, object]]:
    return [
        (f"{found['hour']:%H:%M}", found["payments"], found["amount"])
        for found in rows(connection, "sum_payments_by_hour", *arguments, **named)
    ]


REFUSALS = [
    ("sum_payments_by_hour('2020-01-01Z', '2020-01-08 00:00:00.000001Z')", "WB066"),
    ("sum_payments_by_hour('-infinity', '2020-01-08Z')", "WB066"),
    ("sum_payments_by_hour('2020-01-01Z', 'infinity')", "WB066"),
    ("sum_payments_by_hour('4713-01-01 BC', '294276-12-31')", "WB066"),
    ("sum_payments_by_hour(p_currency => 'EUR')", "WB013"),
    ("get_balance_curve(0)", "WN001"),
    ("get_balance_curve(null)", "WN001"),
    ("list_counterparties(0)", "WN001"),
    ("list_counterparties(null)", "WN001"),
]


@pytest.mark.parametrize(("call", "code"), REFUSALS)
def test_it_is_refused(keeper: Connection, call: str, code: str) -> None:
    assert refusal_of(keeper, call) == code


# Payments by hour.


def test_each_hour_has_its_payments_and_an_hour_without_has_none(keeper: Connection, saver: int) -> None:
    assert hours(keeper, moment(1), moment(5)) == [
        ("01:00", 0, None), ("02:00", 1, None), ("03:00", 0, None), ("04:00", 2, None),
    ]  # fmt: skip


def test_of_one_currency_their_amounts_are_added_up(keeper: Connection, saver: int) -> None:
    one, two = account(keeper, "one", 5, 2), account(keeper, "two", 0, 2)
    at(keeper, paid(keeper, one, two, 3), moment(4))
    assert hours(keeper, moment(4), moment(5)) == [("04:00", 3, None)]
    assert hours(keeper, moment(4), moment(5), "USD") == [("04:00", 2, Decimal("6.25"))]
    assert hours(keeper, moment(4), moment(5), "2") == [("04:00", 1, 3)]
    assert hours(keeper, moment(4), moment(5), "BTC") == [("04:00", 0, 0)]


def test_a_period_may_begin_and_end_within_an_hour(keeper: Connection, saver: int) -> None:
    assert hours(keeper, moment(2, 1), moment(4, 59)) == [("02:00", 0, None), ("03:00", 0, None), ("04:00", 1, None)]
    assert hours(keeper, moment(4), moment(4)) == []
    assert hours(keeper, moment(5), moment(4)) == []


@pytest.mark.parametrize("zone", ["Asia/Kathmandu", "America/St_Johns", "UTC"])
def test_hours_are_those_of_utc(keeper: Connection, saver: int, zone: str) -> None:
    keeper.execute(f"set local timezone = '{zone}'")
    found = rows(keeper, "sum_payments_by_hour", moment(2), moment(3))
    assert [(one["hour"].utctimetuple().tm_hour, one["hour"].minute % 15) for one in found] == [(2, 0)]


def test_by_default_it_is_the_last_24_hours(keeper: Connection, saver: int) -> None:
    other = account(keeper, "another", 1)
    paid(keeper, other, saver, 1)
    found = rows(keeper, "sum_payments_by_hour")
    assert len(found) == 24
    assert [hour["payments"] for hour in found] == [0] * 23 + [1]


def test_a_past_hour_that_was_told_gets_no_further_payment(keeper: Connection, saver: int) -> None:
    [(until,)] = keeper.execute("select last_value from ledger.answered_until").fetchall()
    rows(keeper, "sum_payments_by_hour", "2020-01-01Z", "2020-01-02Z")
    [(told,)] = keeper.execute("select extract(epoch from timestamptz '2020-01-02Z') * 1000000 - 1").fetchall()
    assert keeper.execute("select last_value from ledger.answered_until").fetchall() == [(max(until, told),)]


def fill(connection: Connection, number: int) -> None:
    """So many payments from account 1 to 2, and every tenth to 3, within the first hour of a day; no balance is right."""
    connection.execute("set local session_replication_role = replica")
    connection.execute(
        """insert into ledger.payment (
               currency_id, buyer_account_id, seller_account_id, amount, buyer_balance, seller_balance,
               operation_timestamp
           )
           select 1 + n %% 2, 1, case n %% 10 when 0 then 3 else 2 end, 1, n, n,
               timestamptz '2020-01-01Z' + n * interval '0.1 second'
           from generate_series(1, %s) as n""",
        [number],
    )
    connection.execute("set local session_replication_role = origin")


def test_of_very_many_payments_the_number_is_estimated(keeper: Connection) -> None:
    fill(keeper, 20_001)
    [hour] = rows(keeper, "sum_payments_by_hour", moment(0), moment(1), "USD")
    assert (hour["payments"], hour["amount"], hour["exact"]) == (pytest.approx(10_000, abs=2), None, False)
    [hour] = rows(keeper, "sum_payments_by_hour", moment(0), moment(1))
    assert (hour["payments"], hour["exact"]) == (20_001, False)
    [hour] = rows(keeper, "sum_payments_by_hour", moment(0), "2020-01-01 00:33:20+00")
    assert (hour["payments"], hour["exact"]) == (19_999, True)


# The curve of a balance.


def curve(connection: Connection, *arguments: object) -> list[tuple[str, Decimal]]:
    return [(f"{point['at']:%H:%M}", point["amount"]) for point in rows(connection, "get_balance_curve", *arguments)]


def test_the_curve_begins_with_the_opening_and_has_each_change(keeper: Connection, saver: int) -> None:
    points = curve(keeper, saver)
    assert points[:-1] == [
        ("01:00", Decimal("10.5")), ("02:00", Decimal("9.5")), ("04:00", Decimal("11.75")), ("04:59", Decimal("15.75")),
    ]  # fmt: skip
    assert points[-1][1] == row(keeper, "get_account", saver)["amount"]


def test_a_part_of_it_begins_with_the_balance_of_that_moment(keeper: Connection, saver: int) -> None:
    assert curve(keeper, saver, moment(3), moment(4, 59)) == [
        ("03:00", Decimal("9.5")), ("04:00", Decimal("11.75")), ("04:59", Decimal("11.75")),
    ]  # fmt: skip
    assert curve(keeper, saver, moment(0), moment(1, 30)) == [("01:00", Decimal("10.5")), ("01:30", Decimal("10.5"))]


def test_before_its_opening_an_account_has_no_curve(keeper: Connection, saver: int) -> None:
    assert curve(keeper, saver, None, moment(0)) == []
    assert curve(keeper, saver, "infinity") == []
    assert curve(keeper, saver, moment(5), moment(4)) == []


def test_the_curve_does_not_end_before_the_last_payment_if_the_clock_was_ahead(keeper: Connection, saver: int) -> None:
    other = account(keeper, "another", 5)
    at(keeper, paid(keeper, other, saver, 1), "2999-06-01Z")
    keeper.execute("set local session_replication_role = replica")
    keeper.execute("update ledger.account set changed_at = '2999-06-01Z' where id = %s", [saver])
    times = [point["at"] for point in rows(keeper, "get_balance_curve", saver)]
    assert times == sorted(times)
    assert times[-1].year == 2999


def test_an_account_without_payments_has_a_flat_one(keeper: Connection) -> None:
    flat = account(keeper, "flat", 7)
    assert [amount for _, amount in curve(keeper, flat)] == [7, 7]
    assert [amount for _, amount in curve(keeper, flat, "-infinity", "infinity")] == [7, 7]


def test_of_a_long_history_some_500_points_are_shown(keeper: Connection) -> None:
    one = account(keeper, "one")
    opened_at(keeper, one, "2019-12-31Z")
    fill(keeper, 2000)
    keeper.execute("set local session_replication_role = replica")
    keeper.execute("update ledger.payment set buyer_account_id = %s", [one])
    points = rows(keeper, "get_balance_curve", one)
    assert 450 < len(points) <= 500
    assert [point["at"] for point in points] == sorted(point["at"] for point in points)
    shown = {amount for [amount] in keeper.execute("select buyer_balance from ledger.payment").fetchall()}
    assert {point["amount"] for point in points[1:]} <= shown
    assert points[-2]["amount"] == points[-1]["amount"] == 2000


# With whom an account trades.


def test_with_whom_an_account_trades(keeper: Connection, saver: int) -> None:
    third = account(keeper, "third")
    last = paid(keeper, saver, third, "0.50")
    assert [
        (found["name"], found["payments"], found["paid"], found["received"], found["since"])
        for found in rows(keeper, "list_counterparties", saver)
    ] == [("other", 3, 1, Decimal("6.25"), None), ("third", 1, Decimal("0.5"), 0, None)]
    assert rows(keeper, "list_counterparties", saver)[1]["last_payment_id"] == last
    assert str(rows(keeper, "list_counterparties", saver)[1]["paid"]) == "0.5"
    assert [(found["account_id"], found["payments"]) for found in rows(keeper, "list_counterparties", third)] == [
        (saver, 1)
    ]


def test_within_a_period(keeper: Connection, saver: int) -> None:
    def payments(*period: str | None) -> list[int]:
        return [found["payments"] for found in rows(keeper, "list_counterparties", saver, *period)]

    assert payments(moment(2), moment(4)) == [1]
    assert payments(moment(2), moment(4, 1)) == [2]
    assert payments(moment(4)) == [2]
    assert payments(None, moment(2)) == []


def test_of_very_many_payments_the_newest_are_added_up(keeper: Connection) -> None:
    one, two, three = (account(keeper, name) for name in ("one", "two", "three"))
    fill(keeper, 20_010)
    keeper.execute("set local session_replication_role = replica")
    keeper.execute(
        """update ledger.payment set buyer_account_id = %s,
               seller_account_id = case seller_account_id when 2 then %s::bigint else %s::bigint end""",
        [one, two, three],
    )
    found = rows(keeper, "list_counterparties", one)
    assert [(each["account_id"], each["payments"], each["paid"]) for each in found] == [
        (two, 18_000, 18_000), (three, 2000, 2000),
    ]  # fmt: skip
    [(oldest,)] = keeper.execute(
        "select operation_timestamp from ledger.payment order by id offset 10 limit 1"
    ).fetchall()
    assert {each["since"] for each in found} == {oldest}


def test_reading_changes_nothing(keeper: Connection) -> None:
    assert ledger_problems(keeper) == []
