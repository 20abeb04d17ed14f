"""Whatever is asked over HTTP, in whatever order, with keys used again and instances that die: a few lines tell the answer."""

import contextlib
import decimal
import itertools
import re
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, ClassVar, NamedTuple

import httpx2
import psycopg
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.conftest import Connection
from tests.support import Server, wait_until

CURRENCIES = {1: "USD", 2: "RUB"}
LIMIT = Decimal("1e15")
NOT_AN_AMOUNT = "Amount should be a number of at most 15 integer digits and 15 decimals"
TAKEN = "Idempotency key belongs to another payment"
NOBODY = 10**18
# A payment that waits for an account goes on waiting.
PATIENT = {"WALLET_LOCK_TIMEOUT": "20", "WALLET_COALESCE_LOCK_TIMEOUT": "20"}
PROBLEMS = "select * from wallet.check_ledger() where account_id = any (%s) or payment_id = any (%s)"
WAITING = "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"


class Asked(NamedTuple):
    """A payment as a request asks for it."""

    buyer: int
    seller: int
    amount: str
    key: str | None

    def json(self) -> dict[str, object]:
        return {"BuyerAccountID": self.buyer, "SellerAccountID": self.seller, "Amount": self.amount}


@dataclass
class Made:
    """A payment that was made; its JSON is known when it was told for the first time."""

    buyer: int
    seller: int
    amount: Decimal
    json: dict[str, Any] = field(default_factory=dict)


class Outcome(NamedTuple):
    """What becomes of a payment that is asked for."""

    payment: Made | None = None
    replayed: bool = False
    error: str = ""

    def told(self) -> tuple[int, bool, str]:
        """How an answer tells it: its status, whether it was made before, the error."""
        return status(self.error) if self.error else 200, self.replayed, self.error


@dataclass
class Model:
    """The whole wallet."""

    currencies: dict[int, int] = field(default_factory=dict)
    balances: dict[int, Decimal] = field(default_factory=dict)
    payments: list[Made] = field(default_factory=list)
    keys: dict[str, Made] = field(default_factory=dict)

    def copy(self) -> "Model":
        return Model(self.currencies.copy(), self.balances.copy(), self.payments.copy(), self.keys.copy())

    def pay(self, asked: Asked) -> Outcome:
        buyer, seller, key = asked.buyer, asked.seller, asked.key
        amount = Decimal(asked.amount)
        if key is not None and not 1 <= len(key) <= 255:
            return Outcome(error="Idempotency key should have 1 to 255 characters")
        if key in self.keys:
            made = self.keys[key]
            same = (made.buyer, made.seller, made.amount) == (buyer, seller, amount)
            return Outcome(made, replayed=True) if same else Outcome(error=TAKEN)
        if refusal := self._refusal(buyer, seller, amount):
            return Outcome(error=refusal)
        self.balances[buyer] -= amount
        self.balances[seller] += amount
        self.payments.append(made := Made(buyer, seller, amount))
        if key is not None:
            self.keys[key] = made
        return Outcome(made)

    def _refusal(self, buyer: int, seller: int, amount: Decimal) -> str | None:
        if buyer == seller:
            return "Could not make payment to self"
        if amount <= 0:
            return "Amount should be positive"
        if amount >= LIMIT or amount != round(amount, 15):
            return NOT_AN_AMOUNT
        if buyer not in self.balances or seller not in self.balances:
            return "Account not found"
        if self.currencies[buyer] != self.currencies[seller]:
            return "Payment allowed only when account currencies match"
        if self.balances[buyer] < amount:
            return "Buyer account does not have sufficient balance"
        if self.balances[seller] + amount >= LIMIT:
            return "Seller account balance would have more than 15 integer digits"
        return None


def plain(amount: Decimal) -> str:
    return f"{amount.normalize():f}"


def status(error: str) -> int:
    return 422 if error == TAKEN else 400


class Instances:
    """Two instances on one database, each with a client."""

    def __init__(self, database: str) -> None:
        self._database = database
        self.in_flight = 0  # payments that were under way when an instance was killed
        self._start()

    def _start(self) -> None:
        self.servers = [Server(DATABASE_URL=self._database, **PATIENT) for _ in range(2)]
        self.clients = [server.client() for server in self.servers]
        self._turns = itertools.cycle(self.clients)

    def client(self) -> httpx2.Client:
        """That of one and of the other by turns."""
        return next(self._turns)

    @contextlib.contextmanager
    def restarting(self) -> Iterator[None]:
        """One has been killed, the other was told to end; afterwards both are there again."""
        killed, told = self.servers
        killed.kill()
        told.process.send_signal(signal.SIGTERM)
        yield
        self._close()
        self._start()  # whatever became of the old ones: a failure has to be the same when it is tried again
        assert told.wait() == 0, told.log

    def _close(self) -> None:
        for client in self.clients:
            client.close()

    def stop(self) -> None:
        self._close()
        assert [server.stop() for server in self.servers] == [0, 0]


