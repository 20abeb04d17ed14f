"""What the catalog says of every object: who owns it, who may use it, and what it is for. New objects included."""

import re
from typing import Any

import psycopg
import pytest

from tests.conftest import Connection
from tests.support import PROJECT, account

FILES = sorted((PROJECT / "db/functions").glob("*.sql"))
DOORS = ("wallet_app", "wallet_ops", "wallet_reporting")


@pytest.fixture(scope="module")
def catalog(http_database: str) -> Any:
    with psycopg.connect(http_database, autocommit=True) as connection:
        yield connection


def names(connection: Connection, query: str, *arguments: object) -> set[str]:
    return {str(name) for (name,) in connection.execute(query, arguments).fetchall()}


PUBLIC = """select p.proname from pg_proc p
            where p.pronamespace = 'wallet'::regnamespace and p.proname not like '\\_%%'"""
HELPERS = PUBLIC.replace("not like", "like")


def test_each_file_has_one_public_function_named_like_it(catalog: Connection) -> None:
    assert names(catalog, PUBLIC) == {file.stem for file in FILES if not file.stem.startswith("_")}


def test_no_function_has_two_signatures(catalog: Connection) -> None:
    assert (
        names(
            catalog,
            "select proname from pg_proc where pronamespace = 'wallet'::regnamespace group by 1 having count(*) > 1",
        )
        == set()
    )


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.stem))
def test_each_file_begins_with_what_it_does_returns_locks_and_raises(file: Any) -> None:
    text = file.read_text()
    header = re.match(r"(--.*\n)+", text)
    assert header is not None
    assert f"wallet.{file.stem.lstrip('_')}" in header[0].replace("._", ".").replace(".is_", ".")
    if not file.stem.startswith("_"):
        for word in ("Returns:", "Locks:", "Raises:"):
            assert word in header[0]


def test_everything_has_a_comment(catalog: Connection) -> None:
    without = """
        select 'function ' || p.oid::regprocedure from pg_proc p
        where p.pronamespace in ('wallet'::regnamespace, 'ledger'::regnamespace)
          and obj_description(p.oid, 'pg_proc') is null
        union all
        select 'table ' || c.oid::regclass from pg_class c
        where c.relnamespace in ('wallet'::regnamespace, 'ledger'::regnamespace)
          and c.relkind in ('r', 'v', 'm', 'p') and obj_description(c.oid, 'pg_class') is null
        union all
        select 'column ' || c.oid::regclass || '.' || a.attname from pg_attribute a join pg_class c on c.oid = a.attrelid
        where c.relnamespace in ('wallet'::regnamespace, 'ledger'::regnamespace)
          and c.relkind in ('r', 'v', 'm', 'p') and a.attnum > 0 and not a.attisdropped
          and col_description(c.oid, a.attnum) is null
        union all
        select 'type ' || t.oid::regtype from pg_type t
        where t.typnamespace = 'ledger'::regnamespace and t.typtype in ('d', 'e') and obj_description(t.oid, 'pg_type') is null
        union all
        select 'schema ' || nspname from pg_namespace n
        where nspname in ('wallet', 'ledger') and obj_description(n.oid, 'pg_namespace') is null"""
    assert names(catalog, without) == set()


def test_everything_belongs_to_the_owner(catalog: Connection) -> None:
    others = """
        select p.oid::regprocedure::text from pg_proc p
        where p.pronamespace in ('wallet'::regnamespace, 'ledger'::regnamespace) and p.proowner <> 'wallet_owner'::regrole
        union all
        select c.oid::regclass::text from pg_class c
        where c.relnamespace in ('wallet'::regnamespace, 'ledger'::regnamespace) and c.relowner <> 'wallet_owner'::regrole
        union all
        select nspname from pg_namespace where nspname in ('wallet', 'ledger') and nspowner <> 'wallet_owner'::regrole"""
    assert names(catalog, others) == set()
    assert names(catalog, "select rolname from pg_roles where rolname like 'wallet%%' and rolcanlogin") == set(DOORS)
    assert (
        names(
            catalog,
            "select rolname from pg_roles where rolname like 'wallet%%' and (rolsuper or rolcreaterole or rolcreatedb or rolbypassrls)",
        )
        == set()
    )


def test_public_functions_run_as_the_owner_on_a_pinned_search_path(catalog: Connection) -> None:
    pinned = PUBLIC + " and p.prosecdef and p.proconfig @> '{\"search_path=pg_catalog, pg_temp\"}'"
    assert names(catalog, pinned) == names(catalog, PUBLIC)


def test_helpers_run_as_their_caller(catalog: Connection) -> None:
    assert names(catalog, HELPERS + " and p.prosecdef") == set()


