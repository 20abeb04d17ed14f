"""A web page of another site cannot use a wallet that requires no API key, from whichever browser it is opened."""

import socket
from collections.abc import Iterator
from typing import Any

import httpx2
import psycopg
import pytest

from tests.support import Server, assert_refused, open_account, payment_body, serving

EVIL = "http://evil.example"


@pytest.fixture(scope="module")
def pair(api: httpx2.Client) -> dict[str, Any]:
    return payment_body(open_account(api, "foreign buyer", 1000), open_account(api, "foreign seller"))


# What a browser sends for another site's page: an older one has no Sec-Fetch-Site, and Origin says "null" in a frame.
FOREIGN = [
    {"Origin": EVIL, "Content-Type": "text/plain"},
    {"Origin": EVIL, "Sec-Fetch-Site": "cross-site"},
    {"Origin": "null"},
    {"Origin": "null", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "Cross-Site"},
    {"Origin": "http://localhost"},
    {"Origin": "http://localhost:1"},
    {"Origin": "http://127.0.0.1.evil.example"},
    {"Origin": ""},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_a_foreign_page_pays_nothing(api: httpx2.Client, pair: dict[str, Any], headers: dict[str, str]) -> None:
    before = api.get(f"/account/{pair['BuyerAccountID']}").json()
    assert_refused(api.post("/payments", json=pair, headers=headers), "WF003")
    for path in ("/payments/batch", "/holds", "/accounts", "/nowhere"):
        assert_refused(api.post(path, json={}, headers=headers), "WF003")
    assert api.get(f"/account/{pair['BuyerAccountID']}").json() == before


def test_a_key_makes_no_foreign_page_ours(api: httpx2.Client, http_database: str, pair: dict[str, Any]) -> None:
    with psycopg.connect(http_database, autocommit=True) as connection:
        [(secret,)] = connection.execute("select secret from wallet.create_api_key('foreign', '{pay}')").fetchall()
    headers = {"Authorization": f"Bearer {secret}"}
    assert api.post("/payments", json=pair, headers=headers).status_code == 200
    for foreign in FOREIGN:
        assert_refused(api.post("/payments", json=pair, headers=headers | foreign), "WF003")


def test_the_form_trick_pays_nothing(api: httpx2.Client, pair: dict[str, Any]) -> None:
    """A form of enctype text/plain sends name=value; the equals sign becomes a part of the JSON."""
    body = "".join(f'"{name}":{value},' for name, value in pair.items())
    form = f'{{{body}"ID":"="}}'
    headers = {"Content-Type": "text/plain", "Origin": EVIL}
    assert_refused(api.post("/payments", content=form, headers=headers), "WF003")
    assert api.post("/payments", content=form, headers={"Content-Type": "text/plain"}).status_code == 200


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_a_foreign_page_reads_nothing(api: httpx2.Client, headers: dict[str, str]) -> None:
    for path in ("/accounts", "/payments", "/currencies", "/openapi.json", "/docs", "/livez", "/readyz"):
        assert_refused(api.get(path, headers=headers), "WF003")
        assert api.head(path, headers=headers).status_code == 403


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1", "", "["],
)
def test_a_foreign_name_that_leads_to_loopback_is_refused(api: httpx2.Client, pair: dict[str, Any], host: str) -> None:
    for origin in ({}, {"Origin": f"http://{host}"}, {"Sec-Fetch-Site": "same-origin"}):
        headers = {"Host": host, **origin}
        assert_refused(api.get("/accounts", headers=headers), "WF004")
        assert_refused(api.post("/payments", json=pair, headers=headers), "WF004")


def test_programs_and_pages_of_its_own_notice_nothing(api: httpx2.Client, pair: dict[str, Any], api_url: str) -> None:
    port = api_url.rpartition(":")[2]
    for headers in [
        {},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "same-origin", "Origin": api_url},
        {"Origin": api_url.upper().replace("HTTP", "http")},
        {"Host": f"localhost:{port}"},
        {"Host": f"LOCALHOST:{port}", "Origin": f"http://localhost:{port}"},
        {"Host": "wallet.localhost"},
        {"Host": "[::1]:8080"},
        {"Host": "127.8.9.10"},
    ]:
        assert api.get("/accounts?limit=1", headers=headers).status_code == 200, headers
        assert api.post("/payments", json=pair, headers=headers).status_code == 200, headers


# Settings.


@pytest.fixture(scope="module")
def named(http_database: str) -> Iterator[Server]:
    with serving(DATABASE_URL=http_database, WALLET_HOSTS="Pay.example, other.example") as server:
        yield server


def test_more_names_can_be_allowed(named: Server) -> None:
    with named.client() as api:
        for host in ("pay.example", "PAY.EXAMPLE:443", "other.example", "localhost"):
            assert api.get("/currencies", headers={"Host": host, "Origin": f"https://{host}"}).status_code == 200
        # a proxy that puts its own name for the service into Host
        assert api.get("/currencies", headers={"Host": "127.0.0.1", "Origin": "https://pay.example"}).status_code == 200
        assert_refused(api.get("/currencies", headers={"Host": "evil.example"}), "WF004")
        assert_refused(api.get("/currencies", headers={"Origin": EVIL}), "WF003")


