"""GET /feed: events by links, each once, and the wait for the next one."""

import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from tests.conftest import Connection
from tests.support import Server, account, open_account, pay, serving, wait_until

MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


@pytest.fixture
def server(database: str) -> Iterator[Server]:
    with serving(DATABASE_URL=database) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[httpx2.Client]:
    """A client of a service of its own, whose accounts 1, with 100, and 2 are its first two events."""
    with server.client() as opened:
        open_account(opened, "buyer", 100)
        open_account(opened, "seller")
        yield opened


def following(response: httpx2.Response) -> str:
    """The URL of what follows, which every page of the feed has."""
    assert response.status_code == 200, response.text
    match = re.fullmatch('<([^>]+)>; rel="next"', response.headers["link"])
    assert match is not None
    return match[1]


def events(response: httpx2.Response) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = response.json().get("Events", [])
    return found


def test_an_event_says_what_happened(client: httpx2.Client) -> None:
    pay(client, 1, 2, "5.1", Reference="order 17")
    response = client.get("/feed?after=0.2")
    assert MOMENT.sub("…", response.text) == (
        '{"Events":[{"Cursor":"1.0","Event":"payment_made","OperationTimestamp":"…","PaymentID":1,"CurrencyID":1,'
        '"Amount":"5.1","BuyerAccountID":1,"SellerAccountID":2,"Reference":"order 17"}]}'
    )
    assert following(response) == "/feed?after=1.0"
    [payment] = client.get("/payments").json()["Payments"]
    assert events(response)[0]["OperationTimestamp"] == payment["OperationTimestamp"]


def test_the_links_lead_through_all_events_and_on(client: httpx2.Client) -> None:
    for _ in range(5):
        pay(client, 1, 2)
    url, pages = "/feed?limit=3", []
    while found := events(response := client.get(url)):
        pages.append([event["Event"] for event in found])
        url = following(response)
    assert pages == [["account_created"] * 2 + ["payment_made"], ["payment_made"] * 3, ["payment_made"]]
    assert following(response) == url == "/feed?after=5.0&limit=3"
    pay(client, 1, 2)
    assert [event["PaymentID"] for event in events(client.get(url))] == [6]


def test_what_was_answered_is_in_the_feed(client: httpx2.Client) -> None:
    """Read your own writes, whether or not the reader would wait."""
    url = following(client.get("/feed?wait=10"))
    for number in range(1, 20):
        pay(client, 1, 2, "0.1")
        response = client.get(url)
        assert [event["PaymentID"] for event in events(response)] == [number]
        url = following(response)


def test_a_reader_that_waits_gets_the_next_event_when_it_happens(client: httpx2.Client, server: Server) -> None:
    url = following(client.get("/feed?wait=20"))
    with ThreadPoolExecutor() as threads, server.client() as other, server.client() as third:
        waiting = [threads.submit(reader.get, url) for reader in (other, third)]
        time.sleep(0.5)
        assert not any(reader.done() for reader in waiting)
        pay(client, 1, 2)
        assert [[event["PaymentID"] for event in events(reader.result(10))] for reader in waiting] == [[1], [1]]


def test_a_wait_ends_without_an_event(client: httpx2.Client) -> None:
    response = client.get("/feed?after=0.2&wait=1")
    assert response.text == "{}"
    assert following(response) == "/feed?after=0.2&wait=1"


def test_a_stop_ends_the_wait(admin: Connection, database: str) -> None:
    with ThreadPoolExecutor() as threads, serving(DATABASE_URL=database) as server, server.client() as client:
        waiting = threads.submit(client.get, "/feed?wait=30")  # longer than stop() waits for the exit
        looks = "select from pg_stat_activity where application_name = 'wallet' and query like '%wallet.feed_end(%'"
        wait_until(lambda: admin.execute(looks).rowcount > 0)
        assert server.stop() == 0
        assert waiting.result().text == "{}"


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("wait=31", "WH040"),
        ("wait=-1", "WH040"),
        ("wait=9223372036854775807", "WH040"),
        ("wait=0.5", "WH031"),
        ("wait=", "WH031"),
        ("limit=0", "WB061"),
        ("limit=1001", "WB061"),
        ("after=", "WB063"),
        ("after=latest", "WB063"),
        ("after=1.0%00", "WH033"),
        ("after=%ff", "WH023"),
        ("offset=1", "WH022"),
    ],
)
def test_bad_input_is_refused(api: httpx2.Client, query: str, code: str) -> None:
    response = api.get(f"/feed?{query}")
    assert (response.status_code, response.headers["error-code"]) == (400, code)


def test_a_key_that_is_bound_to_accounts_sees_their_events(database: str, admin: Connection) -> None:
    account(admin, "buyer", 100)
    account(admin, "seller")
    account(admin, "other", 100)
    query = "select secret from wallet.create_api_key('bound', '{read}', '{3}')"
    [(secret,)] = admin.execute(query).fetchall()
    admin.execute("select wallet.make_payment(1, 2, 1)")
    with serving(DATABASE_URL=database, WALLET_AUTH="required") as server, server.client() as client:
        client.headers["Authorization"] = f"Bearer {secret}"
        response = client.get("/feed")
        assert [event["AccountID"] for event in events(response)] == [3]
        # The link goes on after the payment of others.
        assert following(response) == "/feed?after=1.0"
        assert client.get(following(response)).text == "{}"
        paying = "select wallet.make_payment(1, 2, 1), wallet.make_payment(3, 2, 1), wallet.make_payment(1, 2, 1)"
        timer = threading.Timer(0.5, admin.execute, [paying])
        timer.start()
        assert [event["PaymentID"] for event in events(client.get("/feed?after=1.0&wait=10"))] == [3]
        timer.join()
