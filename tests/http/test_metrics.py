"""The metrics for Prometheus, on a port of their own: by name, by few labels, and of all workers together."""

import asyncio
import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import httpx2
import psycopg
import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.parser import text_string_to_metric_families
from starlette.datastructures import State

from tests.conftest import Connection
from tests.http.test_batching import REPLACED
from tests.support import TIMEOUT, Server, account, pay, payment_body, serving, wait_until, waiting_for_locks
from wallet_api import __version__
from wallet_api.database.pool import ConnectionLost, Rows
from wallet_api.http.sampling import sample

METERED = {"WALLET_METRICS_PORT": "0"}
# In seconds: how coarsely the kernel tells the time that some processes have used.
ROUNDING = 0.1

# What the alerts and the dashboard use.
NAMES = {
    "wallet_requests_total",
    "wallet_request_duration_seconds_bucket",
    "wallet_payments_total",
    "wallet_batch_payments_bucket",
    "wallet_call_duration_seconds_bucket",
    "wallet_queue_payments",
    "wallet_queue_full_total",
    "wallet_retries_total",
    "wallet_pool_connections",
    "wallet_pool_waiting",
    "wallet_lock_wait_seconds_bucket",
    "wallet_database_up",
    "wallet_database_writable",
    "wallet_clients",
    "wallet_info",
    "wallet_ledger_check_problems",
    "wallet_ledger_check_timestamp_seconds",
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_virtual_memory_bytes",
    "process_open_fds",
    "process_max_fds",
    "process_start_time_seconds",
}

Metrics = dict[tuple[str, frozenset[tuple[str, str]]], float]


def metrics_url(server: Server) -> str:
    assert server.url
    url = re.search(r"Metrics on (http://[^ \"]+)", server.log)
    assert url is not None
    return url[1]


def scrape(server: Server) -> Metrics:
    """All values, by name and labels."""
    families = text_string_to_metric_families(httpx2.get(metrics_url(server), timeout=TIMEOUT).text)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def value(server: Server, name: str, **labels: str) -> float:
    """One value; 0 if there is none yet."""
    return scrape(server).get((name, frozenset(labels.items())), 0)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_every_metric_has_its_name(admin: Connection, database: str, workers: str) -> None:
    admin.execute("create sequence public.attempt")
    conflict = "if nextval('public.attempt') = 1 then raise exception using errcode = '40001'; end if;"
    admin.execute(REPLACED.format(body=conflict))
    pair = account(admin, "buyer", 10), account(admin, "seller")
    with serving(DATABASE_URL=database, WEB_CONCURRENCY=workers, **METERED) as server, server.client() as api:
        assert pay(api, *pair, 1).status_code == 200
        wait_until(lambda: {name for name, _ in scrape(server)} >= NAMES)
        wait_until(lambda: value(server, "wallet_database_writable") == 1)
        assert value(server, "wallet_retries_total", sqlstate="40001") == 1
        assert value(server, "wallet_info", version=__version__, db_version=current_version(admin)) == 1


def current_version(admin: Connection) -> str:
    [(version,)] = admin.execute("select wallet.schema_version()").fetchall()
    return str(version)


def test_payments_are_counted_by_what_became_of_them(admin: Connection, database: str) -> None:
    pair = account(admin, "buyer", 10), account(admin, "seller")
    one = payment_body(*pair)
    with serving(DATABASE_URL=database, **METERED) as server, server.client() as api:
        for _ in range(3):
            assert pay(api, *pair, key="k").status_code == 200
        payment = pay(api, *pair, 1).json()["ID"]
        assert pay(api, *pair, 100).status_code == 400
        batch = [one, one, one | {"Amount": 100}, one | {"Amount": 0}, one | {"IdempotencyKey": "k"}, {"Amount": "x"}]
        assert api.post("/payments/batch", json={"Payments": batch}).status_code == 200
        atomic = {"Payments": [one, one | {"Amount": 100}], "Atomic": True}
        assert api.post("/payments/batch", json=atomic).status_code == 400
        assert api.post(f"/payment/{payment}/refund").status_code == 200
        assert api.post(f"/payment/{payment}/refund").status_code == 400
        admin.execute("alter function wallet.make_payments rename to gone")
        assert pay(api, *pair, 1).status_code == 503
        assert api.post("/payments", content=b"{").status_code == 400
        wait_until(lambda: value(server, "wallet_requests_total", route="/payments", method="POST", status="400") == 2)
        found = {
            (dict(labels)["outcome"], dict(labels)["code"]): number
            for (name, labels), number in scrape(server).items()
            if name == "wallet_payments_total"
        }
        assert found == {
            ("made", ""): 5,
            ("replayed", ""): 3,
            ("refused", "WB006"): 3,
            ("refused", "WB002"): 1,
            ("refused", "WB003"): 1,
            ("refused", "WB021"): 1,
            ("failed", ""): 1,
        }
        assert value(server, "wallet_batch_payments_count") == 6
        assert value(server, "wallet_call_duration_seconds_count", function="refund_payment") == 2


