"""`make psql`, or `python server.py psql`: the settings of psql, and as whom it opens."""

import os
import pty
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.conftest import Connection, postgres_programs
from tests.support import PROJECT, account, command
from wallet_api.database import embedded

Psql = Callable[..., str]


@pytest.fixture
def psql(database: str, tmp_path: Path) -> Psql:
    """Says statements to psql by the command, and returns what it prints, errors included."""

    def run(*statements: str, options: tuple[str, ...] = (), **environment: str) -> str:
        arguments = [word for statement in statements for word in ("-c", statement)]
        result = command("psql", "-At", *options, *arguments, **settings(database, tmp_path) | environment)
        return result.stdout + result.stderr

    return run


def settings(database: str, home: Path) -> dict[str, str]:
    programs = postgres_programs() or embedded.wheel_programs()
    ops = make_conninfo(database, user="wallet_ops")
    return {"DATABASE_URL": ops, "WALLET_POSTGRES_BIN": str(programs), "HOME": str(home)}


def session(environment: dict[str, str], *arguments: str) -> str:
    """What a terminal shows of a session that ends at once."""
    ours, its = pty.openpty()
    with open(ours, "rb", buffering=0) as screen:  # noqa: PTH123 - it has no path
        process = subprocess.Popen(
            [sys.executable, "server.py", "psql", *arguments], cwd=PROJECT, stdin=its, stdout=its, stderr=its,
            env={"PATH": os.environ["PATH"], "TERM": "dumb", "PAGER": "cat"} | environment,
        )  # fmt: skip
        os.close(its)
        os.write(ours, b"\\q\n")
        shown = b""
        with suppress(OSError):  # the other end is closed
            while part := screen.read(4096):
                shown += part
        assert process.wait() == 0, shown
    return shown.decode()


def test_a_session_opens_with_a_hint_and_says_as_whom(database: str, tmp_path: Path) -> None:
    shown = session(settings(database, tmp_path))
    assert "You are wallet_ops in the database wallet_test_" in shown
    assert "\\df wallet.[a-z]* lists the functions" in shown


def test_what_a_script_reads_begins_with_no_hint(psql: Psql, database: str, tmp_path: Path) -> None:
    assert psql("select 1") == "1\n"
    assert "You are" not in session(settings(database, tmp_path), "-c", "select 1")


def test_a_refusal_is_one_line(psql: Psql) -> None:
    assert psql("select wallet.make_payment(1, 2, 3)") == "ERROR:  Account not found\n"


def test_a_row_wider_than_the_terminal_is_shown_a_column_a_line(psql: Psql) -> None:
    assert psql("\\pset").count("\nexpanded                 auto\n") == 1


def test_your_own_settings_come_last(psql: Psql, tmp_path: Path) -> None:
    (tmp_path / ".psqlrc").write_text("\\set SHOW_CONTEXT errors\n\\set mine read\n")
    assert psql("\\echo :SHOW_CONTEXT :mine") == "errors read\n"
    (tmp_path / "other").write_text("\\set mine instead\n")
    assert psql("\\echo :SHOW_CONTEXT :mine", PSQLRC=str(tmp_path / "other")) == "errors instead\n"


def test_who_asks_as_a_person_is_that_person_in_what_is_made(admin: Connection, psql: Psql) -> None:
    account(admin, "one")
    made_by = "select made_by from wallet.list_account_changes(1) order by id desc limit 1"
    admin.execute("create role anna login in role wallet_ops")
    try:
        change = "select credit_limit from wallet.set_credit_limit(1, {})"
        assert psql(change.format(5), made_by, PGUSER="anna") == "5\nanna\n"
        assert psql(change.format(6), made_by, options=("-U", "anna")) == "6\nanna\n"
        assert psql("select session_user", PGUSER="wallet_reporting", options=("--username=anna",)) == "anna\n"
        assert psql("select session_user") == "wallet_ops\n"
    finally:
        admin.execute("drop role anna")


def test_finance_may_read_and_not_pay(admin: Connection, psql: Psql) -> None:
    for name in ("one", "two"):
        account(admin, name, 5)
    shown = psql(
        "select name from wallet.list_accounts()", "select wallet.make_payment(1, 2, 3)", PGUSER="wallet_reporting"
    )
    assert shown == "one\ntwo\nERROR:  permission denied for function make_payment\n"


