"""Who may do what in the database: a decision for every object, and each role tries what it must not do."""

from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests.conftest import Connection

DOORS = ("wallet_app", "wallet_ops", "wallet_reporting")
# Changing a function's line here is changing who may do what: its file grants the same.
OPERATIONS = {"wallet_app", "wallet_ops"}
READING = {"wallet_app", "wallet_ops", "wallet_reporting"}
FUNCTIONS = {
    "authenticate": {"wallet_app"},
    "capture_hold": OPERATIONS,
    "check_ledger": READING,
    "create_account": OPERATIONS,
    "create_api_key": OPERATIONS,
    "create_currency": OPERATIONS,
    "create_hold": OPERATIONS,
    "feed_end": OPERATIONS,
    "get_account": READING,
    "get_balance_curve": READING,
    "get_hold": READING,
    "get_payment": READING,
    "get_statement": READING,
    "get_totals": READING,
    "last_ledger_check": READING,
    "ledger_identity": READING,
    "ledger_position": READING,
    "list_account_changes": READING,
    "list_accounts": READING,
    "list_api_keys": OPERATIONS,
    "list_counterparties": READING,
    "list_currencies": READING,
    "list_feed": READING,
    "list_holds": READING,
    "list_payments": READING,
    "list_refusals": READING,
    "make_payment": OPERATIONS,
    "make_payments": OPERATIONS,
    "record_ledger_check": OPERATIONS,
    "refund_payment": OPERATIONS,
    "revoke_api_key": OPERATIONS,
    "schema_version": READING,
    "set_account_status": OPERATIONS,
    "set_credit_limit": OPERATIONS,
    "set_currency_scale": OPERATIONS,
    "sum_payments_by_hour": READING,
    "summarize_ledger": READING,
    "void_hold": OPERATIONS,
}
# Who may read a table. Only the owner may write one.
TABLES: dict[str, set[str]] = {
    "account": {"wallet_reporting"},
    "account_change": {"wallet_reporting"},
    "api_key": set(),
    "currency": {"wallet_reporting"},
    "currency_change": {"wallet_reporting"},
    "event": {"wallet_reporting"},
    "feed_origin": {"wallet_reporting"},
    "hold": {"wallet_reporting"},
    "installed_function": set(),
    "ledger_check": {"wallet_reporting"},
    "migration": set(),
    "payment": {"wallet_reporting"},
    "request": set(),
    "rulebook": set(),
}


@pytest.fixture(scope="module")
def catalog(http_database: str) -> Any:
    with psycopg.connect(http_database, autocommit=True) as connection:
        yield connection


def all_of(catalog: Connection, query: str) -> list[Any]:
    return [value for (value,) in catalog.execute(query).fetchall()]


def relations(catalog: Connection, kinds: str) -> list[str]:
    query = """select relname from pg_class
               where relnamespace = 'ledger'::regnamespace and relkind = any (string_to_array(%s, null))"""
    return [name for (name,) in catalog.execute(query, [kinds]).fetchall()]


def tells_it_no(http_database: str, role: str, statement: str | sql.Composed) -> bool:
    """Whether a role that logs in and tries is refused for want of a right."""
    with psycopg.connect(http_database, user=role) as connection:
        connection.execute("set transaction read write")
        try:
            connection.execute(statement)
        except psycopg.errors.InsufficientPrivilege:
            return True
        except psycopg.Error:
            return False  # it was allowed to try
    return False


# Decisions.


def test_there_is_a_decision_on_every_function(catalog: Connection) -> None:
    public = "select proname from pg_proc where pronamespace = 'wallet'::regnamespace and proname not like '\\_%'"
    assert sorted(all_of(catalog, public)) == sorted(FUNCTIONS)


def test_there_is_a_decision_on_every_table(catalog: Connection) -> None:
    assert sorted(relations(catalog, "rvmpf")) == sorted(TABLES)


def test_every_kind_of_object_has_a_decision(catalog: Connection) -> None:
    kinds = "select distinct relkind::text from pg_class where relnamespace in ('ledger'::regnamespace, 'wallet'::regnamespace)"
    assert set(all_of(catalog, kinds)) <= {"r", "i", "S"}
    assert all_of(catalog, "select relname from pg_class where relnamespace = 'wallet'::regnamespace") == []


# What the catalog says.


@pytest.mark.parametrize("role", DOORS)
def test_a_role_executes_what_was_decided_and_nothing_else(catalog: Connection, role: str) -> None:
    executable = f"""select proname from pg_proc
                     where pronamespace in ('wallet'::regnamespace, 'ledger'::regnamespace)
                       and has_function_privilege('{role}', oid, 'execute')"""
    assert set(all_of(catalog, executable)) == {name for name, roles in FUNCTIONS.items() if role in roles}


