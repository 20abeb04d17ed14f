"""Lists are written page by page: of any length, all of one moment, and never complete when they are not."""

import asyncio
import contextlib
import http.client
import json
import socket
from collections.abc import AsyncGenerator, Iterator
from decimal import Decimal
from pathlib import Path
from threading import Event, Thread
from typing import Any

import psycopg
import pytest
from starlette.types import Message

from tests.conftest import Connection, clone
from tests.support import TIMEOUT, Server, payment_body, serving, totals, wait_until
from wallet_api.database.pool import _PAGE, Rows
from wallet_api.http.lists import List, _Stream

ACCOUNTS, PAYMENTS = 2 * _PAGE + 10, 60_000


@pytest.fixture(scope="module")
def long_database(cluster: str) -> Iterator[str]:
    """A database whose lists are longer than what sockets hold."""
    for conninfo in clone(cluster, "wallet"):
        with psycopg.connect(conninfo, autocommit=True) as connection:
            connection.execute(
                "select count(*) from generate_series(1, %s) n, wallet.create_account('a' || n, 1000, 1)", [ACCOUNTS]
            )
            for _ in range(PAYMENTS // 10_000):
                connection.execute(
                    """select count(*) from wallet.make_payments(
                           array(select n % 1000 + 1 from generate_series(1, 10000) n)::bigint[],
                           array(select n % 999 + 1001 from generate_series(1, 10000) n)::bigint[],
                           array(select n * 0.00001 from generate_series(1, 10000) n))"""
                )
        yield conninfo


@contextlib.contextmanager
def get(server: Server, path: str, version: int = 11) -> Iterator[http.client.HTTPResponse]:
    """The answer to a request, of which nothing but the head has been read."""
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=TIMEOUT)
    connection._http_vsn = version  # type: ignore[attr-defined]
    connection._http_vsn_str = f"HTTP/{version / 10}"  # type: ignore[attr-defined]
    connection.connect()
    # Without a limit, the system may take in the whole list.
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    connection.request("GET", path)
    response = connection.getresponse()
    try:
        yield response
    finally:
        response.close()
        connection.close()


def test_a_long_list_is_what_the_database_has(long_database: str) -> None:
    with serving(DATABASE_URL=long_database) as server, get(server, "/payments") as response:
        assert response.getheader("transfer-encoding") == "chunked"
        listed = json.loads(response.read())["Payments"]
    assert '"level":"warning"' not in server.log
    with psycopg.connect(long_database) as admin:
        stored = admin.execute("select id, amount, buyer_account_id from wallet.list_payments()").fetchall()
    assert [(p["ID"], Decimal(p["Amount"]), p["BuyerAccountID"]) for p in listed] == stored
    assert len(listed) == PAYMENTS


@pytest.mark.parametrize("rows", [0, 1, _PAGE - 1, _PAGE, _PAGE + 1, 2 * _PAGE])
def test_lists_about_as_long_as_a_page(admin: Connection, database: str, rows: int) -> None:
    admin.execute("select count(*) from generate_series(1, %s) n, wallet.create_account('a' || n, 1, 1)", [rows])
    with serving(DATABASE_URL=database) as server, server.client() as api:
        answer = api.get("/accounts").json()
    assert [row["ID"] for row in answer.get("Accounts", [])] == list(range(1, rows + 1))
    assert bool(answer) == bool(rows)


def test_names_of_any_kind_come_back_as_they_were(admin: Connection, database: str) -> None:
    names = ['"', "\\", "\\u0041", "a\nb\tc\x01\x1f\x7f", "ü€🙂\u2028", "null", "%s %d %%", "</script>", " "]
    for name in names:  # some are from before a rule forbade them
        admin.execute(
            "insert into ledger.account (name, currency_id, opening_balance, balance) values (%s, 1, 1, 1)", [name]
        )
    with serving(DATABASE_URL=database) as server, server.client() as api:
        assert [row["Name"] for row in api.get("/accounts").json()["Accounts"]] == names
        assert [api.get(f"/account/{n + 1}").json()["Name"] for n in range(len(names))] == names


