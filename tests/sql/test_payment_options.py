"""Options of a payment: up to an amount, metadata, and the balances after it; alone, in a batch, and in a refund."""

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.conftest import Connection
from tests.sql.calls import Row, held, paid, refusal, refusal_of, row
from tests.support import account, balance, ledger_problems

# How a payment is asked for: with a connection, the parties, the amount, and options. Returns its row.
Door = Callable[..., Row]


def alone(connection: Connection, buyer: int, seller: int, amount: object, **options: object) -> Row:
    """By make_payment."""
    return row(connection, "make_payment", buyer, seller, amount, **options)


# What make_payment calls one thing, and make_payments an array of them.
ARRAYS = {
    "idempotency_key": "idempotency_keys",
    "description": "descriptions",
    "reference": "references",
    "api_key_id": "api_key_ids",
}


def in_a_batch(connection: Connection, buyer: int, seller: int, amount: object, **options: object) -> Row:
    """By make_payments, before one that is refused. Raises the refusal as make_payment does."""
    types = {"up_to": "boolean", "balances": "boolean", "metadata": "jsonb", "api_key_id": "bigint"}
    given = "".join(f", p_{ARRAYS.get(name, name)} => array[%s, null]::{types.get(name, 'text')}[]" for name in options)
    query = f"""select * from wallet.make_payments(
                    array[%s, 0], array[%s, 0], array[%s::numeric, 1]{given}, p_atomic => false)"""
    cursor = connection.execute(query, [buyer, seller, amount, *options.values()])
    names = [column.name for column in cursor.description or ()]
    made, _ = (dict(zip(names, values, strict=True)) for values in cursor.fetchall())
    code = made.pop("error_code")
    del made["error"], made["error_field"]
    if code is not None:
        raise psycopg.errors.lookup("P0001")(code)
    return made


DOORS = pytest.mark.parametrize("pay", [alone, in_a_batch])


def refused(connection: Connection, pay: Door, *asked: object, **options: object) -> str | None:
    """The code that a payment is refused with."""
    with pytest.raises(psycopg.Error) as error, connection.transaction():
        pay(connection, *asked, **options)
    return str(error.value) if pay is in_a_batch else error.value.sqlstate


@pytest.fixture
def parties(ops: Connection) -> tuple[int, int]:
    """A buyer with 10, a seller with 1."""
    return account(ops, "buyer", 10), account(ops, "seller", 1)


# Up to an amount


@DOORS
@pytest.mark.parametrize(("asked", "amount"), [("3", "3"), ("10", "10"), ("10.50", "10"), ("999999999999999", "10")])
def test_up_to_an_amount_pays_what_is_available(
    ops: Connection, parties: tuple[int, int], pay: Door, asked: str, amount: str
) -> None:
    made = pay(ops, *parties, Decimal(asked), up_to=True)
    assert made["amount"] == Decimal(amount)
    assert [balance(ops, id_) for id_ in parties] == [10 - Decimal(amount), 1 + Decimal(amount)]
    assert ledger_problems(ops) == []


@DOORS
def test_what_is_available_includes_the_credit_and_not_what_is_held(
    ops: Connection, parties: tuple[int, int], pay: Door
) -> None:
    buyer, _ = parties
    row(ops, "set_credit_limit", buyer, 5)
    held(ops, *parties, "2.5")
    assert pay(ops, *parties, 100, up_to=True)["amount"] == Decimal("12.5")
    assert balance(ops, buyer) == Decimal("-2.5")
    assert refused(ops, pay, *parties, 100, up_to=True) == "WB006"


@DOORS
def test_when_nothing_is_available_it_is_refused(ops: Connection, parties: tuple[int, int], pay: Door) -> None:
    pay(ops, *parties, 10)
    assert refused(ops, pay, *parties, 1, up_to=True) == "WB006"