@pytest.mark.parametrize("role", DOORS)
def test_a_role_has_no_right_on_any_column_that_was_not_decided(catalog: Connection, role: str) -> None:
    for name in relations(catalog, "rvmpf"):
        for right in ("select", "insert", "update", "references"):
            has = all_of(catalog, f"select has_any_column_privilege('{role}', 'ledger.{name}', '{right}')")
            assert has == [right == "select" and role in TABLES[name]], (name, right)
        for right in ("delete", "truncate", "trigger"):
            assert all_of(catalog, f"select has_table_privilege('{role}', 'ledger.{name}', '{right}')") == [False]


@pytest.mark.parametrize("role", DOORS)
def test_a_role_creates_nothing_in_any_schema_and_is_member_of_no_other_role(catalog: Connection, role: str) -> None:
    for schema in ("ledger", "wallet", "public"):
        assert all_of(catalog, f"select has_schema_privilege('{role}', '{schema}', 'create')") == [False]
    others = f"""select rolname from pg_roles where rolname <> '{role}' and pg_has_role('{role}', oid, 'member')"""
    assert all_of(catalog, others) == []


# What happens to who tries.


@pytest.mark.parametrize("role", DOORS)
def test_a_role_without_privilege_cannot_read_or_write_a_table(
    catalog: Connection, http_database: str, role: str
) -> None:
    for name in relations(catalog, "rvmpf"):
        [*_, column] = all_of(
            catalog,
            f"select attname from pg_attribute where attrelid = 'ledger.{name}'::regclass and attnum > 0 order by attnum",
        )
        assert tells_it_no(http_database, role, f"select * from ledger.{name}") == (role not in TABLES[name])
        for statement in (
            f"insert into ledger.{name} default values",
            f"update ledger.{name} set {column} = {column}",
            f"delete from ledger.{name}",
            f"truncate ledger.{name}",
            f"lock table ledger.{name} in exclusive mode",
            f"drop table ledger.{name}",
            f"alter table ledger.{name} disable trigger all",
        ):
            assert tells_it_no(http_database, role, statement), statement


@pytest.mark.parametrize("role", DOORS)
def test_a_role_without_privilege_cannot_use_a_sequence(catalog: Connection, http_database: str, role: str) -> None:
    for name in relations(catalog, "S"):
        for statement in (f"select nextval('ledger.{name}')", f"select setval('ledger.{name}', 1)"):
            assert tells_it_no(http_database, role, statement), statement


@pytest.mark.parametrize("role", DOORS)
def test_a_role_without_privilege_cannot_call_a_function(catalog: Connection, http_database: str, role: str) -> None:
    functions = catalog.execute(
        """select proname, proargtypes::regtype[]::text[], pronargs - pronargdefaults from pg_proc
           where pronamespace in ('wallet'::regnamespace, 'ledger'::regnamespace) and prorettype <> 'trigger'::regtype"""
    ).fetchall()
    assert len(functions) > len(FUNCTIONS)
    for name, types, needed in functions:
        nulls = ", ".join([f"null::{type_}" for type_ in list(types)[:needed]])
        schema = "ledger" if name == "acting_role" else "wallet"
        told = tells_it_no(http_database, role, f"select {schema}.{name}({nulls})")
        assert told == (role not in FUNCTIONS.get(name, set())), name


@pytest.mark.parametrize("role", DOORS)
@pytest.mark.parametrize(
    "statement",
    [
        "drop function wallet.schema_version()",
        "create or replace function wallet.schema_version() returns text language sql as 'select 1::text'",
        "create function wallet.door() returns int language sql as 'select 1'",
        "create table wallet.own (id int)",
        "create table ledger.own (id int)",
        "set role wallet_owner",
        "set session authorization postgres",
        "alter role wallet_app superuser",
        "grant wallet_owner to current_user",
        "copy (select 1) to program 'true'",
        "select pg_read_file('postgresql.conf')",
        "select * from pg_authid",
    ],
)
def test_a_role_cannot_become_another(http_database: str, role: str, statement: str) -> None:
    assert tells_it_no(http_database, role, statement)


def test_the_reporting_role_changes_nothing_even_by_a_function(http_database: str) -> None:
    with psycopg.connect(http_database, user="wallet_reporting", autocommit=True) as connection:
        assert connection.execute("show transaction_read_only").fetchall() == [("on",)]
        assert connection.execute("select count(*) >= 0 from ledger.payment").fetchall() == [(True,)]


def test_people_type_functions_without_the_schema(rolled_back_database: str) -> None:
    for role in ("wallet_ops", "wallet_reporting"):
        with psycopg.connect(rolled_back_database, user=role) as connection:
            connection.execute("select * from list_currencies()")
