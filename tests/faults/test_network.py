"""The connection to the database breaks at awkward moments: no payment is lost, and none is made twice."""

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
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import psycopg
import pytest

from tests.conftest import Connection, clone
from tests.faults.proxy import HARMLESS, MADE, NOT_MADE, Fault, Proxy
from tests.pgbouncer import pgbouncer
from tests.support import TIMEOUT, account, payment_body, sentence, serving, wait_until

Fields = dict[str, Any]
FAULTS = [*MADE, *NOT_MADE, *HARMLESS]
every_fault = pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
_accounts = itertools.count()


class Answer(NamedTuple):
    """An answer of the service."""

    status: int
    body: Any
    replayed: bool


class Client:
    """A connection to the service. What it says of a 503 is checked here, once for all."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self._connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=TIMEOUT)

    def post(self, path: str, fields: Fields, key: str | None = None) -> Answer:
        headers = {} if key is None else {"Idempotency-Key": key}
        self._connection.request("POST", path, json.dumps(fields), headers)
        response = self._connection.getresponse()
        answer = json.loads(response.read())
        assert response.status in (200, 503), answer
        assert (response.getheader("Retry-After") is not None) == (response.status == 503)
        return Answer(response.status, answer, response.getheader("Idempotency-Replayed") == "true")

    def pay(self, payment: Fields, key: str | None = None) -> Answer:
        return self.post("/payments", payment, key)

    def close(self) -> None:
        self._connection.close()


def until_answered(ask: Callable[..., Answer], *arguments: object) -> Answer:
    """Asks until there is an answer, as a client may that has a key."""
    answers = [ask(*arguments)]

    def answered() -> bool:
        if answers[-1].status == 503:
            answers.append(ask(*arguments))
        return answers[-1].status == 200

    wait_until(answered)
    return answers[-1]


@pytest.fixture(scope="module", params=["direct", "pooled"])
def way(request: pytest.FixtureRequest) -> str:
    """Whether a PgBouncer in transaction mode stands before the database."""
    return str(request.param)


@pytest.fixture(scope="module")
def network_database(cluster: str, way: str) -> Iterator[str]:
    yield from clone(cluster, "wallet")


@pytest.fixture(scope="module")
def admin(network_database: str) -> Iterator[Connection]:
    with psycopg.connect(network_database, autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="module")
def proxy(way: str, network_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A proxy before the database, or before PgBouncer."""
    with ExitStack() as stack:
        database = network_database
        if way == "pooled":
            folder = tmp_path_factory.mktemp("pgbouncer")
            database = stack.enter_context(pgbouncer(folder, database, "transaction")).conninfo()
        yield stack.enter_context(Proxy(database))


@pytest.fixture(scope="module")
def urls(proxy: Proxy) -> Iterator[list[str]]:
    """Two instances behind the proxy."""
    with serving(DATABASE_URL=proxy.url) as one, serving(DATABASE_URL=proxy.url) as other:
        yield [one.url, other.url]


@pytest.fixture
def client(urls: list[str], admin: Connection) -> Iterator[Client]:
    client = Client(urls[0])
    yield client
    client.close()
    assert admin.execute("select * from wallet.check_ledger()").fetchall() == []


def new_account(admin: Connection) -> int:
    return account(admin, f"account {next(_accounts)}", 1000)


def payment(buyer: int, seller: int, amount: object = 1) -> Fields:
    return payment_body(buyer, seller, str(amount))


def stored(admin: Connection, buyer: int) -> list[Fields]:
    """The payments of a buyer, with those fields of an answer that tell one from another."""
    rows = admin.execute(
        "select id, buyer_account_id, seller_account_id, amount from ledger.payment where buyer_account_id = %s "
        "order by id",
        [buyer],
    )
    return [{"ID": id_, **payment(buyer, seller, amount)} for id_, buyer, seller, amount in rows]


def told(answer: Fields) -> Fields:
    return {name: answer[name] for name in ("ID", "BuyerAccountID", "SellerAccountID", "Amount")}


def strike(proxy: Proxy, fault: Fault, ask: Callable[[], Answer]) -> Answer:
    """Asks for something that takes a call, to which this happens."""
    before = proxy.struck.copy()
    proxy.strike(fault)
    answer = ask()
    wait_until(lambda: proxy.settled)
    assert proxy.struck - before == Counter([fault])
    return answer


