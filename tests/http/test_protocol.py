"""HTTP/1.1 as clients really speak it, byte by byte: nothing that is sent is taken for something else."""

import asyncio
import contextlib
import json
import select
import socket
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
import uvicorn
from uvicorn.server import ServerState

from tests.conftest import Connection
from tests.support import TIMEOUT, account, balance, payment_body, refusal_body, serving, wait_until
from wallet_api.serving import protocol
from wallet_api.serving.event_loop import Loop
from wallet_api.serving.protocol import Protocol

NO_HTTP = refusal_body("WH001")


def connect(url: str) -> socket.socket:
    address = urlsplit(url)
    return socket.create_connection((address.hostname, address.port), TIMEOUT)


def read_all(client: socket.socket) -> bytes:
    """What comes until the connection ends, by a reset perhaps: of what was sent, not all may have been read."""
    answer = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := client.recv(65536):
            answer += chunk
    return answer


def statuses(answer: bytes) -> list[int]:
    return [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]]


@pytest.fixture
def pair(admin: Connection) -> tuple[int, int]:
    return account(admin, "buyer", 10), account(admin, "seller")


@pytest.fixture
def url(database: str) -> Iterator[str]:
    with serving(DATABASE_URL=database, WALLET_IDLE_TIMEOUT="1", WALLET_BODY_TIMEOUT="1") as server:
        yield server.url


def payment(pair: tuple[int, int], *headers: str, path: str = "/payments") -> bytes:
    body = json.dumps(payment_body(*pair))
    head = [f"POST {path} HTTP/1.1", "Host: localhost", *headers, f"Content-Length: {len(body)}"]
    return "\r\n".join([*head, "", body]).encode()


