"""Under an idempotency key a payment is made once, however often, by whom, and in whatever call it is asked for."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from tests.conftest import Connection
from tests.sql.calls import message, row
from tests.support import account, balance, waiting_for_locks

Pay = Callable[..., dict[str, Any]]
MOVED = Decimal("500.1")


def one(connection: Connection, buyer: int, seller: int, amount: object, key: str | None) -> dict[str, Any]:
    return row(connection, "make_payment", buyer, seller, amount, idempotency_key=key)


def among_many(connection: Connection, buyer: int, seller: int, amount: object, key: str | None) -> dict[str, Any]:
    """The same by make_payments, between two payments that are refused; its refusal is raised."""
    query = """select * from wallet.make_payments(
                   array[0, %s, 0]::bigint[], array[0, %s, 0]::bigint[], array[1, %s, 1]::numeric[],
                   p_idempotency_keys => array[null, %s, 'of a refused one']) limit 1 offset 1"""
    row = _row(connection.execute(query, [buyer, seller, amount, key]))
    if code := row.pop("error_code"):
        raise psycopg.errors.lookup("P0001")(row["error"], code)
    del row["error"], row["error_field"]
    return row


def _row(cursor: psycopg.Cursor[Any]) -> dict[str, Any]:
    assert cursor.description is not None
    [row] = cursor.fetchall()
    return {column.name: value for column, value in zip(cursor.description, row, strict=True)}


@pytest.fixture(params=[one, among_many])
def pay(request: pytest.FixtureRequest) -> Pay:
    chosen: Pay = request.param
    return chosen


@pytest.fixture
def accounts(ops: Connection) -> list[int]:
    return [account(ops, "buyer", 1000), account(ops, "seller"), account(ops, "other")]


def payments(connection: Connection) -> int:
    return len(connection.execute("select from wallet.list_payments()").fetchall())


def refusal_of(connection: Connection, pay: Pay, *arguments: object) -> tuple[str | None, str]:
    """The code and the message of a refusal, by either function."""
    with pytest.raises(psycopg.Error) as refusal, connection.transaction():
        pay(connection, *arguments)
    raised = refusal.value
    return (
        (raised.args[1], raised.args[0])
        if len(raised.args) > 1
        else (raised.sqlstate, raised.diag.message_primary or "")
    )


def test_asked_for_again_it_is_returned_and_nothing_moves(ops: Connection, accounts: list[int], pay: Pay) -> None:
    buyer, seller, _ = accounts
    first = pay(ops, buyer, seller, MOVED, "key")
    assert first["replayed"] is None
    for again in (pay, one, among_many, pay):
        assert again(ops, buyer, seller, "500.100", "key") == first | {"replayed": True}
    assert [balance(ops, buyer), balance(ops, seller)] == [1000 - MOVED, MOVED]
    assert payments(ops) == 1


def test_a_payment_without_a_key_is_made_each_time(ops: Connection, accounts: list[int], pay: Pay) -> None:
    buyer, seller, _ = accounts
    assert [pay(ops, buyer, seller, 1, None)["replayed"] for _ in range(3)] == [None] * 3
    assert balance(ops, seller) == 3


def test_it_is_returned_whatever_has_happened_since(ops: Connection, accounts: list[int], pay: Pay) -> None:
    buyer, seller, other = accounts
    first = pay(ops, buyer, seller, 1000, "key")
    one(ops, seller, other, 1000, "on")
    assert pay(ops, buyer, seller, 1000, "key") == first | {"replayed": True}


@pytest.mark.parametrize(
    "key",
    ["k", " ", "k" * 255, "😀" * 255, '"', "\\", "{NULL,}", "NULL", "null", "'; drop", "%s", "\u0301", "\x01\t\n"],
)
def test_a_key_is_any_text_to_the_last_character(ops: Connection, accounts: list[int], pay: Pay, key: str) -> None:
    buyer, seller, _ = accounts
    assert [pay(ops, buyer, seller, 1, key)["replayed"] for _ in range(2)] == [None, True]
    for another in (key[:-1] + "x", key.upper() + " ", key.replace("k", "K", 1) if "k" in key else key[:-1] + "y"):
        if len(another) <= 255:
            assert pay(ops, buyer, seller, 1, another)["replayed"] is None, another


# {buyer} has paid {seller} 1 under the key 'used'.
REFUSALS = [
    ("{buyer}, {seller}, 2, used", "WK001"),
    ("{buyer}, {seller}, 1.000000000000001, used", "WK001"),
    ("{buyer}, {other}, 1, used", "WK001"),
    ("{other}, {seller}, 1, used", "WK001"),
    ("{seller}, {buyer}, 1, used", "WK001"),
    ("{buyer}, {seller}, 1, ", "WB008"),
    ("{buyer}, {seller}, 1, " + "k" * 256, "WB008"),
    ("{buyer}, {seller}, 1, \x1f", "WB028"),
    ("{buyer}, {seller}, 1, \x1fk", "WB028"),
    ("{buyer}, {seller}, 1, \x1f" + "k" * 255, "WB028"),
    # What is wrong besides is not what the key means either:
    ("{buyer}, {buyer}, 1, used", "WK001"),
    ("{buyer}, {seller}, -1, used", "WK001"),
    ("{buyer}, {seller}, NaN, used", "WK001"),
    ("{buyer}, 0, 1, used", "WK001"),
    ("{buyer}, {buyer}, 1, ", "WB008"),
    ("{buyer}, {buyer}, 1, \x1fk", "WB028"),
]


@pytest.mark.parametrize(("arguments", "code"), REFUSALS)
def test_refusals(ops: Connection, accounts: list[int], pay: Pay, arguments: str, code: str) -> None:
    buyer, seller, other = accounts
    one(ops, buyer, seller, 1, "used")
    asked = arguments.format(buyer=buyer, seller=seller, other=other).split(", ")
    assert refusal_of(ops, pay, *asked) == (code, message(code))
    assert [balance(ops, id_) for id_ in accounts] == [999, 1, 0]
    assert payments(ops) == 1


def test_a_refused_payment_does_not_use_up_its_key(ops: Connection, accounts: list[int], pay: Pay) -> None:
    buyer, seller, other = accounts
    assert refusal_of(ops, pay, buyer, seller, 1001, "key")[0] == "WB006"
    assert refusal_of(ops, pay, buyer, buyer, 1, "key")[0] == "WB001"
    assert refusal_of(ops, pay, buyer, 0, 1, "key")[0] == "WB004"
    assert pay(ops, buyer, other, 1, "key")["replayed"] is None


def test_what_was_rolled_back_did_not_use_up_its_key(ops: Connection, accounts: list[int], pay: Pay) -> None:
    buyer, seller, _ = accounts
    with ops.transaction(force_rollback=True):
        pay(ops, buyer, seller, 1, "key")
    assert pay(ops, buyer, seller, 2, "key")["replayed"] is None


def test_within_one_call_the_second_of_a_key_is_the_first(ops: Connection, accounts: list[int]) -> None:
    buyer, seller, other = accounts
    outcomes = ops.execute(
        """select id - min(id) over (), amount, replayed, error_code from wallet.make_payments(
               array[%(buyer)s, %(buyer)s, %(buyer)s, %(buyer)s, %(seller)s, %(buyer)s, %(buyer)s]::bigint[],
               array[%(seller)s, %(seller)s, %(other)s, %(seller)s, %(other)s, %(seller)s, %(seller)s]::bigint[],
               array[5000, 10, 10, 10.0, 10, 10, 7],
               p_idempotency_keys => array['a', 'a', 'a', 'a', 'b', null, 'a'])""",
        {"buyer": buyer, "seller": seller, "other": other},
    ).fetchall()
    assert outcomes == [
        (None, None, None, "WB006"),
        (0, 10, None, None),
        (None, None, None, "WK001"),
        (0, 10, True, None),
        (1, 10, None, None),
        (2, 10, None, None),
        (None, None, None, "WK001"),
    ]
    assert [balance(ops, id_) for id_ in accounts] == [980, 10, 10]


def test_an_atomic_batch_that_is_repeated_is_returned_and_one_with_another_content_refused(
    ops: Connection, accounts: list[int]
) -> None:
    query = """select id, operation_timestamp, replayed from wallet.make_payments(
                   %s::bigint[], %s::bigint[], %s::numeric[], true, p_idempotency_keys => array['fee', 'price'])"""
    buyer, seller, other = accounts
    legs = [[buyer, buyer], [other, seller]]
    made = ops.execute(query, [*legs, [1, 100]]).fetchall()
    assert [replayed for *_, replayed in made] == [None, None]
    assert ops.execute(query, [*legs, [1, 100]]).fetchall() == [(*row[:2], True) for row in made]
    with pytest.raises(psycopg.Error) as refusal, ops.transaction():
        ops.execute(query, [*legs, [1, 101]])
    assert (refusal.value.sqlstate, refusal.value.diag.message_detail) == ("WK001", "Index: 1")


@pytest.mark.parametrize("keys", ["array['a', 'b']", "array[]::text[]"])
def test_keys_of_another_number_than_payments(ops: Connection, accounts: list[int], keys: str) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="of the same length"), ops.transaction():
        ops.execute(f"select wallet.make_payments(array[1], array[2], array[1], p_idempotency_keys => {keys})")


@pytest.mark.parametrize(("again", "outcome"), [(1, "replayed"), (2, "WK001")])
def test_two_at_the_same_moment_are_one(admin: Connection, database: str, pay: Pay, again: int, outcome: str) -> None:
    buyer, seller = account(admin, "buyer", 10), account(admin, "seller")
    with ThreadPoolExecutor() as threads, psycopg.connect(database) as first, psycopg.connect(database) as second:
        made = one(first, buyer, seller, 1, "key")
        if outcome == "WK001":
            refused = threads.submit(refusal_of, second, pay, buyer, seller, again, "key")
            waiting_for_locks(admin, 1)
            first.commit()
            assert refused.result()[0] == "WK001"
        else:
            same = threads.submit(pay, second, buyer, seller, again, "key")
            waiting_for_locks(admin, 1)
            first.commit()
            assert same.result() == made | {"replayed": True}
    assert balance(admin, seller) == 1


def test_of_two_different_payments_at_the_same_moment_one_has_the_key(admin: Connection, database: str) -> None:
    """They have no account in common, and so no lock: the key itself is where they meet."""
    ids = [account(admin, f"account {number}", 10) for number in range(4)]
    with ThreadPoolExecutor() as threads, psycopg.connect(database) as first, psycopg.connect(database) as second:
        one(first, ids[0], ids[1], 1, "key")
        refused = threads.submit(refusal_of, second, one, ids[2], ids[3], 1, "key")
        waiting_for_locks(admin, 1)
        first.commit()
        assert refused.result() == ("WK001", message("WK001"))
        second.rollback()
        one(first, ids[0], ids[1], 1, "another")
        refused = threads.submit(refusal_of, second, among_many, ids[2], ids[3], 1, "another")
        waiting_for_locks(admin, 1)
        first.commit()
        assert refused.result() == ("40001", "An idempotency key was used for another payment at the same moment")
    assert [balance(admin, id_) for id_ in ids] == [8, 12, 10, 10]


def test_of_two_different_payments_at_the_same_moment_the_second_has_the_key_if_the_first_is_taken_back(
    admin: Connection, database: str, pay: Pay
) -> None:
    ids = [account(admin, f"account {number}", 10) for number in range(4)]
    with ThreadPoolExecutor() as threads, psycopg.connect(database) as first, psycopg.connect(database) as second:
        one(first, ids[0], ids[1], 1, "key")
        made = threads.submit(pay, second, ids[2], ids[3], 1, "key")
        waiting_for_locks(admin, 1)
        first.rollback()
        assert made.result()["replayed"] is None
    assert [balance(admin, id_) for id_ in ids] == [10, 10, 9, 11]


def test_batches_with_the_same_keys_in_opposite_order_do_not_wait_crosswise(admin: Connection, database: str) -> None:
    """Between accounts that they do not share, so that only the keys can make them wait for each other."""
    ids = [account(admin, f"account {number}", 10_000) for number in range(4)]
    query = "select wallet.make_payments(%s, %s, %s, p_idempotency_keys => %s)"

    def batch(buyer: int, seller: int, keys: list[str]) -> str | None:
        with psycopg.connect(database, autocommit=True) as connection:
            try:
                connection.execute(
                    query, [*([id_] * len(keys) for id_ in (buyer, seller)), [Decimal(1)] * len(keys), keys]
                )
            except psycopg.Error as error:
                return error.sqlstate
            return None

    with ThreadPoolExecutor() as threads:
        for turn in range(20):
            keys = [f"{turn}, {number}" for number in range(300)]
            batches = [threads.submit(batch, ids[0], ids[1], keys), threads.submit(batch, ids[2], ids[3], keys[::-1])]
            # the later one may find its keys taken, before or while it makes its payments
            assert {ended.result() for ended in batches} <= {None, "40001"}
    assert balance(admin, ids[1]) + balance(admin, ids[3]) == 20_000 + 20 * 300


def test_in_repeatable_read_a_key_used_meanwhile_is_a_serialization_failure(
    admin: Connection, database: str, pay: Pay
) -> None:
    ids = [account(admin, f"account {number}", 10) for number in range(4)]
    for again in (ids[:2], ids[2:]):
        with psycopg.connect(database) as late:
            late.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            late.execute("select 1")
            one(admin, ids[0], ids[1], 1, f"used meanwhile {again}")
            with pytest.raises(psycopg.errors.SerializationFailure):
                pay(late, *again, 1, f"used meanwhile {again}")
            late.rollback()
    assert [balance(admin, id_) for id_ in ids] == [8, 12, 10, 10]


def test_the_table_itself_refuses_a_second_payment_of_a_key(admin: Connection) -> None:
    buyer, seller = account(admin, "buyer", 10), account(admin, "seller")
    one(admin, buyer, seller, 1, "key")
    copy = """insert into ledger.payment
                  (currency_id, buyer_account_id, seller_account_id, amount, buyer_balance, seller_balance, idempotency_key)
              select currency_id, buyer_account_id, seller_account_id, amount, buyer_balance, seller_balance, {}
              from ledger.payment"""
    with pytest.raises(psycopg.errors.UniqueViolation):
        admin.execute(copy.format("idempotency_key"))
    for key in ("''", "repeat('k', 322)"):
        with pytest.raises(psycopg.errors.CheckViolation):
            admin.execute(copy.format(key))
    with pytest.raises(psycopg.errors.RestrictViolation):
        admin.execute("update ledger.payment set idempotency_key = 'another'")
