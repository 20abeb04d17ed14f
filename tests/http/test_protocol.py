"""HTTP/1.1 as clients really speak it, byte by byte: nothing that is sent is taken for something else."""

import json
import socket
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from tests.conftest import Connection
from tests.support import PATIENCE, account, balance, serving

NO_HTTP = b'{"Error":"The request is not valid HTTP"}'


def connect(url: str) -> socket.socket:
    address = urlsplit(url)
    return socket.create_connection((address.hostname, address.port), PATIENCE)


def read_all(client: socket.socket) -> bytes:
    answer = b""
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
    with serving(DATABASE_URL=database, WALLET_IDLE_TIMEOUT="1") as server:
        yield server.url


def payment(pair: tuple[int, int], *headers: str, path: str = "/payments") -> bytes:
    body = json.dumps({"BuyerAccountID": pair[0], "SellerAccountID": pair[1], "Amount": 1})
    head = [f"POST {path} HTTP/1.1", "Host: x", *headers, f"Content-Length: {len(body)}"]
    return "\r\n".join([*head, "", body]).encode()


@pytest.mark.parametrize(
    "request_", [b"BLAH\r\n\r\n", b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"]
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
        client.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert statuses(read_all(client)) == [200, 200]
    assert balance(admin, pair[1]) == 1


def test_the_body_of_a_request_that_offers_an_upgrade_is_never_a_request(url: str) -> None:
    inner = b"GET /account/1 HTTP/1.1\r\nHost: x\r\n\r\n"
    head = f"POST /payments HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: {len(inner)}\r\n\r\n"
    with connect(url) as client:
        client.sendall(head.encode())
        time.sleep(0.1)
        client.sendall(inner)
        assert statuses(read_all(client)) == [400]


def test_nobody_gets_a_tunnel(api_url: str) -> None:
    with connect(api_url) as client:
        client.sendall(b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = read_all(client)
    assert statuses(answer) == [400]
    assert answer.endswith(b'{"Error":"The service is no proxy"}')


def test_requests_sent_at_once_are_answered_in_order(admin: Connection, url: str, pair: tuple[int, int]) -> None:
    with connect(url) as client:
        client.sendall(payment(pair) + payment(pair, path="/nowhere") + payment(pair, "Connection: close"))
        assert statuses(read_all(client)) == [200, 404, 200]
    assert balance(admin, pair[1]) == 2


def test_garbage_after_a_request_takes_nothing_from_its_answer(
    admin: Connection, url: str, pair: tuple[int, int]
) -> None:
    with connect(url) as client:
        client.sendall(payment(pair) + b"garbage\r\n\r\n")
        assert statuses(read_all(client)) == [200]
    assert balance(admin, pair[1]) == 1


def test_a_client_that_has_said_all_still_gets_its_answer(admin: Connection, url: str, pair: tuple[int, int]) -> None:
    with connect(url) as client:
        client.sendall(payment(pair))
        client.shutdown(socket.SHUT_WR)
        assert statuses(read_all(client)) == [200]
    assert balance(admin, pair[1]) == 1


@pytest.mark.parametrize("sent", [b"", b"GET /livez HTTP/1.1\r\nHos", b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\nGET"])
def test_a_client_that_does_not_go_on_is_closed(url: str, sent: bytes) -> None:
    with connect(url) as client:
        client.sendall(sent)
        assert statuses(read_all(client)) == [200] * sent.count(b"\r\n\r\n")


def test_a_head_just_over_the_limit_is_told_so(api_url: str) -> None:
    with connect(api_url) as client:
        client.sendall(b"GET /livez HTTP/1.1\r\n")
        client.sendall(b"X: " + b"x" * 65536)
        answer = read_all(client)
    assert statuses(answer) == [431]
    assert answer.endswith(b'{"Error":"The head of the request should have at most 65536 bytes"}')


def test_a_body_that_is_announced_too_large_is_refused_before_it_comes(api_url: str) -> None:
    with connect(api_url) as client:
        client.sendall(
            b"POST /payments HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 99999999999\r\n\r\n"
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