@DOORS
@pytest.mark.parametrize("up_to", [False, None])
def test_without_the_option_all_of_the_amount_is_paid_or_nothing(
    ops: Connection, parties: tuple[int, int], pay: Door, up_to: bool | None
) -> None:
    assert refused(ops, pay, *parties, 11, up_to=up_to) == "WB006"
    assert pay(ops, *parties, 10, up_to=up_to)["amount"] == 10


@DOORS
def test_the_amount_that_is_asked_for_has_to_be_one_of_the_currency(ops: Connection, pay: Door) -> None:
    """Also if less is paid: the request is refused whatever the balance happens to be."""
    cents = row(ops, "create_currency", "CENT", 2)["id"]
    buyer, seller = account(ops, "buyer", 1, cents), account(ops, "seller", 0, cents)
    assert refused(ops, pay, buyer, seller, Decimal("5.001"), up_to=True) == "WB009"
    for wrong, code in (("0", "WB002"), ("-1", "WB002"), ("NaN", "WB003"), ("Infinity", "WB003"), ("1e15", "WB003")):
        assert refused(ops, pay, buyer, seller, Decimal(wrong), up_to=True) == code
    assert refused(ops, pay, buyer, seller, None, up_to=True) == "WB002"


@DOORS
def test_a_repeated_request_is_answered_with_what_was_paid_then(
    ops: Connection, parties: tuple[int, int], pay: Door
) -> None:
    made = pay(ops, *parties, 50, up_to=True, idempotency_key="k")
    again = pay(ops, *parties, Decimal("50.0"), up_to=True, idempotency_key="k")
    assert again == made | {"replayed": True}
    assert made["amount"] == 10
    for other in ({"up_to": False}, {"up_to": None}, {}):
        assert refused(ops, pay, *parties, 50, idempotency_key="k", **other) == "WK001"
        assert refused(ops, pay, *parties, 10, idempotency_key="k", **other) == "WK001"
    assert refused(ops, pay, *parties, 10, up_to=True, idempotency_key="k") == "WK001"


@DOORS
def test_a_payment_of_an_amount_is_not_one_of_up_to_it(ops: Connection, parties: tuple[int, int], pay: Door) -> None:
    pay(ops, *parties, 10, idempotency_key="k")
    assert refused(ops, pay, *parties, 10, up_to=True, idempotency_key="k") == "WK001"


def test_payments_of_a_batch_take_what_the_ones_before_them_left(ops: Connection, parties: tuple[int, int]) -> None:
    buyer, seller = parties
    query = """select amount, error_code from wallet.make_payments(
                   array[%s, %s, %s, %s], array[%s, %s, %s, %s], array[7, 7, 7, 7], p_up_to => array[true, true, true, null])"""
    asked = [buyer, buyer, buyer, seller, seller, seller, seller, buyer]
    assert ops.execute(query, asked).fetchall() == [(7, None), (3, None), (None, "WB006"), (7, None)]


# Metadata

METADATA: list[Any] = [
    {},
    {"order": 17, "lines": [{"sku": "ä", "price": 0.10}, None, True], "": {"": ""}},
    {"text": "x" * 4096},
    {"text": "x" * 4084},
    {"text": "ä" * 2042},
    {"nested": json.loads("[" * 500 + "]" * 500)},
]


def fits(metadata: Any) -> bool:
    return len(json.dumps(metadata, ensure_ascii=False).encode()) <= 4096


@DOORS
@pytest.mark.parametrize("metadata", METADATA, ids=range(len(METADATA)))
def test_metadata_is_returned_as_it_was_given_if_it_fits(
    ops: Connection, parties: tuple[int, int], pay: Door, metadata: Any
) -> None:
    if fits(metadata):
        made = pay(ops, *parties, 1, metadata=Jsonb(metadata))
        assert made["metadata"] == metadata
        assert row(ops, "get_payment", made["id"])["metadata"] == metadata
    else:
        assert refused(ops, pay, *parties, 1, metadata=Jsonb(metadata)) == "WB020"
    assert [fits(each) for each in METADATA] == [True, True, False, True, True, True]


