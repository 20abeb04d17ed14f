"""An idempotency key belongs to the tenant who asks: tenants with the same key never meet, API keys of one tenant do."""

import threading
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from tests.conftest import Connection
from tests.sql.calls import Row, held, paid, refusal, refusal_of, row, rows, state
from tests.support import account, balance, ledger_problems, waiting_for_locks

KEY = "order-1"
PREFIX = "\x1f"
# A refusal of a key that belongs to another payment, hold or request.
USED = {"WK001", "WK002", "WK003"}
World = dict[str, list[int]]
# Three calls of each function, which can all be granted, one after another.
CALLS: dict[str, Callable[[World], list[list[Any]]]] = {
    "capture_hold": lambda world: [[hold] for hold in world["holds"]],
    "create_account": lambda world: [[f"new {number}", number, 1] for number in range(3)],
    "create_currency": lambda world: [[f"NEW {number}", number] for number in range(3)],
    "create_hold": lambda world: [[*world["accounts"], number] for number in (1, 2, 3)],
    "make_payment": lambda world: [[*world["accounts"], number] for number in (1, 2, 3)],
    "make_payments": lambda world: [
        [*([place] * number for place in world["accounts"]), [Decimal(1)] * number] for number in (1, 2, 3)
    ],
    "refund_payment": lambda world: [[payment] for payment in world["payments"]],
    "set_account_status": lambda world: [[world["accounts"][0], status] for status in ("frozen", "blocked", "active")],
    "set_credit_limit": lambda world: [[world["accounts"][0], number] for number in (1, 2, 3)],
    "set_currency_scale": lambda world: [[1, scale] for scale in (14, 13, 12)],
    "void_hold": lambda world: [[hold] for hold in world["holds"]],
}


def world_of(connection: Connection) -> World:
    one, two = account(connection, "one", 100), account(connection, "two", 100)
    return {
        "accounts": [one, two],
        "payments": [paid(connection, one, two, 1) for _ in range(3)],
        "holds": [held(connection, one, two, 1) for _ in range(3)],
    }


@pytest.fixture
def world(keeper: Connection) -> World:
    return world_of(keeper)


def api_key(connection: Connection, name: str, tenant: str | None = None) -> int:
    return int(row(connection, "create_api_key", name, ["read", "pay", "admin"], tenant=tenant)["id"])


def called(connection: Connection, function: str, arguments: list[Any], key: str = KEY, **who: Any) -> list[Row]:
    return rows(connection, function, *arguments, idempotency_key=key, **who)


def replayed(found: list[Row]) -> bool | None:
    """Whether a call was answered as before: all of it, or nothing."""
    [only] = {line["replayed"] for line in found}
    return bool(only) or only


def test_each_function_that_takes_a_key_takes_a_tenant_last(keeper: Connection) -> None:
    query = """select proname, array_position(proargnames, 'p_tenant') = pronargs
               from pg_proc where 'p_idempotency_key' = any (proargnames) and proname not like '\\_%'"""
    # The tenant of create_api_key is that of the new key.
    of_keys = {"create_api_key": False, "revoke_api_key": True}
    assert dict(keeper.execute(query).fetchall()) == dict.fromkeys(CALLS, True) | of_keys


@pytest.mark.parametrize("function", CALLS)
def test_the_same_key_is_another_one_for_each_tenant(keeper: Connection, world: World, function: str) -> None:
    first = {name: api_key(keeper, name, name[0]) for name in ("a", "b")}
    again = {name: api_key(keeper, f"{name} rotated", name[0]) for name in ("a", "b")}
    nobodys = api_key(keeper, "nobody's")
    # Each in the order in which a tenant is named: in psql, by its API key, by the key that replaces this one.
    tenants: list[list[dict[str, Any]]] = [
        [{"api_key_id": first["a"]}, {"tenant": "a"}, {"api_key_id": again["a"]}],
        [{"tenant": "b"}, {"api_key_id": again["b"]}, {"api_key_id": first["b"]}],
        [{}, {"api_key_id": nobodys}, {"tenant": None}],
    ]
    asked = CALLS[function](world)
    made = [called(keeper, function, call, **who[0]) for call, who in zip(asked, tenants, strict=True)]
    assert [replayed(found) for found in made] == [None] * 3
    before = state(keeper)
    for number, who in enumerate(tenants):
        for named in who:
            found = called(keeper, function, asked[number], **named)
            assert found == [line | {"replayed": True} for line in made[number]], named
            assert refusal(keeper, function, *asked[number - 1], idempotency_key=KEY, **named) in USED
    assert state(keeper) == before
    assert ledger_problems(keeper) == []


