"""Under one idempotency key, each function takes effect once: asked for again, it answers as before and changes nothing."""

import threading
from typing import Any

import psycopg
import pytest

from tests.conftest import Connection
from tests.sql.calls import Row, held, paid, refusal, row, rows
from tests.support import account, balance, ledger_problems, waiting_for_locks

Call = tuple[str, list[Any]]
FUNCTIONS = [
    "create_account",
    "create_currency",
    "set_account_status",
    "set_credit_limit",
    "set_currency_scale",
    "void_hold",
]


@pytest.fixture
def world(ops: Connection) -> dict[str, int]:
    return world_of(ops)


def world_of(connection: Connection) -> dict[str, int]:
    """An account with 100, another one, and holds."""
    one, other = account(connection, "one", 100), account(connection, "other")
    return {
        "one": one,
        "other": other,
        "hold": held(connection, one, other, 5),
        "another hold": held(connection, one, other, 5),
    }


def call(function: str, world: dict[str, int]) -> Call:
    """A call that changes something."""
    arguments: dict[str, list[Any]] = {
        "create_account": ["new", "12.50", 1],
        "create_currency": ["EUR", 2],
        "set_account_status": [world["one"], "frozen"],
        "set_credit_limit": [world["one"], "20.50"],
        "set_currency_scale": [1, 2],
        "void_hold": [world["hold"]],
    }
    return function, arguments[function]


def others(function: str, world: dict[str, int]) -> list[Call]:
    """Calls of the same function with other content."""
    arguments: dict[str, list[list[Any]]] = {
        "create_account": [["old", "12.50", 1], ["new", "12.51", 1], ["new", None, 1], ["new", "12.50", 2]],
        "create_currency": [["EURO", 2], ["EUR", 3]],
        "set_account_status": [[world["other"], "frozen"], [world["one"], "active"]],
        "set_credit_limit": [[world["other"], "20.5"], [world["one"], "20.51"], [world["one"], 0]],
        "set_currency_scale": [[2, 2], [1, 3]],
        "void_hold": [[world["another hold"]]],
    }
    return [(function, given) for given in arguments[function]]


def everything(connection: Connection) -> list[Any]:
    return [
        rows(connection, "list_accounts"),
        rows(connection, "list_currencies"),
        rows(connection, "list_payments"),
        rows(connection, "check_ledger"),
    ]


def without_replayed(found: Row) -> Row:
    return {name: value for name, value in found.items() if name != "replayed"}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_asked_for_again_it_is_answered_as_before_and_changes_nothing(
    ops: Connection, world: dict[str, int], function: str
) -> None:
    name, arguments = call(function, world)
    first = row(ops, name, *arguments, idempotency_key="key")
    assert first["replayed"] is None
    before = everything(ops)
    again = row(ops, name, *arguments, idempotency_key="key")
    assert again["replayed"] is True
    assert without_replayed(again) == without_replayed(first)
    assert everything(ops) == before


@pytest.mark.parametrize("function", ["set_account_status", "set_credit_limit", "create_account"])
def test_it_is_answered_as_before_whatever_has_happened_since(
    ops: Connection, world: dict[str, int], function: str
) -> None:
    name, arguments = call(function, world)
    first = row(ops, name, *arguments, idempotency_key="key")
    account_id = first["id"]
    row(ops, "set_account_status", account_id, "active")
    row(ops, "set_credit_limit", account_id, 30)
    paid(ops, account_id, world["other"], 7)
    before = everything(ops)
    assert without_replayed(row(ops, name, *arguments, idempotency_key="key")) == without_replayed(first)
    assert everything(ops) == before


@pytest.mark.parametrize("function", FUNCTIONS)
def test_other_content_under_a_used_key_is_refused(ops: Connection, world: dict[str, int], function: str) -> None:
    name, arguments = call(function, world)
    row(ops, name, *arguments, idempotency_key="key")
    before = everything(ops)
    for other, given in others(function, world):
        assert refusal(ops, other, *given, idempotency_key="key") == "WK003"
    assert everything(ops) == before


