"""The runner brings a database to this version, any number of times, in any company, or refuses in a clear sentence."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.conftest import Connection
from tests.support import account, balance, waiting_for_locks
from wallet_api import migrations
from wallet_api.rulebook import MigrationRefused

FILES = sorted(path.name for path in (migrations.DB / "migrations").glob("*.sql"))


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """A copy of db/ that the test may change."""
    return Path(shutil.copytree(migrations.DB, tmp_path / "db"))


def add_function(db: Path, name: str, columns: str, body: str, arguments: str = "") -> None:
    (db / "functions" / f"{name}.sql").write_text(
        f"create or replace function wallet.{name}({arguments}) returns table ({columns}) language sql as $${body}$$;"
    )


def test_the_first_time_applies_all_and_the_second_nothing(bare_database: str) -> None:
    assert migrations.installed_version(bare_database) is None
    assert migrations.migrate(bare_database) == [f"applied {name}" for name in FILES]
    assert migrations.installed_version(bare_database) == migrations.version()
    assert migrations.migrate(bare_database) == []


def test_twenty_at_once_take_turns(bare_database: str) -> None:
    with ThreadPoolExecutor(20) as threads:
        notes = list(threads.map(migrations.migrate, [bare_database] * 20))
    assert sorted(notes, key=len) == [[]] * 19 + [[f"applied {name}" for name in FILES]]
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
    with pytest.raises(MigrationRefused, match=r"0000_late.sql comes before 000\d_\w+.sql, which .* already"):
        migrations.migrate(database, db=db)


def test_a_file_with_another_kind_of_name_is_refused(database: str, db: Path) -> None:
    (db / "migrations/later.sql").write_text("select 1")
    with pytest.raises(MigrationRefused, match=r"later\.sql should have a name like"):
        migrations.migrate(database, db=db)


@pytest.mark.parametrize("file", ["migrations/9001_fails.sql", "functions/zz_fails.sql"])
def test_a_failing_file_changes_nothing(admin: Connection, database: str, db: Path, file: str) -> None:
    (db / "migrations/9000_works.sql").write_text("create table ledger.half (id int)")
    (db / file).write_text("create table ledger.other_half (id int); select 1 / 0")
    with pytest.raises(MigrationRefused, match=f"db/{file} failed, and nothing was changed: division by zero"):
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


def test_the_rights_given_to_everybody_and_to_pass_on_are_kept_too(admin: Connection, database: str, db: Path) -> None:
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


def test_somebody_else_s_function_is_left_alone_and_named(admin: Connection, database: str) -> None:
    admin.execute("create function wallet.theirs() returns int language sql as 'select 1'")
    assert migrations.migrate(database) == ["left alone wallet.theirs(), which is not the wallet's"]
    assert admin.execute("select wallet.theirs()").fetchone() == (1,)


def test_somebody_else_s_function_made_at_the_same_moment_is_not_taken_for_ours(
    admin: Connection, database: str, db: Path
) -> None:
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


def test_a_user_who_may_not_is_told_so(database: str) -> None:
    with pytest.raises(MigrationRefused, match="may not migrate: it should be a superuser or a member of the role"):
        migrations.migrate(make_conninfo(database, user="wallet_app"))


def test_no_superuser_is_needed(cluster: str) -> None:
    with psycopg.connect(make_conninfo(cluster, dbname="postgres"), autocommit=True) as admin:
        # roles that another user made already would be that user's to give
        grants = "" if admin.info.server_version < 160000 else " with admin option"
        admin.execute("create role steward login createrole")
        admin.execute(f"grant wallet_owner, wallet_app, wallet_ops to steward{grants}")
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
    with pytest.raises(MigrationRefused, match=r"to go back, run: server\.py migrate"):
        migrations.migrate(database, back=False)
    assert migrations.installed_version(database) == migrations.version(db)
    assert migrations.migrate(database) == ["dropped wallet.newer(), which this version does not have"]


def test_rights_that_were_lost_or_given_to_helpers_are_put_right(admin: Connection, database: str) -> None:
    admin.execute("revoke usage on schema wallet from wallet_app")
    admin.execute("grant execute on function wallet._refuse(text) to wallet_app")
    migrations.migrate(database)
    rights = """select has_schema_privilege('wallet_app', 'wallet', 'usage'),
                       has_function_privilege('wallet_app', 'wallet._refuse(text)', 'execute')"""
    assert admin.execute(rights).fetchone() == (True, False)


def test_a_database_that_quotes_every_name_gives_no_other_rights(admin: Connection, bare_database: str) -> None:
    name = conninfo_to_dict(bare_database)["dbname"]
    admin.execute(f"alter database {name} set quote_all_identifiers = on")
    migrations.migrate(bare_database)
    assert migrations.migrate(bare_database) == []
    with psycopg.connect(bare_database) as connection:
        helper = "select has_function_privilege('wallet_app', 'wallet._refuse(text)', 'execute')"
        assert connection.execute(helper).fetchone() == (False,)


def test_a_role_that_may_do_more_than_ours_is_refused(admin: Connection, database: str) -> None:
    admin.execute("grant wallet_owner to wallet_ops")
    try:
        with pytest.raises(MigrationRefused, match="The role wallet_ops may do more than it should"):
            migrations.migrate(database)
    finally:
        admin.execute("revoke wallet_owner from wallet_ops")


def test_a_file_that_ends_the_transaction_is_refused(database: str, db: Path) -> None:
    (db / "migrations/9000_commits.sql").write_text("commit")
    with pytest.raises(MigrationRefused, match=r"9000_commits\.sql ends the transaction"):
        migrations.migrate(database, db=db)


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
            list(threads.map(lambda conninfo: migrations.migrate(conninfo, app_password="x"), conninfos))
        for name in names:
            admin.execute(f"drop database {name} with (force)")
        admin.execute("alter role wallet_app password null")


def test_the_password_of_the_service_is_set_and_stored_hashed(admin: Connection, database: str) -> None:
    migrations.migrate(database, app_password="pass'word")
    [(stored,)] = admin.execute("select rolpassword from pg_authid where rolname = 'wallet_app'").fetchall()
    assert stored.startswith("SCRAM-SHA-256$")
    admin.execute("alter role wallet_app password null")


def test_ops_find_the_functions_without_their_schema_in_a_copy_of_the_database_too(database: str) -> None:
    migrations.migrate(database)
    with psycopg.connect(database, user="wallet_ops") as ops:
        assert ops.execute("select * from list_accounts()").fetchall() == []
