"""The runner brings a database to this version, any number of times, in any company, or refuses in a clear sentence."""

import contextlib
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.conftest import Connection
from tests.support import PROJECT, account, balance, ledger_problems, wait_until, waiting_for_locks
from wallet_api.database import migrations
from wallet_api.database.installer import MigrationRefused
from wallet_api.settings import DB

FILES = sorted(path.name for path in (DB / "migrations").glob("*.sql"))


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """A copy of db/ that the test may change."""
    return Path(shutil.copytree(DB, tmp_path / "db"))


def add_function(db: Path, name: str, columns: str, body: str, arguments: str = "") -> None:
    types = ", ".join(argument.split()[1] for argument in arguments.split(",") if argument)
    (db / "functions" / f"{name}.sql").write_text(
        f"create or replace function wallet.{name}({arguments}) returns table ({columns}) language sql as $${body}$$;"
        f"grant execute on function wallet.{name}({types}) to wallet_app, wallet_ops;"
    )


def add_migration(db: Path, name: str, text: str) -> None:
    (db / "migrations" / name).write_text(text)


def test_the_first_time_applies_all_and_the_second_nothing(bare_database: str) -> None:
    assert migrations.installed_version(bare_database) is None
    assert migrations.migrate(bare_database) == [f"applied {name}" for name in FILES]
    assert migrations.installed_version(bare_database) == migrations.version()
    assert migrations.migrate(bare_database) == []


def test_ten_at_once_take_turns(bare_database: str) -> None:
    with ThreadPoolExecutor(10) as threads:
        notes = list(threads.map(migrations.migrate, [bare_database] * 10))
    assert sorted(notes, key=len) == [[]] * 9 + [[f"applied {name}" for name in FILES]]
    with psycopg.connect(bare_database) as connection:
        assert connection.execute("select name from ledger.migration order by 1").fetchall() == [(n,) for n in FILES]
        assert connection.execute("select version from ledger.rulebook").fetchall() == [(migrations.version(),)]


def test_several_databases_of_one_cluster_at_once(cluster: str) -> None:
    names = [f"sibling_{number}" for number in range(4)]
    with psycopg.connect(make_conninfo(cluster, dbname="postgres"), autocommit=True) as admin:
        for name in names:
            admin.execute(f"create database {name} template template0")
        with ThreadPoolExecutor(4) as threads:
            for notes in threads.map(lambda name: migrations.migrate(make_conninfo(cluster, dbname=name)), names):
                assert notes == [f"applied {name}" for name in FILES]
        for name in names:
            admin.execute(f"drop database {name} with (force)")


def test_what_is_in_the_ledger_stays(admin: Connection, database: str, db: Path) -> None:
    buyer, seller = account(admin, "buyer", 10), account(admin, "seller")
    admin.execute("select wallet.make_payment(%s, %s, 1)", [buyer, seller])
    (db / "migrations/9000_more.sql").write_text("alter table ledger.account add column note text")
    assert migrations.migrate(database, db=db) == ["applied 9000_more.sql"]
    assert [balance(admin, buyer), balance(admin, seller)] == [9, 1]
    assert migrations.installed_version(database) == migrations.version(db) != migrations.version()


def test_the_optional_index_on_metadata_stays(admin: Connection, database: str, db: Path) -> None:
    """The statement is that of docs/recipes.md."""
    [statement] = re.findall(
        r"^wallet=# (create index .* payment_metadata_idx .*;)$",
        (PROJECT / "docs/recipes.md").read_text(),
        re.MULTILINE,
    )
    admin.execute(statement)
    add_migration(
        db, "9999_column.sql", "set local role wallet_owner;\nalter table ledger.payment add column added text;"
    )
    assert migrations.migrate(database, db=db) == ["applied 9999_column.sql"]
    assert is_valid(admin, "ledger.payment_metadata_idx")


def test_an_edited_file_is_refused(database: str, db: Path) -> None:
    with (db / "migrations" / FILES[1]).open("a") as file:
        file.write("-- a comment\n")
    with pytest.raises(MigrationRefused, match=f"db/migrations/{FILES[1]} was edited after"):
        migrations.migrate(database, db=db)