@DOORS
@pytest.mark.parametrize("wrong", [[], [{}], "text", 1, True, None])
def test_metadata_is_an_object(ops: Connection, parties: tuple[int, int], pay: Door, wrong: object) -> None:
    """JSON's null is none; SQL's NULL means that there is no metadata."""
    assert refused(ops, pay, *parties, 1, metadata=Jsonb(wrong)) == "WB020"
    assert pay(ops, *parties, 1, metadata=None)["metadata"] is None


def test_metadata_of_holds_is_that_of_their_captures(ops: Connection, parties: tuple[int, int]) -> None:
    metadata = {"order": 17}
    hold = row(ops, "create_hold", *parties, 5, idempotency_key="k", metadata=Jsonb(metadata))
    id_ = hold["id"]
    assert hold["metadata"] == metadata
    again = row(ops, "create_hold", *parties, 5, idempotency_key="k", metadata=Jsonb(metadata))
    assert again == hold | {"replayed": True}
    for other in ({}, {"metadata": Jsonb({})}):
        assert refusal(ops, "create_hold", *parties, 5, idempotency_key="k", **other) == "WK002"
    assert row(ops, "get_hold", id_)["metadata"] == metadata
    capture = row(ops, "capture_hold", id_, 2, "c", final=False)
    assert capture["metadata"] == row(ops, "get_payment", capture["id"])["metadata"] == metadata
    assert row(ops, "capture_hold", id_, 2, "c", final=False) == capture | {"replayed": True}
    assert row(ops, "void_hold", id_)["metadata"] == metadata
    assert row(ops, "create_hold", *parties, 1)["metadata"] is None


REFUSALS = [
    ("make_payment({buyer}, {seller}, 1, p_metadata => '[]')", "WB020"),
    ("refund_payment({payment}, p_metadata => '[]')", "WB020"),
    ("create_account('two', 1, 1, p_metadata => '[]')", "WB020"),
    ("create_hold({buyer}, {seller}, 1, p_metadata => '[]')", "WB020"),
    # Of two reasons, the one that is checked first:
    ("make_payment({buyer}, {seller}, 1, p_reference => '', p_metadata => '[]')", "WB017"),
    ("make_payment({seller}, {buyer}, 1000, p_metadata => '[]')", "WB020"),
    ("create_account('two', 0.0000000000000001, 1, p_metadata => '[]')", "WB003"),
    ("create_account('buyer', 1, 1, p_metadata => '[]')", "WB020"),
]


@pytest.mark.parametrize(("call", "code"), REFUSALS)
def test_refusals_of_metadata(ops: Connection, parties: tuple[int, int], call: str, code: str) -> None:
    buyer, seller = parties
    asked = call.format(buyer=buyer, seller=seller, payment=paid(ops, buyer, seller, 1))
    assert refusal_of(ops, asked) == code


@DOORS
def test_a_repeated_request_has_the_same_metadata(ops: Connection, parties: tuple[int, int], pay: Door) -> None:
    made = pay(ops, *parties, 1, metadata=Jsonb({"a": 1, "b": [2]}), idempotency_key="k")
    assert pay(ops, *parties, 1, metadata=Jsonb({"b": [2], "a": 1}), idempotency_key="k") == made | {"replayed": True}
    for other in (Jsonb({"a": 1}), Jsonb({"a": 1, "b": [3]}), Jsonb({}), None):
        assert refused(ops, pay, *parties, 1, metadata=other, idempotency_key="k") == "WK001"


