"""Behind a proxy: whose word on the client's address counts, and the prefix that the proxy removes; IPv6 and IPv4."""

import itertools
import json
import socket
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.http.test_foreign_pages import other_address
from tests.support import Server, open_account, payment_body, serving, wait_until

LOGGED = {"WALLET_ACCESS_LOG": "on", "WALLET_LOG": "json"}
_NUMBERS = itertools.count()


def clients(server: Server, *forwarded: str, host: str = "127.0.0.1") -> list[str]:
    """The clients' addresses in the log, for requests to `host` with these X-Forwarded-For."""
    port = server.url.rpartition(":")[2]
    shown = f"[{host}]" if ":" in host else host
    asked = [f"{next(_NUMBERS)}" for _ in forwarded]
    for name, addresses in zip(asked, forwarded, strict=True):
        headers = [("X-Request-ID", name), *[("X-Forwarded-For", line) for line in addresses.split("|") if line]]
        assert httpx2.get(f"http://{shown}:{port}/livez", headers=headers).status_code == 200
    found: dict[str, str] = {}

    def all_logged() -> bool:
        lines = [json.loads(line) for line in server.lines]
        found.update({line["request_id"]: line["client"] for line in lines if line["event"] == "request"})
        return found.keys() >= set(asked)

    wait_until(all_logged)
    return [found[name] for name in asked]


def test_by_default_only_this_machine_is_believed(http_database: str) -> None:
    with serving(DATABASE_URL=http_database, HOST="0.0.0.0", WALLET_AUTH="off", **LOGGED) as server:
        assert clients(server, "", "192.0.2.7", "2001:db8::7") == ["127.0.0.1", "192.0.2.7", "2001:db8::7"]
        here = other_address()
        assert clients(server, "192.0.2.7", "127.0.0.1", host=here) == [here, here]


def test_of_several_addresses_it_is_the_last_that_is_no_proxy_s(http_database: str) -> None:
    """What stands before it, a client may have sent itself."""
    proxies = "127.0.0.1, 10.0.0.0/8 ,2001:db8::/32"
    with serving(DATABASE_URL=http_database, FORWARDED_ALLOW_IPS=proxies, **LOGGED) as server:
        assert clients(
            server,
            "192.0.2.66, 192.0.2.7",
            "192.0.2.66|192.0.2.7, 10.1.2.3",
            "127.0.0.1, 192.0.2.7, 2001:db8::1, 10.1.2.3",
            "10.0.0.1, 11.0.0.1, 10.0.0.2",
            "fe80::7, [2001:db8::1]:443",
        ) == ["192.0.2.7", "192.0.2.7", "192.0.2.7", "11.0.0.1", "fe80::7"]


@pytest.mark.parametrize(("trusted", "client"), [("", "127.0.0.1"), ("10.0.0.1", "127.0.0.1"), ("*", "192.0.2.66")])
def test_whom_it_is_told_to_believe_replaces_the_default(http_database: str, trusted: str, client: str) -> None:
    with serving(DATABASE_URL=http_database, FORWARDED_ALLOW_IPS=trusted, **LOGGED) as server:
        assert clients(server, "192.0.2.66, 192.0.2.7") == [client]


# The prefix.


@pytest.fixture(scope="module")
def prefixed(http_database: str) -> Iterator[httpx2.Client]:
    with serving(DATABASE_URL=http_database, WALLET_ROOT_PATH="/pay/wallet") as server, server.client() as client:
        yield client


def test_where_a_proxy_removes_a_prefix_location_and_links_have_it(prefixed: httpx2.Client) -> None:
    opened = prefixed.post("/accounts", json={"Name": "prefixed", "Amount": 9, "CurrencyID": 1})
    prefix, account, buyer = opened.headers["location"].rpartition("/account/")
    assert (prefix, account) == ("/pay/wallet", "/account/")
    made = payment_body(int(buyer), open_account(prefixed, "prefixed too"))
    for _ in range(3):
        assert prefixed.post("/payments", json=made).status_code == 200
    first = prefixed.get(f"/payments?account={buyer}&limit=1")
    start = f"</pay/wallet/payments?account={buyer}&limit=1&"
    assert first.links["next"]["url"].startswith(start[1:])
    second = prefixed.get(first.links["next"]["url"].removeprefix("/pay/wallet"))
    assert second.headers["link"].count(start) == len(second.links) == 2
    statement = prefixed.get(f"/account/{buyer}/statement?limit=1")
    assert statement.links["next"]["url"].startswith(f"/pay/wallet/account/{buyer}/statement?limit=1&after=")
    assert prefixed.get("/feed?limit=1").links["next"]["url"].startswith("/pay/wallet/feed?after=")


def test_so_have_the_documents_and_what_leads_to_them(prefixed: httpx2.Client) -> None:
    browser = prefixed.get("/", headers={"Accept": "text/html"})
    assert (browser.status_code, browser.headers["location"]) == (307, "/pay/wallet/console")
    assert prefixed.get("/console/").headers["location"] == "/pay/wallet/console"
    assert 'href="/pay/wallet/openapi.json"' in prefixed.get("/docs").text
    assert prefixed.get("/openapi.json").json()["servers"] == [{"url": "/pay/wallet"}]
    problem = prefixed.get("/nothing", headers={"Accept": "application/problem+json"})
    assert problem.json()["type"] == "/pay/wallet/docs#WH002"


def test_a_request_arrives_without_the_prefix(prefixed: httpx2.Client) -> None:
    assert prefixed.get("/pay/wallet/currencies").status_code == 404
    assert prefixed.get("/currencies").status_code == 200


# IPv6 and IPv4.


def answers(host: str, url: str) -> bool:
    try:
        return httpx2.get(f"http://{host}:{url.rpartition(':')[2]}/livez").status_code == 200
    except httpx2.ConnectError:
        return False


@pytest.fixture(scope="module")
def ipv6() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")


def test_all_addresses_are_those_of_ipv6_and_ipv4(http_database: str, ipv6: None) -> None:
    metered: dict[str, Any] = {"WALLET_METRICS_PORT": "0"}
    with serving(DATABASE_URL=http_database, HOST="::", WALLET_AUTH="off", **metered, **LOGGED) as server:
        assert server.url.startswith("http://localhost:")  # a browser opens it
        assert [answers(host, server.url) for host in ("[::1]", "127.0.0.1", other_address(), "localhost")] == [
            True
        ] * 4
        # A client is the same whichever it uses, and so is a proxy.
        assert clients(server, "", "192.0.2.7") == ["127.0.0.1", "192.0.2.7"]
        assert clients(server, "", "192.0.2.7", host="::1") == ["::1", "192.0.2.7"]
        [metrics] = [json.loads(line)["event"].split()[-1] for line in server.lines if "Metrics on" in line]
        for host in ("127.0.0.1", "[::1]"):
            assert httpx2.get(metrics.replace("localhost", host)).status_code == 200


def test_one_address_is_that_one_alone(http_database: str, ipv6: None) -> None:
    with serving(DATABASE_URL=http_database, HOST="::1") as server:
        assert server.url.startswith("http://[::1]:")
        assert [answers(host, server.url) for host in ("[::1]", "127.0.0.1")] == [True, False]


def test_an_address_for_all_is_printed_as_one_that_a_browser_opens(http_database: str) -> None:
    with serving(DATABASE_URL=http_database, HOST="0.0.0.0", WALLET_AUTH="off") as server:
        assert server.url.startswith("http://localhost:")
        assert answers("localhost", server.url)