def test_labels_are_never_what_a_client_made_up(database: str) -> None:
    with serving(DATABASE_URL=database, **METERED) as server, server.client() as api:
        for number in range(5):
            assert api.get(f"/nowhere/{number}").status_code == 404
            assert api.get(f"/account/{number}").status_code == 404
            assert api.request("PROPFIND", f"/{number}").status_code == 404
        other = {"route": "other", "status": "404"}
        wait_until(lambda: value(server, "wallet_requests_total", method="other", **other) == 5)
        assert value(server, "wallet_requests_total", method="GET", **other) == 5
        assert value(server, "wallet_requests_total", method="GET", route="/account/{id}", status="404") == 5
        assert value(server, "wallet_request_duration_seconds_count", route="/account/{id}", method="GET") == 5


def test_the_requests_of_all_workers_are_added_up(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(DATABASE_URL=database, WEB_CONCURRENCY="2", TMPDIR=str(tmp_path), **METERED) as server:
        asked = 0

        def ask(_: int) -> None:
            assert httpx2.get(f"{server.url}/livez", timeout=TIMEOUT).status_code == 200

        merge: Callable[[list[str]], Iterable[Metric]] = MultiProcessCollector.merge

        def workers() -> list[int]:
            """The process ids of those who have answered something."""
            return [
                int(file.stem.rpartition("_")[2])
                for file in tmp_path.glob("wallet-metrics-*/counter_*.db")
                if file.stat().st_size > 0 and "wallet_requests" in {metric.name for metric in merge([str(file)])}
            ]

        def answered() -> float:
            return value(server, "wallet_requests_total", route="/livez", method="GET", status="200")

        with ThreadPoolExecutor(10) as clients:
            while len(workers()) < 2:
                list(clients.map(ask, range(10)))
                asked += 10
        wait_until(lambda: answered() == asked)
        [folder] = tmp_path.glob("wallet-metrics-*")
        (folder / "counter_1000000000.db").touch()
        assert answered() == asked, "a worker that has written nothing yet is no trouble"
        wait_until(lambda: value(server, "wallet_pool_connections", pool="readiness", state="idle") == 2)

        os.kill(workers()[0], signal.SIGKILL)
        wait_until(lambda: value(server, "wallet_pool_connections", pool="readiness", state="idle") == 1)
        wait_until(lambda: value(server, "wallet_pool_connections", pool="readiness", state="idle") == 2)
        assert answered() == asked, "what the dead one had counted is not forgotten"
    assert list(tmp_path.iterdir()) == []


def test_what_waits_is_seen(admin: Connection, database: str) -> None:
    pair = account(admin, "buyer", 10), account(admin, "seller")
    limits = {"WALLET_COALESCE_WAITING": "2", "WALLET_LOCK_TIMEOUT": "20", "WALLET_COALESCE_TIMEOUT": "20"}
    with (
        serving(DATABASE_URL=database, **limits, **METERED) as server,
        server.client() as api,
        psycopg.connect(database) as holder,
        ThreadPoolExecutor(2) as clients,
    ):
        holder.execute("select from ledger.account where id = %s for update", [pair[0]])
        waiting = [clients.submit(pay, api, *pair, 1) for _ in range(2)]
        waiting_for_locks(admin, 1)
        wait_until(lambda: value(server, "wallet_queue_payments") == 2)
        assert value(server, "wallet_clients") >= 2
        assert value(server, "wallet_pool_connections", pool="payments", state="used") == 1
        assert value(server, "wallet_pool_connections", pool="payments", state="idle") == 2
        assert value(server, "wallet_pool_connections", pool="calls", state="idle") == 4
        assert pay(api, *pair, 1).status_code == 503
        wait_until(lambda: value(server, "wallet_queue_full_total") == 1)
        assert value(server, "wallet_lock_wait_seconds_count") == 0
        holder.rollback()
        assert [request.result().status_code for request in waiting] == [200, 200]
        wait_until(lambda: value(server, "wallet_lock_wait_seconds_count") == 2)
        assert value(server, "wallet_lock_wait_seconds_sum") > 0.2


def test_a_database_that_accepts_no_changes_is_up_and_one_that_is_away_is_not(admin: Connection, database: str) -> None:
    with serving(DATABASE_URL=database, **METERED) as server:
        wait_until(lambda: value(server, "wallet_database_up") == 1 and value(server, "wallet_database_writable") == 1)
    admin.execute(
        "do $$ begin execute format('alter database %I set default_transaction_read_only = on', current_database()); end $$"
    )
    with serving(DATABASE_URL=f"{database} user=wallet_app", **METERED) as server:
        wait_until(lambda: value(server, "wallet_database_up") == 1 and value(server, "wallet_database_writable") == 0)
    with serving(DATABASE_URL="host=/nonexistent", WALLET_POOL_TIMEOUT="0.2", **METERED) as server:
        wait_until(lambda: ("wallet_database_up", frozenset()) in scrape(server))
        assert value(server, "wallet_database_up") == value(server, "wallet_database_writable") == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_last_recorded_ledger_check_is_a_metric(admin: Connection, database: str, workers: str) -> None:
    admin.execute("select wallet.record_ledger_check(0)")
    [(moment,)] = admin.execute("select extract(epoch from wallet.record_ledger_check(3))").fetchall()
    with serving(DATABASE_URL=database, WEB_CONCURRENCY=workers, **METERED) as server:
        wait_until(lambda: value(server, "wallet_ledger_check_problems") == 3)
        assert value(server, "wallet_ledger_check_timestamp_seconds") == pytest.approx(float(moment))


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_processes_of_an_instance_are_measured_together(database: str, workers: str) -> None:
    with serving(DATABASE_URL=database, WEB_CONCURRENCY=workers, **METERED) as server:
        wait_until(lambda: len(serving_processes(server)) == int(workers))
        wait_until(lambda: ("wallet_database_up", frozenset()) in scrape(server))
        family = [server.process.pid, *children(server)]
        wait_until(lambda: about(value(server, "process_resident_memory_bytes"), sum(map(memory, family))))
        wait_until(lambda: about(value(server, "process_open_fds"), max(map(files, family))))
        assert value(server, "process_max_fds") >= value(server, "process_open_fds")
        assert value(server, "process_start_time_seconds") == pytest.approx(time.time(), abs=300)
        used = sum(map(cpu, family))
        assert value(server, "process_cpu_seconds_total") >= used - ROUNDING


def test_the_time_that_a_dead_worker_used_is_not_forgotten(database: str) -> None:
    with serving(DATABASE_URL=database, WEB_CONCURRENCY="2", **METERED) as server:
        wait_until(lambda: len(serving_processes(server)) == 2)
        victim = serving_processes(server)[0]
        used = cpu(victim)
        assert used > 2 * ROUNDING
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: victim not in children(server))
        alive = sum(map(cpu, [server.process.pid, *children(server)]))
        # The first scrape: the metric remembers those before.
        assert value(server, "process_cpu_seconds_total") >= used + alive - ROUNDING