def test_a_missing_file_is_refused(database: str, db: Path) -> None:
    (db / "migrations" / FILES[-1]).unlink()
    with pytest.raises(MigrationRefused, match=f"{FILES[-1]}, which is missing in db/migrations/"):
        migrations.migrate(database, db=db)


def test_a_file_that_comes_too_late_is_refused(database: str, db: Path) -> None:
    (db / "migrations/0001_z_late.sql").write_text("select 1")
    with pytest.raises(MigrationRefused, match=r"0001_\w+.sql and 0001_\w+.sql of db/migrations/ have the same number"):
        migrations.migrate(database, db=db)
    (db / "migrations/0001_z_late.sql").rename(db / "migrations/0000_late.sql")
    with pytest.raises(MigrationRefused, match=r"0000_late.sql comes before 00\d\d_\w+.sql, which .* already"):
        migrations.migrate(database, db=db)


def test_a_file_with_another_kind_of_name_is_refused(database: str, db: Path) -> None:
    (db / "migrations/later.sql").write_text("select 1")
    with pytest.raises(MigrationRefused, match=r"later\.sql should have a name like"):
        migrations.migrate(database, db=db)


@pytest.mark.parametrize("file", ["migrations/9001_fails.sql", "functions/zz_fails.sql"])
def test_a_failing_file_changes_nothing(admin: Connection, database: str, db: Path, file: str) -> None:
    (db / "migrations/9000_works.sql").write_text("create table ledger.half (id int)")
    (db / file).write_text("create table ledger.other_half (id int); select 1 / 0")
    with pytest.raises(MigrationRefused, match=f"db/{file} failed: division by zero(.|\n)*Everything is as before"):
        migrations.migrate(database, db=db)
    assert admin.execute("select to_regclass('ledger.half'), to_regclass('ledger.other_half')").fetchone() == (
        None,
        None,
    )
    assert migrations.migrate(database) == []


def test_a_function_that_is_no_more_goes(admin: Connection, database: str, db: Path) -> None:
    add_function(db, "short_lived", "id bigint", "select 1::bigint")
    migrations.migrate(database, db=db)
    assert migrations.migrate(database) == ["dropped wallet.short_lived(), which this version does not have"]
    assert admin.execute("select to_regproc('wallet.short_lived')").fetchone() == (None,)


def test_a_changed_signature_leaves_no_old_one_behind(admin: Connection, database: str, db: Path) -> None:
    add_function(db, "changing", "id bigint", "select 1::bigint", "p_a int")
    migrations.migrate(database, db=db)
    add_function(db, "changing", "id bigint", "select 1::bigint", "p_a int, p_b text")
    assert migrations.migrate(database, db=db) == ["dropped wallet.changing(integer), which this version does not have"]
    assert admin.execute(
        "select pg_get_function_identity_arguments(oid) from pg_proc where proname = 'changing'"
    ).fetchall() == [("p_a integer, p_b text",)]


def test_changed_columns_keep_the_rights_that_others_were_given(admin: Connection, database: str, db: Path) -> None:
    add_function(db, "widening", "id bigint", "select 1::bigint")
    migrations.migrate(database, db=db)
    admin.execute('drop role if exists "an Analyst"')
    admin.execute('create role "an Analyst"')
    admin.execute('grant execute on function wallet.widening() to "an Analyst"')
    add_function(db, "widening", "id bigint, name text", "select 1::bigint, 'x'")
    assert migrations.migrate(database, db=db) == []
    for role in ("an Analyst", "wallet_app", "wallet_ops"):
        right = admin.execute("select has_function_privilege(%s, 'wallet.widening()', 'execute')", [role]).fetchone()
        assert right == (True,)
    admin.execute('drop owned by "an Analyst"; drop role "an Analyst"')


