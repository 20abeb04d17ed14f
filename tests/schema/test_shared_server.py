"""Several wallets on one PostgreSQL server: none changes what another one depends on, and none gets into another one."""

from collections.abc import Iterator
from pathlib import Path

import httpx2
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.conftest import postgres_programs
from tests.support import account, command, payment_body, serving
from wallet_api.database import embedded, migrations
from wallet_api.database.installer import MigrationRefused


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL where all but its superuser need a password: a connection string for that one."""
    with embedded.running(tmp_path_factory.mktemp("shared"), postgres_programs(), {"fsync": "off"}) as conninfo:
        with psycopg.connect(conninfo, autocommit=True) as admin:
            [rules] = admin.execute("show hba_file").fetchone() or [""]
            Path(rules).write_text("local all postgres trust\nlocal all all scram-sha-256\n")
            admin.execute("select pg_reload_conf()")
        yield conninfo


@pytest.fixture
def production(server: str) -> Iterator[str]:
    yield from new_database(server, "production")


@pytest.fixture
def staging(server: str) -> Iterator[str]:
    yield from new_database(server, "staging")


def new_database(server: str, name: str) -> Iterator[str]:
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f"create database {name}")
        yield make_conninfo(server, dbname=name)
        admin.execute(f"drop database {name} with (force)")


def can_log_in(database: str, user: str, password: str) -> bool:
    try:
        psycopg.connect(database, user=user, password=password).close()
    except psycopg.OperationalError:
        return False
    return True


def test_migrating_another_database_does_not_change_the_password_of_the_first(production: str, staging: str) -> None:
    assert command("migrate", DATABASE_URL=production, WALLET_APP_PASSWORD="of production").returncode == 0
    refused = command("migrate", DATABASE_URL=staging, WALLET_APP_PASSWORD="of staging")
    assert refused.returncode == 1
    assert "The role wallet_app is used by other databases of this server, too (production)" in refused.stderr
    assert "of staging" not in refused.stderr
    assert can_log_in(production, "wallet_app", "of production")
    assert migrations.installed_version(staging) is None, "nothing was done at all"


def test_the_password_that_the_role_has_is_no_change(production: str, staging: str) -> None:
    for database in (production, staging, production):
        assert command("migrate", DATABASE_URL=database, WALLET_APP_PASSWORD="of both").returncode == 0
    assert can_log_in(staging, "wallet_app", "of both")


def test_the_password_of_all_is_changed_on_request(production: str, staging: str) -> None:
    for database in (production, staging):
        assert command("migrate", DATABASE_URL=database, WALLET_APP_PASSWORD="old").returncode == 0
    changed = command("migrate", "--shared-password", DATABASE_URL=staging, WALLET_APP_PASSWORD="new")
    assert changed.returncode == 0, changed.stderr
    assert can_log_in(production, "wallet_app", "new")


def test_a_database_alone_on_its_server_changes_its_password_as_before(production: str) -> None:
    for password in ("first", "second"):
        assert command("migrate", DATABASE_URL=production, WALLET_APP_PASSWORD=password).returncode == 0
        assert can_log_in(production, "wallet_app", password)


# Roles of its own.

PREFIXED = {"WALLET_ROLE_PREFIX": "staging_"}


@pytest.fixture
def apart(production: str, staging: str) -> tuple[str, str]:
    """Two wallets, the second one with roles of its own, both with passwords."""
    assert command("migrate", DATABASE_URL=production, WALLET_APP_PASSWORD="of production").returncode == 0
    migrated = command("migrate", DATABASE_URL=staging, WALLET_APP_PASSWORD="of staging", **PREFIXED)
    assert migrated.returncode == 0, migrated.stderr
    return production, staging


def test_a_prefix_gives_a_database_roles_of_its_own(apart: tuple[str, str]) -> None:
    production, staging = apart
    assert can_log_in(production, "wallet_app", "of production")
    assert can_log_in(staging, "staging_wallet_app", "of staging")
    for database, user, password in (
        (production, "staging_wallet_app", "of staging"),
        (staging, "wallet_app", "of production"),
    ):
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            psycopg.connect(database, user=user, password=password)


def test_the_service_works_with_roles_of_its_own(apart: tuple[str, str]) -> None:
    _, staging = apart
    with psycopg.connect(staging, autocommit=True) as admin:
        pair = account(admin, "buyer", 10), account(admin, "seller")
        url = make_conninfo(staging, user="staging_wallet_app", password="of staging")
        with serving(DATABASE_URL=url, **PREFIXED) as server:
            assert httpx2.get(f"{server.url}/readyz").status_code == 200
            payment = payment_body(*pair)
            assert httpx2.post(f"{server.url}/payments", json=payment).status_code == 200
        assert admin.execute("select made_by from wallet.get_payment(1)").fetchall() == [("staging_wallet_app",)]
        owners = admin.execute(
            """select distinct proowner::regrole::text from pg_proc
               where pronamespace in ('wallet'::regnamespace, 'ledger'::regnamespace)
               union select relowner::regrole::text from pg_class where relnamespace = 'ledger'::regnamespace"""
        ).fetchall()
        assert owners == [("staging_wallet_owner",)]
        # the decisions of test_roles.py, for these roles instead of those
        reads = "select has_function_privilege('staging_wallet_reporting', 'wallet.check_ledger()', 'execute')"
        assert admin.execute(reads).fetchall() == [(True,)]
        reads = "select has_function_privilege('wallet_reporting', 'wallet.check_ledger()', 'execute')"
        assert admin.execute(reads).fetchall() == [(False,)]


@pytest.mark.parametrize(("first", "then"), [("", "staging_"), ("staging_", ""), ("staging_", "test_")])
def test_a_database_keeps_the_prefix_that_it_was_migrated_with(staging: str, first: str, then: str) -> None:
    migrations.migrate(staging, role_prefix=first)
    with pytest.raises(MigrationRefused, match=f"WALLET_ROLE_PREFIX should be '{first}'"):
        migrations.migrate(staging, role_prefix=then)
    assert migrations.migrate(staging, role_prefix=first) == []


@pytest.mark.parametrize("prefix", ["Staging_", "1_", "a-b", "ä", 'a"', "x" * 41, " "])
def test_a_prefix_that_cannot_be_used(prefix: str) -> None:
    refused = command("migrate", DATABASE_URL="host=/nonexistent", WALLET_ROLE_PREFIX=prefix)
    assert refused.returncode == 2
    assert refused.stderr.startswith("server.py: WALLET_ROLE_PREFIX should be at most 40 of the characters")


# Who may connect.


def test_only_roles_of_the_wallet_may_connect(server: str, production: str) -> None:
    with psycopg.connect(production, autocommit=True) as admin:
        for role in ("stranger", "shop", "member"):
            admin.execute(f"create role {role} login password '{role}'")
        try:
            migrations.migrate(server)  # which makes the roles
            admin.execute("create table public.orders (id int)")
            admin.execute("grant select on public.orders to shop")
            admin.execute("grant wallet_app to member")
            notes = migrations.migrate(production)
            [told] = [note for note in notes if note.startswith("took the right to connect from PUBLIC, and so from ")]
            lost = told.removeprefix("took the right to connect from PUBLIC, and so from ").split(", ")
            assert "stranger" in lost
            assert not {"shop", "member", "postgres"} & {*lost}
            assert can_log_in(production, "shop", "shop")
            assert can_log_in(production, "member", "member")
            with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
                psycopg.connect(production, user="stranger", password="stranger")
            admin.execute("grant connect on database production to stranger")
            assert migrations.migrate(production) == []
            assert can_log_in(production, "stranger", "stranger")
        finally:
            admin.execute("drop table if exists public.orders")
            for role in ("stranger", "shop", "member"):
                admin.execute(f"drop owned by {role}")
                admin.execute(f"drop role {role}")


def test_a_migration_by_another_role_than_the_owner_warns_that_public_may_connect(server: str, production: str) -> None:
    migrations.migrate(server)
    with psycopg.connect(production, autocommit=True) as admin:
        admin.execute("create role migrator login createrole password 'm'")
        admin.execute("grant create on database production to migrator")
        admin.execute("grant wallet_owner, wallet_app, wallet_ops, wallet_reporting to migrator with admin option")
        try:
            url = make_conninfo(production, user="migrator", password="m")
            notes = migrations.migrate(url)
            assert any(
                note.startswith("every role may still connect to this database. Its owner can") for note in notes
            )
            migrations.migrate(production)
            public = "select has_database_privilege('public', 'production', 'connect')"
            assert admin.execute(public).fetchall() == [(False,)]
        finally:
            admin.execute("drop owned by migrator cascade")
            admin.execute("drop role migrator")