def test_an_amount_with_needless_zeros_is_the_same_content(ops: Connection, world: dict[str, int]) -> None:
    for function, arguments in (("create_account", ["new", "12.5", 1]), ("set_credit_limit", [world["one"], "20.5"])):
        name, given = call(function, world)
        row(ops, name, *given, idempotency_key="key")
        assert row(ops, function, *arguments, idempotency_key="key")["replayed"] is True


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_request_that_is_refused_does_not_use_up_its_key(
    ops: Connection, world: dict[str, int], function: str
) -> None:
    refused: dict[str, list[Any]] = {
        "create_account": ["one", 1, 1],
        "create_currency": ["USD", 2],
        "set_account_status": [world["one"], "closed"],
        "set_credit_limit": [world["one"], -1],
        "set_currency_scale": [1, 16],
        "void_hold": [0],
    }
    assert refusal(ops, function, *refused[function], idempotency_key="key") is not None
    name, arguments = call(function, world)
    assert row(ops, name, *arguments, idempotency_key="key")["replayed"] is None


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_change_that_changes_nothing_has_its_key_too(ops: Connection, world: dict[str, int], function: str) -> None:
    if function not in ("set_account_status", "set_credit_limit"):
        return
    name, arguments = call(function, world)
    row(ops, name, *arguments)
    assert row(ops, name, *arguments, idempotency_key="key")["replayed"] is None
    assert row(ops, name, *arguments, idempotency_key="key")["replayed"] is True


def test_keys_of_each_function_are_a_space_of_their_own(ops: Connection, world: dict[str, int]) -> None:
    for function in FUNCTIONS:
        name, arguments = call(function, world)
        assert row(ops, name, *arguments, idempotency_key="key")["replayed"] is None
    assert row(ops, "set_account_status", world["one"], "active")["status"] == "active"
    assert row(ops, "make_payment", world["one"], world["other"], 1, "key")["replayed"] is None
    assert row(ops, "create_hold", world["one"], world["other"], 1, idempotency_key="key")["replayed"] is None


REFUSALS = [
    (f"{function}, p_idempotency_key => {key})", code)
    for function in ("create_account('a', 0, 1", "create_currency('a', 2", "set_account_status(1, 'active'")
    for key, code in (("''", "WB008"), ("repeat('k', 256)", "WB008"), ("chr(31) || 'k'", "WB028"))
] + [("create_account('new', 13, 1, 'used')", "WK003")]


@pytest.mark.parametrize(("arguments", "code"), REFUSALS)
def test_refusals(ops: Connection, arguments: str, code: str) -> None:
    row(ops, "create_account", "new", 12, 1, idempotency_key="used")
    with pytest.raises(psycopg.Error) as refused, ops.transaction():
        ops.execute(f"select * from wallet.{arguments}")
    assert (refused.value.sqlstate, refused.value.diag.column_name) == (code, "idempotency_key")


def test_a_key_may_have_255_characters(ops: Connection) -> None:
    assert row(ops, "create_currency", "EUR", 2, idempotency_key="ä" * 255)["replayed"] is None


@pytest.mark.parametrize("ending", ["commit", "rollback"])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_of_two_at_the_same_moment_the_second_waits_for_the_first(
    admin: Connection, database: str, function: str, ending: str
) -> None:
    world = world_of(admin)
    name, arguments = call(function, world)
    with psycopg.connect(database) as first, psycopg.connect(database, autocommit=True) as second:
        made = row(first, name, *arguments, idempotency_key="key")
        found: list[Row] = []
        waiting = threading.Thread(target=lambda: found.append(row(second, name, *arguments, idempotency_key="key")))
        waiting.start()
        waiting_for_locks(admin, 1)
        first.execute(ending)
        waiting.join()
    assert found[0]["replayed"] is (True if ending == "commit" else None)
    if ending == "commit":
        assert without_replayed(found[0]) == without_replayed(made)
    assert ledger_problems(admin) == []


