"""`python -m tests.bench.console`: how long the requests of the console take, with 5 million payments of one account.

The payments are made within the last 30 days, half of them within the last day, between account 1 and 1,000 others.
Their balances are right, so that the ledger is proved before anything is measured.
"""

import argparse
import os
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlencode

import httpx2
import psycopg

from tests.support import ledger_problems, serving
from wallet_api.database import embedded, migrations

_OTHERS = 1000
# Each pair of payments goes there and back, so that no balance grows.
_FILL = """
    update ledger.account set created_at = clock_timestamp() - interval '31 days';
    insert into ledger.payment (
        currency_id, buyer_account_id, seller_account_id, amount, buyer_balance, seller_balance, operation_timestamp
    )
    select
        1, case n % 2 when 0 then other.id else 1 end, case n % 2 when 0 then 1 else other.id end, 1,
        case n % 2 when 0 then 1000000 else 999999 end, case n % 2 when 0 then 1000000 else 1000001 end,
        clock_timestamp() - case
            when n <= {number} / 2 then interval '30 days' - n * interval '29 days' / ({number} / 2)
            else interval '1 day' - (n - {number} / 2) * interval '1 day' / ({number} / 2)
        end
    from generate_series(1, {number}) as n
    cross join lateral (select 2 + ((n + 1) / 2) % {others} as id) as other;
"""


def main() -> int:
    """Returns the exit code: 0 measured, 1 if the ledger is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.console", description=__doc__)
    parser.add_argument("--payments", type=int, default=5_000_000, help="payments of the account (5,000,000)")
    parser.add_argument("--rounds", type=int, default=11, help="requests of a kind, of which the median counts (11)")
    options = parser.parse_args()
    programs = os.environ.get("WALLET_POSTGRES_BIN")
    Path(".bench").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="data-", dir=Path(".bench").resolve()) as name:
        Path(name).chmod(0o711)
        settings = {"shared_buffers": "512MB", "max_wal_size": "4GB"}
        with embedded.running(Path(name) / "wallet", Path(programs) if programs else None, settings) as conninfo:
            migrations.migrate(conninfo)
            with psycopg.connect(conninfo, autocommit=True) as admin:
                problems = _fill(admin, options.payments)
            if problems:
                print(f"console: check_ledger() finds {len(problems)} problems, the first one {problems[0]}")
                return 1
            with serving(DATABASE_URL=conninfo) as server, server.client() as api:
                print(f"{options.payments:,} payments of account 1; {options.rounds} requests each")
                print(f"{'milliseconds':>12} {'longest':>8}  request")
                for path in _paths():
                    taken = [_milliseconds(api, path) for _ in range(options.rounds)]
                    print(f"{median(taken):>12.1f} {max(taken):>8.1f}  GET {path}", flush=True)
    return 0


def _fill(admin: psycopg.Connection[Any], number: int) -> list[tuple[Any, ...]]:
    """Makes the payments. Returns the problems of the ledger."""
    names = [f"account {n}" for n in range(1, _OTHERS + 2)]
    admin.execute("select wallet.create_account(name, 1000000, 1) from unnest(%s::text[]) as name", [names])
    admin.execute("set session_replication_role = replica")
    admin.execute(_FILL.format(number=number, others=_OTHERS).encode())
    admin.execute("set session_replication_role = origin")
    admin.execute("vacuum analyze ledger.payment, ledger.account")
    problems = ledger_problems(admin)
    for _ in range(3):  # from the third one on, get_totals() relies on what earlier ones have counted
        admin.execute("select wallet.record_ledger_check(%s)", [len(problems)])
    return problems


def _paths() -> list[str]:
    """The requests of the overview, and of the page of an account."""
    now = datetime.now(UTC)
    month = urlencode({"from": f"{now - timedelta(days=30):%Y-%m-%dT%H:%M:%SZ}"})
    hour = urlencode({"expires_before": f"{now + timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}"})
    return [
        "/totals", "/payments/hours", "/payments/hours?currency=USD", "/payments?limit=20&order=desc",
        f"/holds?status=open&limit=100&{hour}",
        "/account/1?details=true", "/account/1/curve", f"/account/1/curve?{month}", "/account/1/counterparties",
        f"/account/1/counterparties?{month}", "/account/1/statement?order=desc&limit=50",
        f"/account/1/statement?order=desc&limit=50&{month}", "/account/1/changes?order=desc&limit=20&made_by=true",
        f"/payments?order=desc&limit=50&account=1&{month}",
    ]  # fmt: skip


def _milliseconds(api: httpx2.Client, path: str) -> float:
    begin = time.perf_counter()
    response = api.get(path)
    assert response.status_code == 200, response.text
    return (time.perf_counter() - begin) * 1000


if __name__ == "__main__":
    sys.exit(main())