@pytest.mark.parametrize("function", CALLS)
def test_an_api_key_has_its_own_tenant_whatever_is_passed(keeper: Connection, world: World, function: str) -> None:
    asked = CALLS[function](world)
    owner, nobodys = api_key(keeper, "owner", "a"), api_key(keeper, "nobody's")
    assert replayed(called(keeper, function, asked[0], api_key_id=owner, tenant="b")) is None
    assert replayed(called(keeper, function, asked[0], tenant="a")) is True
    assert replayed(called(keeper, function, asked[1], api_key_id=nobodys, tenant="b")) is None
    assert replayed(called(keeper, function, asked[1])) is True
    assert replayed(called(keeper, function, asked[2], tenant="b")) is None


@pytest.mark.parametrize("tenant", ["", " ", "x" * 65, f"a{PREFIX}b", "a\u200bb", "\n"])
@pytest.mark.parametrize("function", CALLS)
def test_what_is_no_name_of_a_tenant_is_refused(keeper: Connection, world: World, function: str, tenant: str) -> None:
    before = state(keeper)
    for who in ({}, {"api_key_id": api_key(keeper, "key")}):
        assert (
            refusal(keeper, function, *CALLS[function](world)[0], idempotency_key=KEY, tenant=tenant, **who) == "WB075"
        )
    assert state(keeper) == before


@pytest.mark.parametrize("key", ["k", "k" * 255])
@pytest.mark.parametrize("function", CALLS)
def test_nobody_can_name_the_key_of_a_tenant(keeper: Connection, world: World, function: str, key: str) -> None:
    """Not even by the very text that is stored."""
    asked = CALLS[function](world)
    called(keeper, function, asked[0], key, tenant="a")
    before = state(keeper)
    for who in ({}, {"tenant": "a"}, {"api_key_id": api_key(keeper, "nobody's")}):
        for forged in (f"{PREFIX}a{PREFIX}{key}", f"{PREFIX}{key}", PREFIX):
            assert refusal(keeper, function, *asked[0], idempotency_key=forged, **who) == "WB028"
    assert state(keeper) == before
    assert ledger_problems(keeper) == []


@pytest.mark.parametrize("function", CALLS)
def test_keys_and_tenants_of_any_length_and_any_text(keeper: Connection, world: World, function: str) -> None:
    asked = CALLS[function](world)
    spaces = [("😀" * 64, "😀" * 255), ("e\u0301", f"a{PREFIX}b"), ("a", f"b{PREFIX}c")]
    for call, (tenant, key) in zip(asked, spaces, strict=True):
        assert replayed(called(keeper, function, call, key, tenant=tenant)) is None
    assert replayed(called(keeper, function, asked[1], spaces[1][1], tenant="é")) is True
    for key in ("", "k" * 256):
        assert refusal(keeper, function, *asked[0], idempotency_key=key, tenant="a") == "WB008"


REFUSALS = [
    ("make_payment(1, 2, 1, 'k', p_tenant => '')", "WB075"),
    ("make_payment(1, 1, 0, chr(31))", "WB028"),
    ("create_api_key('key', '{read}', p_tenant => '')", "WB075"),
    ("create_api_key('key', '{read}', p_tenant => '\u200b')", "WB075"),
    ("create_api_key('key', '{read}', p_tenant => repeat('x', 65))", "WB075"),
    ("create_api_key('key', '{read}', p_tenant => 'a' || chr(31) || 'b')", "WB075"),
]


@pytest.mark.parametrize(("call", "code"), REFUSALS)
def test_refusals(ops: Connection, call: str, code: str) -> None:
    assert refusal_of(ops, call) == code


def test_an_api_key_shows_its_tenant(keeper: Connection) -> None:
    made = row(keeper, "create_api_key", "key", ["read"], tenant="Caf\u0065\u0301 " + "x" * 59)
    nobodys = row(keeper, "create_api_key", "nobody's", ["read"])
    assert [made["tenant"], nobodys["tenant"]] == ["Café " + "x" * 59, None]
    assert [found["tenant"] for found in rows(keeper, "list_api_keys")] == [made["tenant"], None]
    assert row(keeper, "revoke_api_key", made["id"])["tenant"] == made["tenant"]


def test_a_key_without_tenant_is_stored_as_it_is(keeper: Connection, world: World) -> None:
    for tenant in (None, "a"):
        row(keeper, "make_payment", *world["accounts"], 1, idempotency_key=KEY, tenant=tenant)
    stored = "select idempotency_key from ledger.payment where idempotency_key is not null order by id"
    assert keeper.execute(stored).fetchall() == [(KEY,), (f"{PREFIX}a{PREFIX}{KEY}",)]