def test_what_was_recorded_of_a_request_cannot_be_changed(admin: Connection) -> None:
    row(admin, "create_currency", "EUR", 2, idempotency_key="key")
    for statement in (
        "update ledger.request set answer = '{}'",
        "update ledger.request set idempotency_key = 'other'",
        "update ledger.request set content_hash = sha256('')",
        "delete from ledger.request",
        "truncate ledger.request",
    ):
        with pytest.raises(psycopg.errors.RestrictViolation):
            admin.execute(statement)
    [(operation, role)] = admin.execute("select operation, database_role from ledger.request").fetchall()
    assert (operation, role) == ("create_currency", admin.info.user)


# Batches.


def batch(connection: Connection, world: dict[str, int], amounts: list[Any], **named: Any) -> list[Row]:
    number = len(amounts)
    return rows(
        connection,
        "make_payments",
        [world["one"]] * number,
        [world["other"]] * number,
        amounts,
        **{"idempotency_key": "key", **named},
    )


def test_a_batch_that_is_asked_for_again_has_the_outcomes_that_it_had(ops: Connection, world: dict[str, int]) -> None:
    first = batch(ops, world, [1, 1000, 0, 2], idempotency_keys=[None, None, None, "own"])
    assert [outcome["error_code"] for outcome in first] == [None, "WB006", "WB002", None]
    # what was refused could be paid now
    row(ops, "set_credit_limit", world["one"], 10_000)
    before = everything(ops)
    again = batch(ops, world, [1, 1000, 0, 2], idempotency_keys=[None, None, None, "own"])
    assert [outcome["replayed"] for outcome in again] == [True] * 4
    assert [without_replayed(outcome) for outcome in again] == [without_replayed(outcome) for outcome in first]
    assert everything(ops) == before


@pytest.mark.parametrize(
    "other",
    [
        {"amounts": [1]},
        {"amounts": [1, 3]},
        {"amounts": [2, 1]},
        {"amounts": [1, 2, 1]},
        {"atomic": True},
        {"references": ["a", None]},
        {"descriptions": ["a", None]},
        {"idempotency_keys": ["a", None]},
    ],
    ids=str,
)
def test_another_batch_under_a_used_key_is_refused(
    ops: Connection, world: dict[str, int], other: dict[str, Any]
) -> None:
    batch(ops, world, [1, 2])
    before = everything(ops)
    with pytest.raises(psycopg.Error) as refused, ops.transaction():
        batch(ops, world, **{"amounts": [1, 2], **other})
    assert refused.value.sqlstate == "WK003"
    assert everything(ops) == before
    assert [outcome["replayed"] for outcome in batch(ops, world, ["1.0", "2.00"], atomic=None)] == [True, True]


def test_an_atomic_batch_that_is_refused_does_not_use_up_its_key(ops: Connection, world: dict[str, int]) -> None:
    with pytest.raises(psycopg.Error, match="sufficient balance"), ops.transaction():
        batch(ops, world, [1, 1000], atomic=True)
    row(ops, "set_credit_limit", world["one"], 10_000)
    assert [outcome["replayed"] for outcome in batch(ops, world, [1, 1000], atomic=True)] == [None, None]
    assert [outcome["replayed"] for outcome in batch(ops, world, [1, 1000], atomic=True)] == [True, True]
    assert balance(ops, world["one"]) == 100 - 1001


def test_an_empty_batch_has_its_key_too(ops: Connection, world: dict[str, int]) -> None:
    assert batch(ops, world, []) == []
    assert batch(ops, world, []) == []
    with pytest.raises(psycopg.Error, match="belongs to another request"), ops.transaction():
        batch(ops, world, [1])


def test_a_batch_under_a_key_has_to_wait(ops: Connection, world: dict[str, int]) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue), ops.transaction():
        batch(ops, world, [1], wait=False)


def test_a_batch_of_10_000_is_answered_as_before(ops: Connection, world: dict[str, int]) -> None:
    amounts = ["0.001", "0"] * 5_000
    first = batch(ops, world, amounts)
    again = batch(ops, world, amounts)
    assert list(map(without_replayed, again)) == list(map(without_replayed, first))
