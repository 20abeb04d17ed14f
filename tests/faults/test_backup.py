"""The backups of docs/operations.md, by its own commands, while clients pay; and the proof of what was restored."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.conftest import postgres_programs
from tests.faults.contradictions import Payment, stored_payments
from tests.faults.postgres import Postgres
from tests.faults.recorder import Recorder, open_accounts
from tests.faults.scene import Scene
from tests.support import PROJECT, ledger_problems, open_account, pay, serving, wait_until
from wallet_api.database import embedded

# Requests answered before a backup, and after it.
LOAD = 150

DOCUMENT = (PROJECT / "docs/operations.md").read_text()


def commands(heading: str, document: str = DOCUMENT) -> list[str]:
    """The blocks of shell below a heading of a document."""
    [section] = [part for part in re.split(r"^##+ ", document, flags=re.MULTILINE) if part.startswith(f"{heading}\n")]
    return re.findall(r"^```sh\n(.*?)^```", section, re.MULTILINE | re.DOTALL)


def runs(program: str) -> bool:
    """Whether a program of PostgreSQL does: the wheel's pg_verifybackup crashes, whatever it is told."""
    path = (postgres_programs() or embedded.wheel_programs()) / program
    return subprocess.run([path, "--version"], capture_output=True, check=False).returncode == 0


DUMP, RESTORE_DUMP, PROVE = commands("A dump")
NIGHTLY, RESTORE_NIGHTLY = commands("Nightly backup")
BACK_UP, RESTORE = commands("A base backup")
ARCHIVE, RESTORE_TO_MOMENT = commands("Point-in-time recovery")

# "make test" has a second round, with the machine's own PostgreSQL, in which pg_verifybackup runs.
VERIFY = 'pg_verifybackup "$BACKUPS/base"\n'
verifies = pytest.mark.skipif(not runs("pg_verifybackup"), reason="the wheel's pg_verifybackup crashes at its start")
if not runs("pg_verifybackup"):
    BACK_UP = BACK_UP.removesuffix(VERIFY)


