"""migrate finds its way on a server that refuses what PostgreSQL has, or has other defaults: here, imitated by triggers.

`make test-engine` shows the rest of a server that is not PostgreSQL.
"""

import psycopg
import pytest

from tests.conftest import Connection
from tests.schema.test_migrations import FILES, is_valid
from tests.support import account, ledger_problems
from wallet_api.database import migrations
from wallet_api.database.installer import MigrationRefused

# An event trigger that is called {name} and does {work}; PostgreSQL fires it at a statement with one of the {tags}.
IMITATION = """
    create function public.{name}() returns event_trigger language plpgsql as $$ begin {work} end $$;
    create event trigger {name} on {event} when tag in ({tags}) execute function public.{name}()"""

REFUSE = "raise exception using errcode = 'feature_not_supported', message = 'not supported yet';"


def imitate(conninfo: str, name: str, event: str, tags: str, work: str) -> None:
    with psycopg.connect(conninfo, autocommit=True) as admin:
        admin.execute(IMITATION.format(name=name, event=event, tags=tags, work=work))


def caching(conninfo: str, tags: str) -> None:
    """Makes sequences give a session 20 ids at a time, from statements with one of these tags on."""
    work = """
        for v_name in select object_identity from pg_event_trigger_ddl_commands() where object_type = 'sequence' loop
            if (select seqcache from pg_sequence where seqrelid = v_name::regclass) = 1 then
                execute 'alter sequence ' || v_name || ' cache 20';
            end if;
        end loop;"""
    work = f"declare v_name text; begin {work} end;"
    imitate(conninfo, "caching", "ddl_command_end", tags, work)


def caches(connection: Connection) -> set[int]:
    query = (
        "select seqcache from pg_sequence join pg_class on oid = seqrelid where relnamespace = 'ledger'::regnamespace"
    )
    return {cache for (cache,) in connection.execute(query).fetchall()}


def test_a_new_database_gives_one_id_at_a_time_whatever_the_default(bare_database: str) -> None:
    caching(bare_database, "'CREATE TABLE'")
    migrations.migrate(bare_database)
    with psycopg.connect(bare_database) as connection:
        assert caches(connection) == {1}


def test_a_server_that_gives_several_ids_whatever_is_asked_for_is_refused(bare_database: str) -> None:
    caching(bare_database, "'CREATE TABLE', 'CREATE SEQUENCE', 'ALTER SEQUENCE'")
    with pytest.raises(MigrationRefused, match=r'several ids .*, even with "cache 1": .* Change its setting'):
        migrations.migrate(bare_database)
    assert migrations.installed_version(bare_database) is None


def test_a_server_whose_catalogue_does_not_show_that_is_refused_too(bare_database: str) -> None:
    """By what it gives: the sequence that migrate tries gives 20, and those of the ledger have been told to give one."""
    caching(bare_database, "'CREATE SEQUENCE'")
    with pytest.raises(MigrationRefused, match=r'several ids .*, even with "cache 1"'):
        migrations.migrate(bare_database)


def test_a_sequence_that_was_changed_is_refused_with_the_cure(admin: Connection, database: str) -> None:
    admin.execute("alter sequence ledger.payment_id_seq cache 20")
    sentence = r"may get a lower id, .*: ledger\.payment_id_seq \(20 at a time\)\. Stop all instances, and run"
    with pytest.raises(MigrationRefused, match=sentence):
        migrations.migrate(database)
    admin.execute("alter sequence ledger.payment_id_seq cache 1")
    assert migrations.migrate(database) == []


@pytest.fixture
def without_transition_tables(bare_database: str) -> str:
    work = f"if exists (select from pg_trigger where tgnewtable is not null) then {REFUSE} end if;"
    imitate(bare_database, "refuse", "ddl_command_end", "'CREATE TRIGGER'", work)
    assert migrations.migrate(bare_database) == [f"applied {name}" for name in FILES]
    return bare_database


def test_without_transition_tables_a_trigger_for_each_row_checks_payments(without_transition_tables: str) -> None:
    pay = """insert into ledger.payment (currency_id, buyer_account_id, seller_account_id, amount, buyer_balance,
                                         seller_balance, {column})
             values (1, 1, 2, 1, 9, 1, null), (1, {seller}, 1, 1, 0, 0, {value})"""
    with psycopg.connect(without_transition_tables, autocommit=True) as admin:
        triggers = "select tgname, tgtype & 1, tgnewtable from pg_trigger where tgname = 'payment_true'"
        assert admin.execute(triggers).fetchall() == [("payment_true", 1, None)]
        for name, currency in (("one", 1), ("two", 1), ("other", 2)):
            account(admin, name, 10, currency)
        for seller, column, value in ((3, "hold_id", "null"), (2, "hold_id", "7"), (2, "refunded_payment_id", "7"),
                                      (2, "description", "''"), (2, "up_to", "0.5"), (2, "metadata", "'[]'")):  # fmt: skip
            with pytest.raises(psycopg.errors.CheckViolation) as refused:
                admin.execute(pay.format(seller=seller, column=column, value=value))
            assert refused.value.diag.constraint_name == "payment_true"
        payments = "select id, error_code from wallet.make_payments(array[1, 2, 1], array[2, 1, 3], array[4, 3, 2])"
        (first, _), *others = admin.execute(payments).fetchall()
        assert [code for _, code in others] == [None, "WB005"]
        admin.execute("select wallet.refund_payment(%s, 1)", [first])
        admin.execute("select wallet.capture_hold(id, 2) from wallet.create_hold(1, 2, 5)")
        assert ledger_problems(admin) == []


def test_a_server_with_transition_tables_has_the_trigger_for_each_statement(admin: Connection) -> None:
    """It is faster where a call makes many payments."""
    triggers = "select tgtype & 1, tgnewtable from pg_trigger where tgname = 'payment_true'"
    assert admin.execute(triggers).fetchall() == [(0, "made")]


def test_a_server_that_does_not_drop_indexes_concurrently_builds_them_nevertheless(bare_database: str) -> None:
    imitate(
        bare_database, "refuse", "ddl_command_start", "'DROP INDEX'",
        f"if current_query() ~* 'concurrently' then {REFUSE} end if;",
    )  # fmt: skip
    assert migrations.migrate(bare_database) == [f"applied {name}" for name in FILES]
    with psycopg.connect(bare_database) as connection:
        assert is_valid(connection, "ledger.payment_buyer_idx")


def test_a_server_without_advisory_locks_is_migrated(bare_database: str) -> None:
    with psycopg.connect(bare_database, autocommit=True) as admin:
        admin.execute("alter function pg_catalog.pg_try_advisory_lock(bigint) rename to pg_try_hidden")
        admin.execute(f"""create function pg_catalog.pg_try_advisory_lock(bigint) returns boolean language plpgsql
                          as $$ begin {REFUSE} end $$""")
    assert migrations.migrate(bare_database) == [f"applied {name}" for name in FILES]
    assert migrations.migrate(bare_database) == []
