"""Each request is a line, in JSON or for people, and so is whatever else happens; every answer tells the request's id."""

import contextlib
import itertools
import json
import os
import pty
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import httpx2
import psycopg
import pytest

from tests.conftest import Connection
from tests.support import (
    DEFAULTS,
    PROJECT,
    TIMEOUT,
    Server,
    account,
    pay,
    payment_body,
    serving,
    wait_until,
    waiting_for_locks,
)

LOGGED = {"WALLET_ACCESS_LOG": "on"}
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
MADE = "[0-9a-f]{32}"


def lines(server: Server) -> list[dict[str, Any]]:
    """All lines of the log, each of which is one JSON object."""
    return [json.loads(line) for line in server.lines]


def requests(server: Server) -> list[dict[str, Any]]:
    return [line for line in lines(server) if line["event"] == "request"]


def the_request(server: Server, **fields: object) -> dict[str, Any]:
    """The line of the one request with these fields; it is written when the answer has been sent."""
    wait_until(lambda: any(fields.items() <= line.items() for line in requests(server)))
    [found] = [line for line in requests(server) if fields.items() <= line.items()]
    return found


def raw(server: Server, request: bytes) -> bytes:
    """What is answered to these bytes."""
    url = urlsplit(server.url)
    with socket.create_connection((url.hostname, url.port), TIMEOUT) as client:
        client.sendall(request)
        return client.recv(65536)


@pytest.fixture
def server(database: str) -> Iterator[Server]:
    with serving(DATABASE_URL=database, **LOGGED) as server:
        yield server


@pytest.fixture
def api(server: Server) -> Iterator[httpx2.Client]:
    with server.client() as client:
        yield client


def test_a_payment_s_line_says_what_became_of_it(admin: Connection, server: Server, api: httpx2.Client) -> None:
    pair = account(admin, "buyer", 1), account(admin, "seller")
    made, refused = pay(api, *pair, 1), pay(api, *pair, 1)
    line = the_request(server, status=200)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert line.pop("ms") >= line.pop("database_ms") > 0
    assert line.pop("waiting_ms") >= 0
    assert line == {
        "level": "info",
        "event": "request",
        "request_id": made.headers["x-request-id"],
        "client": "127.0.0.1",
        "method": "POST",
        "route": "/payments",
        "status": 200,
        "batch": 1,
        "payment_id": made.json()["ID"],
    }
    line = the_request(server, status=400)
    assert (line["request_id"], line["code"]) == (refused.headers["x-request-id"], "WB006")
    assert "payment_id" not in line


def test_refunds_and_captures_are_payments_too(admin: Connection, server: Server, api: httpx2.Client) -> None:
    pair = account(admin, "buyer", 10), account(admin, "seller")
    payment = pay(api, *pair, 1).json()["ID"]
    refund = api.post(f"/payment/{payment}/refund").json()["ID"]
    hold = api.post("/holds", json=payment_body(*pair)).json()["ID"]
    capture = api.post(f"/hold/{hold}/capture").json()["ID"]
    line = the_request(server, route="/payment/{id}/refund")
    assert (line["path"], line["payment_id"]) == (f"/payment/{payment}/refund", refund)
    assert line["database_ms"] > 0
    assert the_request(server, route="/hold/{id}/capture")["payment_id"] == capture
    assert "payment_id" not in the_request(server, route="/holds")


def test_what_waits_says_for_how_long_and_with_how_many_it_went(admin: Connection, database: str) -> None:
    pair = account(admin, "buyer", 100), account(admin, "seller")
    with (
        serving(DATABASE_URL=database, WALLET_COALESCE_LOCK_TIMEOUT="20", WALLET_LOCK_TIMEOUT="20", **LOGGED) as server,
        server.client() as api,
        psycopg.connect(database) as holder,
        ThreadPoolExecutor(12) as clients,
    ):
        holder.execute("select from ledger.account where id = %s for update", [pair[0]])
        payments = [clients.submit(pay, api, *pair, 1)]
        waiting_for_locks(admin, 1)  # all others wait for the next call
        payments += [clients.submit(pay, api, *pair, 1) for _ in range(10)]
        wait_until(lambda: all(payment.running() for payment in payments))
        holder.rollback()
        assert {payment.result().status_code for payment in payments} == {200}
        wait_until(lambda: len(requests(server)) == 11)
        batches = sorted(line["batch"] for line in requests(server))
        assert batches[0] == 1
        assert batches[-1] > 1
        assert all(line["waiting_ms"] > 0 for line in requests(server) if line["batch"] > 1)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, MADE),
        ({"X-Request-ID": "order-17/a.b:c=d+e@f_g"}, re.escape("order-17/a.b:c=d+e@f_g")),
        ({"X-Request-ID": "x" * 128}, "x{128}"),
        ({"X-Request-ID": "x" * 129}, MADE),
        ({"X-Request-ID": 'a"b'}, MADE),
        ({"X-Request-ID": "a b"}, MADE),
        ({"X-Request-ID": "é"}, MADE),
        ({"X-Request-ID": ""}, MADE),
        ({"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}, TRACE),
        ({"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01", "X-Request-ID": "mine"}, "mine"),
        ({"traceparent": f"ff-{TRACE}-00f067aa0ba902b7-01"}, f"(?!{TRACE}){MADE}"),
        ({"traceparent": f"00-{'0' * 32}-00f067aa0ba902b7-01"}, f"(?!0{{32}}){MADE}"),
        ({"traceparent": f"00-{TRACE}"}, f"(?!{TRACE}){MADE}"),
    ],
)
def test_the_id_is_the_client_s_or_its_trace_s_if_it_can_be_used(
    api: httpx2.Client, server: Server, headers: dict[str, str], expected: str
) -> None:
    told = api.get("/livez", headers=[(name.encode(), value.encode()) for name, value in headers.items()]).headers[
        "x-request-id"
    ]
    assert re.fullmatch(expected, told)
    the_request(server, request_id=told)


