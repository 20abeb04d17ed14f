"""Clients over the limits are refused at once; the others are served, and a client that does not read is cut off."""

import asyncio
import contextlib
import select
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from tests.conftest import Connection
from tests.sql.calls import row
from tests.support import TIMEOUT, Server, account, refusal_body, serving, wait_until, waiting_for_locks
from wallet_api.serving.event_loop import Loop

LIVEZ = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Client:
    """A connection, over which requests are sent as they are given."""

    def __init__(self, server: Server) -> None:
        url = urlsplit(server.url)
        self._socket = socket.create_connection((url.hostname, url.port), TIMEOUT)

    def send(self, request: bytes) -> None:
        self._socket.sendall(request)

    def pay(self, buyer: int, seller: int, secret: str | None = None) -> None:
        body = b'{"BuyerAccountID":%d,"SellerAccountID":%d,"Amount":1}' % (buyer, seller)
        key = "" if secret is None else f"Authorization: Bearer {secret}\r\n"
        head = f"POST /payments HTTP/1.1\r\nHost: localhost\r\n{key}Content-Length: {len(body)}"
        self.send(f"{head}\r\n\r\n".encode() + body)

    def answer(self) -> bytes:
        """The next answer, one that has come in one piece."""
        return self._socket.recv(65536)

    def is_answered(self) -> bool:
        return bool(select.select([self._socket], [], [], 0)[0])

    def close(self) -> None:
        self._socket.close()


@contextlib.contextmanager
def clients(server: Server, number: int) -> Iterator[list[Client]]:
    """So many, and all are in: each was answered once."""
    connected = [Client(server) for _ in range(number)]
    try:
        for client in connected:
            client.send(LIVEZ)
            assert client.answer().startswith(b"HTTP/1.1 200 ")
        yield connected
    finally:
        for client in connected:
            client.close()


@contextlib.contextmanager
def no_room(
    admin: Connection, database: str, secret: str | None = None, **environment: str
) -> Iterator[tuple[Server, tuple[int, int]]]:
    """A call is held up, and a second payment waits: as many as may."""
    pair = account(admin, "held", 10), account(admin, "seller")
    patient = {"WALLET_COALESCE_LOCK_TIMEOUT": "20", "WALLET_LOCK_TIMEOUT": "20", "WALLET_COALESCE_TIMEOUT": "20"}
    with (
        serving(DATABASE_URL=database, WALLET_COALESCE_WAITING="1", **patient, **environment) as server,
        psycopg.connect(database) as holder,
        clients(server, 2) as waiting,
    ):
        holder.execute("select from ledger.account where id = %s for update", [pair[0]])
        for client in waiting:
            client.pay(*pair, secret)
            waiting_for_locks(admin, 1)
        yield server, pair
        holder.rollback()
        for client in waiting:
            assert client.answer().startswith(b"HTTP/1.1 200 ")


def test_one_payment_too_many_is_refused_at_once_and_the_process_lives(admin: Connection, database: str) -> None:
    with no_room(admin, database) as (server, pair), clients(server, 2) as (payer, other):
        payer.pay(*pair)
        answer = payer.answer()
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nretry-after: 1\r\n" in answer
        assert answer.endswith(refusal_body("WU002"))
        other.send(LIVEZ)
        assert other.answer().startswith(b"HTTP/1.1 200 ")


def test_a_flood_from_one_key_leaves_room_for_another_key(admin: Connection, database: str) -> None:
    one, other = (row(admin, "create_api_key", name, ["pay"])["secret"] for name in ("one", "other"))
    with contextlib.ExitStack() as stack:
        with no_room(admin, database, one, WALLET_AUTH="required") as (server, pair):
            greedy, modest = stack.enter_context(clients(server, 2))
            greedy.pay(*pair, one)
            assert greedy.answer().startswith(b"HTTP/1.1 503 ")
            modest.pay(account(admin, "modest", 10), pair[1], other)
        assert modest.answer().startswith(b"HTTP/1.1 200 ")


