"""get_totals(): what each currency has, exactly, without reading every payment again."""

from decimal import Decimal
from typing import Any

import psycopg

from tests.conftest import Connection
from tests.sql.calls import Row, as_if_an_hour_ago, held, paid, row, rows
from tests.sql.test_check_ledger import check as command
from tests.sql.test_plans import Cost
from tests.support import account, ledger_problems, wait_until

CHECKS = "select drawn_payment_id, counted_until_id, payment_counts from ledger.ledger_check order by id"


def numbers(connection: Connection) -> list[int]:
    """How many payments each currency has."""
    return [int(totals["payments"]) for totals in rows(connection, "get_totals")]


def check(connection: Connection) -> None:
    """Records a check once what earlier ones have noted is complete: nothing of the server writes since before."""
    complete = "select coalesce(pg_snapshot_xmin(pg_current_snapshot()) > max(xid), true) from ledger.ledger_check"
    wait_until(lambda: connection.execute(complete).fetchall() == [(True,)])
    row(connection, "record_ledger_check", 0)


def pay(connection: Connection, buyer: int, seller: int, number: int = 1) -> None:
    for _ in range(number):
        paid(connection, buyer, seller, "0.01")


def test_the_totals_of_each_currency(keeper: Connection) -> None:
    one, two = account(keeper, "one", "0.5"), account(keeper, "two", 99)
    account(keeper, "three", 7, 2)
    paid(keeper, two, one, 9)
    held(keeper, two, one, "1.50")
    held(keeper, one, two, 2)
    as_if_an_hour_ago(keeper, held(keeper, two, one, 4))  # expired, but not released
    expected: list[Row] = [
        {"currency_name": "USD", "accounts": 2, "payments": 1, "total": Decimal("99.5"), "held": Decimal("3.5")},
        {"currency_name": "RUB", "accounts": 1, "payments": 0, "total": 7, "held": 0},
        {"currency_name": "BTC", "accounts": 0, "payments": 0, "total": 0, "held": 0},
        {"currency_name": "ETC", "accounts": 0, "payments": 0, "total": 0, "held": 0},
    ]
    never: Row = {"checked_at": None, "problems": None}
    assert rows(keeper, "get_totals") == [{"currency_id": n} | each | never for n, each in enumerate(expected, 1)]
    assert str(rows(keeper, "get_totals")[0]["held"]) == "3.5"
    for problems in (3, 0):
        checked_at = row(keeper, "record_ledger_check", problems)["record_ledger_check"]
        last: Row = {"checked_at": checked_at, "problems": problems}
        assert rows(keeper, "get_totals") == [{"currency_id": n} | each | last for n, each in enumerate(expected, 1)]


def test_payments_that_a_check_has_counted_are_not_read_again(admin: Connection) -> None:
    one, two = account(admin, "one", 100), account(admin, "two", 100)
    pay(admin, one, two, 50)
    check(admin)
    assert numbers(admin) == [50, 0, 0, 0]
    pay(admin, one, two, 20)
    check(admin)
    pay(admin, account(admin, "three", 1, 2), account(admin, "four", 0, 2), 3)
    assert admin.execute(CHECKS).fetchall() == [(50, None, None), (70, 50, {"1": 50})]
    admin.execute("vacuum analyze ledger.payment")
    admin.execute("set enable_seqscan = off")  # the table is so small that reading it whole would be faster
    assert Cost(admin, "get_totals").rows["payment"] == 23
    assert numbers(admin) == [70, 3, 0, 0]
    for _ in range(2):
        check(admin)
    assert Cost(admin, "get_totals").rows["payment"] == 0
    assert numbers(admin) == [70, 3, 0, 0]
    assert admin.execute(CHECKS).fetchall()[2:] == [(73, 70, {"1": 70}), (73, 73, {"1": 70, "2": 3})]
    assert ledger_problems(admin) == []


def test_the_command_counts_too(admin: Connection, database: str) -> None:
    one, two = account(admin, "one", 100), account(admin, "two", 100)
    for number in (1, 2, 3):
        pay(admin, one, two)
        assert command(database)[0] == 0
        check(admin)
        assert numbers(admin) == [number, 0, 0, 0]
    assert admin.execute(CHECKS).fetchall()[-1] == (3, 3, {"1": 3})


def test_a_payment_that_commits_after_later_ones_were_counted_is_counted_too(admin: Connection, database: str) -> None:
    one, two, three, four = (account(admin, name, 100) for name in ("one", "two", "three", "four"))
    with psycopg.connect(database) as other:
        pay(other, one, two)  # draws the first id, and does not commit
        pay(admin, three, four, 5)
        for _ in range(3):
            row(admin, "record_ledger_check", 0)
        assert [counted for _, counted, _ in admin.execute(CHECKS).fetchall()] == [None] * 3
        assert numbers(admin) == [5, 0, 0, 0]
    assert numbers(admin) == [6, 0, 0, 0]
    check(admin)
    assert admin.execute(CHECKS).fetchall()[-1] == (6, 6, {"1": 6})
    assert numbers(admin) == [6, 0, 0, 0]


def test_a_check_in_a_transaction_that_has_paid_notes_nothing(admin: Connection) -> None:
    """Its transaction id is older than what it would note: another one that has drawn an id may be younger."""
    one, two = account(admin, "one", 100), account(admin, "two", 100)
    with admin.transaction():
        pay(admin, one, two)
        row(admin, "record_ledger_check", 0)
    row(admin, "record_ledger_check", 0)
    assert admin.execute(CHECKS).fetchall() == [(None, None, None), (1, None, None)]


def test_the_totals_are_of_one_moment(admin: Connection, database: str) -> None:
    one, two = account(admin, "one", 100), account(admin, "two", 100)
    pay(admin, one, two, 3)
    with psycopg.connect(database) as reader:
        reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        before: list[Any] = rows(reader, "get_totals")
        pay(admin, one, two, 4)
        for _ in range(2):
            check(admin)
        assert rows(reader, "get_totals") == before
    assert numbers(admin) == [7, 0, 0, 0]


def test_a_wrong_count_is_a_problem(admin: Connection) -> None:
    one, two = account(admin, "one", 100), account(admin, "two", 100)
    pay(admin, one, two, 3)
    for _ in range(2):
        check(admin)
    assert ledger_problems(admin) == []
    admin.execute("""update ledger.ledger_check set payment_counts = '{"1": 4}' where payment_counts is not null""")
    assert rows(admin, "check_ledger") == [
        {
            "currency_id": 1,
            "account_id": None,
            "payment_id": 3,
            "problem": "4 payments of the currency were counted up to this one, and there are 3",
        }
    ]