def outcomes(fault: Fault, payments: int) -> list[tuple[int, int]]:
    """What may become of a call that is not repeated: the status of the answer, and how many payments are made."""
    if fault is Fault.HALF_CLOSE_TO_DATABASE:
        # On a busy machine, the call takes the second after which the database sees that no client waits. And PgBouncer
        # takes such a client for one that is gone.
        return [(200, payments), (503, 0), (503, payments)]
    if fault in MADE:
        return [(503, payments)]
    if fault in NOT_MADE:
        return [(503, 0)]
    return [(200, payments)]


@every_fault
def test_a_payment_without_a_key_is_not_repeated_by_the_service(
    admin: Connection, proxy: Proxy, client: Client, fault: Fault
) -> None:
    buyer, seller = new_account(admin), new_account(admin)
    calls = proxy.calls
    answer = strike(proxy, fault, lambda: client.pay(payment(buyer, seller)))
    assert proxy.calls == calls + 1
    made = stored(admin, buyer)
    assert (answer.status, len(made)) in outcomes(fault, 1)
    if answer.status == 200:
        assert made == [told(answer.body)]
    assert client.pay(payment(seller, buyer)).status == 200, "it recovers by itself"


@every_fault
def test_a_payment_with_a_key_is_made_once_however_often_it_is_asked_for(
    admin: Connection, proxy: Proxy, client: Client, fault: Fault
) -> None:
    buyer, seller = new_account(admin), new_account(admin)

    def ask() -> Answer:
        return client.pay(payment(buyer, seller), f"lone {fault.name}")

    first = strike(proxy, fault, ask)
    answer = until_answered(ask)
    assert stored(admin, buyer) == [told(answer.body)]
    assert first.body == answer.body or first.status == 503
    assert ask() == (200, answer.body, True)
    assert client.pay(payment(seller, buyer)).status == 200, "it recovers by itself"


def test_a_payment_lost_first_and_then_refused_is_answered_as_lost(
    admin: Connection, proxy: Proxy, client: Client
) -> None:
    """The service asks again, and the buyer has nothing; but for all it knows, what was lost may still be granted."""
    buyer, seller = account(admin, "with nothing"), new_account(admin)
    calls = proxy.calls
    answer = strike(proxy, Fault.CUT_BEFORE_CALL, lambda: client.pay(payment(buyer, seller), "lost, then refused"))
    assert answer.status == 503
    assert answer.body == {"Error": sentence("WU010")}
    assert proxy.calls > calls + 1
    assert stored(admin, buyer) == []


@every_fault
@pytest.mark.parametrize("atomic", [False, True], ids=["each", "atomic"])
def test_a_batch_without_keys_is_not_repeated_by_the_service(
    admin: Connection, proxy: Proxy, client: Client, fault: Fault, atomic: bool
) -> None:
    buyer, seller = new_account(admin), new_account(admin)
    payments = [payment(buyer, seller, amount) for amount in (1, 2, 3)]
    calls = proxy.calls
    answer = strike(proxy, fault, lambda: client.post("/payments/batch", {"Payments": payments, "Atomic": atomic}))
    assert proxy.calls == calls + 1
    made = stored(admin, buyer)
    assert (answer.status, len(made)) in outcomes(fault, 3)
    if answer.status == 200:
        assert made == [told(result) for result in answer.body["Results"]]
    assert client.pay(payment(seller, buyer)).status == 200, "it recovers by itself"


@every_fault
@pytest.mark.parametrize("atomic", [False, True], ids=["each", "atomic"])
def test_a_batch_with_keys_is_made_once_however_often_it_is_asked_for(
    admin: Connection, proxy: Proxy, client: Client, fault: Fault, atomic: bool
) -> None:
    buyer, seller = new_account(admin), new_account(admin)
    payments = [
        payment(buyer, seller, amount) | {"IdempotencyKey": f"batch {atomic} {fault.name} {amount}"}
        for amount in (1, 2, 3)
    ]

    def ask() -> Answer:
        return client.post("/payments/batch", {"Payments": payments, "Atomic": atomic})

    first = strike(proxy, fault, ask)
    answer = until_answered(ask)
    made = stored(admin, buyer)
    assert made == [told(result) for result in answer.body["Results"]]
    assert [one["Amount"] for one in made] == ["1", "2", "3"]
    if first.status == 200:
        assert [told(result) for result in first.body["Results"]] == made
    assert client.pay(payment(seller, buyer)).status == 200, "it recovers by itself"