def test_elsewhere_than_on_loopback_a_service_may_have_any_name(http_database: str) -> None:
    address = "127.0.0.1"
    with serving(DATABASE_URL=http_database, HOST="0.0.0.0", WALLET_AUTH="off") as server:
        port = server.url.rpartition(":")[2]
        here = f"http://{address}:{port}"
        assert_refused(httpx2.get(f"{here}/currencies", headers={"Host": "wallet"}), "WF004")
        elsewhere = f"http://{other_address()}:{port}"
        assert httpx2.get(f"{elsewhere}/currencies", headers={"Host": "wallet"}).status_code == 200
        assert_refused(httpx2.get(f"{elsewhere}/currencies", headers={"Host": "wallet", "Origin": EVIL}), "WF003")


def test_where_names_are_given_no_other_is_good_elsewhere_either(http_database: str) -> None:
    """As with docker compose: a foreign name that points to this machine leads to the published port, too."""
    settings = {"HOST": "0.0.0.0", "WALLET_AUTH": "off", "WALLET_HOSTS": "pay.example"}
    with serving(DATABASE_URL=http_database, **settings) as server:
        port = server.url.rpartition(":")[2]
        elsewhere = f"http://{other_address()}:{port}"
        for host in (other_address(), f"{other_address()}:{port}", "pay.example", "localhost:8080", "[2001:db8::1]"):
            assert httpx2.get(f"{elsewhere}/currencies", headers={"Host": host}).status_code == 200
        assert_refused(httpx2.get(f"{elsewhere}/currencies", headers={"Host": "evil.example"}), "WF004")
        assert_refused(httpx2.get(f"http://127.0.0.1:{port}/currencies", headers={"Host": "10.0.0.1"}), "WF004")


def other_address() -> str:
    """An address of this machine that is not loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing
        return str(probe.getsockname()[0])


@pytest.fixture(scope="module")
def keyed(http_database: str) -> Iterator[tuple[Server, str]]:
    """A service that requires keys, and lets pages of two origins use it; and a key."""
    with psycopg.connect(http_database, autocommit=True) as connection:
        [(secret,)] = connection.execute("select secret from wallet.create_api_key('page', '{read,pay}')").fetchall()
    origins = "https://shop.example,http://localhost:3000"
    with serving(DATABASE_URL=http_database, WALLET_AUTH="required", WALLET_CORS_ORIGINS=origins) as server:
        yield server, secret


def test_where_keys_are_required_a_page_needs_one(keyed: tuple[Server, str]) -> None:
    server, secret = keyed
    with server.client() as api:
        for headers in FOREIGN:
            assert api.get("/currencies", headers=headers).status_code == 401
            answered = api.get("/currencies", headers=headers | {"Authorization": f"Bearer {secret}"})
            assert (answered.status_code, answered.headers.get("access-control-allow-origin")) == (200, None)


def test_pages_of_origins_that_are_allowed_read_the_answers(keyed: tuple[Server, str]) -> None:
    server, secret = keyed
    with server.client() as api:
        for origin in ("https://shop.example", "http://localhost:3000"):
            asks = {
                "Origin": origin,
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "authorization,content-type,idempotency-key",
            }
            preflight = api.options("/payments", headers=asks)
            assert (preflight.status_code, preflight.json()) == (200, {})
            assert preflight.headers["access-control-allow-origin"] == origin
            headers = {"Origin": origin, "Authorization": f"Bearer {secret}"}
            answer = api.get("/account/0", headers=headers)
            assert answer.headers["access-control-allow-origin"] == origin
            exposed = answer.headers["access-control-expose-headers"].lower().split(", ")
            assert {"error-code", "error-field", "location", "link", "idempotency-replayed", "retry-after"} <= {
                *exposed
            }
            assert answer.headers["vary"] == "Origin"
        asks["Origin"] = EVIL
        preflight = api.options("/payments", headers=asks)
        assert_refused(preflight, "WH006")
        assert "access-control-allow-origin" not in preflight.headers


def test_by_default_no_page_reads_anything(api: httpx2.Client) -> None:
    for headers in ({}, {"Sec-Fetch-Site": "same-origin"}):
        assert not [name for name in api.get("/accounts?limit=1", headers=headers).headers if "access-control" in name]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"WALLET_CORS_ORIGINS": "https://a"}, "WALLET_CORS_ORIGINS should be unset unless WALLET_AUTH is required"),
        ({"WALLET_CORS_ORIGINS": "*"}, "WALLET_CORS_ORIGINS should be origins such as https://shop.example"),
        ({"WALLET_CORS_ORIGINS": "https://a/"}, "WALLET_CORS_ORIGINS should be origins such as https://shop.example"),
        ({"WALLET_HOSTS": "http://a"}, "WALLET_HOSTS should be host names without ports"),
        ({"WALLET_HOSTS": "a:80"}, "WALLET_HOSTS should be host names without ports"),
    ],
)
def test_settings_that_cannot_be_used(settings: dict[str, str], sentence: str) -> None:
    server = Server(**settings)
    assert server.wait() == 2
    assert sentence in server.log