def test_grants_to_public_and_grant_options_are_kept_too(admin: Connection, database: str, db: Path) -> None:
    add_function(db, "widening", "id bigint", "select 1::bigint")
    migrations.migrate(database, db=db)
    admin.execute("grant execute on function wallet.widening() to public")
    admin.execute("grant execute on function wallet.widening() to pg_monitor with grant option")
    add_function(db, "widening", "id bigint, name text", "select 1::bigint, 'x'")
    assert migrations.migrate(database, db=db) == []
    rights = admin.execute(
        """select acl.grantee::regrole::text, acl.is_grantable from pg_proc, aclexplode(proacl) acl
           where proname = 'widening' and acl.grantee not in (select oid from pg_roles where rolname like 'wallet%')"""
    ).fetchall()
    assert sorted(rights) == [("-", False), ("pg_monitor", True)]


def test_the_rights_on_a_function_that_is_no_more_are_named(admin: Connection, database: str, db: Path) -> None:
    add_function(db, "going", "id bigint", "select 1::bigint")
    migrations.migrate(database, db=db)
    admin.execute("grant execute on function wallet.going() to pg_monitor")
    assert migrations.migrate(database) == [
        "dropped wallet.going(), which this version does not have",
        "wallet.going() no longer exists, so pg_monitor has lost the right to execute it",
    ]


def test_an_argument_with_a_default_can_be_added_to_a_function_that_another_one_calls(database: str, db: Path) -> None:
    add_function(db, "base", "id bigint", "select 1::bigint", "p_a int")
    add_function(db, "calling", "id bigint", "select id from wallet.base(1)")
    migrations.migrate(database, db=db)
    add_function(db, "base", "id bigint", "select 1::bigint", "p_a int, p_b int default 3")
    assert migrations.migrate(database, db=db) == ["dropped wallet.base(integer), which this version does not have"]


def test_what_others_built_on_a_function_survives_unless_it_would_have_to_change(
    admin: Connection, database: str, db: Path
) -> None:
    add_function(db, "base", "id bigint", "select 1::bigint")
    migrations.migrate(database, db=db)
    admin.execute("create view public.theirs as select * from wallet.base()")

    add_function(db, "base", "id bigint", "select 2::bigint")
    assert migrations.migrate(database, db=db) == []
    assert admin.execute("select id from public.theirs").fetchall() == [(2,)]

    add_function(db, "base", "id bigint, name text", "select 1::bigint, 'x'")
    sentence = "something in the database uses: view (public.)?theirs depends on function wallet.base"
    with pytest.raises(MigrationRefused, match=sentence):
        migrations.migrate(database, db=db)
    with pytest.raises(MigrationRefused, match=sentence):
        migrations.migrate(database)
    assert admin.execute("select id from public.theirs").fetchall() == [(2,)]


def test_a_function_of_another_owner_is_kept_and_named(admin: Connection, database: str) -> None:
    admin.execute("create function wallet.theirs() returns int language sql as 'select 1'")
    assert migrations.migrate(database) == ["left alone wallet.theirs(), which is not the wallet's"]
    assert admin.execute("select wallet.theirs()").fetchone() == (1,)


def test_a_function_of_the_owner_that_no_file_has_stays_as_it_is(admin: Connection, database: str) -> None:
    admin.execute(
        """create function wallet.theirs() returns int language sql set work_mem = '1MB' as 'select 1';
           alter function wallet.theirs() owner to wallet_owner"""
    )
    definition = "select pg_get_functiondef('wallet.theirs()'::regprocedure)"
    before = admin.execute(definition).fetchone()
    assert migrations.migrate(database) == ["left alone wallet.theirs(), which is not the wallet's"]
    assert admin.execute(definition).fetchone() == before


def test_a_function_created_by_another_role_meanwhile_is_kept(admin: Connection, database: str, db: Path) -> None:
    (db / "functions/zz_slow.sql").write_text("select pg_advisory_lock_shared(7)")
    with ThreadPoolExecutor() as threads:
        admin.execute("select pg_advisory_lock(7)")
        migration = threads.submit(migrations.migrate, database, db=db)
        with psycopg.connect(database, autocommit=True) as other:
            waiting_for_locks(other, 1)
            other.execute("create function wallet.theirs() returns int language sql as 'select 1'")
        admin.execute("select pg_advisory_unlock(7)")
        assert migration.result() == ["left alone wallet.theirs(), which is not the wallet's"]
    assert migrations.migrate(database) == ["left alone wallet.theirs(), which is not the wallet's"]