def pay(client: httpx2.Client, asked: Asked) -> httpx2.Response:
    headers = {} if asked.key is None else {b"Idempotency-Key": asked.key.encode()}
    return client.post("/payments", json=asked.json(), headers=headers)


def heard(response: httpx2.Response) -> tuple[int, bool, str]:
    """What a response says, as Outcome.told does."""
    return response.status_code, "idempotency-replayed" in response.headers, response.json().get("Error", "")


_names = itertools.count()
GOOD = ["1", "1.00", "1e0", "2.5", "0.000000000000001"]
BAD = ["1000", "999999999999999", "1e15", "0.0000000000000001", "0", "-1"]
amounts = st.sampled_from(GOOD) | st.sampled_from(GOOD + BAD)
keys = st.sampled_from([None, *"abcdef"]) | st.sampled_from([None, '"{é,}\\', "k" * 255, "k" * 256, ""])
places = st.integers(0, 7)
# of an account, or of none; those that are there from the beginning are pairs of one currency
pairs = st.sampled_from([(0, 1), (1, 0), (2, 3), (3, 2)]) | st.tuples(places, places)
payments = st.tuples(pairs, amounts, keys)
Drawn = tuple[tuple[int, int], str, str | None]


class Wallet(RuleBasedStateMachine):
    """Accounts and keys of one example are its own; the database and the instances are shared by all."""

    instances: ClassVar[Instances]
    admin: ClassVar[Connection]
    database: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        self.name = next(_names)
        self.model = Model()
        self.asked: list[Asked] = []
        self.restarted = False

    @initialize()
    def begin(self) -> None:
        for currency, amount in ((1, "1000"), (1, "2.5"), (2, "10"), (2, "999999999999998")):
            self.create(currency, amount)

    @precondition(lambda self: len(self.model.balances) < 7)
    @rule(currency=st.sampled_from(list(CURRENCIES)), amount=st.sampled_from(["0", "0.50", "1e3", "999999999999999"]))
    def create(self, currency: int, amount: str) -> None:
        name = f"{self.name} {len(self.model.balances)}"
        response = self.instances.client().post(
            "/accounts", json={"Name": name, "Amount": amount, "CurrencyID": currency}
        )
        assert (response.status_code, response.json()) == (200, {})
        id_ = int(response.headers["location"].rpartition("/")[2])
        self.model.currencies[id_] = currency
        self.model.balances[id_] = Decimal(amount)

    @rule(drawn=payments)
    def pay(self, drawn: Drawn) -> None:
        asked = self.request(drawn)
        self.check(pay(self.instances.client(), asked), self.model.pay(asked))

    @precondition(lambda self: self.asked)
    @rule(place=places, spelling=st.sampled_from(["{}", "{}0", "0{}"]))
    def pay_again(self, place: int, spelling: str) -> None:
        """The same request, refused or not, its amount perhaps in other digits."""
        asked = self.asked[-1 - place % len(self.asked)]
        if "e" not in asked.amount and "." in asked.amount and not asked.amount.startswith("-"):
            asked = asked._replace(amount=spelling.format(asked.amount))
        self.check(pay(self.instances.client(), asked), self.model.pay(asked))

    @rule(drawn=payments, other=st.none() | payments)
    def pay_two_at_the_same_moment(self, drawn: Drawn, other: Drawn | None) -> None:
        """Two requests with one key, equal ones or not, each to an instance: they are judged in either order."""
        first = self.request(drawn)
        asked = [first, self.request(other)._replace(key=first.key) if other else first]
        with ThreadPoolExecutor(2) as threads:
            responses = list(threads.map(pay, self.instances.clients, asked))
        told = [heard(response) for response in responses]
        for order in ((0, 1), (1, 0)):
            model = self.model.copy()
            by_number = {number: model.pay(asked[number]) for number in order}
            outcomes = [by_number[0], by_number[1]]
            if [outcome.told() for outcome in outcomes] == told:
                break
        self.model = model
        for response, outcome in zip(responses, outcomes, strict=True):
            self.check(response, outcome)
        self.model.payments.sort(key=lambda made: made.json["ID"])

    @rule(drawn=st.lists(payments, min_size=1, max_size=5), atomic=st.booleans())
    def pay_many(self, drawn: list[Drawn], atomic: bool) -> None:
        asked = [self.request(one) for one in drawn]
        items = [one.json() | ({} if one.key is None else {"IdempotencyKey": one.key}) for one in asked]
        response = self.instances.client().post("/payments/batch", json={"Payments": items, "Atomic": atomic})
        model = self.model.copy() if atomic else self.model
        outcomes = [model.pay(one) for one in asked]
        refused = [(index, outcome.error) for index, outcome in enumerate(outcomes) if outcome.error]
        if atomic and refused:
            index, error = refused[0]
            assert (response.status_code, response.json()) == (status(error), {"Error": error, "Index": index})
            return
        self.model = model
        assert response.status_code == 200
        replayed = [outcome.replayed for outcome in outcomes if not outcome.error]
        assert ("idempotency-replayed" in response.headers) == (replayed != [] and all(replayed))
        for result, outcome in zip(response.json()["Results"], outcomes, strict=True):
            self.check_result(result, outcome)

    @precondition(lambda self: not self.restarted and len(self.model.payments) > 2)
    @rule(drawn=payments)
    def restart_during_a_payment(self, drawn: Drawn) -> None:
        """Who got no answer asks again, under the key. The database may have gone on, and made the payment."""
        self.restarted = True
        asked = self.request(drawn)._replace(key=f"{self.name} restart")
        with psycopg.connect(self.database) as holder, ThreadPoolExecutor(1) as threads:
            holder.execute("select from ledger.account where id = any (%s) for update", [list(self.model.balances)])
            first = threads.submit(pay, self.instances.clients[0], asked)
            wait_until(lambda: first.done() or self.admin.execute(WAITING).fetchone() is not None)
            self.instances.in_flight += not first.done()
            with self.instances.restarting():
                holder.rollback()
        outcome = self.model.pay(asked)
        if first.exception() is None:
            self.check(first.result(), outcome)
            outcome = self.model.pay(asked)
        response = pay(self.instances.client(), asked)
        if first.exception() is not None and not outcome.error:
            outcome = outcome._replace(replayed="idempotency-replayed" in response.headers)
        self.check(response, outcome)

    def request(self, drawn: Drawn) -> Asked:
        (buyer, seller), amount, key = drawn
        ids = [*self.model.balances, NOBODY]
        if key is not None and 0 < len(key) < 256:
            key = f"{self.name} {key}"[:255]
        self.asked.append(Asked(ids[buyer % len(ids)], ids[seller % len(ids)], amount, key))
        return self.asked[-1]

    def check(self, response: httpx2.Response, outcome: Outcome) -> None:
        assert heard(response) == outcome.told()
        self.check_result(response.json(), outcome)

    def check_result(self, result: dict[str, Any], outcome: Outcome) -> None:
        if outcome.error:
            assert result == {"Error": outcome.error}
            return
        made = outcome.payment
        assert made is not None
        made.json = made.json or result
        assert result == made.json
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", result["OperationTimestamp"])
        assert result == {
            "ID": result["ID"],
            "CurrencyID": self.model.currencies[made.buyer],
            "Amount": plain(made.amount),
            "BuyerAccountID": made.buyer,
            "SellerAccountID": made.seller,
            "OperationTimestamp": result["OperationTimestamp"],
        }

    @invariant()
    def the_lists_and_the_books_agree(self) -> None:
        accounts = self.instances.client().get("/accounts").json()["Accounts"]
        balances = {one["ID"]: one["Amount"] for one in accounts if one["ID"] in self.model.balances}
        assert balances == {id_: plain(amount) for id_, amount in self.model.balances.items()}
        listed = self.instances.client().get("/payments").json().get("Payments", [])
        assert [one for one in listed if one["BuyerAccountID"] in self.model.balances] == [
            made.json | {"CurrencyName": CURRENCIES[made.json["CurrencyID"]]} for made in self.model.payments
        ]
        own = [list(self.model.balances), [made.json["ID"] for made in self.model.payments]]
        assert self.admin.execute(PROBLEMS, own).fetchall() == []


def test_the_wallet_answers_as_the_model_does(admin: Connection, database: str) -> None:
    instances = Wallet.instances = Instances(database)
    Wallet.admin, Wallet.database = admin, database
    # Not made shorter, which would take minutes: the steps that led to a failure are all printed.
    phases = (Phase.explicit, Phase.reuse, Phase.generate)
    long = settings(max_examples=20, stateful_step_count=30, phases=phases, print_blob=True)
    try:
        with decimal.localcontext(prec=50):  # balances have up to 30 digits
            run_state_machine_as_test(Wallet, settings=long)
    finally:
        instances.stop()
    assert instances.in_flight > 0