def test_all_of_a_list_is_of_one_moment(long_database: str) -> None:
    """While money goes from the beginning of the list to its end and back, its sum stays."""
    stop = Event()

    def pay() -> None:
        with psycopg.connect(long_database, autocommit=True) as connection:
            while not stop.is_set():
                for pair in ([1, ACCOUNTS], [ACCOUNTS, 1]):
                    connection.execute("select wallet.make_payment(%s, %s, 100)", pair)

    payer = Thread(target=pay)
    payer.start()
    try:
        with serving(DATABASE_URL=long_database) as server, server.client() as api:
            for _ in range(20):
                accounts = api.get("/accounts").json()["Accounts"]
                assert sum(Decimal(row["Amount"]) for row in accounts) == ACCOUNTS * 1000
    finally:
        stop.set()
        payer.join()


def peak(server: Server) -> int:
    """The most memory that the process has had, in bytes."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def test_a_long_list_takes_the_memory_of_a_page(long_database: str) -> None:
    with serving(DATABASE_URL=long_database) as server:
        with server.client() as api:
            assert api.get("/account/1").status_code == 200
        before = peak(server)
        with get(server, "/payments") as response:
            length = sum(len(part) for part in iter(lambda: response.read(65536), b""))
        assert length > 8_000_000
        assert peak(server) - before < 8_000_000


def in_transaction(admin: psycopg.Connection[Any]) -> list[int]:
    """The server's connections that are reading a list."""
    query = """select pid from pg_stat_activity
               where datname = current_database() and application_name = 'wallet' and xact_start is not null"""
    return [pid for (pid,) in admin.execute(query).fetchall()]


@pytest.fixture
def watcher(long_database: str) -> Iterator[Connection]:
    with psycopg.connect(long_database, autocommit=True) as connection:
        yield connection


def test_a_list_that_the_database_breaks_off_does_not_look_complete(long_database: str, watcher: Connection) -> None:
    with serving(DATABASE_URL=long_database) as server:
        with get(server, "/payments") as response:
            wait_until(lambda: bool(in_transaction(watcher)))
            for pid in in_transaction(watcher):
                watcher.execute("select pg_terminate_backend(%s)", [pid])
            with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
                response.read()
        with server.client() as api:
            assert len(api.get("/payments").json()["Payments"]) >= PAYMENTS
    assert "GET /payments was cut off" in server.log
    assert "Traceback" not in server.log


@pytest.mark.parametrize("limit", ["WALLET_READER_TIMEOUT", "WALLET_LIST_TIMEOUT"])
def test_a_reader_that_stalls_is_cut_off(long_database: str, watcher: Connection, limit: str) -> None:
    with (
        serving(DATABASE_URL=long_database, WALLET_POOL_SIZE="1", **{limit: "0.5"}) as server,
        server.client() as api,
        get(server, "/payments") as response,
    ):
        assert api.get("/account/1").status_code == 200
        wait_until(lambda: not in_transaction(watcher))
        with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
            response.read()
        assert len(api.get("/accounts").json()["Accounts"]) == ACCOUNTS
    assert "its reader is too slow" in server.log


def test_slow_readers_do_not_delay_others(long_database: str, watcher: Connection) -> None:
    limits = {"WALLET_POOL_SIZE": "1", "WALLET_POOL_TIMEOUT": "1"}
    with (
        serving(DATABASE_URL=long_database, **limits) as server,
        server.client() as api,
        get(server, "/payments"),
    ):
        wait_until(lambda: bool(in_transaction(watcher)))
        assert api.get("/account/1").status_code == 200
        assert len(api.get("/payments?limit=5").json()["Payments"]) == 5
        assert api.get("/accounts").status_code == 503  # lists wait for lists


def test_connections_that_die_while_their_readers_stall_are_replaced(long_database: str, watcher: Connection) -> None:
    stalled = "state = 'idle in transaction' and state_change < clock_timestamp() - interval '200 ms'"
    end = f"""select pg_terminate_backend(pid) from pg_stat_activity
              where {stalled} and application_name = 'wallet' and datname = current_database()"""
    with serving(DATABASE_URL=long_database, WALLET_POOL_SIZE="1") as server, server.client() as api:
        for _ in range(2):
            with get(server, "/payments"):
                wait_until(lambda: bool(watcher.execute(end).fetchall()))
            assert len(api.get("/accounts").json()["Accounts"]) == ACCOUNTS