@pytest.mark.parametrize(
    "request_", [b"BLAH\r\n\r\n", b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"]
)
def test_what_is_no_http_gets_an_answer_in_the_contract_s_form(api_url: str, request_: bytes) -> None:
    with connect(api_url) as client:
        client.sendall(request_)
        head, _, body = read_all(client).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"content-type: application/json" in head
    assert body == NO_HTTP


UPGRADES = {
    "Java's HttpClient": ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAAAAIAAAAB"),
    "curl --http2": ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"),
    "a websocket": ("Connection: Upgrade", "Upgrade: websocket"),
}


@pytest.mark.parametrize("headers", UPGRADES.values(), ids=UPGRADES)
@pytest.mark.parametrize("pause", [False, True])
def test_an_upgrade_that_is_offered_is_declined_and_the_request_answered(
    admin: Connection, url: str, pair: tuple[int, int], headers: tuple[str, ...], pause: bool
) -> None:
    head, end, body = payment(pair, *headers).partition(b"\r\n\r\n")
    with connect(url) as client:
        client.sendall(head + end)
        if pause:
            time.sleep(0.1)
        client.sendall(body)
        client.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert statuses(read_all(client)) == [200, 200]
    assert balance(admin, pair[1]) == 1


def test_the_body_of_a_request_that_offers_an_upgrade_is_never_a_request(url: str) -> None:
    inner = b"GET /account/1 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    head = f"POST /payments HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: {len(inner)}\r\n\r\n"
    with connect(url) as client:
        client.sendall(head.encode())
        time.sleep(0.1)
        client.sendall(inner)
        assert statuses(read_all(client)) == [400]


def test_any_number_of_upgrades_that_are_offered_at_once(url: str) -> None:
    offer = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    with connect(url) as client:
        client.sendall(offer * 1000)
        assert statuses(read_all(client)) == [200] * 1000


def test_an_upgrade_that_is_offered_with_the_last_request_leaves_it_the_last(api_url: str) -> None:
    with connect(api_url) as client:
        client.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close, Upgrade\r\nUpgrade: h2c\r\n\r\n")
        assert b"\r\nconnection: close\r\n" in read_all(client)


def test_connect_is_refused(api_url: str) -> None:
    with connect(api_url) as client:
        client.sendall(b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = read_all(client)
    assert statuses(answer) == [400]
    assert answer.endswith(refusal_body("WH004"))


@pytest.mark.parametrize(
    ("version", "hosts", "status"),
    [
        ("1.1", ["localhost"], 200),
        ("1.1", [], 400),
        ("1.1", ["localhost", "localhost"], 400),
        ("1.1", ["localhost", "127.0.0.1"], 400),
        ("1.0", ["localhost"], 200),
        ("1.0", [], 200),
        ("1.0", ["localhost", "localhost"], 400),
    ],
)
@pytest.mark.parametrize("offer", ["", "Connection: Upgrade\r\nUpgrade: h2c\r\n"], ids=["", "with an upgrade"])
def test_http_1_1_names_its_host_exactly_once(
    api_url: str, offer: str, version: str, hosts: list[str], status: int
) -> None:
    head = f"GET /livez HTTP/{version}\r\nX: x\r\n{offer}X: x\r\n"
    asked = head + "".join(f"hOST: {host}\r\n" for host in hosts) + "\r\n"
    with connect(api_url) as client:
        client.sendall(asked.encode())
        client.shutdown(socket.SHUT_WR)
        answer = read_all(client)
    assert statuses(answer) == [status]
    if status == 400:
        assert b"\r\nerror-code: WH007\r\n" in answer
        assert answer.endswith(refusal_body("WH007"))


def test_the_connection_goes_on_after_a_request_without_a_host(
    admin: Connection, url: str, pair: tuple[int, int]
) -> None:
    with connect(url) as client:
        client.sendall(payment(pair).replace(b"Host: localhost\r\n", b"") + payment(pair, "Connection: close"))
        assert statuses(read_all(client)) == [400, 200]
    assert balance(admin, pair[1]) == 1


def test_requests_sent_at_once_are_answered_in_order(admin: Connection, url: str, pair: tuple[int, int]) -> None:
    with connect(url) as client:
        client.sendall(payment(pair) + payment(pair, path="/nowhere") + payment(pair, "Connection: close"))
        assert statuses(read_all(client)) == [200, 404, 200]
    assert balance(admin, pair[1]) == 2


BROKEN_BODY = b"POST /payments HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nno chunk\r\n"


@pytest.mark.parametrize("garbage", [b"garbage\r\n\r\n", BROKEN_BODY], ids=["a head", "a body"])
def test_garbage_after_a_request_takes_nothing_from_its_answer(
    admin: Connection, url: str, pair: tuple[int, int], garbage: bytes
) -> None:
    with connect(url) as client:
        client.sendall(payment(pair) + garbage)
        assert statuses(read_all(client)) == [200]
    assert balance(admin, pair[1]) == 1


def test_a_client_that_has_said_all_still_gets_its_answer(admin: Connection, url: str, pair: tuple[int, int]) -> None:
    with connect(url) as client:
        client.sendall(payment(pair))
        client.shutdown(socket.SHUT_WR)
        assert statuses(read_all(client)) == [200]
    assert balance(admin, pair[1]) == 1


@pytest.mark.parametrize(
    "sent", [b"", b"GET /livez HTTP/1.1\r\nHos", b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\nGET"]
)
def test_a_client_that_does_not_go_on_is_closed(url: str, sent: bytes) -> None:
    with connect(url) as client:
        client.sendall(sent)
        assert statuses(read_all(client)) == [200] * sent.count(b"\r\n\r\n")


@pytest.mark.parametrize("byte_by_byte", [b"GET /livez?x=", b"GET /livez HTTP/1.1\r\nX: "], ids=["URL", "header"])
def test_a_head_that_trickles_in_is_given_up(url: str, byte_by_byte: bytes) -> None:
    with connect(url) as client:
        client.sendall(byte_by_byte)
        with contextlib.suppress(ConnectionResetError):  # where a byte came after the end
            trickle(client)
            assert client.recv(1) == b""


def test_a_body_that_trickles_in_is_given_up(url: str) -> None:
    with connect(url) as client:
        client.sendall(b"POST /payments HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000\r\n\r\n")
        trickle(client)
        answer = client.recv(65536)
    assert statuses(answer) == [408]
    assert answer.endswith(refusal_body("WH012", seconds=1))


def trickle(client: socket.socket) -> None:
    """Sends a byte now and again, until there is something to read: an answer, or the end."""

    def is_over() -> bool:
        client.send(b"x")
        return bool(select.select([client], [], [], 0)[0])

    wait_until(is_over)


TOO_LARGE = {
    "a header": b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 65536,
    "many headers": b"GET /livez HTTP/1.1\r\nHost: localhost\r\n" + b"X: x\r\n" * 11_000,
    "a URL": b"GET /livez?" + b"x" * 65536,
    "all at once": b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 65536 + b"\r\n\r\n",
    "with an upgrade": b"GET /livez HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nX: "
    + b"x" * 65536
    + b"\r\n\r\n",
    "a trailer": b"POST /payments HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    + b"X: x\r\n" * 50_000,
    "a chunk's extension": b"POST /payments HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1;"
    + b"x" * 300_000,
}


@pytest.mark.parametrize("request_", TOO_LARGE.values(), ids=TOO_LARGE)
def test_what_stands_around_bodies_has_a_limit(api_url: str, request_: bytes) -> None:
    with connect(api_url) as client:
        # What it does not read any more comes back as a reset, which may come before the answer is read.
        with contextlib.suppress(ConnectionError):
            client.sendall(request_)
        answer = read_all(client)
    assert statuses(answer) == [431]
    assert answer.endswith(refusal_body("WH005", limit=65_536))


def test_a_wrong_head_before_a_large_body_is_not_too_large(api_url: str) -> None:
    head = b"POST /payments HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 200000\r\n\r\n"
    with connect(api_url) as client:
        with contextlib.suppress(ConnectionError):
            client.sendall(head + b" " * 200_000)
        assert statuses(read_all(client)) == [400]


def test_a_head_up_to_the_limit_is_read_however_large_the_body(api_url: str) -> None:
    head = b"POST /payments/batch HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX: " + b"x" * 65000 + b"\r\n"
    body = b'{"Payments":[]}' + b" " * 100_000
    with connect(api_url) as client:
        client.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        assert statuses(read_all(client)) == [200]


def test_a_trailer_is_no_header(admin: Connection, url: str, pair: tuple[int, int]) -> None:
    """A proxy that inspects or removes headers does not see it."""
    body = json.dumps(payment_body(*pair)).encode()
    head = b"POST /payments HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = b"%x\r\n%b\r\n0\r\nIdempotency-Key: the same\r\n\r\n" % (len(body), body)
    with connect(url) as client:
        client.sendall((head + chunks) * 2)
        assert statuses(read_all(client)) == [200, 200]
    assert balance(admin, pair[1]) == 2


BODY = b'{"BuyerAccountID":0}'
CHUNKS = b"14\r\n" + BODY + b"\r\n0\r\n\r\n"
LENGTH = b"Content-Length: 20\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
# Of each, two servers could think that it ends at different places.
AMBIGUOUS = {
    "length and chunks": (LENGTH + CHUNKED, CHUNKS),
    "chunks and length": (CHUNKED + LENGTH, CHUNKS),
    "two lengths": (LENGTH + b"Content-Length: 5\r\n", BODY),
    "the same length twice": (LENGTH * 2, BODY),
    "a list of lengths": (b"Content-Length: 20, 20\r\n", BODY),
    "a signed length": (b"Content-Length: +20\r\n", BODY),
    "a negative length": (b"Content-Length: -20\r\n", BODY),
    "a hexadecimal length": (b"Content-Length: 0x14\r\n", BODY),
    "two numbers": (b"Content-Length: 2 0\r\n", BODY),
    "no number": (b"Content-Length: \r\n", BODY),
    "a length of more than 64 bits": (b"Content-Length: 18446744073709551636\r\n", BODY),
    "a blank before the colon": (b"Content-Length : 20\r\n", BODY),
    "a folded line": (b"X: x\r\n Content-Length: 20\r\n", BODY),
    "a folded value": (b"Transfer-Encoding:\r\n chunked\r\n", CHUNKS),
    "an unknown coding": (b"Transfer-Encoding: xchunked\r\n", CHUNKS),
    "chunks that are not the last coding": (b"Transfer-Encoding: chunked, identity\r\n", CHUNKS),
    "chunks in chunks": (CHUNKED * 2, CHUNKS),
    "a coding behind a control character": (b"Transfer-Encoding: \x0bchunked\r\n", CHUNKS),
    "a NUL": (b"X: \0\r\n" + LENGTH, BODY),
    "a bare CR": (b"X: x\rY: y\r\n" + LENGTH, BODY),
    "a bare LF": (b"X: x\nY: y\r\n" + LENGTH, BODY),
    "a name that is none": (b"X\xff: x\r\n" + LENGTH, BODY),
    "lines of chunks that end with LF": (CHUNKED, CHUNKS.replace(b"\r\n", b"\n")),
    "a chunk's size with a prefix": (CHUNKED, b"0x" + CHUNKS),
    "a chunk's size with a sign": (CHUNKED, b"+" + CHUNKS),
    "a chunk's size of more than 64 bits": (CHUNKED, b"10000000000000014" + CHUNKS[2:]),
    "a chunk without its end": (CHUNKED, CHUNKS.replace(BODY + b"\r\n", BODY)),
    "a length in a trailer": (CHUNKED, CHUNKS[:-2] + LENGTH + b"\r\n"),
}


@pytest.mark.parametrize(("headers", "body"), AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_where_it_is_not_clear_how_a_request_ends_nothing_that_follows_is_one(
    api_url: str, headers: bytes, body: bytes
) -> None:
    with connect(api_url) as client:
        client.sendall(b"POST /payments HTTP/1.1\r\nHost: localhost\r\n" + headers + b"\r\n" + body)
        client.sendall(b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = read_all(client)
    assert statuses(answer) == [400]
    assert answer.endswith(NO_HTTP)


def test_an_error_in_an_unread_body_is_no_second_answer(api_url: str) -> None:
    with connect(api_url) as client:
        client.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        answer = client.recv(65536)
        client.sendall(b"no chunk\r\n")
        assert statuses(answer + read_all(client)) == [200]


def test_a_body_that_is_announced_too_large_is_refused_before_it_comes(api_url: str) -> None:
    with connect(api_url) as client:
        client.sendall(
            b"POST /payments HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 99999999999\r\n\r\n"
        )
        answer = read_all(client)
    assert statuses(answer) == [413]
    assert b"connection: close" in answer.lower()


def test_expect_100_continue(admin: Connection, url: str, pair: tuple[int, int]) -> None:
    head, end, body = payment(pair, "Expect: 100-continue", "Connection: close").partition(b"\r\n\r\n")
    with connect(url) as client:
        client.sendall(head + end)
        assert statuses(client.recv(100)) == [100]
        client.sendall(body)
        assert statuses(read_all(client)) == [200]


@pytest.mark.parametrize("mistake", ["not found", "wrong method", "bad json", "refused"])
def test_the_connection_stays_after_a_refusal(api_url: str, mistake: str) -> None:
    requests: dict[str, Any] = {
        "not found": {"method": "GET", "url": "/nowhere"},
        "wrong method": {"method": "PUT", "url": "/accounts", "content": b"{}"},
        "bad json": {"method": "POST", "url": "/payments", "content": b"{"},
        "refused": {"method": "POST", "url": "/payments", "json": {}},
    }
    with httpx2.Client(base_url=api_url) as client:
        assert client.request(**requests[mistake]).is_client_error
        [connection] = client._transport._pool.connections  # type: ignore[attr-defined]
        assert client.get("/livez").status_code == 200
        assert client._transport._pool.connections == [connection]  # type: ignore[attr-defined]


def test_a_connection_that_is_set_up_while_the_server_stops_ends_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """uvicorn asks the connections that it knows to shut down, and then waits for all."""
    monkeypatch.setattr(protocol, "_LATE_GRACE", 0.01)
    monkeypatch.setattr(Protocol, "stopping", False)

    async def unused(scope: object, receive: object, send: object) -> None:
        raise AssertionError

    async def test() -> None:
        loop = asyncio.get_running_loop()
        config = uvicorn.Config(unused, ws="none", log_config=None, timeout_keep_alive=3600)
        state = ServerState()
        with (
            socket.create_server(("127.0.0.1", 0)) as listener,
            socket.create_connection(listener.getsockname(), TIMEOUT) as client,
        ):
            accepted, _ = listener.accept()
            server = await loop.create_server(lambda: Protocol(config, state, {}), sock=listener, backlog=1)
            server.close()
            await loop.connect_accepted_socket(lambda: Protocol(config, state, {}), accepted)
            assert await asyncio.to_thread(client.recv, 1) == b""
            assert state.connections == set()
            await asyncio.sleep(0.01)  # the socket is closed in a later turn of the loop

    with contextlib.closing(Loop()) as loop:
        loop.run_until_complete(test())