def test_a_function_changed_by_hand_is_put_back_and_named(admin: Connection, database: str) -> None:
    admin.execute(
        "create or replace function wallet._is_amount(p_amount numeric) returns boolean language sql as 'select true'"
    )
    assert migrations.migrate(database) == [
        "wallet._is_amount(numeric) had been changed by hand; it is again what db/functions/ says"
    ]
    assert admin.execute("select wallet._is_amount('NaN')").fetchone() == (False,)
    assert migrations.migrate(database) == []


def test_a_user_without_privilege_gets_a_clear_error(database: str) -> None:
    with pytest.raises(MigrationRefused, match=r"The role wallet_app may not migrate\. Nothing was changed\."):
        migrations.migrate(make_conninfo(database, user="wallet_app"))


def test_no_superuser_is_needed(cluster: str) -> None:
    with psycopg.connect(make_conninfo(cluster, dbname="postgres"), autocommit=True) as admin:
        # roles that another user made already would be that user's to give
        grants = "" if admin.info.server_version < 160000 else " with admin option"
        admin.execute("create role steward login createrole")
        admin.execute(f"grant wallet_owner, wallet_app, wallet_ops, wallet_reporting to steward{grants}")
        admin.execute("create database stewarded template template0 owner steward")
        conninfo = make_conninfo(cluster, dbname="stewarded", user="steward")
        assert migrations.migrate(conninfo) == [f"applied {name}" for name in FILES]
        assert migrations.migrate(conninfo) == []
        with psycopg.connect(conninfo, user="wallet_app") as app:
            assert balance(app, account(app, "x", Decimal("1.5"))) == Decimal("1.5")
        admin.execute("drop database stewarded with (force)")
        admin.execute("drop role steward")


def test_a_version_that_was_left_comes_back_only_when_it_is_asked_for(database: str, db: Path) -> None:
    add_function(db, "newer", "id bigint", "select 1::bigint")
    migrations.migrate(database, db=db)
    with pytest.raises(MigrationRefused, match=r"to go back, run its migrate"):
        migrations.migrate(database, back=False)
    assert migrations.installed_version(database) == migrations.version(db)
    assert migrations.migrate(database) == ["dropped wallet.newer(), which this version does not have"]


def test_rights_that_were_lost_or_given_to_helpers_are_put_right(admin: Connection, database: str) -> None:
    admin.execute("revoke usage on schema wallet from wallet_app")
    admin.execute("grant execute on function wallet._refuse(text, text) to wallet_app, public")
    migrations.migrate(database)
    rights = """select has_schema_privilege('wallet_app', 'wallet', 'usage'),
                       has_function_privilege('wallet_app', 'wallet._refuse(text, text)', 'execute')"""
    assert admin.execute(rights).fetchone() == (True, False)


def test_a_database_that_quotes_every_name_gives_no_other_rights(admin: Connection, bare_database: str) -> None:
    name = conninfo_to_dict(bare_database)["dbname"]
    admin.execute(f"alter database {name} set quote_all_identifiers = on")
    migrations.migrate(bare_database)
    assert migrations.migrate(bare_database) == []
    with psycopg.connect(bare_database) as connection:
        helper = "select has_function_privilege('wallet_app', 'wallet._refuse(text, text)', 'execute')"
        assert connection.execute(helper).fetchone() == (False,)


def test_a_role_that_may_do_more_than_ours_is_refused(admin: Connection, database: str) -> None:
    admin.execute("grant wallet_owner to wallet_ops")
    try:
        with pytest.raises(MigrationRefused, match="The role wallet_ops may do more than it should"):
            migrations.migrate(database)
    finally:
        admin.execute("revoke wallet_owner from wallet_ops")


def test_a_database_in_another_encoding_is_refused(cluster: str) -> None:
    with psycopg.connect(make_conninfo(cluster, dbname="postgres"), autocommit=True) as admin:
        admin.execute("create database latin template template0 encoding 'LATIN1' locale 'C'")
        with pytest.raises(MigrationRefused, match="encoding UTF8"):
            migrations.migrate(make_conninfo(cluster, dbname="latin"))
        admin.execute("drop database latin with (force)")