def test_public_has_no_right_on_anything(catalog: Connection) -> None:
    granted = """
        select p.oid::regprocedure::text from pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
        where p.pronamespace in ('wallet'::regnamespace, 'ledger'::regnamespace) and a.grantee = 0
        union all
        select c.oid::regclass::text from pg_class c, aclexplode(c.relacl) a
        where c.relnamespace in ('wallet'::regnamespace, 'ledger'::regnamespace) and a.grantee = 0
        union all
        select nspname from pg_namespace n, aclexplode(n.nspacl) a where nspname in ('wallet', 'ledger') and a.grantee = 0"""
    assert names(catalog, granted) == set()


def test_what_a_caller_puts_in_its_own_way_changes_no_rule(ops: Connection) -> None:
    buyer, seller = account(ops, "buyer", 10), account(ops, "seller")
    ops.execute("create temp table account as select 1 as id, 1e9 as balance")
    ops.execute("create function pg_temp.trim_scale(numeric) returns numeric language sql as 'select 1e9'")
    ops.execute("create function pg_temp.steal(numeric, numeric) returns boolean language sql as 'select true'")
    ops.execute("create operator pg_temp.>= (function = pg_temp.steal, leftarg = numeric, rightarg = numeric)")
    ops.execute("set search_path = pg_temp, wallet, pg_catalog")
    with pytest.raises(psycopg.Error, match="sufficient balance"), ops.transaction():
        ops.execute("select make_payment(%s, %s, 11)", [buyer, seller])
    ops.execute("select make_payment(%s, %s, 4)", [buyer, seller])
    assert ops.execute("select amount from get_account(%s)", [buyer]).fetchall() == [(6,)]


def test_no_table_depends_on_a_function(catalog: Connection) -> None:
    dependent = """select d.objid from pg_depend d join pg_proc p on d.refclassid = 'pg_proc'::regclass and d.refobjid = p.oid
                   where p.pronamespace = 'wallet'::regnamespace and d.deptype = 'n'"""
    assert names(catalog, dependent) == set()


INDEXED_TEXTS = """
    select index.indexrelid::regclass || ': ' || coalesce(attribute.attname, 'an expression') from pg_index as index
    join pg_class as relation on relation.oid = index.indrelid
    cross join lateral unnest(index.indcollation::oid[], index.indkey::int[]) as entry (ordering, attnum)
    left join pg_attribute as attribute on attribute.attrelid = index.indrelid and attribute.attnum = entry.attnum
    where relation.relnamespace = 'ledger'::regnamespace
      and entry.ordering not in (0, 'pg_catalog."C"'::regcollation) and """


def test_no_unique_index_depends_on_the_c_library(catalog: Connection) -> None:
    assert names(catalog, INDEXED_TEXTS + "index.indisunique") == set()


def test_the_other_indexes_that_do_are_on_a_few_words(catalog: Connection) -> None:
    """Lower-case letters only, whose order every collation has."""
    assert {text.partition(": ")[2] for text in names(catalog, INDEXED_TEXTS + "true")} == {"status"}


def test_a_unique_text_compares_as_its_index_orders(catalog: Connection) -> None:
    """Otherwise its constraint would not be found by its columns, nor the index by a comparison."""
    different = """
        select attribute.attrelid::regclass || '.' || attribute.attname from pg_index as index
        join pg_class as relation on relation.oid = index.indrelid
        cross join lateral unnest(index.indcollation::oid[], index.indkey::int[]) as entry (ordering, attnum)
        join pg_attribute as attribute on attribute.attrelid = index.indrelid and attribute.attnum = entry.attnum
        where relation.relnamespace = 'ledger'::regnamespace and index.indisunique
          and attribute.attcollation <> entry.ordering and entry.ordering <> 0"""
    assert names(catalog, different) == set()


def test_plpgsql_check_finds_nothing(admin: Connection) -> None:
    if admin.execute("select from pg_available_extensions where name = 'plpgsql_check'").fetchone() is None:
        pytest.skip("this PostgreSQL has no plpgsql_check; Debian's postgresql-15-plpgsql-check has")
    admin.execute("create extension plpgsql_check")
    findings = admin.execute(
        # what is called for its effect, as _refuse is, has to be volatile whatever it reads
        """select p.oid::regprocedure::text, c.lineno, c.message, c.detail
           from pg_proc p join pg_language l on l.oid = p.prolang and l.lanname = 'plpgsql',
                lateral (select max(t.tgrelid::bigint)::oid as table, max(t.tgnewtable::text) as added
                         from pg_trigger t where t.tgfoid = p.oid) trigger,
                plpgsql_check_function_tb(p.oid, relid => coalesce(trigger.table, 0), newtable => trigger.added::name,
                                          fatal_errors => false, extra_warnings => true,
                                          performance_warnings => true, security_warnings => true) c
           where p.pronamespace in ('wallet'::regnamespace, 'ledger'::regnamespace)
             and not (p.prorettype = 'void'::regtype and c.message like 'routine is marked as VOLATILE%')
             and not coalesce(c.detail = 'cannot to determine result of dynamic SQL', false)"""
    ).fetchall()
    assert findings == []