def test_the_tables_refuse_what_no_key_of_a_tenant_can_be(keeper: Connection) -> None:
    row(keeper, "create_currency", "NEW", 2, idempotency_key="k" * 255, tenant="x" * 64)
    copy = "insert into ledger.request (operation, idempotency_key, content_hash) select operation, %s, content_hash from ledger.request"
    for key, error in (
        (PREFIX + "k" * 321, "CheckViolation"),
        (f"{PREFIX}{'x' * 64}{PREFIX}{'k' * 255}", "UniqueViolation"),
    ):
        with pytest.raises(getattr(psycopg.errors, error)), keeper.transaction():
            keeper.execute(copy, [key])


# Batches.


def batch(connection: Connection, world: World, keys: list[str | None], **named: Any) -> list[Row]:
    number = len(keys)
    parties = [[place] * number for place in world["accounts"]]
    return rows(connection, "make_payments", *parties, [Decimal(1)] * number, idempotency_keys=keys, **named)


@pytest.mark.parametrize("atomic", [False, True])
def test_in_one_batch_the_same_key_is_another_one_for_each_tenant(
    keeper: Connection, world: World, atomic: bool
) -> None:
    a, b, nobodys = api_key(keeper, "a", "a"), api_key(keeper, "b", "b"), api_key(keeper, "nobody's")
    rotated = api_key(keeper, "a rotated", "a")
    asked = [a, b, None, nobodys, rotated, b, a]
    made = batch(keeper, world, [KEY] * 7, api_key_ids=asked, atomic=atomic)
    assert [outcome["replayed"] for outcome in made] == [None, None, None, True, True, True, True]
    ids = [outcome["id"] for outcome in made]
    assert ids[3:] == [ids[2], ids[0], ids[1], ids[0]]
    assert balance(keeper, world["accounts"][1]) == 100 + 3 + 3
    again = batch(keeper, world, [KEY] * 7, api_key_ids=asked, atomic=atomic)
    assert [(outcome["id"], outcome["replayed"]) for outcome in again] == [(number, True) for number in ids]
    assert ledger_problems(keeper) == []


def test_in_a_batch_p_tenant_is_that_of_the_payments_without_an_api_key(keeper: Connection, world: World) -> None:
    nobodys, b = api_key(keeper, "nobody's"), api_key(keeper, "b", "b")
    made = batch(keeper, world, [KEY] * 4 + [None], api_key_ids=[None, nobodys, b, None, None], tenant="a")
    assert [outcome["replayed"] for outcome in made] == [None, None, None, True, None]
    one, two = world["accounts"]
    for outcome, tenant in zip(made, ["a", None, "b"], strict=False):
        assert paid(keeper, one, two, 1, idempotency_key=KEY, tenant=tenant) == outcome["id"]
    for api_key_ids in (None, [None]):
        [alone] = batch(keeper, world, [KEY], tenant="a", api_key_ids=api_key_ids)
        assert (alone["id"], alone["replayed"]) == (made[0]["id"], True)
    [alone] = batch(keeper, world, [KEY], api_key_id=b, tenant="a")
    assert (alone["id"], alone["replayed"]) == (made[2]["id"], True)


@pytest.mark.parametrize("number", [1, 2])
def test_a_batch_of_what_is_no_tenant_is_refused_as_a_whole(keeper: Connection, world: World, number: int) -> None:
    with pytest.raises(psycopg.Error, match="Tenant should have"), keeper.transaction():
        batch(keeper, world, [KEY] * number, tenant="")


@pytest.mark.parametrize("who", [{}, {"tenant": "a"}, {"api_key_id": 0}], ids=str)
@pytest.mark.parametrize("number", [1, 2])
def test_of_a_batch_nobody_can_name_the_key_of_a_tenant(
    keeper: Connection, world: World, number: int, who: dict[str, Any]
) -> None:
    """Alone, and among others, whose keys are between those that are looked up."""
    for key in ("k", "k" * 255):
        row(keeper, "make_payment", *world["accounts"], 1, idempotency_key=key, tenant="a")
    if "api_key_id" in who:
        who = {"api_key_id": api_key(keeper, "nobody's")}
    before = state(keeper)
    for forged in (f"{PREFIX}a{PREFIX}k", f"{PREFIX}a{PREFIX}{'k' * 255}"):
        outcomes = batch(keeper, world, [forged] * number, **who)
        assert [(found["id"], found["error_code"], found["error_field"]) for found in outcomes] == [
            (None, "WB028", "idempotency_key")
        ] * number
    assert state(keeper) == before