class Operator:
    """Who types the commands, as the account that runs PostgreSQL; the folders and the moment that they name."""

    def __init__(self, folder: Path, moment: str = "") -> None:
        self.backups, self.archive = folder / "backups", folder / "archive"
        self.moment = moment

    def prepare(self, postgres: Postgres) -> None:
        """Makes the two folders."""
        for path in (self.backups, self.archive):
            path.mkdir()
            postgres.give(path)

    def start(self, script: str, postgres: Postgres) -> subprocess.Popen[str]:
        """Starts to type, to this server."""
        return subprocess.Popen(
            [*postgres.unprivileged(), "bash", "-euo", "pipefail", "-c", script],
            cwd=PROJECT,
            env={
                "PATH": f"{self.backups}:{postgres.programs}:{Path(sys.executable).parent}:{os.environ['PATH']}",
                "PGHOST": "127.0.0.1",
                "PGPORT": str(postgres.port),
                "PGUSER": "postgres",
                "PGDATA": str(postgres.data),
                "BACKUPS": str(self.backups),
                "WALLET": str(PROJECT),
                "ARCHIVE": str(self.archive),
                "MOMENT": self.moment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, script: str, postgres: Postgres) -> None:
        """Types, and fails where a command does."""
        finish(self.start(script, postgres))


def finish(process: subprocess.Popen[str]) -> None:
    output, _ = process.communicate()
    assert process.returncode == 0, output


@pytest.fixture
def operator(tmp_path: Path, primary: Postgres) -> Operator:
    operator = Operator(tmp_path)
    operator.prepare(primary)
    return operator


@pytest.fixture
def copy(tmp_path: Path, empty_template: Path) -> Iterator[Postgres]:
    """Another machine's PostgreSQL, with nothing in it, which does not run."""
    copy = Postgres(tmp_path / "copy", template=empty_template)
    yield copy
    copy.close()


@contextmanager
def paying(primary: Postgres, stage: Scene) -> Iterator[Recorder]:
    """Clients that have paid, pay meanwhile, and pay some more afterwards."""
    with primary.admin() as admin:
        clients = Recorder(stage.addresses, open_accounts(admin))
    with clients:
        clients.wait_for_answers(LOAD)
        yield clients
        clients.wait_for_answers(LOAD)
        clients.stop()


def acknowledged(clients: Recorder, begin: float = 0, end: float = float("inf")) -> set[int]:
    """The payments whose requests were sent after one moment and answered before another."""
    attempts = [attempt for order in clients.orders for attempt in order.attempts if attempt.status == 200]
    within = [attempt for attempt in attempts if attempt.sent > begin and (attempt.ended or 0) < end]
    return {json.loads(attempt.body)["ID"] for attempt in within if not attempt.replayed}


def payments(postgres: Postgres, clients: Recorder) -> dict[int, Payment]:
    with postgres.admin() as admin:
        return {payment.id: payment for payment in stored_payments(admin, clients.accounts)}


def feed(postgres: Postgres) -> list[tuple[str, int]]:
    """Each event with its cursor, in order."""
    events: list[tuple[str, int]] = []
    query = "select cursor, coalesce(payment_id, hold_id, account_id) from wallet.list_feed(%s)"
    with postgres.admin() as admin:
        while page := admin.execute(query, [events[-1][0] if events else None]).fetchall():
            events += page
    return events


def start_empty(copy: Postgres) -> None:
    copy.start()
    with psycopg.connect(copy.conninfo("postgres"), autocommit=True) as admin:
        admin.execute("drop database wallet")


def start_restored(operator: Operator, script: str, copy: Postgres) -> None:
    """Puts a base backup where the other machine has its data, and waits until that has recovered."""
    copy.data.mkdir(mode=0o700)
    copy.give(copy.data)
    operator.run(script, copy)
    copy.start()
    with copy.admin() as admin:
        wait_until(lambda: admin.execute("select pg_is_in_recovery()").fetchone() == (False,))


def assert_it_is_a_wallet(operator: Operator, copy: Postgres) -> None:
    """Its ledger is consistent, it is at this version, and it serves: a payment can be made, as wallet_app."""
    operator.run(PROVE, copy)
    with copy.admin() as admin:
        assert ledger_problems(admin) == []
    with serving(DATABASE_URL=f"{copy.conninfo()} user=wallet_app") as server, server.client() as api:
        buyer, seller = open_account(api, "buyer", 5), open_account(api, "seller")
        assert pay(api, buyer, seller, 5).status_code == 200
        assert api.get(f"/account/{seller}").json()["Amount"] == "5"


def test_a_dump_has_all_that_was_acknowledged_before_it_began(
    operator: Operator, primary: Postgres, stage: Scene, copy: Postgres
) -> None:
    with paying(primary, stage) as clients:
        begun = time.time()
        operator.run(DUMP, primary)
        ended = time.time()
    start_empty(copy)
    operator.run(RESTORE_DUMP, copy)
    there, restored = payments(primary, clients), payments(copy, clients)
    assert restored.items() <= there.items()
    assert acknowledged(clients, end=begun) - restored.keys() == set()
    assert acknowledged(clients, begin=begun, end=ended) != set(), "no payment was made meanwhile"
    assert acknowledged(clients, begin=ended) & restored.keys() == set()
    events = feed(copy)
    assert events == [event for event in feed(primary) if event in set(events)], "cursors are not what they were"
    assert_it_is_a_wallet(operator, copy)
    assert feed(copy)[: len(events)] == events, "what is new does not come last"


# In its stead: what follows the name of the service runs here, as in that service's container.
DOCKER = """#!/bin/sh
while [ "$1" != db ]; do shift; done
shift
exec "$@"
"""


@pytest.mark.parametrize("empty", [pytest.param("with an empty database", marks=pytest.mark.once), "without one"])
def test_the_backup_of_every_night_restores_on_an_empty_server_as_it_is_written(
    operator: Operator, primary: Postgres, stage: Scene, copy: Postgres, empty: str
) -> None:
    """Such a server has none of the wallet's roles. The image of PostgreSQL makes the database, and nothing in it."""
    docker = operator.backups / "docker"
    docker.write_text(DOCKER)
    docker.chmod(0o755)
    with primary.admin() as admin:
        admin.execute("alter role wallet_app password 'of the service'")
    with paying(primary, stage) as clients:
        begun = time.time()
        operator.run(NIGHTLY, primary)
    assert [path.name for path in operator.backups.iterdir()].count("wallet.sql.new") == 0
    if empty == "without one":
        start_empty(copy)
    else:
        copy.start()
    operator.run(RESTORE_NIGHTLY, copy)
    there, restored = payments(primary, clients), payments(copy, clients)
    assert restored.items() <= there.items()
    assert acknowledged(clients, end=begun) - restored.keys() == set()
    with copy.admin() as admin:
        stored = "select rolname, rolpassword from pg_authid where rolname like 'wallet%' order by 1"
        with primary.admin() as original:
            assert admin.execute(stored).fetchall() == original.execute(stored).fetchall()
        who = "select has_database_privilege('public', 'wallet', 'connect')"
        assert admin.execute(who).fetchall() == [(False,)]
    assert_it_is_a_wallet(operator, copy)


@pytest.mark.once
def test_a_backup_of_a_night_that_fails_leaves_the_one_before(operator: Operator, primary: Postgres) -> None:
    docker = operator.backups / "docker"
    docker.write_text(DOCKER)
    docker.chmod(0o755)
    operator.run(NIGHTLY, primary)
    before = (operator.backups / "wallet.sql").read_text()
    assert "PostgreSQL database dump complete" in before
    with psycopg.connect(primary.conninfo("postgres"), autocommit=True) as admin:
        admin.execute("alter database wallet rename to other")
    process = operator.start(NIGHTLY, primary)
    output, _ = process.communicate()
    assert process.returncode != 0
    assert 'database "wallet" does not exist' in output
    assert (operator.backups / "wallet.sql").read_text() == before


def test_a_base_backup_has_all_that_was_acknowledged_before_it_ended(
    operator: Operator, primary: Postgres, stage: Scene, copy: Postgres
) -> None:
    with paying(primary, stage) as clients, primary.admin() as admin:
        begun = copied = time.time()
        process = operator.start(BACK_UP, primary)
        # It has ended when no more files are copied, and the last of the log is fetched.
        copying = "select from pg_stat_progress_basebackup where phase = 'streaming database files'"
        while process.poll() is None:
            moment = time.time()
            copied = moment if admin.execute(copying).fetchone() is not None else copied
        finish(process)
    start_restored(operator, RESTORE, copy)
    there, restored = payments(primary, clients), payments(copy, clients)
    assert restored.items() <= there.items()
    assert acknowledged(clients, end=copied) - restored.keys() == set()
    assert acknowledged(clients, begin=begun, end=copied) != set(), "no payment was made meanwhile"
    assert_it_is_a_wallet(operator, copy)


def test_an_archive_brings_back_any_moment(operator: Operator, primary: Postgres, stage: Scene, copy: Postgres) -> None:
    operator.run(ARCHIVE, primary)
    primary.stop()
    primary.start()
    wait_until(stage.is_ready)
    with paying(primary, stage) as clients, primary.admin() as admin:
        operator.run(BACK_UP, primary)
        clients.wait_for_answers(LOAD)
        [(operator.moment, moment)] = admin.execute(
            "select now::text, extract(epoch from now)::float8 from (select clock_timestamp()) as _ (now)"
        ).fetchall()
        clients.wait_for_answers(LOAD)
        archive_all(admin)
    there = payments(primary, clients)
    primary.kill()
    start_restored(operator, RESTORE_TO_MOMENT, copy)
    restored = payments(copy, clients)
    assert restored.items() <= there.items()
    assert acknowledged(clients, end=moment) - restored.keys() == set()
    assert acknowledged(clients, begin=moment) & restored.keys() == set()
    assert_it_is_a_wallet(operator, copy)


def archive_all(admin: psycopg.Connection[tuple[object, ...]]) -> None:
    """Ends the segment of the log that is written, and waits until it is archived."""
    [(segment,)] = admin.execute("select pg_walfile_name(pg_switch_wal())").fetchall()
    wait_until(
        lambda: (
            admin.execute("select from pg_stat_archiver where last_archived_wal >= %s", [segment]).fetchone()
            is not None
        )
    )


def without_payments(operator: Operator, primary: Postgres, copy: Postgres) -> None:
    operator.run(DUMP.replace("pg_dump ", "pg_dump --exclude-table-data=ledger.payment "), primary)
    start_empty(copy)
    operator.run(RESTORE_DUMP, copy)
    operator.run(PROVE, copy)


def without_a_role(operator: Operator, primary: Postgres, copy: Postgres) -> None:
    operator.run(DUMP, primary)
    roles = operator.backups / "roles.sql"
    roles.write_text(re.sub(r"^.* ROLE wallet_app\b.*\n", "", roles.read_text(), flags=re.MULTILINE))
    start_empty(copy)
    operator.run(RESTORE_DUMP, copy)


def without_its_log(operator: Operator, primary: Postgres, copy: Postgres) -> None:
    operator.run(BACK_UP.replace(VERIFY, 'rm "$BACKUPS"/base/pg_wal/0*\n' + VERIFY), primary)


def without_a_table(operator: Operator, primary: Postgres, copy: Postgres) -> None:
    with primary.admin() as admin:
        [(path,)] = admin.execute("select pg_relation_filepath('ledger.payment')").fetchall()
    operator.run(BACK_UP.replace(VERIFY, f'rm "$BACKUPS/base/{path}"\n' + VERIFY), primary)


@pytest.mark.parametrize(
    ("drill", "found"),
    [
        pytest.param(without_payments, "opening balance, plus received, minus paid", marks=pytest.mark.once),
        pytest.param(without_a_role, 'role "wallet_app" does not exist', marks=pytest.mark.once),
        pytest.param(without_its_log, "WAL", marks=verifies),
        pytest.param(without_a_table, "is present in the manifest but not on disk", marks=verifies),
    ],
)
def test_a_backup_that_misses_something_fails_its_drill(
    operator: Operator,
    primary: Postgres,
    stage: Scene,
    copy: Postgres,
    drill: Callable[[Operator, Postgres, Postgres], None],
    found: str,
) -> None:
    with paying(primary, stage):
        pass
    with pytest.raises(AssertionError, match=found):
        drill(operator, primary, copy)
