"""get_statement() shows what moved an account's balance, line by line, page by page, and what was there before."""

from decimal import Decimal
from itertools import pairwise, product
from typing import Any

import pytest

from tests.conftest import Connection
from tests.sql.calls import Row, at, held, opened_at, paid, refusal_of, row, rows
from tests.support import account

HOURS = [f"2020-01-01 {hour:02}:00:00+00" for hour in range(24)]


@pytest.fixture
def saver(keeper: Connection) -> int:
    """An account that was opened with 100 at midnight, and had a payment an hour from 1 to 6: +1, -2, +3, -4, +5, -6."""
    identity, other = account(keeper, "saver", 100), account(keeper, "other", 100)
    idle = account(keeper, "idle", 100)
    opened_at(keeper, identity, HOURS[0])
    for hour in range(1, 7):
        buyer, seller = (identity, other) if hour % 2 == 0 else (other, identity)
        at(keeper, paid(keeper, buyer, seller, hour, reference=f"hour {hour}"), HOURS[hour])
        at(keeper, paid(keeper, idle, other, 1), HOURS[hour])
    return identity


def amounts(page: list[Row]) -> list[Any]:
    return [line["amount"] for line in page]


def follows(page: list[Row]) -> bool:
    """Whether each line's balance is that before it and its amount."""
    return all(line["balance"] == before["balance"] + line["amount"] for before, line in pairwise(page))


def test_first_what_there_was_and_then_each_line_with_what_there_was_after_it(keeper: Connection, saver: int) -> None:
    opening, *lines = rows(keeper, "get_statement", saver)
    assert {name: value for name, value in opening.items() if value is not None} == {"balance": 100, "more": False}
    assert amounts(lines) == [1, -2, 3, -4, 5, -6]
    assert [line["balance"] for line in lines] == [101, 99, 102, 98, 103, 97]
    assert {line["more"] for line in lines} == {False}
    assert {line["counterparty_name"] for line in lines} == {"other"}
    payments = rows(keeper, "list_payments", account_id=saver)
    for line, payment in zip(lines, payments, strict=True):
        assert line["payment_id"] == payment["id"]
        assert line["counterparty_account_id"] in (payment["buyer_account_id"], payment["seller_account_id"])
        assert line["counterparty_account_id"] != saver
        assert {name: line[name] for name in ("operation_timestamp", "reference")} == {
            name: payment[name] for name in ("operation_timestamp", "reference")
        }


def test_as_ops_type_it(ops: Connection) -> None:
    one, other = account(ops, "one", "10.50"), account(ops, "other")
    paid(ops, one, other, 3, description="a book")
    assert ops.execute(f"select amount, balance, description from get_statement({one})").fetchall() == [
        (None, Decimal("10.5"), None),
        (-3, Decimal("7.5"), "a book"),
    ]


def test_of_an_account_without_payments_only_the_opening(ops: Connection) -> None:
    [opening] = rows(ops, "get_statement", account(ops, "one", "10.50"))
    assert (opening["balance"], opening["more"], opening["payment_id"]) == (Decimal("10.5"), False, None)


def test_every_line_tells_what_it_refunds_or_captures(ops: Connection) -> None:
    one, other = account(ops, "one", 10), account(ops, "other")
    sale, hold = paid(ops, one, other, 3), held(ops, one, other, 2, description="d")
    row(ops, "refund_payment", sale, 1)
    row(ops, "capture_hold", hold)
    lines = rows(ops, "get_statement", one)[1:]
    assert [(line["amount"], line["refunded_payment_id"], line["hold_id"], line["description"]) for line in lines] == [
        (-3, None, None, None),
        (1, sale, None, None),
        (-2, None, hold, "d"),
    ]


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5, 6, 7, 1000])
def test_the_pages_are_the_whole(keeper: Connection, saver: int, limit: int) -> None:
    whole = rows(keeper, "get_statement", saver)
    lines: list[Row] = []
    after = None
    while True:
        opening, *page = rows(keeper, "get_statement", saver, after, limit)
        assert opening["balance"] == (lines[-1]["balance"] if lines else 100)
        assert opening["payment_id"] is None
        assert 0 < len(page) <= limit
        assert not {line["payment_id"] for line in page} & {line["payment_id"] for line in lines}
        lines += page
        if not page[-1]["more"]:
            break
        after = page[-1]["payment_id"]
    assert [line | {"more": False} for line in lines] == whole[1:]
    [opening] = rows(keeper, "get_statement", saver, lines[-1]["payment_id"], limit)
    assert (opening["balance"], opening["more"]) == (97, False)


@pytest.mark.parametrize("after", [None, 0, -1, -(2**63)])
def test_after_nothing_is_from_the_beginning(keeper: Connection, saver: int, after: int | None) -> None:
    assert amounts(rows(keeper, "get_statement", saver, after, 2)) == [None, 1, -2]


def test_after_may_name_a_payment_of_another_account(keeper: Connection, saver: int) -> None:
    others = [payment["id"] for payment in rows(keeper, "list_payments") if payment["reference"] is None]
    opening, *lines = rows(keeper, "get_statement", saver, others[1])
    assert (opening["balance"], amounts(lines)) == (99, [3, -4, 5, -6])


def test_after_what_there_is_not_yet(keeper: Connection, saver: int) -> None:
    [opening] = rows(keeper, "get_statement", saver, 2**63 - 1)
    assert (opening["balance"], opening["more"]) == (97, False)