def test_a_list_with_another_request_behind_it_is_cut_off_as_well(long_database: str, watcher: Connection) -> None:
    with serving(DATABASE_URL=long_database, WALLET_READER_TIMEOUT="0.3") as server:
        host, _, port = server.url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), TIMEOUT) as client:
            client.sendall(
                b"GET /payments HTTP/1.1\r\nHost: localhost\r\n\r\nGET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
            )
            wait_until(lambda: "was cut off" in server.log)
            wait_until(lambda: not in_transaction(watcher))
            assert server.stop() == 0, server.log
    assert "Traceback" not in server.log
    assert "running task" not in server.log


def test_a_reader_that_hangs_up_frees_the_connection(long_database: str, watcher: Connection) -> None:
    with serving(DATABASE_URL=long_database) as server:
        with get(server, "/payments"):
            wait_until(lambda: bool(in_transaction(watcher)))
        wait_until(lambda: not in_transaction(watcher))
    assert "Traceback" not in server.log


@pytest.mark.parametrize("values", [[("1",)], []])
def test_a_list_without_end_ends_when_the_reader_is_gone(values: list[tuple[str]]) -> None:
    """So does one of which nothing has been found yet."""
    page = Rows((("id", 20),), values, next_after="1")

    async def pages() -> AsyncGenerator[Rows]:
        while True:
            await asyncio.sleep(0)
            yield page

    messages_in: Iterator[Message] = iter([{"type": "http.request", "more_body": False}, {"type": "http.disconnect"}])

    async def receive() -> Message:
        return next(messages_in)

    async def send(message: Message) -> None:
        pass

    async def test() -> None:
        async with asyncio.timeout(TIMEOUT):
            scope = {"type": "http", "http_version": "1.1", "method": "GET", "path": "/"}
            await _Stream(List("Numbers"), page, pages(), TIMEOUT)(scope, receive, send)

    asyncio.run(test())


def test_http_1_0_gets_a_length_instead_of_chunks(long_database: str) -> None:
    with serving(DATABASE_URL=long_database) as server, get(server, "/accounts", version=10) as response:
        body = response.read()
        assert response.getheader("transfer-encoding") is None
        assert int(response.getheader("content-length", "0")) == len(body)
        assert len(json.loads(body)["Accounts"]) == ACCOUNTS


def test_head_of_a_long_list(long_database: str, watcher: Connection) -> None:
    with serving(DATABASE_URL=long_database) as server, server.client() as api:
        response = api.head("/payments")
        assert (response.status_code, response.content) == (200, b"")
        assert api.get("/livez").status_code == 200
        wait_until(lambda: not in_transaction(watcher))


def test_a_long_list_is_cut_off_when_the_time_for_stopping_is_over(long_database: str, watcher: Connection) -> None:
    with (
        serving(DATABASE_URL=long_database, WALLET_SHUTDOWN_TIMEOUT="1") as server,
        get(server, "/payments") as response,
    ):
        wait_until(lambda: bool(in_transaction(watcher)))
        server.process.terminate()
        wait_until(lambda: not in_transaction(watcher))
        with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
            response.read()
        assert server.wait() == 0
    assert "GET /payments was cut off: the service stops" in server.log
    assert "Traceback" not in server.log
    assert totals(watcher)["USD"] == ACCOUNTS * 1000


def test_an_unread_answer_does_not_prevent_shutdown(long_database: str) -> None:
    payment = payment_body(1, 2, "0.01")
    body = json.dumps({"Payments": [payment] * 10_000})
    with serving(DATABASE_URL=long_database, WALLET_SHUTDOWN_TIMEOUT="1") as server:
        connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=TIMEOUT)
        connection.request("POST", "/payments/batch", body)
        connection.getresponse()
        assert server.stop() == 0, server.log
        connection.close()
    assert "Traceback" not in server.log
