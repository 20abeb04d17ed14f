"""`make test-engine DATABASE_URL=…`: runs the tests of the rulebook on any server that speaks PostgreSQL's protocol.

DATABASE_URL names a superuser of the server. The tests create databases there, called wallet_test…, and the wallet's
roles, and remove them. Where such databases or roles exist, nothing is done. Options are those of pytest; paths replace
the usual ones.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from tests.support import PROJECT
from wallet_api.database import migrations
from wallet_api.database.installer import MigrationRefused

DATABASE = "wallet_test"
ROLES = ("wallet_app", "wallet_ops", "wallet_reporting", "wallet_owner")

# The modules of tests/http about the contract: what is stored, refused, listed and repeated. The others are about bytes,
# clients, logs and processes, which no database changes.
CONTRACT = (
    "accounts_and_currencies", "against_model", "authentication", "batch", "batching", "errors", "feed",
    "hostile_strings", "idempotency_keys", "lists", "metadata_filters", "operations", "pages", "payment_options",
    "refunds_and_holds", "refusals", "strict_requests", "values",
)  # fmt: skip
PATHS = ["tests/sql", "tests/concurrency", *(f"tests/http/test_{name}.py" for name in CONTRACT)]

# A hundred clients pay at once in one test, beside the pools of two instances.
_CONNECTIONS_OF_A_PROCESS = 150
_MOST_PROCESSES = 3

Admin = psycopg.Connection[Any]


class EngineError(Exception):
    """The tests cannot be run; the text says why."""


def main(options: list[str]) -> int:
    """Returns the exit code: 0 if everything holds, 1 if something does not, 2 if the tests could not be run."""
    url = os.environ.get("DATABASE_URL")
    try:
        if not url:
            raise EngineError("DATABASE_URL should name a superuser of the server to test")
        with psycopg.connect(url, autocommit=True) as admin:
            print(_about(admin), flush=True)
            processes = _processes(admin)
            with _migrated(admin, url) as conninfo:
                return _run(admin, conninfo, processes, options)
    except (EngineError, psycopg.OperationalError) as error:
        print(f"test-engine: {error}", file=sys.stderr)
        return 2
    except (MigrationRefused, psycopg.Error) as error:
        state = getattr(error, "sqlstate", None) or _state(error)
        print(f"test-engine: the rulebook cannot be installed ({state}): {error}", file=sys.stderr)
        return 1


def _state(error: BaseException) -> str:
    """The SQLSTATE of the statement that a migration failed at."""
    cause = error.__cause__
    while cause is not None and not isinstance(cause, psycopg.Error):
        cause = cause.__cause__
    return (cause.sqlstate if isinstance(cause, psycopg.Error) else None) or "no SQLSTATE"


def _value(admin: Admin, query: str) -> Any:
    row = admin.execute(query.encode()).fetchone()
    return row[0] if row else None


def _about(admin: Admin) -> str:
    """The version of the server. Raises EngineError if the tests may not touch it."""
    if not _value(admin, "select rolsuper from pg_roles where rolname = current_user"):
        raise EngineError(f"{admin.info.user} should be a superuser of the server")
    found = admin.execute(
        """select 'the database ' || datname from pg_database where datname ~ %s
           union all select 'the role ' || rolname from pg_roles where rolname = any (%s) order by 1""",
        [f"^{DATABASE}", list(ROLES)],
    ).fetchall()
    if found:
        raise EngineError(
            f"the server has {', '.join(name for (name,) in found)} already, which these tests would change. Test a "
            "server without a wallet; or remove what an interrupted test-engine has left"
        )
    return str(_value(admin, "select version()"))


def _processes(admin: Admin) -> int:
    """How many processes the tests may run in. Raises EngineError if there are too few connections for one."""
    connections = int(_value(admin, "show max_connections"))
    if connections < _CONNECTIONS_OF_A_PROCESS:
        raise EngineError(f"max_connections should be {_CONNECTIONS_OF_A_PROCESS} or more, not {connections}")
    return min(connections // _CONNECTIONS_OF_A_PROCESS, _MOST_PROCESSES, os.cpu_count() or 1)


@contextmanager
def _migrated(admin: Admin, url: str) -> Iterator[str]:
    """A database of this version, of which the tests make copies. At the end, it removes everything that they made."""
    info = admin.info
    conninfo = make_conninfo(
        url, host=info.host, port=info.port, user=info.user, password=info.password or None, dbname=DATABASE
    )
    try:
        admin.execute(f"create database {DATABASE}")
        migrations.migrate(conninfo)
        if info.password:
            # Tests log in as these roles, too.
            for role in ROLES[:-1]:
                admin.execute(sql.SQL("alter role {} password {}").format(sql.Identifier(role), info.password))
        yield conninfo
    finally:
        names = admin.execute("select datname from pg_database where datname ~ %s", [f"^{DATABASE}"]).fetchall()
        for (name,) in names:
            admin.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))
        for role in ROLES:
            admin.execute(sql.SQL("drop role if exists {}").format(sql.Identifier(role)))


def _run(admin: Admin, conninfo: str, processes: int, options: list[str]) -> int:
    """Runs pytest. Returns 0 if all tests passed, else 1."""
    left_out = ["pooled"]
    if _value(admin, "show max_prepared_transactions") == "0":
        left_out.append("prepared")
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "DATABASE_URL"))}
    variables |= {"WALLET_TEST_DATABASE_URL": conninfo, "WALLET_TEST_LEAVE_OUT": " ".join(left_out)}
    paths = [] if any("tests/" in option for option in options) else PATHS
    command = [sys.executable, "-m", "pytest", "-p", "tests.engine.plugin", "-q", "--tb=short", "-r", ""]
    # A distributed server may take its time.
    command += ["-n", str(processes), "--dist", "loadscope", "-o", "faulthandler_timeout=900", *options, *paths]
    return 0 if subprocess.run(command, cwd=PROJECT, env=variables, check=False).returncode == 0 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
