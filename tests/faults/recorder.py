"""Clients that make random payments, repeat what was not answered, and keep every request and every answer."""

import http.client
import itertools
import json
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from random import Random
from typing import Any, NamedTuple, Self

import psycopg

from tests.faults.follower import Follower
from tests.faults.scene import Address
from tests.support import TIMEOUT, account, payment_body, wait_until

# What settles a request; anything else leaves open whether it took effect, or should not be there at all.
SETTLED = (200, 400, 422)
# Pause of a client that got no answer: short, so that many meet the fault while it lasts.
_PAUSE = 0.05
_USD, _RUB = 1, 2


class Account(NamedTuple):
    """An account as it was opened."""

    id: int
    currency_id: int
    opening: Decimal


@dataclass(slots=True)
class Attempt:
    """A request that was sent, and what came of it: an answer, or how it broke."""

    sent: float
    ended: float | None = None
    status: int | None = None
    body: str = ""
    replayed: bool = False
    retry_after: str | None = None
    broke: str = ""
    code: str = ""

    @property
    def settled(self) -> bool:
        return self.status in SETTLED


@dataclass(slots=True)
class Order:
    """A payment that a client wants, with everything that it sent for it."""

    buyer: int
    seller: int
    amount: str
    key: str | None
    attempts: list[Attempt] = field(default_factory=list)


class Fault(NamedTuple):
    """What was done, when, and how many payments were in flight at that moment."""

    kind: str
    at: float
    in_flight: int


def open_accounts(admin: psycopg.Connection[Any]) -> list[Account]:
    """One that takes part in every other payment, some with much, some with little, one that is full; two currencies."""
    name = f"recorder {uuid.uuid4()}"
    openings = [("hot", 50, _USD), ("full", 10**15 - 1, _USD)]
    openings += [(f"rich {number}", 30, _USD) for number in range(3)]
    openings += [(f"poor {number}", 3, _USD) for number in range(2)]
    openings += [("rouble", 10, _RUB), ("poor rouble", 3, _RUB)]
    return [
        Account(account(admin, f"{name} {who}", amount, currency), currency, Decimal(amount))
        for who, amount, currency in openings
    ]