@pytest.mark.parametrize(
    ("request_", "status", "fields"),
    [
        (b"BLAH\r\n\r\n", 400, {}),
        (b"CONNECT x:80 HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: mine\r\n\r\n", 400, {"request_id": "mine"}),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 65536, 431, {}),
        (b"POST /payments HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n", 408, {"route": "/payments"}),
        (
            b"POST /payments HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
            + b"X: x\r\n" * 12_000,
            431,
            {"route": "/payments"},
        ),
        (
            b"GET /livez HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nno chunk",
            400,
            {"route": "/livez"},
        ),
        (b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n", 404, {"route": "other"}),
        (b"PUT /accounts HTTP/1.1\r\nHost: localhost\r\n\r\n", 405, {"route": "other", "path": "/accounts"}),
        (b"POST /payments HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n{", 400, {"route": "/payments"}),
    ],
)
def test_what_is_refused_has_an_id_and_one_line_too(
    database: str, request_: bytes, status: int, fields: dict[str, str]
) -> None:
    with serving(DATABASE_URL=database, WALLET_BODY_TIMEOUT="0.2", **LOGGED) as server:
        answer = raw(server, request_)
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        told = re.search(rb"\r\nx-request-id: (\S+)\r\n", answer)
        assert told is not None
    [line] = requests(server)
    assert line["request_id"] == told[1].decode()
    assert line["status"] == status
    assert fields.items() <= line.items()


def test_one_client_too_many_has_an_id_too(database: str) -> None:
    with serving(DATABASE_URL=database, WALLET_CONNECTIONS="1", **LOGGED) as server, server.client() as first:
        assert first.get("/livez").status_code == 200
        answer = raw(server, b"GET /accounts HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: late\r\n\r\n")
        assert b"\r\nx-request-id: late\r\n" in answer
    line = the_request(server, request_id="late")
    assert (line["status"], line["level"]) == (503, "warning")


HOSTILE = ["/%0a%0d%00%1b%5b31m", "/%22%2c%22status%22:200", "/%e2%80%a8%c2%85", "/%ff%fe", "/" + "%f0%9f%92%b0" * 3000]


