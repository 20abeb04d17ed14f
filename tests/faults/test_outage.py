"""The log of an outage of the database: one warning, and a line when it is over. Other causes have their own lines."""

import json
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2

from tests.faults.postgres import Postgres
from tests.support import Server, account, pay, serving, wait_until

CLIENTS = 16
# In seconds.
_LONGER_THAN_THE_POOL_TRIES = 4


def events(server: Server, level: str) -> list[str]:
    """What the log tells, except for requests."""
    lines: list[dict[str, Any]] = list(map(json.loads, server.lines))
    return [line["event"] for line in lines if line["level"] == level and line["event"] != "request"]


def refusals(server: Server) -> int:
    return sum('"event":"request"' in line and '"status":503' in line for line in server.lines)


def test_one_outage_is_one_warning_however_many_requests_it_refuses(primary: Postgres) -> None:
    with primary.admin() as admin:
        pair = account(admin, "buyer", 1_000_000), account(admin, "seller")
    settings = {"WALLET_ACCESS_LOG": "on", "WALLET_POOL_TIMEOUT": "3", "WALLET_COALESCE_TIMEOUT": "3"}
    with serving(DATABASE_URL=primary.conninfo(), **settings) as server:
        stopped = threading.Event()

        def use(number: int) -> None:
            with server.client() as api:
                while not stopped.is_set():
                    pay(api, *pair, 1, key=f"{id(api)} {number}" if number % 2 else None)
                    api.get("/account/1")
                    api.get("/accounts")
                    stopped.wait(0.01)

        clients = [threading.Thread(target=use, args=[number]) for number in range(CLIENTS)]
        for client in clients:
            client.start()
        try:
            with server.client() as api:
                wait_until(lambda: pay(api, *pair, 1).status_code == 200)
            for outages in (1, 2):
                outage(server, primary)
                assert (len(warnings := events(server, "warning")), len(ends(server))) == (outages, outages), warnings
        finally:
            stopped.set()
            for client in clients:
                client.join()


def outage(server: Server, primary: Postgres) -> None:
    """Kills PostgreSQL under the load, and starts it again when clients have felt it."""
    over, refused = len(ends(server)), refusals(server)
    primary.kill()
    wait_until(lambda: refusals(server) > refused + 3 * CLIENTS)
    primary.start()
    wait_until(lambda: len(ends(server)) > over)


def ends(server: Server) -> list[str]:
    return [event for event in events(server, "info") if event.startswith("Connected to the database again after ")]


def test_another_trouble_right_after_an_outage_has_its_own_line(primary: Postgres) -> None:
    with serving(DATABASE_URL=primary.conninfo()) as server, server.client() as api:
        wait_until(lambda: api.get("/account/1").status_code == 404)
        primary.kill()
        assert api.get("/account/1").status_code == 503
        primary.start()
        wait_until(lambda: api.get("/account/1").status_code == 404 and len(ends(server)) == 1)
        with primary.admin() as admin:
            admin.execute("alter function wallet.get_account rename to gone")
        # The first answer may still be for a connection that the outage has closed.
        wait_until(lambda: api.get("/account/1").status_code == 503 and len(events(server, "warning")) > 1)
        assert events(server, "warning")[1].startswith("GET /account/1: 42883 ")


def test_requests_that_gave_up_during_an_outage_do_not_keep_others_from_connecting(primary: Postgres) -> None:
    """More of them than may wait, and an outage so long that the pool itself gives up."""
    settings = {"WALLET_POOL_WAITING": "3", "WALLET_POOL_TIMEOUT": "0.2", "WALLET_METRICS_PORT": "0"}
    with serving(DATABASE_URL=primary.conninfo(), **settings) as server, server.client() as api:
        wait_until(lambda: api.get("/readyz").status_code == 200)
        primary.kill()
        end = time.monotonic() + _LONGER_THAN_THE_POOL_TRIES
        while time.monotonic() < end:
            assert [api.get(path).status_code for path in ("/account/1", "/accounts", "/readyz")] == [503] * 3
        [metrics] = re.findall(r"Metrics on (http://[\w.:]+/metrics)", server.log)
        wait_until(lambda: 'wallet_pool_waiting{pool="calls"} 0.0' in httpx2.get(metrics).text)
        assert len(warnings := events(server, "warning")) == 1, warnings
        primary.start()
        wait_until(lambda: api.get("/readyz").status_code == 200)
        wait_until(lambda: api.get("/accounts").status_code == 200)
        wait_until(lambda: api.get("/account/1").status_code == 404)


def test_a_request_that_waits_longer_than_the_pool_tries_is_answered_when_the_database_is_back(
    primary: Postgres,
) -> None:
    with primary.admin() as admin:
        pair = account(admin, "buyer", 10), account(admin, "seller")
    settings = {"WALLET_POOL_TIMEOUT": "20", "WALLET_COALESCE_TIMEOUT": "20"}
    with serving(DATABASE_URL=primary.conninfo(), **settings) as server, server.client() as api:
        wait_until(lambda: pay(api, *pair).status_code == 200 and api.get("/account/1").status_code == 200)
        primary.kill()
        with ThreadPoolExecutor() as threads:
            answers = [threads.submit(pay, api, *pair), threads.submit(api.get, "/account/1")]
            time.sleep(_LONGER_THAN_THE_POOL_TRIES)
            primary.start()
            assert [answer.result().status_code for answer in answers] == [200, 200]
