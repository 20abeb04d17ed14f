"""What the console shows, over HTTP: payments by hour, curves, counterparties, API keys, and the feed from now on."""

import threading
from collections.abc import Iterator
from typing import Any

import httpx2
import psycopg
import pytest

from tests.conftest import Connection
from tests.sql.calls import row
from tests.support import TIMEOUT, account, assert_refused, open_account, pay, serving


@pytest.fixture
def served(database: str) -> Iterator[httpx2.Client]:
    with serving(DATABASE_URL=database) as server, server.client() as api:
        yield api


def test_payments_by_hour(served: httpx2.Client) -> None:
    buyer, seller = open_account(served, "buyer", 100), open_account(served, "seller")
    for amount in ("0.50", 7):
        pay(served, buyer, seller, amount)
    hours = served.get("/payments/hours").json()["Hours"]
    assert len(hours) == 24
    assert list(hours[-1]) == ["Hour", "Payments", "Exact"]
    assert sum(hour["Payments"] for hour in hours) == 2
    of_dollars = served.get("/payments/hours?currency=USD").json()["Hours"]
    assert {name: of_dollars[-1][name] for name in ("Payments", "Amount", "Exact")} == {
        "Payments": 2, "Amount": "7.5", "Exact": True,
    }  # fmt: skip
    period = {"from": hours[0]["Hour"], "to": hours[2]["Hour"]}
    assert served.get("/payments/hours", params=period).json()["Hours"] == hours[:2]
    assert_refused(served.get("/payments/hours?from=2020-01-01T00:00:00Z"), "WB066")
    assert_refused(served.get("/payments/hours?currency=EUR"), "WB013")


def test_the_curve_of_an_account(served: httpx2.Client) -> None:
    buyer, seller = open_account(served, "buyer", 100), open_account(served, "seller")
    made = pay(served, buyer, seller, "0.50").json()
    points = served.get(f"/account/{buyer}/curve").json()["Points"]
    assert [point["Amount"] for point in points] == ["100", "99.5", "99.5"]
    assert points[1]["At"] == made["OperationTimestamp"]
    assert served.get(f"/account/{buyer}/curve?to=2020-01-01T00:00:00Z").json() == {}
    assert_refused(served.get("/account/77/curve"), "WN001")


def test_the_counterparties_of_an_account(served: httpx2.Client) -> None:
    buyer, seller = open_account(served, "buyer", 100), open_account(served, "seller")
    assert served.get(f"/account/{buyer}/counterparties").json() == {}
    made = pay(served, buyer, seller, "0.50").json()
    assert served.get(f"/account/{buyer}/counterparties").json() == {
        "Counterparties": [
            {
                "AccountID": seller, "Name": "seller", "Payments": 1, "Paid": "0.5", "Received": "0",
                "LastPaymentID": made["ID"], "OperationTimestamp": made["OperationTimestamp"],
            }
        ]
    }  # fmt: skip
    assert_refused(served.get("/account/77/counterparties"), "WN001")


@pytest.mark.parametrize("limit", ["", "&limit=5"])
def test_the_feed_from_now_on(served: httpx2.Client, limit: str) -> None:
    buyer, seller = open_account(served, "buyer", 100), open_account(served, "seller")
    begun = served.get(f"/feed?after=now{limit}")
    assert begun.json() == {}
    made = pay(served, buyer, seller).json()["ID"]
    [event] = served.get(begun.links["next"]["url"]).json()["Events"]
    assert (event["Event"], event["PaymentID"]) == ("payment_made", made)


def test_a_reader_that_waits_from_now_on_gets_the_next_event(served: httpx2.Client, admin: Connection) -> None:
    for name in ("buyer", "seller"):
        account(admin, name, 10)
    # The wait ends with the first event that comes after it began, so payments are made until it does.
    with httpx2.Client(base_url=served.base_url, timeout=TIMEOUT) as other, psycopg.connect(admin.info.dsn) as paying:
        paying.autocommit = True
        found: list[Any] = []
        waiting = threading.Thread(target=lambda: found.append(other.get("/feed?after=now&wait=20").json()))
        waiting.start()
        while waiting.is_alive():
            row(paying, "make_payment", 1, 2, "0.0001")
            waiting.join(0.05)
    assert {event["Event"] for event in found[0]["Events"]} == {"payment_made"}