def test_a_refused_client_is_not_read_again_at_once(admin: Connection, database: str) -> None:
    with no_room(admin, database) as (server, pair), clients(server, 2) as (hasty, other):
        hasty.pay(*pair)
        assert hasty.answer().startswith(b"HTTP/1.1 503 ")
        hasty.send(LIVEZ)
        other.send(LIVEZ)  # which came later
        assert other.answer().startswith(b"HTTP/1.1 200 ")
        assert not hasty.is_answered()
        assert hasty.answer().startswith(b"HTTP/1.1 200 ")


def test_clients_over_the_limit_are_refused_except_at_livez(admin: Connection, database: str) -> None:
    pair = account(admin, "buyer", 10), account(admin, "seller")
    with serving(DATABASE_URL=database, WALLET_CONNECTIONS="2") as server, clients(server, 3) as (one, two, three):
        three.pay(*pair)
        answer = three.answer()
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nretry-after: 1\r\n" in answer
        assert answer.endswith(refusal_body("WU003"))
        three.send(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert three.answer().startswith(b"HTTP/1.1 200 ")
        one.pay(*pair)
        assert one.answer().startswith(b"HTTP/1.1 200 "), "who came before is served"
        two.close()
        wait_until(lambda: connected(server) == 2)
        three.pay(*pair)
        assert three.answer().startswith(b"HTTP/1.1 200 ")


def test_clients_far_over_the_limit_wait_to_be_accepted(database: str) -> None:
    with serving(DATABASE_URL=database, WALLET_CONNECTIONS="1") as server, clients(server, 2) as (one, _):
        outside = Client(server)
        outside.send(LIVEZ)
        wait_until(lambda: "No room for more clients at the moment" in server.log)
        assert not outside.is_answered()
        one.close()
        assert outside.answer().startswith(b"HTTP/1.1 200 ")
        outside.close()


def test_all_pending_connections_are_accepted_at_once() -> None:
    """uvloop itself lets in one a turn: a busy service would keep them waiting, /livez and the load balancer too."""
    inside: list[asyncio.BaseTransport] = []

    class Protocol(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            inside.append(transport)

    async def main() -> int:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Loop)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            server = await loop.create_server(Protocol, sock=listener, backlog=100)
            outside = [socket.create_connection(listener.getsockname(), TIMEOUT) for _ in range(50)]
            for _ in range(5):
                await asyncio.sleep(0)
            let_in = len(inside)
            server.close()
            for client in outside:
                client.close()
            for transport in inside:
                transport.close()
            await server.wait_closed()
            return let_in

    with asyncio.Runner(loop_factory=Loop) as runner:
        assert runner.run(main()) == 50


# Clients that do not read.


def connected(server: Server) -> int:
    """How many connections of clients the system knows on the server's side; those that wait for their end included."""
    port = urlsplit(server.url).port
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    locals_and_states = [line.split()[1:4:2] for line in lines]
    return sum(int(local[-4:], 16) == port and state not in ("06", "0A") for local, state in locals_and_states)


@pytest.fixture
def long_list(admin: Connection, database: str) -> str:
    """A database with a list of accounts that is written in one piece, of some 100 KB."""
    admin.execute("select count(*) from generate_series(1, 1000) n, wallet.create_account('account ' || n, 1, 1)")
    return database


def test_a_client_that_never_reads_is_cut_off(long_list: str) -> None:
    with serving(DATABASE_URL=long_list, WALLET_READER_TIMEOUT="0.5") as server, clients(server, 1) as [client]:
        with contextlib.suppress(OSError):  # it may be cut off already
            client.send(b"GET /accounts HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100)
        wait_until(lambda: "GET /accounts was cut off: its reader is too slow" in server.log)
        wait_until(lambda: connected(server) == 0)
    assert "Traceback" not in server.log


def test_a_client_that_does_not_read_its_last_answer_is_cut_off(long_list: str) -> None:
    with serving(DATABASE_URL=long_list, WALLET_READER_TIMEOUT="0.5") as server, clients(server, 1) as [client]:
        last = b"GET /accounts HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        with contextlib.suppress(OSError):
            client.send(b"GET /accounts HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100 + last)
        wait_until(lambda: connected(server) == 0)
    assert "Traceback" not in server.log
