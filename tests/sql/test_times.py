"""The past does not change, and the times of an account never go back, even if the server's clock does.

That the clock was ahead is made up here: by a superuser, who puts times into the future. tests/faults/test_clock.py sets
a real one back.
"""

from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest

from tests.conftest import Connection
from tests.sql.calls import paid, row, rows
from tests.support import account, ledger_problems

HOUR = timedelta(hours=1)


@pytest.fixture
def pair(keeper: Connection) -> tuple[int, int]:
    return account(keeper, "one", 1000), account(keeper, "other", 1000)


def now(connection: Connection) -> datetime:
    [(moment,)] = connection.execute("select clock_timestamp()").fetchall()
    return moment  # type: ignore[no-any-return]


def an_hour_ahead(connection: Connection, *payment_ids: int) -> None:
    """As if the clock had been an hour ahead when these payments were made, the last ones of their accounts."""
    connection.execute("set local session_replication_role = replica")
    connection.execute(
        """update ledger.payment set operation_timestamp = operation_timestamp + interval '1 hour'
           where id = any (%s)""",
        [list(payment_ids)],
    )
    connection.execute(
        """update ledger.account as account set changed_at = (
               select max(payment.operation_timestamp) from ledger.payment as payment
               where account.id in (payment.buyer_account_id, payment.seller_account_id)
           )"""
    )
    connection.execute("set local session_replication_role = origin")


def times(connection: Connection, account_id: int) -> list[datetime]:
    return [line["operation_timestamp"] for line in rows(connection, "get_statement", account_id)[1:]]


PAY: dict[str, Any] = {
    "make_payment": lambda connection, buyer, seller: row(connection, "make_payment", buyer, seller, 1),
    "make_payments": lambda connection, buyer, seller: rows(
        connection, "make_payments", [buyer, seller], [seller, buyer], [2, 1]
    ),
    "refund_payment": lambda connection, buyer, seller: row(
        connection, "refund_payment", rows(connection, "list_payments", account_id=buyer)[0]["id"]
    ),
    "capture_hold": lambda connection, buyer, seller: row(
        connection, "capture_hold", row(connection, "create_hold", buyer, seller, 1)["id"]
    ),
}


@pytest.mark.parametrize("function", PAY)
def test_the_times_of_an_account_never_go_back(keeper: Connection, pair: tuple[int, int], function: str) -> None:
    one, other = pair
    an_hour_ahead(keeper, paid(keeper, other, one, 1), paid(keeper, one, other, 1))
    for _ in range(2):
        PAY[function](keeper, one, other)
        if function == "refund_payment":
            break
    for account_id in pair:
        assert times(keeper, account_id) == sorted(times(keeper, account_id))
    assert times(keeper, one)[-1] > now(keeper) + HOUR / 2
    assert ledger_problems(keeper) == []


@pytest.mark.parametrize("function", PAY)
def test_the_row_of_an_account_has_the_time_of_its_last_payment(
    keeper: Connection, pair: tuple[int, int], function: str
) -> None:
    paid(keeper, *pair, 1)
    PAY[function](keeper, *pair)
    for account_id in pair:
        changed_at = keeper.execute("select changed_at from ledger.account where id = %s", [account_id]).fetchone()
        assert changed_at == (times(keeper, account_id)[-1],)


def test_each_side_of_a_payment_has_its_say(keeper: Connection, pair: tuple[int, int]) -> None:
    one, other = pair
    third, fourth = account(keeper, "third", 10), account(keeper, "fourth", 10)
    an_hour_ahead(keeper, paid(keeper, one, other, 1))
    for buyer, seller in ((one, third), (fourth, other)):
        paid(keeper, buyer, seller, 1)
        for party in (buyer, seller):
            assert times(keeper, party)[-1] > now(keeper) + HOUR / 2
    fifth, sixth = account(keeper, "fifth", 10), account(keeper, "sixth", 10)
    paid(keeper, fifth, sixth, 1)
    assert times(keeper, fifth)[-1] <= now(keeper)


def test_an_account_from_before_the_last_time_was_kept_has_it_too(keeper: Connection, pair: tuple[int, int]) -> None:
    for function in ("make_payment", "make_payments"):
        an_hour_ahead(keeper, paid(keeper, *pair, 1))
        keeper.execute("update ledger.account set changed_at = null")
        PAY[function](keeper, *pair)
        for account_id in pair:
            assert times(keeper, account_id) == sorted(times(keeper, account_id))


def test_within_a_batch_the_times_of_each_account_do_not_go_back(keeper: Connection, pair: tuple[int, int]) -> None:
    one, other = pair
    third = account(keeper, "third", 10)
    an_hour_ahead(keeper, paid(keeper, one, other, 1))
    rows(keeper, "make_payments", [third, one, third], [one, third, other], [1, 1, 1])
    for account_id in (one, other, third):
        assert times(keeper, account_id) == sorted(times(keeper, account_id))


# What was told stays.


# (A sequence is never undone, so each of these tests has a database of its own.)


@pytest.fixture
def its_pair(admin: Connection) -> tuple[int, int]:
    return account(admin, "one", 1000), account(admin, "other", 1000)