def test_an_answer_that_never_comes_is_given_up(database: str) -> None:
    with (
        psycopg.connect(database, autocommit=True) as admin,
        Proxy(database) as proxy,
        serving(DATABASE_URL=proxy.url, WALLET_STATEMENT_TIMEOUT="1") as server,
        ThreadPoolExecutor() as threads,
    ):
        pairs = [(new_account(admin), new_account(admin)) for _ in range(2)]
        proxy.strike(Fault.SILENCE, Fault.SILENCE)
        clients = [Client(server.url) for _ in range(3)]
        unkeyed = threads.submit(clients[0].pay, payment(*pairs[0]))
        wait_until(lambda: proxy.calls == 1)
        keyed = threads.submit(until_answered, clients[1].pay, payment(*pairs[1]), "silence")
        wait_until(lambda: proxy.calls == 2)
        assert unkeyed.result().status == 503
        made = told(keyed.result().body)
        assert stored(admin, pairs[1][0]) == [made]
        wait_until(lambda: proxy.struck[Fault.SILENCE] == 2)
        assert len(stored(admin, pairs[0][0])) == 1
        assert clients[2].pay(payment(*pairs[0])).status == 200, "it recovers by itself"
        for client in clients:
            client.close()
        assert admin.execute("select * from wallet.check_ledger()").fetchall() == []


def trouble() -> Iterator[Fault | None]:
    """Every third call, one fault after another."""
    for fault in itertools.cycle(FAULTS):
        yield from (None, None, fault)


def in_trouble(proxy: Proxy, urls: list[str], clients: int, work: Callable[[Client, int], None]) -> Counter[Fault]:
    """Runs `work` in so many threads, each with a client of its own, while calls fail; returns what happened."""
    before = proxy.struck.copy()
    proxy.strike_on(trouble())

    def run(number: int) -> None:
        client = Client(urls[number % len(urls)])
        work(client, number)
        client.close()

    with ThreadPoolExecutor(clients) as threads:
        for _ in threads.map(run, range(clients)):
            pass
    proxy.strike()
    wait_until(lambda: proxy.settled)
    return proxy.struck - before


def test_clients_that_share_calls(admin: Connection, proxy: Proxy, urls: list[str], client: Client) -> None:
    """What fails is the call of all who share it, those with a key and those without."""
    seller = new_account(admin)
    buyers = [new_account(admin) for _ in range(8)]
    # by buyer and amount, which is another one for each payment
    answers: dict[tuple[int, Decimal], Answer] = {}

    def work(client: Client, number: int) -> None:
        chance = random.Random(number)
        for step in range(1, 31):
            asked = payment(buyers[number], seller, amount := Decimal(step) / 100)
            if chance.random() < 0.5:
                answer = until_answered(client.pay, asked, f"shared {number} {step}")
            else:
                answer = client.pay(asked)
            answers[buyers[number], amount] = answer

    struck = in_trouble(proxy, urls[:1], len(buyers), work)
    assert set(struck) == set(FAULTS)
    made = [one for buyer in buyers for one in stored(admin, buyer)]
    by_payment = {(one["BuyerAccountID"], Decimal(one["Amount"])): one for one in made}
    assert len(by_payment) == len(made), "made twice"
    assert {answer.status for answer in answers.values()} == {200, 503}
    assert len(answers) == 240
    for which, answer in answers.items():
        if answer.status == 200:
            assert told(answer.body) == by_payment[which]
    assert client.pay(payment(seller, buyers[0])).status == 200, "it recovers by itself"


def test_two_instances_with_the_same_keys_at_the_same_moment(
    admin: Connection, proxy: Proxy, urls: list[str], client: Client
) -> None:
    seller = new_account(admin)
    buyers = [new_account(admin) for _ in range(4)]
    together = [threading.Barrier(2, timeout=TIMEOUT) for _ in buyers]
    answers: list[list[Any]] = [[] for _ in range(8)]

    def work(client: Client, number: int) -> None:
        pair = number // 2
        for step in range(1, 16):
            together[pair].wait()
            asked = payment(buyers[pair], seller, Decimal(step) / 100)
            answer = until_answered(client.pay, asked, f"twins {pair} {step}")
            answers[number].append(answer.body)

    struck = in_trouble(proxy, urls, 8, work)
    assert set(struck) == set(FAULTS)
    for pair, buyer in enumerate(buyers):
        assert answers[2 * pair] == answers[2 * pair + 1]
        assert [told(body) for body in answers[2 * pair]] == stored(admin, buyer)
    assert client.pay(payment(seller, buyers[0])).status == 200, "it recovers by itself"
