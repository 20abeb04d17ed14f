"""The service answers as the reference model: in any order of requests, with keys used again and instances killed."""

import contextlib
import decimal
import itertools
import re
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
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
from tests.model import Account, Answered, Hold, Made, Model, Outcome, Refused, Terms, decimals
from tests.support import Server, assert_refused, payment_body, sentence, wait_until

UNKNOWN = 10**18  # an id that no account, payment or hold has
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
# A payment that waits for an account goes on waiting.
PATIENT = {"WALLET_LOCK_TIMEOUT": "20", "WALLET_COALESCE_LOCK_TIMEOUT": "20"}
PROBLEMS = "select * from wallet.check_ledger() where account_id = any (%s) or payment_id = any (%s)"
WAITING = "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
# As if the hold's time were over by now.
EXPIRE = "update ledger.hold set expires_at = operation_timestamp + interval '1 microsecond' where id = %s"


class Action(NamedTuple):
    """A request that changes something: where it goes, what it says, and what the model makes of it."""

    path: str
    body: dict[str, object]
    key: str | None
    judge: Callable[[Model], Outcome]

    def outcome(self, model: Model) -> Outcome:
        try:
            return self.judge(model)
        except Refused as refusal:
            return Outcome(code=refusal.code)

    def send(self, client: httpx2.Client) -> httpx2.Response:
        headers = {} if self.key is None else {b"Idempotency-Key": self.key.encode()}
        return client.post(self.path, json=self.body, headers=headers)


def plain(amount: Decimal) -> str:
    return f"{amount.normalize():f}"


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


def agrees(response: httpx2.Response, outcome: Outcome) -> bool:
    """Whether a response has the code of the outcome, or none, and whether it says that it is a replay."""
    code, replayed = response.headers.get("error-code", ""), "idempotency-replayed" in response.headers
    return (code, replayed) == (outcome.code, outcome.replayed)


def texts(terms: Terms) -> dict[str, object]:
    named = {"Description": terms.description, "Reference": terms.reference, "Metadata": terms.metadata}
    return {name: value for name, value in named.items() if value is not None}


BALANCES = ("BuyerBalance", "SellerBalance")


def balances_told(made: Made) -> list[str]:
    """The balances after a payment, as they are told to those who ask."""
    return [plain(balance) for balance in made.balances]


_names = itertools.count()
GOOD = ["1", "1.00", "1e0", "2.5", "0.000000000000001"]
BAD = ["1000", "999999999999999", "1e15", "0.0000000000000001", "0", "-1"]
amounts = st.sampled_from(GOOD) | st.sampled_from(GOOD + BAD)
parts = st.none() | amounts
keys = st.sampled_from([None, *"abcdef"]) | st.sampled_from([None, '"{é,}\\', "k" * 255, "k" * 256, ""])
says = st.sampled_from([None, None, None, "x", '"{é,}\\', "k" * 255, "k" * 256, ""])
metadata: st.SearchStrategy[Any] = st.sampled_from(
    [None, None, None, None, {}, {"order": 17}, {"é": [1.5, None, '"']}, [], "x", {"x": "y" * 4096}]
)
all_terms = st.builds(Terms, keys, says, says, metadata, st.just(False))
places = st.integers(0, 7)
# of an account, or of none; those that are there from the beginning are pairs of one currency
pairs = st.sampled_from([(0, 1), (1, 0), (2, 3), (3, 2)]) | st.tuples(places, places)
times = st.sampled_from([3600, 31_536_000, 1_000, 0, 31_536_001])