def answered_an_hour_ahead(connection: Connection) -> None:
    """As if the past had been told of by a clock that was an hour ahead."""
    connection.execute(
        "select setval('ledger.answered_until', (extract(epoch from clock_timestamp() + interval '1 hour') * 1e6)::bigint)"
    )


@pytest.mark.parametrize("function", ["make_payment", "make_payments"])
def test_payments_are_made_after_all_that_was_told(admin: Connection, its_pair: tuple[int, int], function: str) -> None:
    answered_an_hour_ahead(admin)
    told = now(admin) + HOUR / 2
    before = row(admin, "get_account", its_pair[0], told)["amount"]
    PAY[function](admin, *its_pair)
    assert row(admin, "get_account", its_pair[0], told)["amount"] == before
    assert min(times(admin, its_pair[0])) > told


ASKS: dict[str, Any] = {
    "get_account": lambda connection, account_id, moment: row(connection, "get_account", account_id, moment),
    "get_statement": lambda connection, account_id, moment: rows(
        connection, "get_statement", account_id, to=moment + timedelta(microseconds=1)
    ),
    "get_statement, from": lambda connection, account_id, moment: rows(
        connection, "get_statement", account_id, **{"from": moment + timedelta(microseconds=1)}
    ),
    "list_payments": lambda connection, account_id, moment: rows(
        connection, "list_payments", to=moment + timedelta(microseconds=1)
    ),
    "list_counterparties": lambda connection, account_id, moment: rows(
        connection, "list_counterparties", account_id, to=moment + timedelta(microseconds=1)
    ),
    "get_balance_curve": lambda connection, account_id, moment: rows(
        connection, "get_balance_curve", account_id, to=moment + timedelta(microseconds=1)
    ),
    "get_balance_curve, from": lambda connection, account_id, moment: rows(
        connection, "get_balance_curve", account_id, **{"from": moment + timedelta(microseconds=1)}
    ),
    "sum_payments_by_hour": lambda connection, account_id, moment: rows(
        connection, "sum_payments_by_hour", to=moment + timedelta(microseconds=1)
    ),
}


@pytest.mark.parametrize("ask", ASKS)
def test_a_reader_of_a_moment_moves_payments_past_it(admin: Connection, its_pair: tuple[int, int], ask: str) -> None:
    [(before,)] = admin.execute("select last_value from ledger.answered_until").fetchall()
    moment = now(admin)
    ASKS[ask](admin, its_pair[0], moment)
    [(microseconds, after)] = admin.execute(
        "select (extract(epoch from %s::timestamptz) * 1e6)::bigint, last_value from ledger.answered_until", [moment]
    ).fetchall()
    assert before < after == microseconds
    ASKS[ask](admin, its_pair[0], moment - HOUR)
    assert admin.execute("select last_value from ledger.answered_until").fetchall() == [(after,)]


@pytest.mark.parametrize("moment", ["2999-01-01", "infinity", "-infinity", "0001-01-01"])
def test_of_what_is_to_come_nothing_is_promised(admin: Connection, its_pair: tuple[int, int], moment: str) -> None:
    before = admin.execute("select last_value from ledger.answered_until").fetchall()
    row(admin, "get_account", its_pair[0], moment)
    rows(admin, "get_statement", its_pair[0], to=moment)
    assert admin.execute("select last_value from ledger.answered_until").fetchall() == before
    paid(admin, *its_pair, 1)
    assert times(admin, its_pair[0])[-1] <= now(admin)


def test_where_nothing_can_be_written_the_past_is_told_all_the_same(admin: Connection, database: str) -> None:
    one = account(admin, "one", 5)
    with psycopg.connect(database, user="wallet_reporting", autocommit=True) as reporting:
        assert row(reporting, "get_account", one, now(admin))["amount"] == 5


def test_a_reader_of_the_past_in_an_open_transaction_delays_no_payment(admin: Connection, database: str) -> None:
    one = account(admin, "one", 5)
    with psycopg.connect(database) as looking:
        row(looking, "get_account", one, now(admin))
        admin.execute("set statement_timeout = '5s'")
        row(admin, "get_account", one, now(admin))
        paid(admin, one, account(admin, "other"), 1)
        assert admin.execute("select count(*) from pg_locks where locktype = 'advisory'").fetchall() == [(0,)]


def test_what_is_older_than_the_oldest_open_transaction_is_final_and_what_is_not_may_change(
    admin: Connection, database: str, its_pair: tuple[int, int]
) -> None:
    one, other = its_pair
    paid(admin, one, other, 1)
    with psycopg.connect(database) as person:
        begun = now(person)  # which begins the transaction
        paid(person, one, other, 10)
        asked = now(admin)
        told = {moment: row(admin, "get_account", one, moment)["amount"] for moment in (begun, asked)}
        assert told == {begun: 999, asked: 999}
        [(bound,)] = admin.execute(OLDEST).fetchall()
        assert bound <= begun
        person.commit()
    assert row(admin, "get_account", one, bound - timedelta(microseconds=1))["amount"] == 999
    assert row(admin, "get_account", one, begun)["amount"] == 999
    assert row(admin, "get_account", one, asked)["amount"] == 989, "it was made before, and became visible after"


# docs/recipes.md has this, as a recipe.
OLDEST = """select coalesce(min(xact_start), clock_timestamp()) from pg_stat_activity
            where datname = current_database() and pid <> pg_backend_pid() and xact_start is not null"""