def test_databases_of_one_cluster_may_set_the_password_at_once(cluster: str) -> None:
    with psycopg.connect(make_conninfo(cluster, dbname="postgres"), autocommit=True) as admin:
        names = [f"with_password_{number}" for number in range(4)]
        for name in names:
            admin.execute(f"create database {name} template wallet")
        with ThreadPoolExecutor(4) as threads:
            conninfos = [make_conninfo(cluster, dbname=name) for name in names]
            list(
                threads.map(
                    lambda conninfo: migrations.migrate(conninfo, app_password="x", shared_password=True), conninfos
                )
            )
        for name in names:
            admin.execute(f"drop database {name} with (force)")
        admin.execute("alter role wallet_app password null")


def test_the_password_of_the_service_is_set_and_stored_hashed(admin: Connection, database: str) -> None:
    migrations.migrate(database, app_password="pass'word", shared_password=True)
    [(stored,)] = admin.execute("select rolpassword from pg_authid where rolname = 'wallet_app'").fetchall()
    assert stored.startswith("SCRAM-SHA-256$")
    admin.execute("alter role wallet_app password null")


def test_ops_find_the_functions_without_their_schema_in_a_copy_of_the_database_too(database: str) -> None:
    migrations.migrate(database)
    with psycopg.connect(database, user="wallet_ops") as ops:
        assert ops.execute("select * from list_accounts()").fetchall() == []


# What follows is about files that cannot run in a transaction: those that build indexes while payments go on.

BUILD = """-- What is here; and why.

drop index concurrently if exists ledger.payment_by_amount;
create index concurrently payment_by_amount
    on ledger.payment (amount);
comment on index ledger.payment_by_amount is 'Payments by amount.';
"""


@contextlib.contextmanager
def payment_under_way(admin: Connection, database: str) -> Iterator[list[int]]:
    """A payment that is made, and not committed before the end: until then, no index of payments can be built.

    Yields a buyer and a seller that it does not touch.
    """
    ids = [account(admin, name, 10) for name in ("buyer", "seller", "another buyer", "another seller")]
    with psycopg.connect(database) as holder:
        holder.execute("select wallet.make_payment(%s, %s, 1)", ids[:2])
        yield ids[2:]


def wait_for_build(admin: Connection) -> int:
    """Waits until an index is being built, and waits for others' transactions; returns the process that builds it."""
    [pid] = waiting_for_locks(admin, 1)
    activity = admin.execute("select query, wait_event from pg_stat_activity where pid = %s", [pid]).fetchone()
    assert activity is not None
    assert activity[0].startswith("create index concurrently payment_by_amount")
    assert activity[1] == "virtualxid"
    return pid


def wait_for_asking(admin: Connection) -> None:
    """Waits until another migration asks whether it is its turn."""
    asking = """select from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()
                                               and query like 'select pg_temp.take_turn%%'"""
    wait_until(lambda: admin.execute(asking).fetchone() is not None)


def is_valid(admin: Connection, name: str = "ledger.payment_by_amount") -> bool | None:
    """Whether an index is; None where there is none."""
    row = admin.execute("select indisvalid from pg_index where indexrelid = to_regclass(%s)", [name]).fetchone()
    return None if row is None else bool(row[0])


def transactions(admin: Connection) -> dict[str, str]:
    """Which transaction recorded each file from 9000 on, and the functions."""
    rows = admin.execute(
        """select name, xmin::text from ledger.migration where name >= '9'
           union all (select 'functions', xmin::text from ledger.rulebook order by id desc limit 1)"""
    ).fetchall()
    return dict(rows)