def test_metadata_of_refunds(ops: Connection, parties: tuple[int, int]) -> None:
    payment = paid(ops, *parties, 2, metadata=Jsonb({"of": "payment"}))
    refund = row(ops, "refund_payment", payment, 1, "k", metadata=Jsonb({"of": "refund"}))
    assert refund["metadata"] == {"of": "refund"}
    assert row(ops, "get_payment", refund["id"])["metadata"] == {"of": "refund"}
    assert refusal(ops, "refund_payment", payment, 1, "k") == "WK001"
    assert refusal(ops, "refund_payment", payment, 1, metadata=Jsonb([])) == "WB020"
    assert row(ops, "refund_payment", payment)["metadata"] is None


def test_metadata_of_accounts(ops: Connection) -> None:
    metadata = {"customer": 17}
    opened = row(ops, "create_account", "one", 1, 1, "k", metadata=Jsonb(metadata))
    assert opened["metadata"] == metadata
    assert row(ops, "create_account", "one", 1, 1, "k", metadata=Jsonb(metadata))["replayed"]
    assert refusal(ops, "create_account", "one", 1, 1, "k") == "WK003"
    assert refusal(ops, "create_account", "two", 1, 1, metadata=Jsonb("x")) == "WB020"
    id_ = opened["id"]
    assert row(ops, "get_account", id_)["metadata"] == metadata
    for answer in (
        row(ops, "set_account_status", id_, "frozen", "s"),
        row(ops, "set_account_status", id_, "frozen", "s"),
        row(ops, "set_credit_limit", id_, 5, "l"),
        row(ops, "set_credit_limit", id_, 5, "l"),
    ):
        assert answer["metadata"] == metadata
    assert row(ops, "create_account", "two", 1, 1, "without")["metadata"] is None
    assert row(ops, "create_account", "two", 1, 1, "without")["replayed"]


def test_a_batch_under_a_key_is_repeated_with_its_options(ops: Connection, parties: tuple[int, int]) -> None:
    buyer, seller = parties
    query = """select amount, metadata, buyer_balance, seller_balance, replayed from wallet.make_payments(
                   array[%s, %s], array[%s, %s], array[1, 50], p_idempotency_key => 'batch',
                   p_up_to => %s, p_metadata => %s::jsonb[], p_balances => %s)"""
    asked: list[Any] = [buyer, buyer, seller, seller, [None, True], ['{"a": 1}', None], [True, False]]
    made = ops.execute(query, asked).fetchall()
    assert made == [(1, {"a": 1}, 9, 2, None), (9, None, None, None, None)]
    assert ops.execute(query, asked).fetchall() == [(*outcome[:4], True) for outcome in made]
    asked[-1] = [False, True]
    assert [outcome[2:] for outcome in ops.execute(query, asked).fetchall()] == [(None, None, True), (0, 11, True)]
    for number, other in ((4, [True, True]), (4, None), (5, ['{"a": 2}', None]), (5, None)):
        with pytest.raises(psycopg.Error) as refusal, ops.transaction():
            ops.execute(query, [*asked[:number], other, *asked[number + 1 :]])
        assert refusal.value.sqlstate == "WK003"


def test_of_a_batch_under_a_key_options_are_read_in_order_whatever_their_bounds(
    ops: Connection, parties: tuple[int, int]
) -> None:
    buyer, seller = parties
    query = """select amount, buyer_balance from wallet.make_payments(
                   array[%s, %s], array[%s, %s], array[4, 50], p_idempotency_key => 'batch',
                   p_up_to => %s::boolean[], p_balances => %s::boolean[])"""
    asked: list[Any] = [buyer, buyer, seller, seller, "[0:1]={f,t}", "{{t},{f}}"]
    made = ops.execute(query, asked).fetchall()
    assert made == ops.execute(query, asked).fetchall() == [(4, 6), (6, None)]
    assert ops.execute(query, [*asked[:4], "{{f},{t}}", "[7:8]={f,t}"]).fetchall() == [(4, None), (6, 0)]
    with pytest.raises(psycopg.Error) as refusal, ops.transaction():
        ops.execute(query, [*asked[:4], "{{t},{f}}", None])
    assert refusal.value.sqlstate == "WK003"


