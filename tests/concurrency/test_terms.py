"""Refunds, holds, status and credit limits, many at once, by SQL: each rule holds for all of them together."""

import itertools
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from tests.conftest import Connection, clone
from tests.sql.calls import as_if_an_hour_ago, held, paid, row, rows
from tests.support import account, balance, ledger_problems, totals, waiting_for_locks

Call = tuple[Any, ...]
ROUNDS = 5


def at_once(database: str, calls: list[Call], times: int = 1) -> Counter[str]:
    """Makes each call on a connection of its own, all at the same moment, again and again; counts the outcomes."""
    start = threading.Barrier(len(calls))

    def run(call: Call) -> list[str]:
        with psycopg.connect(database, user="wallet_app", autocommit=True) as connection:
            connection.execute("select wallet.schema_version()")
            start.wait()
            return [outcome(connection, call) for _ in range(times)]

    with ThreadPoolExecutor(len(calls)) as threads:
        return Counter(result for results in threads.map(run, calls) for result in results)


def outcome(connection: Connection, call: Call) -> str:
    """ "done", the code of the refusal, or "replayed"."""
    try:
        made = rows(connection, *call)
    except psycopg.Error as error:
        return str(error.sqlstate)
    codes = {str(one.get("error_code") or ("replayed" if one.get("replayed") else "done")) for one in made}
    assert len(codes) == 1
    return codes.pop()


@pytest.fixture
def pair(admin: Connection) -> tuple[int, int]:
    """A buyer with 10,000, and a seller."""
    return account(admin, "buyer", 10_000), account(admin, "seller")


# Refunds.


def test_refunds_of_one_payment_never_exceed_it(admin: Connection, database: str, pair: tuple[int, int]) -> None:
    buyer, seller = pair
    paid(admin, buyer, seller, 5000)  # so that the seller has enough to give back too much
    for _ in range(ROUNDS):
        sale = paid(admin, buyer, seller, 100)
        assert at_once(database, [("refund_payment", sale, 15)] * 20) == {"done": 6, "WB021": 14}
        assert row(admin, "get_payment", sale)["refunded_amount"] == 90
        assert at_once(database, [("refund_payment", sale)] * 5) == {"done": 1, "WB021": 4}
    assert balance(admin, seller) == 5000
    assert ledger_problems(admin) == []


def test_one_refund_asked_for_by_many_is_made_once(admin: Connection, database: str, pair: tuple[int, int]) -> None:
    for number in range(ROUNDS):
        sale = paid(admin, *pair, 100)
        calls = [("refund_payment", sale, None if n % 2 else 100, f"key {number}") for n in range(10)]
        assert at_once(database, calls) == {"done": 1, "replayed": 9}
    assert balance(admin, pair[0]) == 10_000
    assert ledger_problems(admin) == []


def test_refunds_payments_and_holds_of_opposite_parties_do_not_deadlock(
    admin: Connection, database: str, pair: tuple[int, int]
) -> None:
    one, other = pair
    there, back = paid(admin, one, other, 5000), paid(admin, other, one, 2000)
    calls: list[Call] = [
        ("refund_payment", there, 1),
        ("refund_payment", back, 1),
        ("make_payment", one, other, 1),
        ("make_payments", [other, one], [one, other], [Decimal(1)] * 2),
        ("create_hold", one, other, 1),
        ("create_hold", other, one, 1),
    ]
    assert at_once(database, [*calls, *calls], times=20) == {"done": 240}
    assert totals(admin) == {"USD": 10_000}
    assert row(admin, "get_payment", there)["refunded_amount"] == 40
    assert [row(admin, "get_account", id_)["held"] for id_ in pair] == [40, 40]
    assert ledger_problems(admin) == []


# Holds.


def test_of_captures_exactly_one_pays(admin: Connection, database: str, pair: tuple[int, int]) -> None:
    for number in range(ROUNDS):
        hold = held(admin, *pair, 10)
        assert at_once(database, [("capture_hold", hold, 1 + n % 10) for n in range(20)]) == {"done": 1, "WC031": 19}
        hold = held(admin, *pair, 10)
        assert at_once(database, [("capture_hold", hold, 10, f"key {number}")] * 20) == {"done": 1, "replayed": 19}
    assert row(admin, "get_account", pair[0])["held"] == 0
    assert ledger_problems(admin) == []