# API keys.


@pytest.fixture
def keyed(database: str, admin: Connection) -> Iterator[httpx2.Client]:
    """A client of a service that requires keys, with one that may manage keys."""
    secret = row(admin, "create_api_key", "office", ["read", "keys"])["secret"]
    with serving(DATABASE_URL=database, WALLET_AUTH="required") as server, server.client() as api:
        api.headers["Authorization"] = f"Bearer {secret}"
        yield api


def test_a_key_is_created_used_listed_and_revoked(keyed: httpx2.Client, admin: Connection) -> None:
    shop = account(admin, "shop", 5)
    asked = {
        "Name": "till",
        "Scopes": ["read"],
        "AccountIDs": [shop],
        "ExpiresAt": "2999-01-31T00:00:00Z",
        "Tenant": "t",
    }
    made = keyed.post("/keys", json=asked, headers={"Idempotency-Key": "till"}).json()
    assert made | {"ID": 0, "Secret": ""} == asked | {"ID": 0, "Secret": "", "ExpiresAt": "2999-01-31T00:00:00.000000Z"}
    again = keyed.post("/keys", json=asked, headers={"Idempotency-Key": "till"})
    assert (again.json(), again.headers["idempotency-replayed"]) == (
        {name: value for name, value in made.items() if name != "Secret"},
        "true",
    )
    used = {"Authorization": f"Bearer {made['Secret']}"}
    assert [found["ID"] for found in keyed.get("/accounts", headers=used).json()["Accounts"]] == [shop]
    office, till = keyed.get("/keys").json()["Keys"]
    assert (office["Name"], "AccountIDs" in office, "LastUsedAt" in office) == ("office", False, True)
    assert (till["AccountIDs"], till["Scopes"], till["CreatedBy"]) == (
        [shop],
        ["read"],
        "wallet_app, API key 1 (office)",
    )
    revoked = keyed.post(f"/key/{made['ID']}/revoke").json()
    assert revoked["RevokedBy"] == "wallet_app, API key 1 (office)"
    assert_refused(keyed.get("/accounts", headers=used), "WA001")


def test_what_a_key_cannot_pass_on(keyed: httpx2.Client) -> None:
    assert_refused(keyed.post("/keys", json={"Name": "till", "Scopes": ["pay"]}), "WF005")
    for scopes in ("read", {"read": True}, 7):
        assert keyed.post("/keys", json={"Name": "till", "Scopes": scopes}).headers["error-field"] == "Scopes"
    for accounts in ([1.5], ["1"], [2**63], [None], "1"):
        refused = keyed.post("/keys", json={"Name": "till", "Scopes": ["read"], "AccountIDs": accounts})
        assert (refused.status_code, refused.headers["error-field"]) == (400, "AccountIDs")
    for scope in (None, "re\0ad", 1):
        refused = keyed.post("/keys", json={"Name": "till", "Scopes": [scope]})
        assert (refused.status_code, refused.headers["error-field"]) == (400, "Scopes")
    assert len(keyed.get("/keys").json()["Keys"]) == 1


def test_a_service_that_requires_no_keys_hands_out_none(served: httpx2.Client, admin: Connection) -> None:
    for method, path, body in (
        ("GET", "/keys", None),
        ("POST", "/keys", {"Name": "till", "Scopes": ["read"]}),
        ("POST", "/key/1/revoke", None),
    ):
        assert_refused(served.request(method, path, json=body), "WA001")
    secret = row(admin, "create_api_key", "office", ["read", "keys"])["secret"]
    headers = {"Authorization": f"Bearer {secret}"}
    assert served.post("/keys", json={"Name": "till", "Scopes": ["read"]}, headers=headers).status_code == 200