def test_a_batch_under_a_key_is_answered_as_before_to_its_tenant_alone(keeper: Connection, world: World) -> None:
    a, rotated = api_key(keeper, "a", "a"), api_key(keeper, "rotated", "a")
    keys = [KEY, None]
    made = batch(keeper, world, keys, idempotency_key="batch", api_key_id=a)
    again = batch(keeper, world, keys, idempotency_key="batch", api_key_id=rotated)
    assert again == [outcome | {"replayed": True} for outcome in made]
    assert again == batch(keeper, world, keys, idempotency_key="batch", tenant="a")
    for who in ({}, {"tenant": "b"}):
        assert [outcome["replayed"] for outcome in batch(keeper, world, keys, idempotency_key="batch", **who)] == [
            None
        ] * 2
    assert balance(keeper, world["accounts"][1]) == 100 + 3 + 6


def test_a_refused_api_key_learns_nothing_of_the_keys_of_its_tenant(keeper: Connection, world: World) -> None:
    a, ended = api_key(keeper, "a", "a"), api_key(keeper, "ended", "a")
    row(keeper, "revoke_api_key", ended)
    batch(keeper, world, [KEY], api_key_id=a)
    asked = [*world["accounts"], 1]
    for key in (KEY, "", PREFIX):
        named = {"idempotency_key": key, "api_key_id": ended}
        assert refusal(keeper, "make_payment", *asked, **named, tenant="") == "WA001"
        [alone] = batch(keeper, world, [key], api_key_ids=[ended])
        [one, two] = batch(keeper, world, [key, KEY], api_key_ids=[ended, a])
        assert [found["error_code"] for found in (alone, one, two)] == ["WA001", "WA001", None]
        assert two["replayed"] is True


# Two at once.

AT_ONCE = ["create_currency", "create_account", "make_payment", "make_payments", "create_hold"]


def meeting(connection: Connection, function: str) -> list[list[Any]]:
    """Two calls that have no account in common, and so no lock but that of their key."""
    ids = [account(connection, f"account {number}", 10) for number in range(4)]
    return {
        "create_currency": [["NEW", 2], ["NEWER", 2]],
        "create_account": [["new", 0, 1], ["newer", 0, 1]],
        "make_payments": [[[buyer] * 2, [seller] * 2, [Decimal(1)] * 2] for buyer, seller in (ids[:2], ids[2:])],
    }.get(function, [[*ids[:2], 1], [*ids[2:], 1]])


@pytest.mark.parametrize("function", AT_ONCE)
@pytest.mark.parametrize("who", ["b", "", "c"])
def test_tenants_do_not_wait_for_each_other_at_a_key(admin: Connection, database: str, function: str, who: str) -> None:
    one, two = meeting(admin, function)
    keys = {name: api_key(admin, name, name) for name in ("a", "b")}
    named: dict[str, Any] = {"api_key_id": keys["b"]} if who == "b" else {"tenant": who or None}
    with psycopg.connect(database) as first:
        made = called(first, function, one, api_key_id=keys["a"])
        admin.execute("set lock_timeout = '10ms'")  # there is no lock to wait for
        found = called(admin, function, two, **named)
    assert [replayed(made), replayed(found)] == [None, None]
    assert ledger_problems(admin) == []


@pytest.mark.parametrize("ending", ["commit", "rollback"])
@pytest.mark.parametrize("function", AT_ONCE)
def test_api_keys_of_one_tenant_meet_at_a_key(admin: Connection, database: str, function: str, ending: str) -> None:
    one, _ = meeting(admin, function)
    keys = [api_key(admin, name, "a") for name in ("old", "new")]
    with psycopg.connect(database) as first, psycopg.connect(database, autocommit=True) as second:
        made = called(first, function, one, api_key_id=keys[0])
        found: list[Row] = []
        waiting = threading.Thread(target=lambda: found.extend(called(second, function, one, api_key_id=keys[1])))
        waiting.start()
        waiting_for_locks(admin, 1)
        first.execute(ending)
        waiting.join()
    assert replayed(found) is (True if ending == "commit" else None)
    if ending == "commit":
        assert [line["id"] for line in found] == [line["id"] for line in made]
    assert ledger_problems(admin) == []


def test_of_one_tenant_the_second_of_two_different_payments_is_refused(admin: Connection, database: str) -> None:
    """They have no account in common, and so no lock: the key itself is where they meet."""
    one, two = meeting(admin, "make_payment")
    keys = [api_key(admin, name, "a") for name in ("old", "new")]
    with psycopg.connect(database) as first, psycopg.connect(database, autocommit=True) as second:
        called(first, "make_payment", one, api_key_id=keys[0])
        refused: list[str | None] = []
        named = {"idempotency_key": KEY, "api_key_id": keys[1]}
        waiting = threading.Thread(target=lambda: refused.append(refusal(second, "make_payment", *two, **named)))
        waiting.start()
        waiting_for_locks(admin, 1)
        first.commit()
        waiting.join()
    assert refused == ["WK001"]