def test_a_hold_ends_once_be_it_captured_or_voided(admin: Connection, database: str, pair: tuple[int, int]) -> None:
    for _ in range(2 * ROUNDS):
        hold, before = held(admin, *pair, 10), balance(admin, pair[1])
        found = at_once(database, [("capture_hold", hold), ("void_hold", hold)] * 5)
        ended = row(admin, "get_hold", hold)
        assert found == {"done": 1, "WC031" if ended["status"] == "captured" else "WC032": 9}
        assert balance(admin, pair[1]) - before == (ended["captured_amount"] or 0)
        assert row(admin, "get_account", pair[0])["held"] == 0
    assert ledger_problems(admin) == []


def test_captures_of_one_hold_never_exceed_it(admin: Connection, database: str, pair: tuple[int, int]) -> None:
    """Of 20 at once, as many pay as there is something for; up to an amount, the last one pays less."""
    for number in range(ROUNDS):
        hold, before = held(admin, *pair, 10), balance(admin, pair[1])
        calls: list[Call] = [("capture_hold", hold, 3, None, None, False)] * 20
        assert at_once(database, calls) == {"done": 3, "WB032": 17}
        assert row(admin, "get_account", pair[0])["held"] == 1
        calls = [("capture_hold", hold, "0.25", f"key {number}", None, False, True)] * 10
        assert at_once(database, calls) == {"done": 1, "replayed": 9}
        calls = [("capture_hold", hold, "0.5", None, None, False, True)] * 10
        assert at_once(database, calls) == {"done": 2, "WC031": 8}
        ended = row(admin, "get_hold", hold)
        assert (ended["status"], ended["captured_amount"]) == ("captured", 10)
        assert balance(admin, pair[1]) - before == 10
        assert row(admin, "get_account", pair[0])["held"] == 0
    assert ledger_problems(admin) == []


# Sooner or later during the calls.
EXPIRES = "update ledger.hold set expires_at = clock_timestamp() + %s * interval '1 ms' where id = %s"
UNTIL_EXPIRED = "select pg_sleep(extract(epoch from expires_at - clock_timestamp())) from ledger.hold where id = %s"


@pytest.mark.parametrize("way", ["voided", "expired"])
def test_captures_and_the_end_of_their_hold_and_payments_at_once(admin: Connection, database: str, way: str) -> None:
    """However the hold ends, its captures have paid what it says, and the rest is there for payments."""
    for number in range(2 * ROUNDS):
        buyer, seller = account(admin, f"buyer {number}", 10), account(admin, f"seller {number}")
        hold = held(admin, buyer, seller, 10)
        calls: list[Call] = [
            *[("capture_hold", hold, 1, None, None, False)] * 4,
            ("capture_hold", hold, 5, None, None, False, True),
            *[("make_payment", buyer, seller, 3)] * 2,
            ("make_payments", [buyer], [seller], [Decimal(3)]),
        ]
        if way == "voided":
            calls.append(("void_hold", hold))
        else:
            with admin.transaction():
                admin.execute("set local session_replication_role = replica")  # no trigger keeps it as it is
                admin.execute(EXPIRES, [30 * number, hold])
        found = at_once(database, calls)
        if way == "expired":
            admin.execute(UNTIL_EXPIRED, [hold])
        assert set(found) <= {"done", "WC032" if way == "voided" else "WC033", "WB006"}
        ended, shown = row(admin, "get_hold", hold), row(admin, "get_account", buyer)
        assert (ended["status"], shown["held"], shown["available"]) == (way, 0, shown["amount"])
        captured = "select sum(amount) from ledger.payment where hold_id = %s"
        assert admin.execute(captured, [hold]).fetchall() == [(ended["captured_amount"],)]
    assert ledger_problems(admin) == []


def test_payments_and_holds_never_take_more_than_is_available(admin: Connection, database: str) -> None:
    for number in range(ROUNDS):
        buyer, seller = account(admin, f"buyer {number}", "10.5"), account(admin, f"seller {number}")
        calls: list[Call] = [
            ("make_payment", buyer, seller, 1),
            ("create_hold", buyer, seller, 1),
            ("make_payments", [buyer], [seller], [Decimal(1)]),
        ] * 8
        assert at_once(database, calls) == {"done": 10, "WB006": 14}
        shown = row(admin, "get_account", buyer)
        assert (shown["available"], shown["held"]) == (Decimal("0.5"), 10 - balance(admin, seller))
    assert ledger_problems(admin) == []


