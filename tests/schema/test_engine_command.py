"""`make test-engine` proves a server by its tests, says by SQLSTATE what is refused, and leaves the server as it was."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.conftest import Connection, postgres_programs
from tests.support import PROJECT
from wallet_api.database import embedded

# In every database that is created from now on, no sequence can be changed.
REFUSAL = """
    create function public.refuse() returns event_trigger language plpgsql
        as $$ begin raise exception using errcode = 'feature_not_supported', message = 'no such thing here'; end $$;
    create event trigger refuse on ddl_command_start when tag in ('ALTER SEQUENCE') execute function public.refuse()"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    """A server that has no wallet, but a superuser with a name of its own."""
    options = {"fsync": "off", "max_connections": "160"}
    with embedded.running(tmp_path_factory.mktemp("engine"), postgres_programs(), options) as conninfo:
        with psycopg.connect(conninfo, autocommit=True) as admin:
            admin.execute("create role anna login superuser; create role bert login")
        with psycopg.connect(conninfo, user="anna", dbname="postgres", autocommit=True) as admin:
            yield admin


def engine(conninfo: str, *options: str) -> tuple[int, str, str]:
    """The exit code of the command, its output and its complaints. Fails with the output if it hangs."""
    with (
        tempfile.TemporaryFile("w+") as stdout,
        tempfile.TemporaryFile("w+") as stderr,
        tempfile.TemporaryDirectory() as folder,
    ):
        # Without a folder of its own, pytest removes those of earlier runs at its end: gigabytes, for minutes.
        # A test that hangs ends before this one does, and says where.
        own = [f"--basetemp={folder}/own", "-o", "faulthandler_timeout=100"]
        command = [sys.executable, "-m", "tests.engine", *own, *options]

        def written() -> list[str]:
            return [file.read() for file in (stdout, stderr) if file.seek(0) == 0]

        # Files, not pipes: a process that is left behind would keep a pipe open.
        process = subprocess.Popen(
            command, cwd=PROJECT, env={"DATABASE_URL": conninfo}, stdout=stdout, stderr=stderr, start_new_session=True
        )
        try:
            code = process.wait(150)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            pytest.fail("\n".join(["test-engine hangs", *written()]))
        output, complaints = written()
        return code, output, complaints


def contents(server: Connection) -> list[tuple[str]]:
    """The databases and the roles of a server."""
    return server.execute("select datname from pg_database union all select rolname from pg_roles").fetchall()


def test_everything_holds_on_postgresql(server: Connection) -> None:
    before = contents(server)
    tests = ["tests/sql/test_feed.py", "tests/concurrency/test_up_to.py", "tests/http/test_values.py"]
    code, output, complaints = engine(
        server.info.dsn, *tests, "-k", "cursor or prepared or asked_for_by_many or plainly"
    )
    assert (code, complaints) == (0, ""), output
    assert output.startswith("PostgreSQL 1")
    assert "concurrency: up to" in output
    assert "http: values" in output
    assert "not tried (tests: 1): prepared transactions, as max_prepared_transactions is 0" in output
    assert contents(server) == before


def test_what_a_server_refuses_is_in_the_table(server: Connection) -> None:
    before = contents(server)
    with psycopg.connect(server.info.dsn, dbname="template1", autocommit=True) as template:
        template.execute(REFUSAL)
    try:
        code, output, _ = engine(server.info.dsn, "tests/sql/test_check_ledger.py", "-k", "sequence or sums")
    finally:
        with psycopg.connect(server.info.dsn, dbname="template1", autocommit=True) as template:
            template.execute("drop event trigger refuse; drop function public.refuse()")
    assert code == 1
    [line] = [line for line in output.splitlines() if line.startswith("sql: check ledger")]
    assert line.split() == ["sql:", "check", "ledger", "1", "1", "0A000:", "1"]
    assert "0A000 FeatureNotSupported (tests: 1), such as: no such thing here" in output
    assert contents(server) == before


def test_a_server_with_a_wallet_is_not_touched(cluster: str) -> None:
    code, output, complaints = engine(make_conninfo(cluster, dbname="postgres"))
    assert (code, output) == (2, "")
    assert "the role wallet_app" in complaints
    assert "Test a server without a wallet" in complaints


def test_a_user_who_is_no_superuser_is_refused(server: Connection) -> None:
    assert engine(make_conninfo(server.info.dsn, user="bert")) == (
        2,
        "",
        "test-engine: bert should be a superuser of the server\n",
    )