def test_of_a_batch_under_a_key_each_api_key_sees_what_it_may_read(ops: Connection, parties: tuple[int, int]) -> None:
    buyer, seller = parties
    of_buyer, of_all = (
        row(ops, "create_api_key", name, ["pay", "read"], accounts)["id"]
        for name, accounts in (("buyer", [buyer]), ("all", None))
    )
    query = """select buyer_balance, seller_balance from wallet.make_payments(
                   array[%s, %s], array[%s, %s], array[1, 1], p_idempotency_key => 'batch',
                   p_api_key_ids => array[%s, %s], p_balances => array[true, true])"""
    asked = [buyer, buyer, seller, seller, of_buyer, of_all]
    made = ops.execute(query, asked).fetchall()
    assert made == ops.execute(query, asked).fetchall() == [(9, None), (8, 3)]


# Balances


@DOORS
def test_balances_after_the_payment_for_those_who_ask(ops: Connection, parties: tuple[int, int], pay: Door) -> None:
    asked = pay(ops, *parties, "2.50", balances=True, idempotency_key="k")
    assert (asked["buyer_balance"], asked["seller_balance"]) == (Decimal("7.5"), Decimal("3.5"))
    pay(ops, *parties, 1)
    again = pay(ops, *parties, "2.50", balances=True, idempotency_key="k")
    assert again == asked | {"replayed": True}
    for without in ({}, {"balances": False}, {"balances": None}):
        made = pay(ops, *parties, "2.50", idempotency_key="k", **without)
        assert (made["buyer_balance"], made["seller_balance"]) == (None, None)


@DOORS
@pytest.mark.parametrize(
    ("scopes", "bound_to", "sees"),
    [
        (["pay", "read"], None, (True, True)),
        (["pay", "read"], ["buyer"], (True, False)),
        (["pay", "read"], ["buyer", "seller"], (True, True)),
        (["pay"], None, (False, False)),
        (["pay"], ["buyer"], (False, False)),
    ],
)
def test_an_api_key_sees_the_balances_that_it_may_read(
    ops: Connection,
    parties: tuple[int, int],
    pay: Door,
    scopes: list[str],
    bound_to: list[str] | None,
    sees: tuple[bool, bool],
) -> None:
    ids = dict(zip(["buyer", "seller"], parties, strict=True))
    key = row(ops, "create_api_key", "key", scopes, bound_to and [ids[name] for name in bound_to])["id"]
    made = pay(ops, *parties, 1, api_key_id=key, balances=True)
    assert (made["buyer_balance"] is not None, made["seller_balance"] is not None) == sees


def test_balances_after_a_refund(ops: Connection, parties: tuple[int, int]) -> None:
    """Its buyer, who pays it, is the seller of the payment."""
    _, seller = parties
    payment = paid(ops, *parties, 4)
    refund = row(ops, "refund_payment", payment, 1, balances=True)
    assert (refund["buyer_account_id"], refund["buyer_balance"], refund["seller_balance"]) == (seller, 4, 7)
    key = row(ops, "create_api_key", "key", ["pay", "read"], [seller])["id"]
    refund = row(ops, "refund_payment", payment, 1, api_key_id=key, balances=True)
    assert (refund["buyer_balance"], refund["seller_balance"]) == (3, None)
    assert row(ops, "refund_payment", payment, 1)["buyer_balance"] is None


def test_balances_after_a_capture(ops: Connection, parties: tuple[int, int]) -> None:
    hold = held(ops, *parties, 5)
    capture = row(ops, "capture_hold", hold, 2, final=False, balances=True)
    assert (capture["buyer_balance"], capture["seller_balance"]) == (8, 3)
    key = row(ops, "create_api_key", "key", ["pay", "read"], [parties[1]])["id"]
    capture = row(ops, "capture_hold", hold, 2, None, key, balances=True)
    assert (capture["buyer_balance"], capture["seller_balance"]) == (None, 5)
