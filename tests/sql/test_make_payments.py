"""make_payments() makes many payments in one call, each with the outcome that make_payment() would have, in order."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any, NamedTuple

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.types.numeric import Int8

from tests.conftest import Connection
from tests.sql.calls import as_if_an_hour_ago, held, message, paid, row
from tests.sql.test_make_payment import LEAST, MOST, REFUSALS, TEXTS, scene
from tests.support import account, balance, ledger_problems, totals

# buyer, seller, amount, and an idempotency key, if any of the payments of a call has one
Payment = tuple[Any, ...]
COLUMNS = "id, currency_id, amount, buyer_account_id, seller_account_id, operation_timestamp"


def pay(connection: Connection, payments: list[Payment], atomic: bool = False) -> list[tuple[Any, ...]]:
    """The outcomes: (id, currency, amount, buyer, seller, time, error code, error, replayed)."""
    columns: list[Any] = [list(column) for column in zip(*payments, strict=True)]
    buyers, sellers, amounts, *keys = columns or [[], [], []]
    query = f"""select {COLUMNS}, error_code, error, replayed
                from wallet.make_payments(%s::bigint[], %s::bigint[], %s::numeric[], %s, true, %s::text[])"""
    return connection.execute(query, [buyers, sellers, amounts, atomic, *(keys or [None])]).fetchall()


@pytest.fixture
def accounts(ops: Connection) -> list[int]:
    """Two with 1000 USD, one with nothing."""
    return [account(ops, "one", 1000), account(ops, "two", 1000), account(ops, "empty")]


def test_an_outcome_for_each_in_order(ops: Connection, accounts: list[int]) -> None:
    one, two, poor = accounts
    outcomes = pay(ops, [(one, poor, Decimal("1.50")), (two, two, Decimal(1)), (poor, two, Decimal(1))])
    assert [outcome[1:5] for outcome in outcomes] == [
        (1, Decimal("1.5"), one, poor),
        (None, None, None, None),
        (1, Decimal(1), poor, two),
    ]
    assert [outcome[6:] for outcome in outcomes] == [
        (None, None, None),
        ("WB001", message("WB001"), None),
        (None, None, None),
    ]
    assert outcomes[1][0] is None
    assert outcomes[0][0] < outcomes[2][0]
    assert outcomes[0][5] < outcomes[2][5]
    assert [balance(ops, id_) for id_ in accounts] == [Decimal("998.5"), 1001, Decimal("0.5")]
    assert ops.execute(f"select {COLUMNS} from wallet.list_payments()").fetchall() == [
        outcome[:6] for outcome in outcomes if outcome[0] is not None
    ]


def test_as_ops_type_it(ops: Connection) -> None:
    buyer, seller = account(ops, "buyer", 10), account(ops, "seller")
    query = (
        f"select amount, error from make_payments(array[{buyer}, {seller}], array[{seller}, {buyer}], array[5, 6.5])"
    )
    assert ops.execute(query).fetchall() == [
        (Decimal(5), None),
        (None, message("WB006")),
    ]


def test_none_at_all(ops: Connection) -> None:
    assert pay(ops, []) == []


def test_each_starts_from_what_the_one_before_it_left(ops: Connection) -> None:
    """100 goes round a circle of five, where only the first has anything to begin with."""
    circle = [account(ops, f"account {number}", 100 if number == 0 else 0) for number in range(5)]
    round_trip: list[Payment] = [(circle[n % 5], circle[(n + 1) % 5], Decimal(100)) for n in range(15)]
    assert [outcome[6] for outcome in pay(ops, round_trip)] == [None] * 15
    made = [number for number, outcome in enumerate(pay(ops, round_trip[::-1])) if outcome[6] is None]
    assert made == [4, 8, 12]
    assert [balance(ops, id_) for id_ in circle] == [0, 0, 0, 100, 0]


@pytest.mark.parametrize("atomic", [False, True])
@pytest.mark.parametrize(("arguments", "code"), REFUSALS)
def test_refusals(ops: Connection, accounts: list[int], arguments: str, code: str, atomic: bool) -> None:
    one, two, empty = accounts
    buyer, seller, amount = arguments.format(buyer=one, seller=empty, **scene(ops)).split(", ")
    neighbours = account(ops, "neighbour", 10), two
    query = f"""select error_code from wallet.make_payments(
                    array[{neighbours[0]}, {buyer}, {neighbours[0]}]::bigint[],
                    array[{neighbours[1]}, {seller}, {neighbours[1]}]::bigint[],
                    array[1, {amount}, 1]::numeric[],
                    {atomic})"""
    if atomic:
        with pytest.raises(psycopg.Error) as refusal, ops.transaction():
            ops.execute(query)
        assert (refusal.value.sqlstate, refusal.value.diag.message_detail) == (code, "Index: 1")
        assert ops.execute("select count(*) from wallet.list_payments()").fetchall() == [(0,)]
    else:
        assert ops.execute(query).fetchall() == [(None,), (code,), (None,)]
    paid = 0 if atomic else 2
    assert [balance(ops, id_) for id_ in (*accounts, *neighbours)] == [1000, 1000 + paid, 0, 10 - paid, 1000 + paid]


@pytest.mark.parametrize(("arguments", "code"), TEXTS)
def test_refusals_of_what_its_caller_says_of_it(
    ops: Connection, accounts: list[int], arguments: str, code: str
) -> None:
    one, two, empty = accounts
    ops.execute("select make_payment(%s, %s, 1, 'used', 'd', 'r')", [one, empty])
    asked = [*arguments.format(buyer=one, seller=empty).split(", "), *["null"] * 3]
    columns = [f"array[{two}, {item}]" for item in asked[:2]] + [f"array[1::numeric, {asked[2]}]"]
    columns += [f"array[null, {item}]" for item in asked[3:6]]
    query = "select error_code from make_payments({}, {}, {}, p_idempotency_keys => {}, p_descriptions => {}, p_references => {})"
    columns[1] = f"array[{one}, {asked[1]}]"
    assert ops.execute(query.format(*columns)).fetchall() == [(None,), (code,)]
    assert [balance(ops, id_) for id_ in accounts] == [1000, 999, 1]


def test_descriptions_and_references(ops: Connection, accounts: list[int]) -> None:
    one, two, _ = accounts
    query = """select amount, description, reference from make_payments(
                   %s::bigint[], %s::bigint[], array[1, 2, 3], p_descriptions => %s, p_references => %s)"""
    outcomes = ops.execute(query, [[one] * 3, [two] * 3, ["a", None, "NULL"], ["r", "s", None]]).fetchall()
    assert outcomes == [(1, "a", "r"), (2, None, "s"), (3, "NULL", None)]
    assert ops.execute("select amount, description, reference from list_payments()").fetchall() == outcomes
    outcomes = ops.execute(query, [[one] * 3, [two] * 3, None, ["r", None, None]]).fetchall()
    assert outcomes == [(1, None, "r"), (2, None, None), (3, None, None)]


@pytest.mark.parametrize("texts", ["p_descriptions => array['a', 'b']", "p_references => array[]::text[]"])
def test_texts_of_another_number_than_payments(ops: Connection, accounts: list[int], texts: str) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="of the same length"), ops.transaction():
        ops.execute(f"select * from wallet.make_payments(array[1], array[2], array[1], {texts})")


def test_atomic_all_or_nothing(ops: Connection, accounts: list[int]) -> None:
    one, two, poor = accounts
    fee: list[Payment] = [(one, two, Decimal(900)), (one, poor, Decimal("0.9"))]
    assert [outcome[6] for outcome in pay(ops, fee, atomic=True)] == [None, None]
    with pytest.raises(psycopg.Error) as refusal, ops.transaction():
        pay(ops, [(one, two, Decimal(99)), (one, poor, Decimal("0.9"))], atomic=True)
    assert (refusal.value.sqlstate, refusal.value.diag.message_primary, refusal.value.diag.message_detail) == (
        "WB006",
        message("WB006"),
        "Index: 1",
    )
    assert [balance(ops, id_) for id_ in accounts] == [Decimal("99.1"), 1900, Decimal("0.9")]


def test_atomic_tells_the_first_refusal_in_their_order(ops: Connection, accounts: list[int]) -> None:
    one, two, poor = accounts
    with pytest.raises(psycopg.Error, match="sufficient balance") as refusal, ops.transaction():
        pay(ops, [(poor, two, Decimal(1)), (one, one, Decimal(1))], atomic=True)
    assert refusal.value.diag.message_detail == "Index: 0"


def test_an_exchange_of_two_currencies(ops: Connection) -> None:
    dollars, roubles = (
        (account(ops, "one, USD", 100), account(ops, "two, USD")),
        (
            account(ops, "two, RUB", 9000, 2),
            account(ops, "one, RUB", 0, 2),
        ),
    )
    pay(ops, [(*dollars, Decimal(100)), (*roubles, Decimal(9000))], atomic=True)
    assert [balance(ops, id_) for id_ in dollars + roubles] == [0, 100, 0, 9000]


@pytest.mark.parametrize(
    "arrays",
    [
        "array[1], array[2], array[1, 1]",
        "array[1], array[2, 2], array[1]",
        "array[1, 1], array[2], array[1]",
        "null, array[2], array[1]",
        "array[1], null, array[1]",
        "array[1], array[2], null",
        "array[1], array[2], array[]::numeric[]",
    ],
)
@pytest.mark.parametrize("atomic", [False, True])
def test_arrays_of_different_lengths(ops: Connection, accounts: list[int], arrays: str, atomic: bool) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="of the same length"), ops.transaction():
        ops.execute(f"select * from wallet.make_payments({arrays}, {atomic})")


def test_arrays_are_read_in_order_whatever_their_bounds(ops: Connection, accounts: list[int]) -> None:
    one, two, _ = accounts
    query = (
        f"select amount from wallet.make_payments('[0:1]={{{one},{one}}}', '[7:8]={{{two},{two}}}', '{{{{1}},{{2}}}}')"
    )
    assert ops.execute(query).fetchall() == [(Decimal(1),), (Decimal(2),)]


def test_only_what_changed_is_written(admin: Connection) -> None:
    ids = [account(admin, f"account {number}", 10) for number in range(4)]
    places = "select id, ctid from ledger.account order by id"
    before = dict(admin.execute(places).fetchall())
    pay(admin, [(ids[0], ids[1], Decimal(1)), (ids[2], ids[3], Decimal(11))])
    after = dict(admin.execute(places).fetchall())
    assert [before[id_] == after[id_] for id_ in ids] == [False, False, True, True]


def test_accounts_that_no_payment_needs_are_waited_for_by_none(admin: Connection, database: str) -> None:
    """Payments that are refused whatever their accounts are do not lock them."""
    one, two, held = account(admin, "one", 10), account(admin, "two"), account(admin, "held", 10)
    with psycopg.connect(database) as holder:
        holder.execute("select from ledger.account where id = %s for update", [held])
        admin.execute("set lock_timeout = '1ms'")
        outcomes = pay(admin, [(held, held, Decimal(1)), (one, two, Decimal(1)), (one, held, Decimal(0))])
    assert [outcome[6] for outcome in outcomes] == ["WB001", None, "WB002"]


def test_without_waiting_what_is_locked_is_left_out(admin: Connection, database: str) -> None:
    one, two, held = account(admin, "one", 10), account(admin, "two"), account(admin, "held", 10)
    query = "select error_code, error from wallet.make_payments(%s, %s, %s, %s, %s)"
    asked = [[one, held, one, one, held, one], [two, two, held, 10**6, held, two], [Decimal(1)] * 6]
    with psycopg.connect(database) as holder:
        holder.execute("select from ledger.account where id = %s for no key update", [held])
        busy = ("55P03", message("55P03"))
        assert admin.execute(query, [*asked, False, False]).fetchall() == [
            (None, None),
            busy,
            busy,
            ("WB004", message("WB004")),
            ("WB001", message("WB001")),
            (None, None),
        ]
        assert [balance(admin, id_) for id_ in (one, two, held)] == [8, 2, 10]
        with pytest.raises(psycopg.errors.LockNotAvailable) as refusal:
            admin.execute(query, [*asked, True, False])
        assert refusal.value.diag.message_detail == "Index: 1"
        admin.execute("set lock_timeout = '50ms'")
        for waits in (True, None):
            with pytest.raises(psycopg.errors.LockNotAvailable):
                admin.execute(query, [*asked, False, waits])
    assert [balance(admin, id_) for id_ in (one, two, held)] == [8, 2, 10]
    assert ledger_problems(admin) == []


def test_a_batch_as_large_as_one_over_http(admin: Connection) -> None:
    admin.execute(
        "select count(*) from generate_series(1, 2000) as number, wallet.create_account('a' || number, 10, 1)"
    )
    payments: list[Payment] = [(n % 2000 + 1, n * 7 % 2000 + 1, Decimal("0.01")) for n in range(10_000)]
    outcomes = pay(admin, payments)
    assert [outcome[6] for outcome in outcomes] == [
        "WB001" if buyer == seller else None for buyer, seller, _ in payments
    ]
    assert totals(admin) == {"USD": 20_000}
    assert ledger_problems(admin) == []


# One after another. The accounts, which are made once: three of dollars, two of roubles, one as full as can be, one that
# is frozen, a blocked one, a closed one, one with a credit limit, two of which something is held, of one of them by a hold that has
# expired; two of a currency with 2 decimals; and three that are none.
OPENING: list[tuple[object, int | str]] = [
    (3, 1),
    ("0.5", 1),
    (0, 1),
    (2, 2),
    (0, 2),
    (MOST, 1),
    (2, 1),
    (2, 1),
    (0, 1),
    (0, 1),
    (3, 1),
    (3, 1),
    (3, "CENT"),
    (0, "CENT"),
]
_, _, _, _, _, _, FROZEN, BLOCKED, CLOSED, CREDIT, HOLDING, EXPIRED, _, _ = range(len(OPENING))
parties = st.sampled_from([*range(len(OPENING)), *range(len(OPENING)), -1, 1000, None])
amounts = st.sampled_from(
    [Decimal(text) for text in ("0.5", "1", "1.50", "2", "3", "0.01", "0.001", "0", "-1", "NaN", "Infinity", "1e15")]
    + [LEAST, LEAST / 10, MOST, None]
)
# The last one is what tenant "a" has for "a".
keys = st.sampled_from([None, None, None, "a", "b", "c", "of a refund", "", "k" * 256, "\x1fa\x1fa"])
texts = st.sampled_from([None, None, None, None, "t", "u", "", "t" * 255, "t" * 256])
flags = st.sampled_from([None, None, False, True])
metadata = st.sampled_from([None, None, None, '{"a": 1}', '{"a": 2}', "[]"])
# The tenants of API keys; the first two stand for no API key.
MAKERS = [None, None, "a", "a", "b", None]
makers = st.sampled_from(range(len(MAKERS)))
requests = st.lists(
    st.tuples(parties, parties, amounts, keys, texts, texts, makers, flags, metadata, flags), max_size=25
)
# The tenant of those without an API key.
tenants = st.sampled_from([None, None, "a", "c"])
# The columns that depend on the options of a payment.
OPTIONAL = "replayed, description, reference, metadata, buyer_balance, seller_balance"


class Ledger(NamedTuple):
    connection: Connection
    first: int  # the id of the first account
    makers: list[int | None]  # ids of API keys


@pytest.fixture(scope="module")
def ledger(rolled_back_database: str) -> Iterator[Ledger]:
    with psycopg.connect(rolled_back_database) as connection:
        cents = row(connection, "create_currency", "CENT", 2)["id"]
        ids = [
            account(connection, f"account {n}", amount, cents if currency == "CENT" else int(currency))
            for n, (amount, currency) in enumerate(OPENING)
        ]
        row(connection, "set_account_status", ids[FROZEN], "frozen")
        row(connection, "set_account_status", ids[BLOCKED], "blocked")
        row(connection, "set_account_status", ids[CLOSED], "closed")
        row(connection, "set_credit_limit", ids[CREDIT], 2)
        held(connection, ids[HOLDING], ids[0], 2)
        as_if_an_hour_ago(connection, held(connection, ids[EXPIRED], ids[0], 2))
        row(connection, "refund_payment", paid(connection, ids[0], ids[1], "0.5"), None, "of a refund")
        api_keys = [
            row(connection, "create_api_key", f"key {number}", ["pay"], tenant=tenant)["id"]
            for number, tenant in enumerate(MAKERS[2:])
        ]
        assert ledger_problems(connection) == []
        yield Ledger(connection, ids[0], [None, None, *api_keys])
        connection.rollback()


def one_after_another(connection: Connection, payments: list[Payment], tenant: str | None) -> list[tuple[Any, ...]]:
    outcomes: list[tuple[Any, ...]] = []
    for buyer, seller, amount, *rest in payments:
        arguments = [None if id_ is None else Int8(id_) for id_ in (buyer, seller)]
        try:
            with connection.transaction():
                query = f"""select {COLUMNS}, null, null, {OPTIONAL}
                            from wallet.make_payment(%s, %s, %s, %s, %s, %s, %s, %s, %s::jsonb, %s, %s)"""
                outcomes += connection.execute(query, [*arguments, amount, *rest, tenant]).fetchall()
        except psycopg.Error as error:
            outcomes.append((*[None] * 6, error.sqlstate, error.diag.message_primary, *[None] * 6))
    return outcomes


def all_together(
    connection: Connection, payments: list[Payment], tenant: str | None, atomic: bool = False
) -> list[tuple[Any, ...]]:
    query = f"""select {COLUMNS}, error_code, error, {OPTIONAL} from wallet.make_payments(
                    %s::bigint[], %s::bigint[], %s::numeric[], %s, true, %s::text[], %s::text[], %s::text[], %s::bigint[],
                    p_up_to => %s::boolean[], p_metadata => %s::jsonb[], p_balances => %s::boolean[], p_tenant => %s)"""
    buyers, sellers, amounts, *rest = ([list(column) for column in zip(*payments, strict=True)]) or [[]] * 10
    return connection.execute(query, [buyers, sellers, amounts, atomic, *rest, tenant]).fetchall()


def comparable(connection: Connection, outcomes: list[tuple[Any, ...]]) -> tuple[Any, ...]:
    """Outcomes and accounts without what has to differ: the time, and the ids but for their order."""
    ids = sorted({outcome[0] for outcome in outcomes if outcome[0] is not None})
    listed = [(outcome[0] and ids.index(outcome[0]), *outcome[1:5], *outcome[6:]) for outcome in outcomes]
    payments = """select amount, buyer_balance, seller_balance, description, reference, up_to, metadata
                  from ledger.payment order by id"""
    accounts = connection.execute("select * from wallet.list_accounts()").fetchall()
    return listed, accounts, connection.execute(payments).fetchall(), ledger_problems(connection)


@given(requests, tenants)
def test_a_batch_gives_what_its_payments_give_one_after_another(
    ledger: Ledger, asked: list[Payment], tenant: str | None
) -> None:
    connection, first, api_keys = ledger
    payments: list[Payment] = [
        (
            None if buyer is None else buyer + first,
            None if seller is None else seller + first,
            amount,
            *texts,
            api_keys[maker],
            up_to,
            metadata,
            balances,
        )
        for buyer, seller, amount, *texts, maker, up_to, metadata, balances in asked
    ]
    with connection.transaction(force_rollback=True):
        one_by_one = comparable(connection, one_after_another(connection, payments, tenant))
    assert one_by_one[-1] == []
    with connection.transaction(force_rollback=True):
        together = comparable(connection, all_together(connection, payments, tenant))
    assert together == one_by_one
    refused = [(outcome[5], index) for index, outcome in enumerate(one_by_one[0]) if outcome[5] is not None]
    with connection.transaction(force_rollback=True):
        if refused:
            with pytest.raises(psycopg.Error) as refusal:
                all_together(connection, payments, tenant, atomic=True)
            assert (refusal.value.sqlstate, refusal.value.diag.message_detail) == (
                refused[0][0],
                f"Index: {refused[0][1]}",
            )
        else:
            assert comparable(connection, all_together(connection, payments, tenant, atomic=True)) == one_by_one