def test_one_hold_asked_for_by_many_is_made_once(admin: Connection, database: str, pair: tuple[int, int]) -> None:
    for number in range(ROUNDS):
        calls: list[Call] = [("create_hold", *pair, 10, 60, f"key {number}")] * 10
        assert at_once(database, calls) == {"done": 1, "replayed": 9}
        assert row(admin, "get_account", pair[0])["held"] == 10 * (number + 1)
    assert ledger_problems(admin) == []


def test_of_different_holds_under_one_key_at_the_same_moment_one_has_it(admin: Connection, database: str) -> None:
    ids = [account(admin, f"account {number}", 10) for number in range(4)]
    for number in range(ROUNDS):
        calls: list[Call] = [
            ("create_hold", *ids[start : start + 2], 1, 60, f"key {number}") for start in (0, 2) for _ in range(5)
        ]
        assert at_once(database, calls) == {"done": 1, "replayed": 4, "WK002": 5}
    assert sum(row(admin, "get_account", id_)["held"] for id_ in ids) == ROUNDS
    assert ledger_problems(admin) == []


def test_what_has_expired_is_freed_once(admin: Connection, database: str) -> None:
    """The first payment voids it, and all at once see the amount available."""
    for number in range(ROUNDS):
        buyer, seller = account(admin, f"buyer {number}", 10), account(admin, f"seller {number}")
        with admin.transaction():
            for _ in range(5):
                as_if_an_hour_ago(admin, held(admin, buyer, seller, 2))
        calls: list[Call] = [("make_payment", buyer, seller, 1), ("make_payments", [buyer], [seller], [Decimal(1)])] * 6
        assert at_once(database, calls) == {"done": 10, "WB006": 2}
        assert admin.execute("select held from ledger.account where id = %s", [buyer]).fetchall() == [(0,)]
    assert ledger_problems(admin) == []


# Status and credit limit.


def test_an_account_is_closed_only_when_it_is_empty_and_nothing_comes_after_that(
    admin: Connection, database: str, pair: tuple[int, int]
) -> None:
    buyer, _ = pair
    for number in range(2 * ROUNDS):
        leaver = account(admin, f"leaver {number}")
        calls: list[Call] = [
            *[("set_account_status", leaver, "closed")] * 4,
            *[("make_payment", buyer, leaver, 1)] * 4,
            *[("make_payments", [buyer], [leaver], [Decimal(1)])] * 2,
        ]
        found = at_once(database, calls)
        shown = row(admin, "get_account", leaver)
        if shown["status"] == "closed":
            assert (found, shown["amount"]) == ({"done": 4, "WB015": 6}, 0)
        else:
            assert found["WB015"] == 0
            assert (found["done"], found["WC041"], shown["amount"]) == (6, 4, 6)
    assert ledger_problems(admin) == []


def test_an_account_that_something_is_held_of_is_not_closed(
    admin: Connection, database: str, pair: tuple[int, int]
) -> None:
    for number in range(ROUNDS):
        leaver = account(admin, f"leaver {number}")
        row(admin, "set_credit_limit", leaver, 10)
        calls: list[Call] = [("set_account_status", leaver, "closed"), ("create_hold", leaver, pair[1], 1)] * 4
        found = at_once(database, calls)
        shown = row(admin, "get_account", leaver)
        if shown["status"] == "closed":
            assert (found, shown["held"]) == ({"done": 4, "WB014": 4}, 0)
        else:
            assert (found, shown["held"]) == ({"done": 4, "WC042": 4}, 4)
    assert ledger_problems(admin) == []


def test_a_credit_limit_that_is_lowered_covers_what_is_used_of_it(admin: Connection, database: str) -> None:
    sink = account(admin, "sink")
    for number in range(2 * ROUNDS):
        bank = account(admin, f"bank {number}")
        row(admin, "set_credit_limit", bank, 10)
        calls: list[Call] = [
            ("make_payment", bank, sink, 2),
            ("set_credit_limit", bank, 5),
            ("create_hold", bank, sink, 2),
            ("make_payments", [bank], [sink], [Decimal(2)]),
        ] * 3
        found = at_once(database, calls)
        shown = row(admin, "get_account", bank)
        assert shown["available"] >= 0
        assert shown["credit_limit"] - shown["available"] == shown["held"] - shown["amount"]
        assert set(found) <= {"done", "WB006", "WC043"}
        assert shown["credit_limit"] == (5 if found["WC043"] < 3 else 10)
    assert ledger_problems(admin) == []