def about(found: float, expected: float) -> bool:
    return found == pytest.approx(expected, rel=0.1)


def files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def children(server: Server) -> list[int]:
    [listed] = [
        path.read_text() for path in Path(f"/proc/{server.process.pid}/task").glob(f"{server.process.pid}/children")
    ]
    return list(map(int, listed.split()))


def serving_processes(server: Server) -> list[int]:
    """The process ids that the log has, of those that serve."""
    return list(map(int, re.findall(r"Started server process \[(\d+)\]", server.log)))


def cpu(pid: int) -> float:
    """The seconds that a process has used."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> int:
    pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def test_the_port_serves_the_metrics_only_and_does_not_say_by_what_software(database: str) -> None:
    with serving(DATABASE_URL=database, **METERED) as server:
        url = metrics_url(server)
        found, elsewhere = httpx2.get(url), httpx2.get(url.removesuffix("metrics"))
        posted = httpx2.post(url)
    assert [found.status_code, elsewhere.status_code, posted.status_code] == [200, 404, 501]
    assert [response.headers.get("server") for response in (found, elsewhere, posted)] == [None] * 3
    assert found.headers["content-type"].startswith("text/plain; version=")


def test_they_are_not_told_on_the_service_s_own_port_nor_without_being_asked_for(database: str) -> None:
    with serving(DATABASE_URL=database, **METERED) as server, server.client() as api:
        assert api.get("/metrics").status_code == 404
    with serving(DATABASE_URL=database) as server:
        assert server.url
    assert "Metrics on" not in server.log


def test_a_port_that_is_taken_is_one_line(database: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        server = Server(DATABASE_URL=database, WALLET_METRICS_PORT=port)
        assert server.wait() == 1
    assert server.lines == [
        f"server.py: Cannot serve metrics on 127.0.0.1, WALLET_METRICS_PORT {port}: Address already in use"
    ]


def test_sampling_ends_although_a_call_loses_its_cancellation() -> None:
    class Losing:
        name = "readiness"

        def usage(self) -> tuple[int, int, int]:
            return 0, 0, 0

        async def call(self, *_: object) -> Rows:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                raise ConnectionLost("as it was cancelled") from None
            raise AssertionError

    async def test() -> None:
        payments = SimpleNamespace(waiting=0)
        state = State({"version": "one", "payments": payments, "databases": [], "readiness": Losing()})
        sampling = asyncio.create_task(sample(state, lambda: 0))
        await asyncio.sleep(0)
        sampling.cancel()
        await asyncio.wait({sampling}, timeout=2)
        assert sampling.done()

    asyncio.run(test())
