"""Many at once, over HTTP, through two processes with three workers on one database: the same promises."""

import http.client
import itertools
import json
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from decimal import Decimal
from urllib.parse import urlsplit

import httpx2
import psycopg
import pytest

from tests.concurrency.original import ALLOWED, CLIENTS, PAYMENTS, open_accounts, random_payments
from tests.conftest import Connection, clone
from tests.pgbouncer import pgbouncer
from tests.support import TIMEOUT, account, balance, ledger_problems, open_account, payment_body, serving, totals

# Of the versions of PostgreSQL, tests/concurrency/test_sql.py proves the same.
pytestmark = pytest.mark.once

Pay = Callable[[int, int, object], str]


@pytest.fixture(
    scope="module",
    params=[
        "direct",
        pytest.param("transaction", marks=pytest.mark.pooled),
        pytest.param("session", marks=pytest.mark.pooled),
    ],
)
def way(request: pytest.FixtureRequest) -> str:
    """Without PgBouncer, or with one in either mode."""
    return str(request.param)


@pytest.fixture(scope="module")
def shared_database(cluster: str, way: str) -> Iterator[str]:
    yield from clone(cluster, "wallet")


@pytest.fixture(scope="module")
def admin(shared_database: str) -> Iterator[Connection]:
    with psycopg.connect(shared_database, autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="module")
def urls(way: str, shared_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Two instances: one process, and one with two workers. They serve all tests: to start takes longer than a test."""
    with ExitStack() as stack:
        database = shared_database
        if way != "direct":
            folder = tmp_path_factory.mktemp("pgbouncer")
            database = stack.enter_context(pgbouncer(folder, database, way)).conninfo()
        one = stack.enter_context(serving(DATABASE_URL=database))
        two = stack.enter_context(serving(DATABASE_URL=database, WEB_CONCURRENCY="2"))
        with two.client() as api:
            assert api.get("/readyz").status_code == 200
        yield [one.url, two.url]


def all_at_once(urls: list[str], clients: int, work: Callable[[Pay, int], list[str]]) -> Counter[str]:
    """Runs `work` in so many threads, each with a connection to one of the instances, and counts the outcomes."""
    start = threading.Barrier(clients)

    def run(number: int) -> list[str]:
        address = urlsplit(urls[number % len(urls)])
        connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=TIMEOUT)

        def pay(buyer: int, seller: int, amount: object) -> str:
            payment = payment_body(buyer, seller, amount)
            connection.request("POST", "/payments", json.dumps(payment))
            response = connection.getresponse()
            response.read()
            return "paid" if response.status == 200 else str(response.headers["Error-Code"])

        start.wait()
        outcomes = work(pay, number)
        connection.close()
        return outcomes

    with ThreadPoolExecutor(clients) as threads:
        return Counter(outcome for outcomes in threads.map(run, range(clients)) for outcome in outcomes)


def test_the_concurrency_test_of_the_original_service(admin: Connection, way: str, urls: list[str]) -> None:
    payments = PAYMENTS if way == "direct" else PAYMENTS // 5
    with httpx2.Client(base_url=urls[0]) as api:
        accounts = open_accounts(lambda name, amount, currency: open_account(api, name, amount, currency))
    before = totals(admin)

    def work(pay: Pay, number: int) -> list[str]:
        chosen = itertools.islice(random_payments(random.Random(number), accounts), payments)
        return [pay(*payment) for payment in chosen]

    outcomes = all_at_once(urls, CLIENTS, work)
    assert outcomes.total() == CLIENTS * payments
    assert outcomes["paid"] > 0
    assert set(outcomes) <= ALLOWED
    assert totals(admin) == before
    assert ledger_problems(admin) == []


def test_opposing_payments_do_not_deadlock(admin: Connection, urls: list[str]) -> None:
    pair = [account(admin, "one", 1000), account(admin, "other", 1000)]
    before = totals(admin)

    def work(pay: Pay, number: int) -> list[str]:
        # the instance is chosen by the number too, so each gets both directions
        buyer, seller = pair if number // 2 % 2 else reversed(pair)
        return [pay(buyer, seller, 1) for _ in range(25)]

    assert all_at_once(urls, 16, work) == {"paid": 400}
    assert totals(admin) == before
    assert ledger_problems(admin) == []


def test_many_buyers_of_one_seller(admin: Connection, urls: list[str]) -> None:
    seller = account(admin, "seller of many")
    buyers = [account(admin, f"one of many {number}", 20) for number in range(40)]

    def work(pay: Pay, number: int) -> list[str]:
        return [pay(buyers[number], seller, "0.5") for _ in range(10)]

    assert all_at_once(urls, 40, work) == {"paid": 400}
    assert balance(admin, seller) == 200
    assert ledger_problems(admin) == []


def test_a_buyer_overdrawn_by_a_hundred_at_once_pays_exactly_what_there_is(admin: Connection, urls: list[str]) -> None:
    buyer = account(admin, "overdrawn", "37.5")
    sellers = [account(admin, f"seller {number}") for number in range(10)]
    outcomes = all_at_once(urls, 100, lambda pay, number: [pay(buyer, sellers[number % 10], 1)])
    assert outcomes == {"paid": 37, "WB006": 63}
    assert balance(admin, buyer) == Decimal("0.5")
    assert ledger_problems(admin) == []


def test_each_hold_ends_once_however_many_capture_and_void_it(admin: Connection, urls: list[str]) -> None:
    buyer, seller = account(admin, "buyer", 100), account(admin, "seller")
    held = [
        admin.execute("select id from wallet.create_hold(%s, %s, 1)", [buyer, seller]).fetchone() for _ in range(20)
    ]
    holds = [row[0] for row in held if row]

    def end(number: int) -> list[tuple[int, int]]:
        """What became of each hold: its id, and the status of the answer."""
        with httpx2.Client(base_url=urls[number % 2], timeout=TIMEOUT) as api:
            way = "capture" if number // 2 % 2 else "void"
            return [(hold, api.post(f"/hold/{hold}/{way}").status_code) for hold in random.sample(holds, len(holds))]

    with ThreadPoolExecutor(12) as threads:
        ends = Counter(outcome for outcomes in threads.map(end, range(12)) for outcome in outcomes)
    assert ends == {**{(hold, 200): 1 for hold in holds}, **{(hold, 409): 11 for hold in holds}}
    query = "select status, count(*) from ledger.hold where id = any (%s) group by 1"
    statuses = admin.execute(query, [holds]).fetchall()
    captured = dict(statuses).get("captured", 0)
    assert set(dict(statuses)) <= {"captured", "voided"}
    assert (balance(admin, buyer), balance(admin, seller)) == (100 - captured, captured)
    assert ledger_problems(admin) == []
