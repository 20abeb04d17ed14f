"""dist/wallet.sql, as `make sql` writes it: psql alone installs what migrate does, and a later migrate recognizes it."""

import re
import subprocess
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.conftest import clone, postgres_programs
from tests.schema.managed import Managed
from tests.support import PROJECT, command, open_account, pay, serving
from tools import onefile
from wallet_api.database import embedded, migrations

DONE = f"The database is at version {migrations.version()}.\n"
PROGRAMS = postgres_programs() or embedded.wheel_programs()


def install(conninfo: str, file: Path, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """What psql makes of the file, without any option."""
    file.write_text(onefile.text() if text is None else text)
    return subprocess.run(
        [PROGRAMS / "psql", f"--file={file}", conninfo],
        capture_output=True,
        text=True,
        check=False,
        env={"PSQLRC": "/dev/null"},
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "wallet.sql"


def has_wallet(conninfo: str) -> bool:
    with psycopg.connect(conninfo) as connection:
        found = connection.execute("select from pg_namespace where nspname in ('ledger', 'wallet')").fetchall()
        return found != []


def test_an_owner_without_createrole_installs_it_and_migrate_finds_nothing_to_do(managed: Managed, file: Path) -> None:
    managed.dba_runs(managed.statements)
    installed = install(managed.owner, file)
    assert (installed.returncode, installed.stdout) == (0, "")
    notes = [re.sub(r"^.*: NOTICE:  ", "", line) for line in installed.stderr.splitlines()]
    assert notes[-1] == DONE.strip()
    with psycopg.connect(managed.app, autocommit=True) as app:
        for name in ("buyer", "seller"):
            app.execute("select wallet.create_account(%s, 5, 1)", [name])
        assert app.execute("select amount from wallet.make_payment(1, 2, 5)").fetchall() == [(5,)]
        with pytest.raises(psycopg.Error, match="sufficient balance"):
            app.execute("select wallet.make_payment(1, 2, 5)")

    migrated = command("migrate", DATABASE_URL=managed.owner)
    assert (migrated.returncode, migrated.stdout, migrated.stderr) == (0, DONE, "")
    checked = command("check", DATABASE_URL=managed.app)
    assert checked.returncode == 0, checked.stdout
    with serving(DATABASE_URL=managed.app) as service, service.client() as api:
        assert pay(api, 2, open_account(api, "other"), 10).status_code == 200


def test_a_right_that_is_missing_is_named(managed: Managed, file: Path) -> None:
    managed.dba_runs([line for line in managed.statements if not line.startswith("grant wallet_owner")])
    refused = install(managed.owner, file)
    assert refused.returncode == 3
    assert "    grant wallet_owner to app_owner" in refused.stderr
    assert "DETAIL:  Then run this file again." in refused.stderr
    assert not has_wallet(managed.owner)


def test_a_superuser_who_installs_it_executes_no_function_of_the_owner(managed: Managed, file: Path) -> None:
    managed.dba_runs(managed.statements)
    managed.set_trap()
    installed = install(make_conninfo(managed.superuser, dbname="wallet"), file)
    assert installed.returncode == 0, installed.stderr
    assert not managed.is_trapped()


def contents(conninfo: str) -> str:
    """Everything in a database, but for moments and random names."""
    dump = subprocess.run([PROGRAMS / "pg_dump", conninfo], capture_output=True, text=True, check=True).stdout
    assert "CREATE FUNCTION wallet.make_payment(" in dump
    return re.sub(r"\\(un)?restrict .*|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+\+00", "", dump)


def test_it_makes_the_same_database_as_migrate(cluster: str, bare_database: str, file: Path) -> None:
    installed = install(bare_database, file)
    assert installed.returncode == 0, installed.stderr
    for migrated in clone(cluster, "template0"):
        migrations.migrate(migrated)
        assert contents(bare_database) == contents(migrated)
    rights = "select datacl from pg_database where datname = current_database()"
    with psycopg.connect(bare_database) as connection:
        [(granted,)] = connection.execute(rights).fetchall()
        assert "wallet_app=c/postgres" in granted
        assert [right for right in granted if right.startswith("=c") or right.startswith("=Tc")] == []


def test_a_database_with_a_wallet_is_left_as_it_is(database: str, file: Path) -> None:
    before = contents(database)
    refused = install(database, file)
    assert refused.returncode == 3
    assert "ERROR:  This database has a wallet. The file installs one into a database that has none" in refused.stderr
    assert contents(database) == before


def test_an_error_leaves_nothing(bare_database: str, file: Path) -> None:
    failed = install(bare_database, file, onefile.text().replace("\ncommit;\n", "\nselect 1 / 0;\ncommit;\n"))
    assert failed.returncode == 3
    assert "ERROR:  division by zero" in failed.stderr
    assert not has_wallet(bare_database)


def test_it_may_have_roles_of_its_own(cluster: str, bare_database: str, file: Path) -> None:
    prefix = "onefile_"
    installed = install(bare_database, file, onefile.text(prefix))
    try:
        assert installed.returncode == 0, installed.stderr
        assert migrations.migrate(bare_database, role_prefix=prefix) == []
        with psycopg.connect(bare_database, user="onefile_wallet_ops") as ops:
            assert ops.execute("select * from list_accounts()").fetchall() == []
    finally:
        with psycopg.connect(make_conninfo(bare_database), autocommit=True) as admin:
            for role in ("app", "ops", "reporting", "owner"):
                admin.execute(f"drop owned by {prefix}wallet_{role} cascade")
                admin.execute(f"drop role {prefix}wallet_{role}")


def test_make_sql_writes_it() -> None:
    shown = subprocess.run(
        ["make", "--no-print-directory", "--dry-run", "sql"], cwd=PROJECT, capture_output=True, text=True, check=True
    ).stdout
    assert shown.splitlines()[-1].endswith("/python -m tools.onefile")
    assert onefile.PATH == PROJECT / "dist/wallet.sql"
