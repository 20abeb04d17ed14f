"""What pages for people show, over HTTP: payments by hour, curves, counterparties, and the feed from now on."""

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