class Recorder:
    """So many clients, each with a connection of its own that it keeps, each with one request at a time.

    A request without a key is sent once. One with a key is sent until it is settled, unless `repeat` is false; and
    sometimes once more, for no reason. `keyed` is the part of requests that have one. Meanwhile, a reader follows the
    feed.
    """

    def __init__(
        self,
        addresses: list[Address],
        accounts: list[Account],
        *,
        clients: int = 16,
        keyed: float = 0.5,
        repeat: bool = True,
        timeout: float = TIMEOUT,
        seed: object = 0,
    ) -> None:
        self.accounts = accounts
        self.follower = Follower(addresses)
        self.faults: list[Fault] = []
        self._addresses = addresses
        self._keyed = keyed
        self._repeat = repeat
        self._timeout = timeout
        self._serial = itertools.count(1)
        self._orders: list[list[Order]] = [[] for _ in range(clients)]
        self._stopping = threading.Event()
        self._giving_up = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(orders, Random(f"{seed} {number}")))
            for number, orders in enumerate(self._orders)
        ]

    def __enter__(self) -> Self:
        self.follower.start()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._giving_up.set()
        for thread in self._threads:
            thread.join()
        self.follower.stop()

    @property
    def orders(self) -> list[Order]:
        """All requests so far."""
        return [order for orders in self._orders for order in list(orders)]

    def under_way(self) -> list[Order]:
        """The requests that are sent and not answered at this moment."""
        latest = [orders[-1] for orders in self._orders if orders]
        return [order for order in latest if order.attempts and order.attempts[-1].ended is None]

    def in_flight(self) -> int:
        """How many there are."""
        return len(self.under_way())

    def settled(self) -> int:
        """How many requests have been answered for good."""
        return sum(bool(order.attempts) and order.attempts[-1].settled for order in self.orders)

    def unsettled(self) -> list[Order]:
        """The requests with a key that were not repeated until they were settled, as they should have been."""
        return [order for order in self.orders if self._repeat and order.key and not order.attempts[-1].settled]

    def wait_for_answers(self, number: int) -> None:
        """Waits until so many more requests have been answered for good."""
        enough = self.settled() + number
        wait_until(lambda: self.settled() >= enough)

    def strike(self, kind: str, fault: Callable[[], object], when: Callable[[], bool] = lambda: True) -> Fault:
        """Causes a fault while at least half of the clients wait for an answer, and what else it is to meet is there."""
        wait_until(lambda: self.in_flight() * 2 >= len(self._threads) and when())
        struck = Fault(kind, time.time(), self.in_flight())
        self.faults.append(struck)
        fault()
        return struck

    def stop(self) -> None:
        """Makes no more payments, and waits until every one with a key is settled."""
        self._stopping.set()
        deadline = time.monotonic() + TIMEOUT
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._giving_up.set()
        for thread in self._threads:
            thread.join()

    def unanswered(self, fault: Fault) -> int:
        """How many of the requests that were in flight when a fault struck were not settled by an answer."""
        return sum(
            attempt.sent <= fault.at <= (attempt.ended or fault.at) and not attempt.settled
            for order in self.orders
            for attempt in order.attempts
        )

    def report(self) -> str:
        """What was done to the payments, and what their clients were told, a line each."""
        lines = [
            f"{fault.kind}: {fault.in_flight} payments in flight, {self.unanswered(fault)} of them got no answer"
            for fault in self.faults
        ]
        lines += [f"{number} {what}" for what, number in self.counts().items()]
        return "\n".join(lines)

    def counts(self) -> Counter[str]:
        """How many payments were made, refused and left open, and how many requests were repeats."""
        counts = Counter[str]()
        for order in filter(lambda order: order.attempts, self.orders):  # one that is about to be sent has none yet
            last = order.attempts[-1]
            counts["made" if last.status == 200 else "refused" if last.settled else "unknown"] += 1
            counts["sent again"] += len(order.attempts) - 1
            counts["replayed"] += sum(attempt.replayed for attempt in order.attempts)
        return counts

    def _run(self, orders: list[Order], random: Random) -> None:
        with _client(self._addresses, self._timeout, random) as send:
            while not self._stopping.is_set():
                order = self._order(random)
                orders.append(order)
                self._make(send, order)
                if order.key and self._repeat and random.random() < 0.1:
                    self._make(send, order)

    def _make(self, send: Callable[[Order], Attempt], order: Order) -> None:
        while not send(order).settled and not self._giving_up.wait(_PAUSE):
            if order.key is None or not self._repeat:
                return

    def _order(self, random: Random) -> Order:
        """A random payment; every other amount is like no other, and some are no amounts at all."""
        hot = self.accounts[0]
        buyer, seller = (hot if random.random() < 0.25 else random.choice(self.accounts) for _ in range(2))
        if random.random() < 0.9:
            likely = [other for other in self.accounts if other.currency_id == buyer.currency_id and other != buyer]
            seller = seller if seller in likely else random.choice(likely)
        amount = random.choice(["1", "2", "0.5"])
        if random.random() < 0.5:
            amount = f"{random.randrange(100, 500) / 100:.2f}{next(self._serial):010}1"
        elif random.random() < 0.05:
            amount = random.choice(["0", "-1", "0.0000000000000001"])
        key = str(uuid.uuid4()) if random.random() < self._keyed else None
        # No account has this id: identities are counted up from 1.
        seller_id = 10**15 if random.random() < 0.01 else seller.id
        return Order(buyer.id, seller_id, amount, key)


@contextmanager
def _client(addresses: list[Address], timeout: float, random: Random) -> Iterator[Callable[[Order], Attempt]]:
    """A client with one connection, which it keeps for as long as it can; each new one goes to the next address."""
    turn = itertools.cycle(random.sample(addresses, len(addresses)))
    connection: http.client.HTTPConnection | None = None

    def connected() -> http.client.HTTPConnection:
        """Tries each address: after a refused connection nothing was sent, and another address may be tried."""
        nonlocal connection
        if connection is None or connection.sock is None:
            for address in itertools.islice(turn, len(addresses)):
                candidate = http.client.HTTPConnection(*address, timeout=timeout)
                try:
                    candidate.connect()
                except OSError as error:
                    refused = error
                else:
                    connection = candidate
                    return candidate
            raise refused
        return connection

    def send(order: Order) -> Attempt:
        nonlocal connection
        attempt = Attempt(time.time())
        order.attempts.append(attempt)
        try:
            _exchange(connected(), order, attempt)
        except (OSError, http.client.HTTPException) as error:
            attempt.status = None
            attempt.broke = repr(error)
            if connection is not None:
                connection.close()
                connection = None
        attempt.ended = time.time()
        return attempt

    try:
        yield send
    finally:
        if connection is not None:
            connection.close()


def _exchange(connection: http.client.HTTPConnection, order: Order, attempt: Attempt) -> None:
    payment = payment_body(order.buyer, order.seller, order.amount)
    headers = {"Content-Type": "application/json"} | ({} if order.key is None else {"Idempotency-Key": order.key})
    connection.request("POST", "/payments", json.dumps(payment), headers)
    response = connection.getresponse()
    attempt.body = response.read().decode()
    attempt.replayed = response.headers.get("Idempotency-Replayed") == "true"
    attempt.retry_after = response.headers.get("Retry-After")
    attempt.code = response.headers.get("Error-Code", "")
    attempt.status = response.status
