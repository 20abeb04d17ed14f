"""`make bench`: measures the wallet on this machine, in a few minutes, and writes down what it found."""

import argparse
import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from tests.bench import ledger, load, plan
from tests.bench.load import BenchError
from tests.bench.measure import Wallet, has_batches, listing, measure, wallet, warm_up
from tests.bench.plan import Measurement, Row
from tests.bench.report import Report, machine
from wallet_api.database import embedded
from wallet_api.serving.processes import allow_open_files

# Seconds that a measurement takes besides its own: programs start, payments are counted.
_AROUND = 0.2
# what wrk has open besides its connections
_OTHER_FILES = 100
_START = 15
_STORED_A_SECOND = 35_000


def main() -> int:
    """Returns the exit code: 0 measured, whatever the numbers; 1 it could not be, or money was not conserved."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and the service is stopped on the way out
    url = os.environ.get("DATABASE_URL")
    try:
        load.require_wrk()
        if url is not None:
            _ask(options)
        with _database(url, options.output) as (conninfo, environment):
            run = _Run(options, conninfo, environment)
            report = run.report()
        print(report.write(options.output), end="")
        _say(f"written to {options.output}: results.md, results.json, throughput.svg")
    except (BenchError, embedded.EmbeddedError, psycopg.Error) as error:
        _say(f"bench: {error}")
        return 1
    except KeyboardInterrupt:
        _say("bench: interrupted")
        return 130
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--seconds", type=_positive, default=3, help="how long a measurement takes (3)")
    parser.add_argument("--output", type=Path, default=Path(".bench"), help="folder for the results (.bench)")
    parser.add_argument("--workers", type=_positive, help="worker processes of the service (its default)")
    parser.add_argument(
        "--stored",
        type=_positive,
        metavar="PAYMENTS",
        help="also measure on a database with so many payments, 5000000 say; it takes minutes to make them",
    )
    parser.add_argument("--keys", action="store_true", help="clients need an API key (WALLET_AUTH=required)")
    parser.add_argument("--yes", action="store_true", help="do write accounts and payments to DATABASE_URL")
    options = parser.parse_args()
    if options.stored and "DATABASE_URL" in os.environ:
        parser.error("--stored makes two databases of its own: not with DATABASE_URL")
    return options


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("should be 1 or more")
    return number


def _ask(options: argparse.Namespace) -> None:
    _say("This writes accounts, and hundreds of thousands of payments that cannot be removed, to DATABASE_URL.")
    if not options.yes:
        raise BenchError("say --yes if that is what you want, or unset DATABASE_URL")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def _database(url: str | None, output: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """A superuser's connection string, and the environment that makes the service use that database."""
    if url is not None:
        secrets = {name: value for name, value in os.environ.items() if name.startswith("PG")}
        yield url, {**secrets, "DATABASE_URL": url}
        return
    output.mkdir(parents=True, exist_ok=True)
    # Beside the results and not in /tmp, which may be memory: then nothing would ever wait for a disk.
    with tempfile.TemporaryDirectory(prefix="data-", dir=output.resolve()) as name:
        folder = Path(name)
        folder.chmod(0o711)  # PostgreSQL may have to run as another user than root
        programs = os.environ.get("WALLET_POSTGRES_BIN")
        with embedded.running(folder / "wallet", Path(programs) if programs else None) as conninfo:
            yield conninfo, {"WALLET_DATA_DIR": str(folder / "wallet")}


