"""An owner who may not create roles: a DBA prepares the database by the statements of docs/installation.md.

The DBA is no superuser either, as on a managed service. What the DBA leaves out, migrate asks for by the very statement.
"""

import re

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.schema.managed import ROLES, Managed
from tests.support import PROJECT, command, ledger_problems, open_account, pay, serving
from wallet_api.database import migrations

DONE = f"The database is at version {migrations.version()}.\n"


def test_the_statements_of_the_document_are_enough_for_an_owner_without_createrole(managed: Managed) -> None:
    managed.dba_runs(managed.statements)
    migrated = command("migrate", DATABASE_URL=managed.owner)
    applied = "".join(f"migrate: applied {path.name}\n" for path in sorted((PROJECT / "db/migrations").glob("*.sql")))
    assert (migrated.returncode, migrated.stdout) == (0, DONE)
    lost = r"migrate: took the right to connect from PUBLIC, and so from dba\n"
    assert re.fullmatch(re.escape(applied) + f"(?:{lost})?", migrated.stderr), migrated.stderr
    again = command("migrate", DATABASE_URL=managed.owner)
    assert (again.returncode, again.stdout, again.stderr) == (0, DONE, "")

    with psycopg.connect(managed.owner) as owner:
        [rights] = owner.execute(
            "select rolsuper, rolcreaterole, rolcreatedb from pg_roles where rolname = 'app_owner'"
        ).fetchall()
        assert rights == (False, False, False)
    with serving(DATABASE_URL=managed.app) as service, service.client() as api:
        assert api.get("/readyz").status_code == 200
        buyer, seller = open_account(api, "buyer", 5), open_account(api, "seller")
        assert pay(api, buyer, seller, 5).status_code == 200
    checked = command("check", DATABASE_URL=managed.app)
    assert checked.returncode == 0, checked.stdout
    with psycopg.connect(managed.conninfo("wallet_ops", "of the operators"), autocommit=True) as ops:
        assert ops.execute("select id, amount from get_payment(1)").fetchall() == [(1, 5)]
        assert ledger_problems(ops) == []
    with psycopg.connect(managed.conninfo("wallet_reporting", "of the reports"), autocommit=True) as reports:
        assert reports.execute("show default_transaction_read_only").fetchall() == [("on",)]
        assert reports.execute("select amount from get_payment(1)").fetchall() == [(5,)]


LEFT_OUT = [
    ["create role wallet_app"],
    ["create role wallet_reporting", "alter role wallet_reporting"],
    ["grant wallet_owner"],
    ["create role wallet_", "grant wallet_owner", "alter role wallet_"],
]


@pytest.mark.parametrize("left_out", LEFT_OUT, ids=lambda left_out: left_out[0])
def test_migrate_names_what_is_missing_by_the_statements_that_give_it(managed: Managed, left_out: list[str]) -> None:
    def is_left_out(statement: str) -> bool:
        return statement.startswith(tuple(left_out))

    managed.dba_runs([statement for statement in managed.statements if not is_left_out(statement)])
    refused = command("migrate", DATABASE_URL=managed.owner)
    assert (refused.returncode, refused.stdout) == (1, "")
    first, *named = refused.stderr.splitlines()
    assert first == (
        "server.py: The database user app_owner may not migrate this database. Nothing was changed. "
        "An administrator of the server gives it the missing rights with:"
    )
    # The document's statements, but for the passwords and what only makes typing easier.
    expected = [re.sub(r" password '.*'", " password '…'", line) for line in managed.statements if is_left_out(line)]
    assert [line.strip() for line in named] == sorted(
        (line for line in expected if "search_path" not in line), key=lambda line: line.startswith("grant")
    )
    with psycopg.connect(managed.superuser, dbname="wallet") as admin:
        schemas = "select from pg_namespace where nspname in ('ledger', 'wallet')"
        assert admin.execute(schemas).fetchall() == []

    managed.dba_runs([line.replace("…", "of the service") for line in named])
    assert command("migrate", DATABASE_URL=managed.owner).stdout == DONE
    with psycopg.connect(managed.app) as app:
        assert app.execute("select wallet.schema_version()").fetchall() == [(migrations.version(),)]