# Who waited for a lock judges what he finds then, not what he saw before.

_numbers = itertools.count()


@pytest.fixture(scope="module")
def shared(cluster: str) -> Iterator[str]:
    """A database for tests that do not mind what others left in it: a connection string for its superuser."""
    yield from clone(cluster, "wallet")


@pytest.fixture
def scene(shared: str) -> Iterator[tuple[Connection, dict[str, Any]]]:
    """Accounts of the test's own in it; {buyer} has paid {sale}, 100 of 5100, and has 4900, of which {hold} holds 10."""
    number = next(_numbers)
    with psycopg.connect(shared, autocommit=True) as connection:
        names: dict[str, Any] = {
            name: account(connection, f"{name} {number}", amount)
            for name, amount in (("buyer", 10_000), ("seller", 0), ("bank", 0), ("empty", 0))
        }
        row(connection, "set_credit_limit", names["bank"], 10)
        paid(connection, names["buyer"], names["seller"], 5000)
        names["sale"] = paid(connection, names["buyer"], names["seller"], 100)
        names["hold"] = held(connection, names["buyer"], names["seller"], 10)
        names["key"] = f"key {number}"
        yield connection, names
        assert ledger_problems(connection) == []


# What one does in a transaction of its own, what another one asks for meanwhile, and what that one is told, when the
# first has committed.
WAITED: list[tuple[str, str, str]] = [
    ("refund_payment({sale}, 60)", "refund_payment({sale}, 60)", "WB021"),
    ("refund_payment({sale})", "refund_payment({sale})", "WB021"),
    ("refund_payment({sale}, 60, '{key}')", "refund_payment({sale}, 60, '{key}')", "replayed"),
    ("capture_hold({hold})", "capture_hold({hold})", "WC031"),
    ("capture_hold({hold})", "void_hold({hold})", "WC031"),
    ("void_hold({hold})", "capture_hold({hold})", "WC032"),
    ("void_hold({hold})", "void_hold({hold})", "WC032"),
    ("capture_hold({hold}, 5, '{key}')", "capture_hold({hold}, 5, '{key}')", "replayed"),
    ("capture_hold({hold}, 6, p_final => false)", "capture_hold({hold}, 5)", "WB032"),
    ("capture_hold({hold}, 6, p_final => false)", "capture_hold({hold}, 5, p_up_to => true)", "done"),
    ("capture_hold({hold}, 6, p_final => false)", "void_hold({hold})", "done"),
    ("capture_hold({hold}, 6, p_final => false)", "make_payment({buyer}, {seller}, 4891)", "WB006"),
    ("capture_hold({hold}, 6, '{key}', p_final => false)", "capture_hold({hold}, 6, '{key}')", "WK001"),
    ("create_hold({buyer}, {seller}, 4890)", "make_payment({buyer}, {seller}, 1)", "WB006"),
    ("create_hold({buyer}, {seller}, 4890)", "make_payments(array[{buyer}], array[{seller}], array[1])", "WB006"),
    ("create_hold({buyer}, {seller}, 4890)", "create_hold({buyer}, {seller}, 1)", "WB006"),
    ("create_hold({buyer}, {seller}, 1, 60, '{key}')", "create_hold({buyer}, {seller}, 1, 60, '{key}')", "replayed"),
    ("create_hold({seller}, {buyer}, 5100)", "refund_payment({sale})", "WB023"),
    ("set_account_status({empty}, 'closed')", "make_payment({buyer}, {empty}, 1)", "WB015"),
    ("set_account_status({empty}, 'closed')", "make_payments(array[{buyer}], array[{empty}], array[1])", "WB015"),
    ("set_account_status({buyer}, 'frozen')", "make_payment({buyer}, {seller}, 1)", "WB010"),
    ("set_account_status({buyer}, 'frozen')", "capture_hold({hold})", "WB010"),
    ("set_account_status({seller}, 'frozen')", "refund_payment({sale})", "WB024"),
    ("set_account_status({buyer}, 'blocked')", "make_payment({buyer}, {seller}, 1)", "WB042"),
    ("set_account_status({seller}, 'blocked')", "make_payment({buyer}, {seller}, 1)", "WB043"),
    ("set_account_status({seller}, 'blocked')", "make_payments(array[{buyer}], array[{seller}], array[1])", "WB043"),
    ("set_account_status({seller}, 'blocked')", "capture_hold({hold})", "WB043"),
    ("set_account_status({buyer}, 'blocked')", "refund_payment({sale})", "WB045"),
    ("make_payment({buyer}, {empty}, 1)", "set_account_status({empty}, 'blocked')", "done"),
    ("make_payment({buyer}, {empty}, 1)", "set_account_status({empty}, 'closed')", "WC041"),
    ("create_hold({bank}, {empty}, 1)", "set_account_status({bank}, 'closed')", "WC042"),
    ("create_hold({bank}, {empty}, 8)", "set_credit_limit({bank}, 5)", "WC043"),
    ("make_payment({bank}, {empty}, 8)", "set_credit_limit({bank}, 5)", "WC043"),
    ("set_credit_limit({bank}, 5)", "make_payment({bank}, {empty}, 8)", "WB006"),
    ("set_credit_limit({bank}, 5)", "make_payments(array[{bank}], array[{empty}], array[8])", "WB006"),
]


