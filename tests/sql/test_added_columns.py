"""Between two transactions of a migration, functions of the previous version meet tables that have new columns."""

from hashlib import sha256
from typing import Any

import pytest
from psycopg.types.json import Jsonb

from tests.conftest import Connection
from tests.sql.calls import held, paid, row, rows

TABLES = (
    "currency",
    "currency_change",
    "account",
    "hold",
    "payment",
    "account_change",
    "api_key",
    "request",
    "ledger_check",
    "event",
)
# What README.md of db/ allows for a new column: it has a default, or may be NULL.
COLUMNS = ("added text", "added integer not null default 7")


def call_all(connection: Connection, number: int) -> set[str]:
    """Calls each public function, between accounts 1 and 2; returns the names of the functions."""
    payments = [paid(connection, 1, 2, 1) for _ in range(2)]
    holds = [held(connection, 1, 2, 2, buyer_may_void=True) for _ in range(2)]
    key = f"key {number}"
    api_key = row(connection, "create_api_key", f"{key} used", ["read"])
    calls: list[tuple[Any, ...]] = [
        ("create_account", key, 5, 1, key),
        ("create_currency", key, 2, key),
        ("create_api_key", key, ["read"], None, None, None, key),
        ("make_payment", 1, 2, 1, key, "description", "reference"),
        ("make_payments", [1], [2], [1]),
        ("make_payments", [1, 2], [2, 1], [1, 1]),
        ("make_payments", [1, 2], [2, 1], [1, 1], False, False),
        ("make_payments", [1, 2], [2, 1], [1, 1], True, True, [f"{key} a", None], None, None, None, None, key),
        ("refund_payment", payments[0], 1),
        ("refund_payment", payments[1], 1, f"{key} refund"),
        ("create_hold", 1, 2, 1, 60, key),
        ("capture_hold", holds[0], 1, f"{key} capture", None, False, True),
        ("capture_hold", holds[0]),
        ("void_hold", holds[1], key),
        ("set_account_status", 1, "frozen", key),
        ("set_account_status", 1, "active"),
        ("set_credit_limit", 1, number, key),
        ("set_currency_scale", 2, number, key),
        ("authenticate", sha256(api_key["secret"].encode()).digest()),
        ("revoke_api_key", api_key["id"], key),
        ("record_ledger_check", 0),
        ("record_ledger_check", 0),
        ("get_account", 1),
        ("get_balance_curve", 1),
        ("get_hold", holds[0]),
        ("get_payment", payments[0]),
        ("get_statement", 1),
        ("get_totals",),
        ("list_accounts",),
        ("list_account_changes", 1),
        ("list_holds",),
        ("list_holds", None, 5, 1, "open"),
        ("list_holds", None, 5, None, "expired"),
        ("list_holds", None, 5, None, None, "reference"),
        ("list_payments",),
        ("list_payments", None, 5, 1),
        ("list_payments", None, 5, None, 1),
        ("list_payments", None, 5, None, None, 2),
        ("list_payments", *[None] * 11, payments[0]),
        ("list_payments", *[None] * 13, None, "asc", holds[0]),
        ("list_payments", None, 5, *[None] * 11, 5, "desc"),
        ("list_payments", None, 5, *[None] * 12, "asc", None, Jsonb({})),
        ("list_accounts", None, 5, *[None] * 6, "asc", Jsonb({})),
        ("list_api_keys",),
        ("list_counterparties", 1),
        ("list_currencies",),
        ("list_feed",),
        ("list_feed", "now"),
        ("sum_payments_by_hour",),
        ("feed_end",),
        ("list_refusals",),
        ("last_ledger_check",),
        ("ledger_identity",),
        ("ledger_position",),
        ("schema_version",),
        ("summarize_ledger",),
    ]
    for call in calls:
        made = rows(connection, *call)
        assert all(outcome.get("error_code") is None for outcome in made), made
    assert rows(connection, "check_ledger") == []
    return {name for name, *_ in calls} | {"check_ledger"}


@pytest.mark.parametrize("column", COLUMNS)
def test_every_function_works_while_the_tables_have_a_new_column(admin: Connection, column: str) -> None:
    for name in ("buyer", "seller"):
        row(admin, "create_account", name, 100, 1)
    call_all(admin, 1)  # with the plans and row types of the session from before the change, too
    for table in TABLES:
        admin.execute(f"alter table ledger.{table} add column {column}")
        admin.execute(f"comment on column ledger.{table}.added is 'An example.'")
    public = "select proname from pg_proc where pronamespace = 'wallet'::regnamespace and proname not like '\\_%%'"
    assert call_all(admin, 2) == {name for (name,) in admin.execute(public, []).fetchall()}
    [(missing,)] = admin.execute("select count(*) from ledger.payment where added is null").fetchall()
    assert (missing > 0) == ("default" not in column)