@pytest.mark.parametrize(
    ("takes", "gives"),
    [
        ("revoke temporary on database wallet from public", "grant temporary on database wallet to stranger;"),
        ("revoke create on database wallet from public", "grant create on database wallet to stranger;"),
    ],
)
def test_migrate_names_rights_on_the_database(managed: Managed, takes: str, gives: str) -> None:
    managed.dba_runs(managed.statements)
    with psycopg.connect(managed.superuser, dbname="postgres", autocommit=True) as admin:
        admin.execute("create role stranger login password 's'")
        try:
            admin.execute("grant wallet_owner to stranger")
            admin.execute(takes)
            refused = command("migrate", DATABASE_URL=managed.conninfo("stranger", "s"))
            assert refused.returncode == 1
            assert [line.strip() for line in refused.stderr.splitlines()[1:]] == [gives]
        finally:
            admin.execute("drop database wallet with (force)")
            admin.execute("drop role stranger")


def test_a_membership_that_is_taken_away_later_is_named_too(managed: Managed) -> None:
    managed.dba_runs(managed.statements)
    assert command("migrate", DATABASE_URL=managed.owner).returncode == 0
    managed.dba_runs(["revoke wallet_owner from app_owner;"])
    refused = command("migrate", DATABASE_URL=managed.owner)
    options = " with inherit true, set true" if managed.has_options else ""
    assert refused.stderr.splitlines()[1:] == [f"    grant wallet_owner to app_owner{options};"]


def test_a_membership_that_may_not_act_as_the_role_is_not_enough(managed: Managed) -> None:
    if not managed.has_options:
        pytest.skip("memberships have options since PostgreSQL 16")
    managed.dba_runs(
        [
            re.sub("set true;", "set false;", line)
            for line in managed.statements
            if "current_user" not in line and "database" not in line
        ]
    )
    managed.dba_runs(["grant app_owner to current_user with set true;", "create database wallet owner app_owner;"])
    refused = command("migrate", DATABASE_URL=managed.owner)
    assert refused.stderr.splitlines()[1:] == ["    grant wallet_owner to app_owner with inherit true, set true;"]


def test_an_owner_who_does_not_inherit_the_rights_of_its_role_is_told_so(managed: Managed) -> None:
    mend = "alter role app_owner inherit;"
    if managed.has_options:
        mend = "grant wallet_owner to app_owner with inherit true, set true;"
    managed.dba_runs(
        [
            line.replace("inherit true", "inherit false")
            if managed.has_options
            else line.replace("create role app_owner", "create role app_owner noinherit")
            for line in managed.statements
        ]
    )
    refused = command("migrate", DATABASE_URL=managed.owner)
    assert refused.stderr.splitlines()[1:] == [f"    {mend}"]
    managed.dba_runs([mend])
    assert command("migrate", DATABASE_URL=managed.owner).stdout == DONE


def test_the_notes_have_the_statements_that_mend_what_the_user_may_not(managed: Managed) -> None:
    managed.dba_runs(
        [
            line.replace("database wallet owner app_owner", "database wallet")
            for line in managed.statements
            if not line.startswith("alter role wallet_ops")
        ]
        + ["grant create on database wallet to app_owner;"]
    )
    noted = command("migrate", DATABASE_URL=managed.owner)
    assert noted.returncode == 0, noted.stderr
    typing, connecting = [line for line in noted.stderr.splitlines() if " applied " not in line]
    assert typing == (
        "migrate: wallet_ops has to write wallet.make_payment(…), until an administrator of the server runs: "
        "alter role wallet_ops in database wallet set search_path = wallet;"
    )
    assert connecting.startswith("migrate: every role may still connect to this database. Its owner can change that: ")
    grant, revoke, owner = re.findall(r"(?:grant|revoke|alter) [^;:]*;", connecting)
    managed.dba_runs([typing.partition("runs: ")[2], grant, revoke])
    again = command("migrate", DATABASE_URL=managed.owner)
    assert (again.returncode, again.stderr) == (0, "")
    with psycopg.connect(managed.superuser, dbname="wallet") as admin:
        connects = "select has_database_privilege(%s, 'wallet', 'connect')"
        for role, may in {"public": False, **dict.fromkeys(ROLES, True)}.items():
            assert admin.execute(connects, [role]).fetchall() == [(may,)], role
    managed.dba_runs(["grant connect on database wallet to public;", owner])
    assert command("migrate", DATABASE_URL=managed.owner).returncode == 0
    with psycopg.connect(managed.superuser, dbname="wallet") as admin:
        assert admin.execute(connects, ["public"]).fetchall() == [(False,)]


