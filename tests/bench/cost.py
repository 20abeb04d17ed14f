"""`python -m tests.bench.cost`: what a payment costs: microseconds of a core, of PostgreSQL and of the service, and WAL.

Unlike payments a second, these depend little on what else runs on the machine. `taskset -c 0` before it measures one
core. docs/scaling.md carries the results forward.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import NamedTuple

import psycopg

from tests.bench import load
from tests.bench.ledger import ACCOUNTS, Admin, PaymentCount
from tests.bench.load import BenchError
from tests.bench.measure import Wallet, wallet, warm_up
from wallet_api.database import embedded

_CLIENTS = (1, 64, 256)
_TICKS = os.sysconf("SC_CLK_TCK")


class Cost(NamedTuple):
    """Of one round: payments, then what each cost."""

    per_second: float
    database: float  # microseconds of a core
    service: float
    wal: float  # bytes
    per_call: float  # payments in a transaction


def main() -> int:
    """Returns the exit code: 0 measured, 1 it could not be, or money was not conserved."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.cost", description=__doc__)
    parser.add_argument("--seconds", type=int, default=5, help="how long a round takes (5)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, of which the median counts (5)")
    parser.add_argument("--workers", type=int, default=1, help="worker processes of the service (1)")
    options = parser.parse_args()
    programs = os.environ.get("WALLET_POSTGRES_BIN")
    try:
        load.require_wrk()
        Path(".bench").mkdir(exist_ok=True)
        # Not in /tmp, which may be memory.
        with tempfile.TemporaryDirectory(prefix="data-", dir=Path(".bench").resolve()) as name:
            Path(name).chmod(0o711)
            with embedded.running(Path(name) / "wallet", Path(programs) if programs else None) as conninfo:
                environment = {"WALLET_DATA_DIR": f"{name}/wallet", "WEB_CONCURRENCY": str(options.workers)}
                with wallet(conninfo, environment) as service:
                    warm_up(service)
                    _print(service, options.workers, options.rounds, options.seconds)
    except (BenchError, embedded.EmbeddedError, psycopg.Error) as error:
        print(f"cost: {error}", file=sys.stderr)
        return 1
    return 0


def _print(service: Wallet, workers: int, rounds: int, seconds: int) -> None:
    """Measures, and prints a table."""
    version = service.admin.execute("show server_version").fetchone()
    print(
        f"PostgreSQL {(version or ['?'])[0]}, {len(os.sched_getaffinity(0))} cores, {workers} workers, {rounds} rounds"
    )
    print(
        f"{'clients':>7} {'per second':>10} {'PostgreSQL µs':>13} {'service µs':>10} {'WAL bytes':>9} {'per call':>8}"
    )
    for clients in _CLIENTS:
        found = [_round(service, clients, seconds) for _ in range(rounds)]
        cost = Cost(*(median(column) for column in zip(*found, strict=True)))
        print(
            f"{clients:>7} {cost.per_second:>10,.0f} {cost.database:>13.0f} {cost.service:>10.0f} {cost.wal:>9.0f} "
            f"{cost.per_call:>8.1f}",
            flush=True,
        )


def _round(service: Wallet, clients: int, seconds: int) -> Cost:
    admin = service.admin
    postmaster = _parent(_number(admin, "select pg_backend_pid()"))
    count = PaymentCount(admin)
    last = _number(admin, "select coalesce(max(id), 0) from ledger.payment")
    wal = _number(admin, "select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint")
    database, service_time = _used(postmaster), _used(service.process)
    answers = load.wrk(service.url, "payments", clients, seconds, last, service.accounts.rich, ACCOUNTS)
    database, service_time = _used(postmaster) - database, _used(service.process) - service_time
    wal = _number(admin, "select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint") - wal
    made = count.accepted()
    calls = _number(admin, f"select count(distinct xmin::text) from ledger.payment where id > {last}")
    return Cost(made / answers.seconds, database / made * 1e6, service_time / made * 1e6, wal / made, made / calls)


def _number(admin: Admin, query: str) -> int:
    row = admin.execute(query.encode()).fetchone()
    assert row is not None
    return int(row[0])


def _fields(pid: int) -> list[str]:
    """The fields of /proc/…/stat after the name of the program."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _parent(pid: int) -> int:
    return int(_fields(pid)[1])


def _used(pid: int) -> float:
    """Seconds of a core that a process, its children, and those of them that have ended, have used."""
    used = sum(map(int, _fields(pid)[11:15])) / _TICKS
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        used += _used(int(child))
    return used


if __name__ == "__main__":
    sys.exit(main())