def test_the_embedded_database_knows_people_too(tmp_path: Path) -> None:
    def psql(*words: str, **environment: str) -> str:
        kept = {name: value for name, value in os.environ.items() if name == "WALLET_POSTGRES_BIN"}
        made = command("psql", "-At", *words, **kept, WALLET_DATA_DIR=str(tmp_path / "data"), **environment)
        assert made.returncode == 0, made.stderr
        return made.stdout

    assert psql("-U", "postgres", "-qc", "create role anna login in role wallet_ops") == ""
    assert psql("-c", "select session_user", PGUSER="anna") == "anna\n"
    assert psql("-U", "anna", "-c", "select session_user") == "anna\n"
    assert psql("-c", "select session_user") == "wallet_ops\n"


def test_the_password_of_database_url_is_for_its_user_and_is_not_shown(protected: str, tmp_path: Path) -> None:
    assert command("migrate", DATABASE_URL=protected, WALLET_APP_PASSWORD="hunter2").returncode == 0
    url = make_conninfo(protected, user="wallet_app")
    (tmp_path / "secret").write_text("hunter2\n")
    for own in (
        {"DATABASE_URL": make_conninfo(url, password="hunter2")},
        {"DATABASE_URL": url, "PGPASSWORD_FILE": str(tmp_path / "secret")},
    ):
        environment = {"WALLET_POSTGRES_BIN": settings(url, tmp_path)["WALLET_POSTGRES_BIN"]} | own
        shown = command(
            "psql", "-Atc", "select session_user", "-c", "\\! cat /proc/$PPID/cmdline", **environment
        ).stdout
        assert shown.startswith("wallet_app\n")
        assert "/psql\0" in shown
        assert "hunter2" not in shown
        other = command("psql", "-w", "-U", "wallet_ops", "-c", "select 1", **environment)
        assert "no password supplied" in other.stderr


@pytest.mark.parametrize("asked", [["-qU", "wallet_ops"], ["--user=wallet_ops"], ["wallet_ops"]])
def test_the_password_of_one_user_is_for_no_other(protected: str, tmp_path: Path, asked: list[str]) -> None:
    """However the other one is asked for."""
    assert command("migrate", DATABASE_URL=protected, WALLET_APP_PASSWORD="hunter2").returncode == 0
    with psycopg.connect(protected, autocommit=True) as admin:
        admin.execute("alter role wallet_ops password 'hunter2'")  # so that it would be let in
    url = make_conninfo(protected, user="wallet_app")
    for own in (
        {"DATABASE_URL": url, "PGPASSWORD": "hunter2"},
        {"DATABASE_URL": make_conninfo(url, password="hunter2")},
    ):
        environment = {"WALLET_POSTGRES_BIN": settings(url, tmp_path)["WALLET_POSTGRES_BIN"]} | own
        assert command("psql", "-Atc", "select session_user", **environment).stdout == "wallet_app\n"
        assert "no password supplied" in command("psql", "-wc", "select 1", *asked, **environment).stderr


def test_a_secret_that_psql_would_show_is_refused(psql: Psql, database: str) -> None:
    said = psql("select 1", DATABASE_URL=make_conninfo(database, sslpassword="hunter2"))
    assert said == (
        "server.py: psql would show sslpassword to all users of this machine: take it out of DATABASE_URL\n"
    )


def test_another_database_may_be_asked_for(psql: Psql) -> None:
    asked = "select current_database(), session_user"
    assert psql(asked, options=("-d", "postgres")) == "postgres|wallet_ops\n"


def test_what_is_wrong_with_the_arguments_psql_says(database: str, tmp_path: Path) -> None:
    assert "psql: option requires an argument -- 'U'" in command("psql", "-U", **settings(database, tmp_path)).stderr


def test_without_a_psql_it_says_how_to_install_one(database: str, tmp_path: Path) -> None:
    program = (
        "import sys; from wallet_api import command_line; from wallet_api.database import embedded;"
        "embedded._WHEEL = 'nowhere'; sys.exit(command_line.main())"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, "psql"], cwd=PROJECT, env={"PATH": "", "DATABASE_URL": database},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 1
    assert result.stderr == "server.py: psql is not installed: apt-get install postgresql-client\n"