@pytest.mark.parametrize("schema", ["wallet", "ledger"])
def test_a_schema_of_the_same_name_is_left_alone(managed: Managed, schema: str) -> None:
    managed.dba_runs(managed.statements)
    with psycopg.connect(managed.owner) as owner:
        owner.execute(f"create schema {schema}")
    refused = command("migrate", DATABASE_URL=managed.owner)
    assert (refused.returncode, refused.stderr) == (
        1,
        "server.py: The database has a schema called ledger or wallet that does not belong to a wallet. "
        "Nothing was changed. Rename it, or give the wallet a database of its own.\n",
    )


def test_a_password_that_the_owner_may_not_set_is_told_from_a_migration_that_failed(managed: Managed) -> None:
    managed.dba_runs(managed.statements)
    told = command("migrate", DATABASE_URL=managed.owner, WALLET_APP_PASSWORD="another one")
    assert (told.returncode, told.stdout) == (1, "")
    assert "migrate: applied 0001_roles_and_schemas.sql\n" in told.stderr
    assert told.stderr.splitlines()[-1] == (
        f"server.py: The database is at version {migrations.version()}, but the password of wallet_app was not set: "
        'app_owner may not change it. An administrator of the server sets it with "alter role wallet_app password …"; '
        "then run this again with the same WALLET_APP_PASSWORD, or with none."
    )
    assert "another one" not in told.stderr
    with psycopg.connect(managed.app) as app:
        assert app.execute("select wallet.schema_version()").fetchall() == [(migrations.version(),)]
    # The one that it has already is not a failure.
    same = command("migrate", DATABASE_URL=managed.owner, WALLET_APP_PASSWORD="of the service")
    assert (same.returncode, same.stdout, same.stderr) == (0, DONE, "")


def test_no_command_of_a_superuser_executes_a_function_of_the_owner(managed: Managed) -> None:
    managed.dba_runs(managed.statements)
    managed.set_trap()
    as_superuser = make_conninfo(managed.superuser, dbname="wallet")
    for line in ("migrate", "migrate", "check", "key create shop --scopes read --expires 2030-01-31", "key list"):
        done = command(*line.split(), DATABASE_URL=as_superuser)
        assert done.returncode == 0, done.stderr
        assert not managed.is_trapped(), line


def serve_fails(conninfo: str) -> str:
    result = command("serve", DATABASE_URL=conninfo, PORT="0")
    assert (result.returncode, result.stdout) == (1, "")
    [line] = result.stderr.splitlines()
    return line


def test_serve_says_whether_there_is_no_wallet_another_version_or_no_right(managed: Managed) -> None:
    managed.dba_runs(managed.statements)
    assert serve_fails(managed.app) == "server.py: The database is not migrated yet: run migrate first, as its owner."
    assert command("migrate", DATABASE_URL=managed.owner).returncode == 0
    with psycopg.connect(managed.superuser, dbname="wallet", autocommit=True) as admin:
        admin.execute("create role stranger login password 's'")
        try:
            admin.execute("grant connect on database wallet to stranger")
            assert serve_fails(managed.conninfo("stranger", "s")) == (
                "server.py: The database has a wallet that stranger may not use: serve as wallet_app, or as a member of it."
            )
        finally:
            admin.execute("drop owned by stranger")
            admin.execute("drop role stranger")
        admin.execute("insert into ledger.rulebook (version) values ('of tomorrow')")
    assert serve_fails(managed.app) == (
        f"server.py: The database is at version of tomorrow of the wallet, and this program at version "
        f"{migrations.version()}: run migrate first, as the owner of the database; or run the program of the other version."
    )
    with psycopg.connect(managed.superuser, dbname="wallet", autocommit=True) as admin:
        admin.execute("revoke temporary on database wallet from public")
    assert serve_fails(managed.app).startswith("server.py: The database is at version of tomorrow of the wallet, and ")
    refused = command("migrate", DATABASE_URL=managed.app)
    assert refused.stderr == (
        "server.py: The role wallet_app may not migrate. Nothing was changed. Migrate as the owner of the database, "
        "or as a superuser.\n"
    )


def test_serve_ends_at_once_if_the_user_may_not_act_as_wallet_app(managed: Managed) -> None:
    managed.dba_runs(managed.statements)
    assert command("migrate", DATABASE_URL=managed.owner).returncode == 0
    assert serve_fails(managed.conninfo("wallet_ops", "of the operators")) == (
        "server.py: The service acts as the role wallet_app, and wallet_ops may not: serve as wallet_app, or as a "
        "member of it. If the names of the roles have a prefix, set WALLET_ROLE_PREFIX."
    )