def test_a_file_outside_a_transaction_has_its_place_among_the_others(
    admin: Connection, database: str, db: Path
) -> None:
    add_migration(db, "9000_before.sql", "alter table ledger.payment add column more text")
    add_migration(db, "9001_before.sql", "alter table ledger.payment add column most text")
    add_migration(db, "9002_index.sql", BUILD.replace("(amount)", "(more, most)"))
    add_migration(db, "9003_after.sql", "alter index ledger.payment_by_amount rename to payment_by_more")
    add_migration(db, "9004_after.sql", "alter index ledger.payment_by_more rename to payment_by_most")
    names = ["9000_before.sql", "9001_before.sql", "9002_index.sql", "9003_after.sql", "9004_after.sql"]
    assert migrations.migrate(database, db=db) == [f"applied {name}" for name in names]
    assert migrations.migrate(database, db=db) == []
    assert is_valid(admin, "ledger.payment_by_most")
    assert admin.execute(
        """select obj_description(oid, 'pg_class'), relowner::regrole::text
           from pg_class where relname = 'payment_by_most'"""
    ).fetchone() == ("Payments by amount.", "wallet_owner")
    assert admin.execute("select name from ledger.migration where name >= '9' order by applied_at").fetchall() == [
        (name,) for name in names
    ]


def test_a_file_outside_a_transaction_is_run_as_the_owner(admin: Connection, database: str, db: Path) -> None:
    admin.execute("create table public.seen (tag text, role name); grant insert on public.seen to public")
    admin.execute(
        """create function public.see() returns event_trigger language plpgsql as
           $$begin insert into public.seen values (tg_tag, current_user); end$$;
           create event trigger see on ddl_command_start when tag in ('CREATE INDEX', 'DROP INDEX')
           execute function public.see()"""
    )
    add_migration(db, "9000_index.sql", BUILD)
    migrations.migrate(database, db=db)
    seen = admin.execute("select tag, role from public.seen").fetchall()
    assert seen == [("DROP INDEX", "wallet_owner"), ("CREATE INDEX", "wallet_owner")]


def test_files_that_follow_each_other_share_a_transaction_the_last_ones_with_the_functions(
    admin: Connection, database: str, db: Path
) -> None:
    for name in ("9000_a.sql", "9001_a.sql", "9003_b.sql", "9004_b.sql"):
        add_migration(db, name, "select 1")
    add_migration(db, "9002_index.sql", BUILD)
    migrations.migrate(database, db=db)
    by_name = transactions(admin)
    assert by_name["9000_a.sql"] == by_name["9001_a.sql"] != by_name["9002_index.sql"] != by_name["9003_b.sql"]
    assert by_name["9003_b.sql"] == by_name["9004_b.sql"] == by_name["functions"] != by_name["9000_a.sql"]


def test_after_a_last_file_outside_a_transaction_the_functions_have_their_own(
    admin: Connection, database: str, db: Path
) -> None:
    add_migration(db, "9000_index.sql", BUILD)
    migrations.migrate(database, db=db)
    assert len(set(transactions(admin).values())) == 2
    assert migrations.installed_version(database) == migrations.version(db)


def test_a_new_database_may_have_them_too(bare_database: str, db: Path) -> None:
    add_migration(db, "9000_index.sql", BUILD)
    with ThreadPoolExecutor(10) as threads:
        notes = list(threads.map(lambda _: migrations.migrate(bare_database, db=db), range(10)))
    assert sorted(notes, key=len) == [[]] * 9 + [[f"applied {name}" for name in [*FILES, "9000_index.sql"]]]
    with psycopg.connect(bare_database) as connection:
        assert is_valid(connection)


def test_payments_go_on_while_an_index_is_built(admin: Connection, database: str, db: Path) -> None:
    add_migration(db, "9000_index.sql", BUILD)
    with ThreadPoolExecutor() as threads:
        with payment_under_way(admin, database) as (buyer, seller):
            migration = threads.submit(migrations.migrate, database, db=db)
            wait_for_build(admin)
            admin.execute("select wallet.make_payment(%s, %s, 4)", [buyer, seller])
            assert balance(admin, buyer) == 6
            wait_for_build(admin)
        assert migration.result() == ["applied 9000_index.sql"]
    assert is_valid(admin)
    assert ledger_problems(admin) == []