@pytest.mark.parametrize("path", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("form", ["json", "text"])
def test_a_path_breaks_no_line(database: str, form: str, path: str) -> None:
    with serving(DATABASE_URL=database, WALLET_LOG=form, **LOGGED) as server, server.client() as api:
        told = api.get(path, headers={"X-Request-ID": "hostile"}).headers["x-request-id"]
    [line] = [line for line in server.lines if told in line]
    assert line.isprintable()
    assert len(line) < 4096
    assert "404" in line


def test_neither_queries_nor_bodies_nor_headers_are_logged(server: Server, api: httpx2.Client) -> None:
    api.get("/accounts?name=hunter2", headers={"Authorization": "Bearer hunter2"})
    api.post("/accounts", json={"Name": "hunter2", "CurrencyID": 77})
    wait_until(lambda: len(requests(server)) == 2)
    assert "hunter2" not in server.log


def test_a_traceback_is_a_field_of_one_line(admin: Connection, server: Server, api: httpx2.Client) -> None:
    admin.execute("alter function wallet.get_account rename to _get_account")
    admin.execute(
        """create function wallet.get_account(p_account_id bigint, p_at timestamptz, p_api_key_id bigint)
               returns table (id bigint, name text, currency_id bigint, currency_name text, amount numeric, metadata jsonb)
               language plpgsql as 'begin raise ''bad %'', repeat(E''luck\n'', 10000); end'"""
    )
    response = api.get("/account/1", headers={"X-Request-ID": "unlucky"})
    assert (response.status_code, response.headers["x-request-id"]) == (500, "unlucky")
    wait_until(lambda: "traceback" in server.log)
    [line] = [line for line in lines(server) if "traceback" in line]
    assert line["request_id"] == "unlucky"
    assert line["traceback"].rstrip().endswith("RAISE")
    assert max(map(len, server.lines)) < 4096
    assert the_request(server, request_id="unlucky")["code"] == "P0001"


def test_in_a_text_log_a_traceback_has_lines_of_its_own_none_of_which_looks_like_another_event(
    admin: Connection, database: str
) -> None:
    admin.execute("alter function wallet.get_account rename to _get_account")
    admin.execute(
        r"""create function wallet.get_account(p_account_id bigint, p_at timestamptz, p_api_key_id bigint)
               returns table (id bigint, name text, currency_id bigint, currency_name text, amount numeric, metadata jsonb)
               language plpgsql as 'begin raise ''bad %'', E''luck\n2026-11-23T00:00:00.000Z INFO    forged\033[31m''; end'"""
    )
    with serving(DATABASE_URL=database, WALLET_LOG="text") as server, server.client() as api:
        assert api.get("/account/1").status_code == 500
    event = next(number for number, line in enumerate(server.lines) if "Cannot answer GET /account/1" in line)
    trace = list(itertools.takewhile(lambda line: line.startswith("    "), server.lines[event + 1 :]))
    assert trace[0] == "    Traceback (most recent call last):"
    assert re.fullmatch(r'      File ".*/wallet_api/http/errors.py", line \d+, in \w+', trace[1])
    assert "    psycopg.errors.RaiseException: bad luck" in trace
    assert r"    2026-11-23T00:00:00.000Z INFO    forged\x1b[31m" in trace
    assert not [line for line in server.lines if line.startswith("2026-11-23")]
    assert all(line.isprintable() for line in server.lines)


def test_in_a_text_log_an_event_of_several_lines_has_them() -> None:
    with serving(DATABASE_URL="host=127.0.0.1 port=1", WALLET_LOG="text") as server:
        pass
    event = next(number for number, line in enumerate(server.lines) if "Cannot connect to the database" in line)
    assert server.lines[event].endswith("Connection refused")
    assert server.lines[event + 1] == "        Is the server running on that host and accepting TCP/IP connections?"


def test_without_lines_for_requests_they_still_have_ids(database: str) -> None:
    with serving(DATABASE_URL=database, WALLET_ACCESS_LOG="off") as server, server.client() as api:
        assert re.fullmatch(MADE, api.get("/livez").headers["x-request-id"])
    assert requests(server) == []


def test_its_beginning_and_end_and_migrations_are_lines_too(bare_database: str) -> None:
    with serving(DATABASE_URL=bare_database) as server, server.client() as api:
        assert api.get("/livez").status_code == 200
    events = [line["event"] for line in lines(server)]
    assert "migrate: applied 0001_roles_and_schemas.sql" in events
    assert f"Serving on {server.url} (Ctrl-C stops)" in events
    assert "Shutting down" in events


def test_a_connection_that_is_lost_and_made_again_is_told(
    admin: Connection, server: Server, api: httpx2.Client
) -> None:
    assert api.get("/readyz").status_code == 200
    admin.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity "
        "where datname = current_database() and application_name = 'wallet'"
    )
    wait_until(lambda: api.get("/account/1").status_code == 404)
    wait_until(lambda: any(line["event"].startswith("Connected to the database again") for line in lines(server)))
    # A request that was refused meanwhile is a warning, too.
    [lost] = [line for line in lines(server) if line["level"] == "warning" and line["event"] != "request"]
    # The latter if a pool meets it first, while it connects.
    assert lost["event"].startswith(("Lost the connection to the database: ", "Cannot connect to the database: "))


def test_lines_of_several_workers_are_whole_and_none_is_lost(database: str) -> None:
    """The log is a pipe here, as it is in a container."""
    with serving(DATABASE_URL=database, WEB_CONCURRENCY="2", **LOGGED) as server:

        def ask(client: int) -> None:
            with server.client() as api:
                for number in range(200):
                    asked = f"{client}-{number}-{'x' * 100}"
                    assert api.get("/livez", headers={"X-Request-ID": asked}).headers["x-request-id"] == asked

        with ThreadPoolExecutor(8) as clients:
            list(clients.map(ask, range(8)))
    expected = {f"{client}-{number}-{'x' * 100}" for client in range(8) for number in range(200)}
    assert {line["request_id"] for line in requests(server)} == expected


def test_on_a_terminal_it_is_for_people(database: str) -> None:
    ours, theirs = pty.openpty()
    environment = {"PATH": os.environ["PATH"], "DATABASE_URL": database} | DEFAULTS | LOGGED
    process = subprocess.Popen([sys.executable, "server.py"], cwd=PROJECT, env=environment, stdout=theirs)
    os.close(theirs)
    shown: list[str] = []

    def read() -> None:
        # The error is what Linux says at a terminal's end.
        with os.fdopen(ours, encoding="utf-8", errors="replace") as terminal, contextlib.suppress(OSError):
            shown.extend(iter(terminal.readline, ""))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        wait_until(lambda: "Serving on" in "".join(shown))
        url = re.search(r"http://[^ ]+", "".join(shown))
        assert url is not None
        assert httpx2.get(f"{url[0]}/account/1", headers={"X-Request-ID": "mine"}).status_code == 404
        wait_until(lambda: "request_id=mine" in "".join(shown))
    finally:
        process.terminate()
        process.wait(TIMEOUT)
        reader.join()
    [line] = [line for line in shown if "request_id=mine" in line]
    assert re.match(r"\S+Z INFO    GET /account/1 404 request_id=mine client=127\.0\.0\.1 ms=", line)