class Wallet(RuleBasedStateMachine):
    """Accounts and keys of one example are its own; the database and the instances are shared by all."""

    instances: ClassVar[Instances]
    admin: ClassVar[Connection]
    database: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        self.name = next(_names)
        self.model = Model({1: 15, 2: 15})
        self.asked: list[Action] = []
        self.restarted = False

    @initialize()
    def begin(self) -> None:
        for currency, amount in ((1, "1000"), (1, "2.5"), (2, "10"), (2, "999999999999998")):
            self.create(currency, amount)

    # What may be asked for.

    def action(self, draw: st.DataObject) -> Action:
        kind = draw.draw(st.sampled_from(["pay"] * 4 + ["refund", "hold", "capture", "void", "status", "limit"]))
        action: Action = getattr(self, f"_{kind}")(draw)
        self.asked.append(action)
        return action

    def _terms(self, draw: st.DataObject) -> Terms:
        terms = draw.draw(all_terms)
        if terms.key is not None and 0 < len(terms.key) < 256:
            terms = terms._replace(key=f"{self.name} {terms.key}"[:255])
        return terms

    def _account(self, place: int) -> int:
        ids = [*self.model.accounts, UNKNOWN]
        return ids[place % len(ids)]

    def _told(self, place: int, things: list[Any]) -> int:
        ids = [*(thing.json["ID"] for thing in things), UNKNOWN]
        return int(ids[place % len(ids)])

    def _parties(self, draw: st.DataObject) -> tuple[int, int, str, dict[str, object]]:
        buyer, seller = (self._account(place) for place in draw.draw(pairs))
        amount = draw.draw(amounts | st.sampled_from(["all", "all", "too much"]))
        if amount in ("all", "too much"):
            most = self.model.available(buyer) if buyer in self.model.accounts else Decimal(1)
            amount = plain(most + (amount == "too much"))
        return buyer, seller, amount, payment_body(buyer, seller, amount)

    def _pay(self, draw: st.DataObject) -> Action:
        buyer, seller, amount, body = self._parties(draw)
        terms = self._terms(draw)._replace(up_to=draw.draw(st.sampled_from([False, False, True])))
        body |= texts(terms) | {"UpTo": terms.up_to, "Balances": draw.draw(st.booleans())}
        judge = lambda model: model.pay(buyer, seller, Decimal(amount), terms)  # noqa: E731
        return Action("/payments", body, terms.key, judge)

    def _refund(self, draw: st.DataObject) -> Action:
        payment = self._told(draw.draw(places), self.model.payments)
        amount = draw.draw(parts | st.sampled_from(["all", "all"]))
        if amount == "all":
            made = self.model.payment(payment)
            amount = plain(made.amount) if made else None
        terms = self._terms(draw)
        body = {} if amount is None else {"Amount": amount}
        judge = lambda model: model.refund(payment, None if amount is None else Decimal(amount), terms)  # noqa: E731
        return Action(f"/payment/{payment}/refund", body | texts(terms), terms.key, judge)

    def _hold(self, draw: st.DataObject) -> Action:
        buyer, seller, amount, body = self._parties(draw)
        terms, seconds, may_void = (
            self._terms(draw),
            draw.draw(times),
            draw.draw(st.sampled_from([None, False, True])),
        )
        judge = lambda model: model.create_hold(  # noqa: E731
            buyer, seller, Decimal(amount), seconds, terms, may_void is True
        )
        fields = {"ExpiresIn": seconds} | ({} if may_void is None else {"BuyerMayVoid": may_void})
        return Action("/holds", body | fields | texts(terms), terms.key, judge)

    def _capture(self, draw: st.DataObject) -> Action:
        hold, amount = self._told(draw.draw(places), self.model.holds), draw.draw(parts)
        terms = Terms(self._terms(draw).key)
        final, up_to = draw.draw(st.sampled_from([False, False, True, None])), draw.draw(st.sampled_from([None, True]))
        fields = {"Amount": amount, "Final": final, "UpTo": up_to}
        body: dict[str, object] = {name: value for name, value in fields.items() if value is not None}
        judge = lambda model: model.capture(  # noqa: E731
            hold, None if amount is None else Decimal(amount), terms, final=final is not False, up_to=up_to is True
        )
        return Action(f"/hold/{hold}/capture", body, terms.key, judge)

    def _void(self, draw: st.DataObject) -> Action:
        hold, key = self._told(draw.draw(places), self.model.holds), self._terms(draw).key
        return Action(f"/hold/{hold}/void", {}, key, lambda model: model.void(hold, key))

    def _status(self, draw: st.DataObject) -> Action:
        account, key = self._account(draw.draw(places)), self._terms(draw).key
        status = draw.draw(st.sampled_from(["active", "active", "frozen", "blocked", "closed", "Active"]))
        judge = lambda model: model.set_status(account, status, key)  # noqa: E731
        return Action(f"/account/{account}/status", {"Status": status}, key, judge)

    def _limit(self, draw: st.DataObject) -> Action:
        account, amount, key = self._account(draw.draw(places)), draw.draw(amounts), self._terms(draw).key
        judge = lambda model: model.set_limit(account, Decimal(amount), key)  # noqa: E731
        return Action(f"/account/{account}/credit-limit", {"Amount": amount}, key, judge)

    # What happens.

    @precondition(lambda self: len(self.model.accounts) < 7)
    @rule(place=places, amount=st.sampled_from(["0", "0.50", "1e3", "999999999999999", "0.001"]))
    def open_account(self, place: int, amount: str) -> None:
        self.create([*self.model.scales][place % len(self.model.scales)], amount)

    def create(self, currency: int, amount: str) -> None:
        name = f"{self.name} {len(self.model.accounts)}"
        body = {"Name": name, "Amount": amount, "CurrencyID": currency}
        response = self.instances.client().post("/accounts", json=body)
        if decimals(Decimal(amount)) > self.model.scales[currency]:
            assert_refused(response, "WB009")
            return
        assert (response.status_code, response.json()) == (200, {})
        id_ = int(response.headers["location"].rpartition("/")[2])
        self.model.accounts[id_] = Account(currency, Decimal(amount), Decimal(amount))

    @precondition(lambda self: len(self.model.scales) < 4)
    @rule(scale=st.sampled_from([0, 1, 2]))
    def create_currency(self, scale: int) -> None:
        name = f"{self.name}/{len(self.model.scales)}"
        responses = [
            client.post("/currencies", json={"Name": name, "Scale": scale}) for client in self.instances.clients
        ]
        assert_refused(responses[1], "WC051")
        currency = responses[0].json()
        assert currency == {"ID": currency["ID"], "Name": name, "Scale": scale}
        assert currency in self.instances.client().get("/currencies").json()["Currencies"]
        self.model.scales[currency["ID"]] = scale

    @precondition(lambda self: len(self.model.scales) > 2)
    @rule(place=places, scale=st.sampled_from([0, 1, 2, 3, 15, 16]))
    def set_scale(self, place: int, scale: int) -> None:
        """Of a currency of its own: the first two are those of all."""
        own = [*self.model.scales][2:]
        currency = own[place % len(own)]
        response = self.instances.client().post(f"/currency/{currency}/scale", json={"Scale": scale})
        try:
            self.model.set_scale(currency, scale)
        except Refused as refused:
            assert_refused(response, refused.code)
        else:
            assert (response.status_code, list(response.json())) == (200, ["ID", "Name", "Scale"])
        [listed] = [
            one for one in self.instances.client().get("/currencies").json()["Currencies"] if one["ID"] == currency
        ]
        assert listed["Scale"] == self.model.scales[currency]

    @rule(draw=st.data())
    def ask(self, draw: st.DataObject) -> None:
        action = self.action(draw)
        self.check(action.send(self.instances.client()), action.outcome(self.model))

    @precondition(lambda self: self.asked)
    @rule(place=places, spelling=st.sampled_from(["{}", "{}0", "0{}"]))
    def ask_again(self, place: int, spelling: str) -> None:
        """The same request, refused or not, its amount perhaps in other digits."""
        action = self.asked[-1 - place % len(self.asked)]
        amount = str(action.body.get("Amount", ""))
        if "e" not in amount and "." in amount and not amount.startswith("-"):
            action = action._replace(body=action.body | {"Amount": spelling.format(amount)})
        self.check(action.send(self.instances.client()), action.outcome(self.model))

    @rule(draw=st.data(), same=st.booleans())
    def ask_for_two_things_at_the_same_moment(self, draw: st.DataObject, same: bool) -> None:
        """Two requests, perhaps the same one, each to an instance: they are judged in either order."""
        first = self.action(draw)
        asked = [first, first if same else self.action(draw)]
        with ThreadPoolExecutor(2) as threads:
            responses = list(threads.map(Action.send, asked, self.instances.clients))
        for order in ((0, 1), (1, 0)):
            model = self.model.copy()
            by_number = {number: asked[number].outcome(model) for number in order}
            outcomes = [by_number[0], by_number[1]]
            if all(map(agrees, responses, outcomes)):
                break
        self.model = model
        for number in order:
            # An account, or a hold that was there, is shown as it was then: before or after the other request.
            thing, replayed = outcomes[number].thing, outcomes[number].replayed
            if isinstance(thing, Answered):
                thing.json = thing.json or responses[number].json()
            shown_as_it_was = isinstance(thing, Account | Answered) or (isinstance(thing, Hold) and replayed)
            if not shown_as_it_was:
                self.check(responses[number], outcomes[number])
        self.model.payments.sort(key=lambda made: made.json["ID"])

    @rule(draw=st.data(), number=st.integers(1, 5), atomic=st.booleans())
    def pay_many(self, draw: st.DataObject, number: int, atomic: bool) -> None:
        asked = [self._pay(draw) for _ in range(number)]
        items = [one.body | ({} if one.key is None else {"IdempotencyKey": one.key}) for one in asked]
        response = self.instances.client().post("/payments/batch", json={"Payments": items, "Atomic": atomic})
        model = self.model.copy() if atomic else self.model
        outcomes = [one.outcome(model) for one in asked]
        refusals = [(index, outcome.code) for index, outcome in enumerate(outcomes) if outcome.code]
        if atomic and refusals:
            index, code = refusals[0]
            assert_refused(response, code, index=index)
            return
        self.model = model
        assert response.status_code == 200
        replayed = [outcome.replayed for outcome in outcomes if not outcome.code]
        assert ("idempotency-replayed" in response.headers) == (replayed != [] and all(replayed))
        for result, outcome in zip(response.json()["Results"], outcomes, strict=True):
            self.check_result(result, outcome)

    @precondition(lambda self: any(hold.status == "open" for hold in self.model.holds))
    @rule(place=places)
    def let_a_hold_expire(self, place: int) -> None:
        there = [hold for hold in self.model.holds if hold.status == "open"]
        hold = there[place % len(there)]
        with self.admin.transaction():
            self.admin.execute("set local session_replication_role = replica")
            self.admin.execute(EXPIRE, [hold.json["ID"]])
        hold.status = "expired"
        hold.expires_in = None  # no request has the content that is stored now

    @precondition(lambda self: not self.restarted and self.model.payments)
    @rule(draw=st.data())
    def restart_during_a_payment(self, draw: st.DataObject) -> None:
        """A client without an answer repeats its request under the key. The database may have made the payment."""
        self.restarted = True
        buyer, seller, amount, body = self._parties(draw)
        key = f"{self.name} restart"
        asked = Action("/payments", body, key, lambda model: model.pay(buyer, seller, Decimal(amount), Terms(key)))
        with psycopg.connect(self.database) as holder, ThreadPoolExecutor(1) as threads:
            holder.execute("select from ledger.account where id = any (%s) for update", [list(self.model.accounts)])
            first = threads.submit(asked.send, self.instances.clients[0])
            wait_until(lambda: first.done() or self.admin.execute(WAITING).fetchone() is not None)
            self.instances.in_flight += not first.done()
            with self.instances.restarting():
                holder.rollback()
        outcome = asked.outcome(self.model)
        if first.exception() is None:
            self.check(first.result(), outcome)
            outcome = asked.outcome(self.model)
        response = asked.send(self.instances.client())
        if first.exception() is not None and not outcome.code:
            outcome = outcome._replace(replayed="idempotency-replayed" in response.headers)
        self.check(response, outcome)

    # What is answered.

    def check(self, response: httpx2.Response, outcome: Outcome) -> None:
        assert agrees(response, outcome), (response.headers, response.text, outcome)
        if outcome.code:
            assert_refused(response, outcome.code)
        else:
            assert response.status_code == 200
            self.check_result(response.json(), outcome)

    def check_result(self, result: dict[str, Any], outcome: Outcome) -> None:
        if outcome.code:
            assert (result["Code"], result["Error"]) == (outcome.code, sentence(outcome.code))
        elif isinstance(outcome.thing, Made):
            made = outcome.thing
            shown = [result.pop(name, balance) for name, balance in zip(BALANCES, balances_told(made), strict=True)]
            assert shown == balances_told(made)
            made.json = made.json or result
            assert result == made.json == self.payment_json(made, result)
        elif isinstance(outcome.thing, Hold):
            hold = outcome.thing
            hold.json = hold.json or result
            assert result == self.hold_json(hold, result)
        elif isinstance(outcome.thing, Answered):
            if not outcome.replayed:
                outcome.thing.json = result
                self.check_result(result, Outcome(outcome.thing.thing))
            assert result == outcome.thing.json
        elif isinstance(outcome.thing, Account):
            [id_] = [id_ for id_, account in self.model.accounts.items() if account is outcome.thing]
            assert result == self.account_json(id_)

    def payment_json(self, made: Made, told: dict[str, Any]) -> dict[str, Any]:
        """A payment as it should be told; its id and moment are the database's."""
        assert MOMENT.fullmatch(told["OperationTimestamp"])
        fields = {
            "ID": made.json["ID"],
            "CurrencyID": self.model.accounts[made.buyer].currency,
            "Amount": plain(made.amount),
            "BuyerAccountID": made.buyer,
            "SellerAccountID": made.seller,
            "OperationTimestamp": told["OperationTimestamp"],
            "Description": made.description,
            "Reference": made.reference,
            "Metadata": made.metadata,
            "RefundedPaymentID": made.refunded,
            "HoldID": made.hold,
        }
        return {name: value for name, value in fields.items() if value is not None}

    def hold_json(self, hold: Hold, told: dict[str, Any]) -> dict[str, Any]:
        assert MOMENT.fullmatch(told["OperationTimestamp"])
        assert MOMENT.fullmatch(told["ExpiresAt"])
        captures = [made for made in self.model.payments if made.hold is not None and made.hold == hold.json["ID"]]
        assert sum(made.amount for made in captures) == hold.captured <= hold.amount
        fields = {
            "ID": hold.json["ID"],
            "CurrencyID": self.model.accounts[hold.buyer].currency,
            "Amount": plain(hold.amount),
            "BuyerAccountID": hold.buyer,
            "SellerAccountID": hold.seller,
            "OperationTimestamp": hold.json["OperationTimestamp"],
            "ExpiresAt": told["ExpiresAt"],
            "Status": hold.status,
            "PaymentID": captures[-1].json["ID"] if captures else None,
            "CapturedAmount": plain(hold.captured) if captures else None,
            "Description": hold.description,
            "Reference": hold.reference,
            "Metadata": hold.metadata,
            "BuyerMayVoid": hold.buyer_may_void or None,
        }
        return {name: value for name, value in fields.items() if value is not None}

    def account_json(self, id_: int) -> dict[str, Any]:
        account = self.model.accounts[id_]
        [(name, currency)] = self.admin.execute(
            "select name, currency_name from wallet.get_account(%s)", [id_]
        ).fetchall()
        return {
            "ID": id_,
            "Name": name,
            "CurrencyID": account.currency,
            "CurrencyName": currency,
            "Amount": plain(account.balance),
            "Status": account.status,
            "Held": plain(self.model.held(id_)),
            "Available": plain(self.model.available(id_)),
            "CreditLimit": plain(account.limit),
        }

    @rule(place=places, limit=st.integers(1, 3))
    def read_an_account(self, place: int, limit: int) -> None:
        """Its details, its statement page by page, and its balance at the moment of each payment."""
        id_ = list(self.model.accounts)[place % len(self.model.accounts)]
        client = self.instances.client()
        assert client.get(f"/account/{id_}?details=true").json() == self.account_json(id_)
        account, last = self.model.accounts[id_], client.get(f"/account/{id_}/changes").json()["Changes"][-1]
        assert (last["Status"], last["CreditLimit"]) == (account.status, plain(account.limit))
        own = [made for made in self.model.payments if id_ in (made.buyer, made.seller)]
        balance, lines = self.model.accounts[id_].opening, []
        for made in own:
            before, balance = balance, made.balances[id_ == made.seller]
            lines.append((made.json["ID"], plain(balance - before), plain(balance)))
        for start in range(0, max(1, len(own)), limit):
            after = lines[start - 1][0] if start else 0
            response = client.get(f"/account/{id_}/statement?limit={limit}&after={after}")
            page = response.json()
            opening = lines[start - 1][2] if start else plain(self.model.accounts[id_].opening)
            assert (page["AccountID"], page["OpeningAmount"]) == (id_, opening)
            assert [(line["PaymentID"], line["Amount"], line["Balance"]) for line in page["Lines"]] == lines[
                start : start + limit
            ]
            assert ("next" in response.links) == (start + limit < len(lines))
        for (_, _, balance_then), made in zip(lines, own, strict=True):
            at = made.json["OperationTimestamp"]
            if [one.json["OperationTimestamp"] for one in own].count(at) == 1:
                assert client.get(f"/account/{id_}?at={at}").json()["Amount"] == balance_then

    @precondition(lambda self: self.model.payments)
    @rule(place=places)
    def read_payments_and_holds(self, place: int) -> None:
        client = self.instances.client()
        made = self.model.payments[place % len(self.model.payments)]
        id_ = made.json["ID"]
        refunded = sum((refund.amount for refund in self.model.refunds(id_)), Decimal(0))
        shown = client.get(f"/payment/{id_}").json()
        shown.pop("CurrencyName")
        assert shown == made.json | ({"RefundedAmount": plain(refunded)} if refunded else {})
        refunds = client.get(f"/payments?refunded={id_}&limit=1000").json().get("Payments", [])
        assert [one["ID"] for one in refunds] == [refund.json["ID"] for refund in self.model.refunds(id_)]
        of_account = client.get(f"/payments?account={made.buyer}&limit=1000").json()["Payments"]
        assert [one["ID"] for one in of_account] == [
            one.json["ID"] for one in self.model.payments if made.buyer in (one.buyer, one.seller)
        ]
        for hold in self.model.holds:
            told = client.get(f"/hold/{hold.json['ID']}").json()
            assert told == self.hold_json(hold, told)
            for account in (hold.buyer, hold.seller):
                listed = client.get(f"/holds?account={account}&status={hold.status}").json()["Holds"]
                assert [found["ID"] for found in listed] == sorted(
                    found.json["ID"]
                    for found in self.model.holds
                    if account in (found.buyer, found.seller) and found.status == hold.status
                )
                assert told in listed

    @invariant()
    def the_lists_and_the_ledger_agree(self) -> None:
        accounts = self.instances.client().get("/accounts").json()["Accounts"]
        balances = {one["ID"]: one["Amount"] for one in accounts if one["ID"] in self.model.accounts}
        assert balances == {id_: plain(account.balance) for id_, account in self.model.accounts.items()}
        listed = self.instances.client().get("/payments").json().get("Payments", [])
        own = [one for one in listed if one["BuyerAccountID"] in self.model.accounts]
        names = [one.pop("CurrencyName") for one in own]
        assert len(set(zip(names, (one["CurrencyID"] for one in own), strict=True))) == len(set(names))
        assert own == [made.json for made in self.model.payments]
        ids = [list(self.model.accounts), [made.json["ID"] for made in self.model.payments]]
        assert self.admin.execute(PROBLEMS, ids).fetchall() == []


def test_the_wallet_answers_as_the_model_does(admin: Connection, database: str) -> None:
    instances = Wallet.instances = Instances(database)
    Wallet.admin, Wallet.database = admin, database
    # Not made shorter, which would take minutes: the steps that led to a failure are all printed.
    phases = (Phase.explicit, Phase.reuse, Phase.generate)
    long = settings(max_examples=20, stateful_step_count=30, phases=phases, print_blob=True)
    try:
        with decimal.localcontext(prec=50):  # balances have up to 30 digits
            for _ in range(3):
                run_state_machine_as_test(Wallet, settings=long)
                if instances.in_flight:  # chance may leave an instance's end out of one run
                    break
    finally:
        instances.stop()
    assert instances.in_flight > 0