def test_another_migration_that_comes_while_an_index_is_built_takes_its_turn(
    admin: Connection, database: str, db: Path
) -> None:
    add_migration(db, "9000_index.sql", BUILD)
    with ThreadPoolExecutor() as threads:
        with payment_under_way(admin, database):
            first = threads.submit(migrations.migrate, database, db=db)
            wait_for_build(admin)
            second = threads.submit(migrations.migrate, database, db=db)
            wait_for_asking(admin)
        assert (first.result(), second.result()) == (["applied 9000_index.sql"], [])


def test_another_migration_that_waits_before_an_index_is_built_takes_its_turn(
    admin: Connection, database: str, db: Path
) -> None:
    add_migration(db, "9000_slow.sql", "select pg_advisory_xact_lock_shared(7)")
    add_migration(db, "9001_index.sql", BUILD)
    with ThreadPoolExecutor() as threads:
        admin.execute("select pg_advisory_lock(7)")
        first = threads.submit(migrations.migrate, database, db=db)
        with psycopg.connect(database, autocommit=True) as other:
            waiting_for_locks(other, 1)
            second = threads.submit(migrations.migrate, database, db=db)
            wait_for_asking(other)
        admin.execute("select pg_advisory_unlock(7)")
        assert (first.result(), second.result()) == (["applied 9000_slow.sql", "applied 9001_index.sql"], [])


@pytest.mark.parametrize("end", ["pg_cancel_backend", "pg_terminate_backend"])
def test_a_build_that_was_interrupted_is_made_anew(admin: Connection, database: str, db: Path, end: str) -> None:
    add_migration(db, "9000_works.sql", "create table ledger.half (id int)")
    add_migration(db, "9001_index.sql", BUILD)
    add_migration(db, "9002_works.sql", "create table ledger.other_half (id int)")
    with ThreadPoolExecutor() as threads, payment_under_way(admin, database):
        migration = threads.submit(migrations.migrate, database, db=db)
        admin.execute(f"select {end}(%s)", [wait_for_build(admin)])
        sentence = (
            r"9001_index\.sql failed: (.|\n)*These files stay applied: 9000_works\.sql, "
            r"9001_index\.sql in part, with an invalid index perhaps\. The functions are as before\."
        )
        with pytest.raises(MigrationRefused, match=sentence):
            migration.result()
    assert is_valid(admin) is False
    assert migrations.installed_version(database) == migrations.version()
    assert migrations.migrate(database, db=db) == ["applied 9001_index.sql", "applied 9002_works.sql"]
    assert is_valid(admin)


def test_a_migration_whose_process_is_killed_ends_in_the_database_too(
    admin: Connection, database: str, db: Path
) -> None:
    add_migration(db, "9000_index.sql", BUILD)
    program = "import sys, pathlib; from wallet_api.database import migrations as m; m.migrate(sys.argv[1], db=pathlib.Path(sys.argv[2]))"
    with payment_under_way(admin, database):
        process = subprocess.Popen([sys.executable, "-c", program, database, str(db)], cwd=PROJECT)
        pid = wait_for_build(admin)
        process.kill()
        process.wait()
        wait_until(lambda: admin.execute("select from pg_stat_activity where pid = %s", [pid]).fetchone() is None)
    assert migrations.migrate(database, db=db) == ["applied 9000_index.sql"]
    assert is_valid(admin)


@pytest.mark.parametrize("file", ["migrations/9003_fails.sql", "functions/zz_fails.sql"])
def test_a_failure_after_a_file_outside_a_transaction_says_what_stays(
    admin: Connection, database: str, db: Path, file: str
) -> None:
    add_migration(db, "9000_works.sql", "create table ledger.half (id int)")
    add_migration(db, "9001_index.sql", BUILD)
    add_migration(db, "9002_works.sql", "create table ledger.other_half (id int)")
    (db / file).write_text("select 1 / 0")
    sentence = (
        rf"db/{file} failed: division by zero(.|\n)*"
        r"These files stay applied: 9000_works\.sql, 9001_index\.sql\. The functions are as before\."
    )
    with pytest.raises(MigrationRefused, match=sentence):
        migrations.migrate(database, db=db)
    assert admin.execute("select to_regclass('ledger.other_half')").fetchone() == (None,)
    assert migrations.installed_version(database) == migrations.version()

    (db / file).write_text("select 1")
    rest = [f"applied {path.name}" for path in sorted((db / "migrations").glob("900[2-9]*"))]
    assert migrations.migrate(database, db=db) == rest
    assert migrations.installed_version(database) == migrations.version(db)