@pytest.mark.parametrize(("first", "late", "told"), WAITED)
def test_a_call_that_waited_sees_what_happened_meanwhile(
    shared: str, scene: tuple[Connection, dict[str, Any]], first: str, late: str, told: str
) -> None:
    connection, names = scene

    def ask() -> str:
        with psycopg.connect(shared, user="wallet_app", autocommit=True) as waiting:
            try:
                cursor = waiting.execute(f"select to_jsonb(told) from wallet.{late.format(**names)} as told")
                [(answer,)] = cursor.fetchall()
            except psycopg.Error as error:
                return str(error.sqlstate)
            return str(answer.get("error_code") or ("replayed" if answer.get("replayed") else "done"))

    with ThreadPoolExecutor() as threads, psycopg.connect(shared) as holder:
        holder.execute(f"select wallet.{first.format(**names)}")
        asked: Future[str] = threads.submit(ask)
        waiting_for_locks(connection, 1)
        holder.commit()
        assert asked.result() == told


@pytest.mark.parametrize(("first", "late"), [(first, late) for first, late, told in WAITED if told != "replayed"])
def test_in_repeatable_read_what_has_changed_meanwhile_is_a_serialization_failure(
    shared: str, scene: tuple[Connection, dict[str, Any]], first: str, late: str
) -> None:
    """Who reads what was there when he began judges nothing by it."""
    connection, names = scene
    with psycopg.connect(shared) as reader:
        reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        reader.execute("select 1")
        connection.execute(f"select wallet.{first.format(**names)}")
        with pytest.raises(psycopg.errors.SerializationFailure):
            reader.execute(f"select wallet.{late.format(**names)}")
        reader.rollback()


def test_a_hold_whose_time_is_over_when_the_lock_comes_has_expired(
    admin: Connection, database: str, pair: tuple[int, int]
) -> None:
    """Who captures it came in time, and waited for too long."""
    for function in ("capture_hold", "void_hold"):
        hold = held(admin, *pair, 10)
        with ThreadPoolExecutor() as threads, psycopg.connect(database) as holder:
            holder.execute("select from ledger.account for no key update")
            asked = threads.submit(at_once, database, [(function, hold)])
            waiting_for_locks(admin, 1)
            as_if_an_hour_ago(holder, hold)
            holder.commit()
            assert asked.result() == {"WC033": 1}
    assert ledger_problems(admin) == []


@pytest.mark.parametrize(
    "call",
    [
        "refund_payment({sale}, 1)",
        "create_hold({seller}, {buyer}, 1)",
        "capture_hold({back})",
        "make_payment({seller}, {buyer}, 1)",
    ],
)
def test_accounts_are_locked_in_the_order_of_their_ids(
    shared: str, scene: tuple[Connection, dict[str, Any]], call: str
) -> None:
    """The one of the lower id first, though it is the seller's: while one waits for it, the other is free."""
    connection, names = scene
    names["back"] = held(connection, names["seller"], names["buyer"], 1)
    assert names["buyer"] < names["seller"]

    def ask() -> None:
        with psycopg.connect(shared, user="wallet_app", autocommit=True) as waiting:
            waiting.execute(f"select wallet.{call.format(**names)}")

    lock = "select from ledger.account where id = %s for no key update"
    with ThreadPoolExecutor() as threads, psycopg.connect(shared) as holder:
        holder.execute(lock, [names["buyer"]])
        asked = threads.submit(ask)
        waiting_for_locks(connection, 1)
        connection.execute(f"{lock} nowait", [names["seller"]])
        holder.rollback()
        asked.result()