class _Run:
    """One run, from the first request to the last proof."""

    def __init__(self, options: argparse.Namespace, conninfo: str, environment: dict[str, str]) -> None:
        self._seconds: int = options.seconds
        self._stored: int | None = options.stored
        self._conninfo = conninfo
        self._environment = dict(environment)
        workers = options.workers or os.environ.get("WEB_CONCURRENCY")
        if workers:
            self._environment["WEB_CONCURRENCY"] = str(workers)
        if options.keys:
            self._environment["WALLET_AUTH"] = "required"
        self._results: dict[Row, list[Measurement]] = {}
        self._notes: list[str] = []
        self._done = self._expected = 0

    def report(self) -> Report:
        """Measures everything."""
        with wallet(self._conninfo, self._environment) as service:
            warm_up(service)  # first: then the service has opened its connections, and the free ones can be counted
            rows = self._plan(service)
            self._list(service)
            for number in range(plan.ROUNDS):
                # Every second round goes backwards: a machine that gets slower does so for both sides of a ratio.
                for row in rows if number % 2 == 0 else reversed(rows):
                    self._keep(row, measure(service, row, self._seconds))
            self._prove(service)
            version = service.admin.execute("show server_version").fetchone()
            assert version is not None
        if self._stored is not None:
            self._measure_stored(self._stored)
        ordered = {row: self._results[row] for row in plan.in_order(self._results)}
        if unsteady := plan.unsteady(ordered):
            self._note(
                f"{unsteady} of {len(ordered)} rows had a round more than 1.5 times as fast as another one: the "
                "machine was not steady, and neither are the ratios"
            )
        about = machine(
            version[0], self._environment.get("WEB_CONCURRENCY", "1, the default"), "WALLET_AUTH" in self._environment
        )
        return Report(about, ordered, plan.ratios(ordered, self._stored), self._notes)

    def _plan(self, service: Wallet) -> list[Row]:
        """The rows that can be measured here, and how long that will take."""
        free = _free_connections(service)
        files = allow_open_files()  # for wrk, which inherits it
        rows = plan.rows(free, files - _OTHER_FILES)
        if files - _OTHER_FILES < plan.CROWD:
            self._note(f"HTTP at {plan.CROWD:,} clients is not measured: only {files:,} files may be open (ulimit -Hn)")
        if (most := max(plan.SQL_CLIENTS)) > free:
            self._note(f"SQL at {most} clients is not measured: the database has {free} connections free")
        status = has_batches(service)
        if status != 200:
            rows.remove(plan.BATCHES)
            reason = "is not there (404)" if status == 404 else f"answers {status}"
            self._note(f"batches are not measured: POST /payments/batch {reason}")
        self._expected = (len(rows) + 2) * plan.ROUNDS
        seconds = _START + plan.ROUNDS * sum(plan.seconds(row, self._seconds) + _AROUND for row in rows)
        if self._stored is not None:
            self._expected += 2 * plan.ROUNDS
            seconds += self._stored / _STORED_A_SECOND
        _say(f"{self._expected} measurements, about {seconds / 60:.1f} minutes")
        return rows

    def _list(self, service: Wallet) -> None:
        """Measures the list of exactly 100,000 payments, before there are more."""
        missing = plan.LISTED - ledger.payments(service.admin)
        if missing < 0:
            self._note(f"GET /payments is not measured: there are more than {plan.LISTED:,} payments already")
            self._expected -= 2 * plan.ROUNDS
            return
        _say(f"making {missing:,} payments, to list them")
        ledger.fill(service.admin, service.accounts.rich, missing)
        memory: tuple[float, float] | None = None
        for row, measurement in listing(service):
            self._keep(row, measurement)
            if measurement.memory_before and measurement.memory_at_most:
                memory = (measurement.memory_before, measurement.memory_at_most)
        if memory is not None:
            self._note(
                f"The worker had {memory[0]:.0f} MiB before GET /payments, and at most {memory[1]:.0f} during it"
            )

    def _prove(self, service: Wallet) -> None:
        said = "After each row, the sum of money is what it was, and no balance is below zero"
        if "WALLET_DATA_DIR" not in self._environment:
            self._note(said)  # the other contents of that database are not checked
            return
        _say("proving that every balance follows from the payments")
        ledger.prove(service.admin)
        self._note(f"{said}; every balance follows from the {ledger.payments(service.admin):,} payments")

    def _measure_stored(self, stored: int) -> None:
        """Measures on two new databases in turn, one with payments stored and one without."""
        with contextlib.ExitStack() as stack:
            empty = stack.enter_context(wallet(*self._new_database("bench_empty")))
            full = stack.enter_context(wallet(*self._new_database("bench_full")))
            _say(f"making {stored:,} payments, to have them stored")
            ledger.fill(full.admin, full.accounts.rich, stored, lambda done: _tell_tenths(done, stored))
            for service in (empty, full):
                warm_up(service)
            for _ in range(plan.ROUNDS):
                self._keep(plan.stored(0), measure(empty, plan.stored(0), self._seconds))
                self._keep(plan.stored(stored), measure(full, plan.stored(stored), self._seconds))
            for service in (empty, full):
                self._prove(service)

    def _new_database(self, name: str) -> tuple[str, dict[str, str]]:
        with psycopg.connect(self._conninfo, autocommit=True) as admin:
            admin.execute(psycopg.sql.SQL("create database {}").format(psycopg.sql.Identifier(name)))
        conninfo = make_conninfo(self._conninfo, dbname=name)
        return conninfo, {**self._environment, "DATABASE_URL": conninfo}

    def _keep(self, row: Row, measurement: Measurement) -> None:
        self._results.setdefault(row, []).append(measurement)
        self._done += 1
        _say(f"[{self._done}/{self._expected}] {row}: {measurement.per_second:,.0f} a second")
        if measurement.failed:
            self._note(f"{row}, round {len(self._results[row])}: {measurement.failed:,} requests got no answer")

    def _note(self, text: str) -> None:
        _say(text)
        self._notes.append(text)


def _free_connections(service: Wallet) -> int:
    row = service.admin.execute(
        """select current_setting('max_connections')::integer - current_setting('superuser_reserved_connections')::integer
                  - count(*) from pg_stat_activity where backend_type = 'client backend'"""
    ).fetchone()
    assert row is not None
    return int(row[0])


def _tell_tenths(done: int, of: int) -> None:
    if done * 10 // of != (done - 10_000) * 10 // of:
        _say(f"  {done:,} of {of:,}")


if __name__ == "__main__":
    sys.exit(main())