def test_what_is_refused_after_a_file_outside_a_transaction_says_what_stays(
    admin: Connection, database: str, db: Path
) -> None:
    add_function(db, "base", "id bigint", "select 1::bigint")
    migrations.migrate(database, db=db)
    admin.execute("create view public.theirs as select * from wallet.base()")
    add_function(db, "base", "id bigint, name text", "select 1::bigint, 'x'")
    add_migration(db, "9000_index.sql", BUILD)
    sentence = r"something in the database uses(.|\n)*stay applied: 9000_index\.sql\. The functions are as before\."
    with pytest.raises(MigrationRefused, match=sentence):
        migrations.migrate(database, db=db)


def test_an_index_that_cannot_be_built_says_what_it_left(admin: Connection, database: str, db: Path) -> None:
    for name in ("buyer", "seller"):
        account(admin, name, 10)
    add_migration(
        db,
        "9000_unique.sql",
        "drop index concurrently if exists ledger.balances;\n"
        "create unique index concurrently balances on ledger.account (balance);\n",
    )
    sentence = (
        r"9000_unique\.sql failed: could not create unique index(.|\n)*"
        r"stay applied: 9000_unique\.sql in part, with an invalid index perhaps\. The functions are as before\."
    )
    with pytest.raises(MigrationRefused, match=sentence):
        migrations.migrate(database, db=db)
    assert is_valid(admin, "ledger.balances") is False
    assert admin.execute("select from ledger.migration where name = '9000_unique.sql'").fetchall() == []


def test_limits_that_the_database_has_for_others_do_not_end_a_build(admin: Connection, database: str, db: Path) -> None:
    add_migration(db, "9000_index.sql", BUILD)
    name = conninfo_to_dict(database)["dbname"]
    admin.execute(f"alter database {name} set lock_timeout = '10ms'")
    admin.execute(f"alter database {name} set statement_timeout = '500ms'")
    with ThreadPoolExecutor() as threads:
        with payment_under_way(admin, database):
            migration = threads.submit(migrations.migrate, database, db=db)
            wait_for_build(admin)
            time.sleep(0.6)
        assert migration.result() == ["applied 9000_index.sql"]


def test_it_tells_what_it_waits_for(
    admin: Connection, database: str, db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "_LOOK_INTERVAL", 0.01)
    admin.execute("""create function public.concat_ws(text, text, int, text, name, text, text, text) returns text
                     language sql as $$ select 'of another one, who is not to be called' $$""")
    add_migration(db, "9000_index.sql", BUILD)
    first: list[str] = []
    second: list[str] = []
    with ThreadPoolExecutor() as threads:
        with payment_under_way(admin, database):
            migration = threads.submit(migrations.migrate, database, db=db, tell=first.append)
            builder = wait_for_build(admin)
            other = threads.submit(migrations.migrate, database, db=db, tell=second.append)
            wait_until(lambda: bool(first and second))
        migration.result()
        other.result()
    assert first[0].startswith("waits for the end of a transaction: process ")
    assert " of postgres idle in transaction since 20" in first[0]
    assert second == [f"waits for another migration of this database (process {builder} in pg_stat_activity)"]


def test_a_turn_that_does_not_come_is_given_up(
    admin: Connection, database: str, db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_migration(db, "9000_index.sql", BUILD)
    with ThreadPoolExecutor() as threads:
        with payment_under_way(admin, database):
            migration = threads.submit(migrations.migrate, database, db=db)
            builder = wait_for_build(admin)
            monkeypatch.setattr(migrations, "_TURN_LIMIT", 0.1)
            with pytest.raises(
                MigrationRefused, match=rf"Waited 0 s for another migration .*\(process {builder} in .*Nothing was"
            ):
                migrations.migrate(database, db=db)
        assert migration.result() == ["applied 9000_index.sql"]