# From and to are given as hours; the opening, and the amounts.
PARTS: list[tuple[str | None, str | None, int, list[int]]] = [
    (None, None, 100, [1, -2, 3, -4, 5, -6]),
    (HOURS[2], None, 101, [-2, 3, -4, 5, -6]),  # from: with it
    ("2020-01-01 02:00:00.000001+00", None, 99, [3, -4, 5, -6]),
    (None, HOURS[3], 100, [1, -2]),  # to: without it
    (HOURS[2], HOURS[4], 101, [-2, 3]),
    ("2020-01-01 04:30:00+02:30", "2020-01-01 04:00:00+00", 101, [-2, 3]),
    (HOURS[4], HOURS[4], 102, []),
    (HOURS[5], HOURS[2], 98, []),
    (HOURS[7], None, 97, []),
    (HOURS[0], HOURS[1], 100, []),
    ("-infinity", "infinity", 100, [1, -2, 3, -4, 5, -6]),
    ("infinity", None, 97, []),
    (None, "-infinity", 100, []),
]


@pytest.mark.parametrize(("from_", "to", "opening", "expected"), PARTS)
def test_a_part_of_the_history(
    keeper: Connection, saver: int, from_: str | None, to: str | None, opening: int, expected: list[int]
) -> None:
    first, *lines = rows(keeper, "get_statement", saver, None, None, from_, to)
    assert (first["balance"], amounts(lines)) == (opening, expected)
    listed = rows(keeper, "list_payments", account_id=saver, **{"from": from_, "to": to})
    assert [payment["id"] for payment in listed] == [line["payment_id"] for line in lines]


def test_a_part_in_pages(keeper: Connection, saver: int) -> None:
    first = rows(keeper, "get_statement", saver, None, 2, HOURS[2], HOURS[5])
    assert [(line["amount"], line["balance"], line["more"]) for line in first] == [
        (None, 101, True), (-2, 99, True), (3, 102, True),
    ]  # fmt: skip
    second = rows(keeper, "get_statement", saver, first[-1]["payment_id"], 2, HOURS[2], HOURS[5])
    assert [(line["amount"], line["balance"], line["more"]) for line in second] == [(None, 102, False), (-4, 98, False)]


def test_an_after_that_lies_before_the_part_changes_nothing(keeper: Connection, saver: int) -> None:
    whole = rows(keeper, "get_statement", saver)
    assert rows(keeper, "get_statement", saver, whole[1]["payment_id"], None, HOURS[4]) == rows(
        keeper, "get_statement", saver, None, None, HOURS[4]
    )


# Clocks.


def test_payments_whose_times_go_back_stay_in_the_order_in_which_the_balance_changed(
    keeper: Connection, saver: int
) -> None:
    other = rows(keeper, "list_accounts", name="other")[0]["id"]
    for amount, hour in ((7, 3), (8, 2), (9, 8)):
        at(keeper, paid(keeper, other, saver, amount), HOURS[hour])
    page = rows(keeper, "get_statement", saver)
    assert amounts(page)[1:] == [1, -2, 3, -4, 5, -6, 7, 8, 9]
    assert follows(page)
    times = [line["operation_timestamp"] for line in page[1:]]
    assert times != sorted(times)


@pytest.fixture
def wound_back(keeper: Connection, saver: int) -> int:
    """The same account, after payments whose times go back and forth."""
    other = rows(keeper, "list_accounts", name="other")[0]["id"]
    for amount, hour in ((7, 3), (8, 2), (9, 8), (10, 8), (11, 5)):
        at(keeper, paid(keeper, other, saver, amount), HOURS[hour])
    return saver


def test_whatever_the_clocks_said_a_part_is_a_part_of_the_history_without_a_gap(
    keeper: Connection, wound_back: int
) -> None:
    whole = rows(keeper, "get_statement", wound_back)
    for from_, to in product(HOURS[:10], HOURS[:10]):
        page = rows(keeper, "get_statement", wound_back, None, None, from_, to)
        assert follows(page)
        before = [line["balance"] for line in whole].index(page[0]["balance"])
        assert amounts(page)[1:] == amounts(whole)[before + 1 : before + len(page)]
        filters = {"account_id": wound_back, "from": from_, "to": to}
        ids = [line["payment_id"] for line in page[1:]]
        assert [payment["id"] for payment in rows(keeper, "list_payments", **filters)] == ids
        # What narrows it takes away what it does not fit, and nothing else.
        assert [payment["id"] for payment in rows(keeper, "list_payments", min=0, **filters)] == ids


def test_whatever_the_clocks_said_before_a_moment_and_from_it_on_are_the_whole(
    keeper: Connection, wound_back: int
) -> None:
    whole = rows(keeper, "get_statement", wound_back)
    for moment in HOURS[:10]:
        until = rows(keeper, "get_statement", wound_back, to=moment)
        since = rows(keeper, "get_statement", wound_back, **{"from": moment})
        assert amounts(until) + amounts(since)[1:] == amounts(whole)
        assert since[0]["balance"] == until[-1]["balance"]


REFUSALS = [
    ("get_statement(null)", "WN001"),
    ("get_statement(0)", "WN001"),
    ("get_statement(9223372036854775807)", "WN001"),
    ("get_statement({saver}, null, 0)", "WB061"),
    ("get_statement({saver}, null, -1)", "WB061"),
    ("get_statement({saver}, null, 1001)", "WB061"),
    ("get_statement({saver}, null, 9223372036854775807)", "WB061"),
    ("get_statement(0, null, 0)", "WB061"),
    ("get_payment(null)", "WN002"),
    ("get_payment(0)", "WN002"),
    ("get_payment(-1)", "WN002"),
    ("get_payment(9223372036854775807)", "WN002"),
]


@pytest.mark.parametrize(("call", "code"), REFUSALS)
def test_refusals(keeper: Connection, saver: int, call: str, code: str) -> None:
    assert refusal_of(keeper, call.format(saver=saver)) == code
