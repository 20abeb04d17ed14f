"""Compares what clients were told, and what is stored, with the reference model."""

import http.client
import itertools
import json
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal, localcontext
from typing import Any, NamedTuple, TypeVar

import psycopg
from psycopg.rows import class_row

from tests.faults.recorder import Account, Attempt, Fault, Order, Recorder
from tests.faults.scene import Address
from tests.model import Account as ModelAccount
from tests.model import Model, Refused
from tests.support import TIMEOUT, ledger_problems, sentence, wait_until

T = TypeVar("T")

# What a client cannot tell from "it took effect, and the answer was lost".
UNKNOWN = (502, 503, 504)

# The currencies of the accounts, with as many decimals as there can be.
_SCALES = {1: 15, 2: 15}

# Two clocks are read, one after the other, and one of them has whole microseconds.
_TOLERANCE = 0.001


class Payment(NamedTuple):
    """A row of ledger.payment."""

    id: int
    currency_id: int
    buyer_account_id: int
    seller_account_id: int
    amount: Decimal
    buyer_balance: Decimal
    seller_balance: Decimal
    operation_timestamp: datetime
    idempotency_key: str | None

    @property
    def time(self) -> float:
        return self.operation_timestamp.timestamp()


def stored_payments(admin: psycopg.Connection[Any], accounts: Sequence[Account]) -> list[Payment]:
    """The payments of these accounts, in the order in which they were made."""
    with admin.cursor(row_factory=class_row(Payment)) as cursor:
        return cursor.execute(
            f"""select {", ".join(Payment._fields)} from ledger.payment
                where buyer_account_id = any (%(ids)s) or seller_account_id = any (%(ids)s) order by id""",
            {"ids": [account.id for account in accounts]},
        ).fetchall()


class History:
    """The accounts of the reference model, and their balances over time."""

    def __init__(self, accounts: Sequence[Account]) -> None:
        self._model = _model(accounts)
        self._balances = {account.id: [(0.0, account.opening)] for account in accounts}

    def balances(self) -> dict[int, Decimal]:
        """The balances after all payments so far."""
        return {id_: account.balance for id_, account in self._model.accounts.items()}

    def make(self, payment: Payment) -> Iterator[str]:
        """Makes a payment, and yields what is wrong with it."""
        accounts, buyer, seller = self._model.accounts, payment.buyer_account_id, payment.seller_account_id
        if code := _refusal(self._model, buyer, seller, payment.amount):
            yield f"payment {payment.id} should have been refused with {code}"
        if not {buyer, seller} <= accounts.keys():
            return
        if payment.currency_id != accounts[buyer].currency:
            yield f"payment {payment.id} has another currency than its buyer"
        self._model.make(buyer, seller, payment.amount)
        for role, account, after in (
            ("buyer", buyer, payment.buyer_balance),
            ("seller", seller, payment.seller_balance),
        ):
            balance, history = accounts[account].balance, self._balances[account]
            if balance != after:
                yield f"payment {payment.id} left its {role} with {after}, the model with {balance}"
            if history[-1][0] > payment.time:
                yield f"payment {payment.id} is older than the one before it of account {account}"
            history.append((payment.time, balance))

    def refusals(self, order: Order, attempt: Attempt) -> set[str]:
        """The codes that an attempt may be refused with, by the balances between its request and its answer.

        The empty string among them: there was a moment at which it could be made.
        """
        parties = [
            [Account(id_, self._model.accounts[id_].currency, balance) for balance in self._extremes(id_, attempt)]
            for id_ in (order.buyer, order.seller)
            if id_ in self._model.accounts
        ]
        amount = Decimal(order.amount)
        return {
            _refusal(_model(accounts), order.buyer, order.seller, amount) for accounts in itertools.product(*parties)
        }

    def _extremes(self, account: int, attempt: Attempt) -> set[Decimal]:
        """The lowest and the highest balance between request and answer: the rules ask for no more."""
        history = self._balances[account]
        first = bisect_right(history, attempt.sent - _TOLERANCE, key=lambda step: step[0]) - 1
        last = bisect_right(history, (attempt.ended or 0) + _TOLERANCE, key=lambda step: step[0])
        balances = [balance for _, balance in history[first:last]]
        return {min(balances), max(balances)}


def _model(accounts: Iterable[Account]) -> Model:
    opened = {account.id: ModelAccount(account.currency_id, account.opening, account.opening) for account in accounts}
    return Model(_SCALES, opened)


def _refusal(model: Model, buyer: int, seller: int, amount: Decimal) -> str:
    """The code that a payment is refused with now, or the empty string."""
    try:
        model.check_payment(buyer, seller, amount)
    except Refused as refused:
        return refused.code
    return ""


def contradictions(
    accounts: Sequence[Account], shown: dict[int, Decimal], payments: Sequence[Payment], orders: Iterable[Order]
) -> list[str]:
    """What does not fit together, a sentence each: none when all is well.

    `accounts` as they were opened, `shown` as GET /accounts shows them now, `payments` as they are stored, by id,
    and `orders` with all that the clients were told.
    """
    with localcontext(prec=60):  # 28 digits, Python's default, are fewer than an amount may have
        return list(_contradictions(History(accounts), shown, payments, list(orders)))


def _contradictions(
    history: History, shown: dict[int, Decimal], payments: Sequence[Payment], orders: list[Order]
) -> Iterator[str]:
    for payment in payments:
        yield from history.make(payment)
    for account, balance in history.balances().items():
        if shown.get(account) != balance:
            yield f"account {account} shows {shown.get(account)}, the model has {balance}"
    by_id = {payment.id: payment for payment in payments}
    for order in orders:
        for attempt in order.attempts:
            yield from _wrong_answer(history, by_id, order, attempt)
    with_key, without_key = _parted(orders, lambda order: order.key is not None)
    rows_with_key, rows_without_key = _parted(payments, lambda payment: payment.idempotency_key is not None)
    yield from _wrong_keys(with_key, rows_with_key)
    yield from _wrong_without_key(without_key, rows_without_key)


def _parted(things: Iterable[T], condition: Callable[[T], bool]) -> tuple[list[T], list[T]]:
    yes: list[T] = []
    no: list[T] = []
    for thing in things:
        (yes if condition(thing) else no).append(thing)
    return yes, no


def _wrong_answer(history: History, by_id: dict[int, Payment], order: Order, attempt: Attempt) -> Iterator[str]:
    told = f"{order.buyer} pays {order.amount} to {order.seller} (key {order.key}): {attempt.status} {attempt.body}"
    if attempt.status == 200:
        payment = by_id.get(json.loads(attempt.body).get("ID"))
        if payment is None or not _shows(attempt.body, payment):
            yield f"{told}; stored is {payment}"
        elif (order.buyer, order.seller) != payment[2:4] or Decimal(order.amount) != payment.amount:
            yield f"{told}; that is another payment"
        elif payment.idempotency_key != order.key:
            yield f"{told}; stored is the key {payment.idempotency_key}"
        elif not order.attempts[0].sent - _TOLERANCE <= payment.time <= (attempt.ended or 0) + _TOLERANCE:
            yield f"{told}; it was not made between request and answer"
    elif attempt.status == 400:
        possible = history.refusals(order, attempt)
        if attempt.code not in possible:
            yield f"{told}; refused with {attempt.code}, but at no moment for this reason: {sorted(possible)}"
        elif json.loads(attempt.body) != {"Error": sentence(attempt.code)}:
            yield f"{told}; that is not the sentence of {attempt.code}"
    elif attempt.status == 503 and not attempt.retry_after:
        yield f"{told}; without Retry-After"
    elif attempt.status is not None and attempt.status not in UNKNOWN:
        yield f"{told}; that is no answer to a payment"


def _wrong_keys(orders: list[Order], payments: list[Payment]) -> Iterator[str]:
    stored = defaultdict(list)
    for payment in payments:
        stored[payment.idempotency_key].append(payment)
    for order in orders:
        rows = stored.pop(order.key, [])
        told = f"key {order.key} ({order.buyer} pays {order.amount} to {order.seller})"
        answers = [attempt for attempt in order.attempts if attempt.status == 200]
        if len(rows) > 1:
            yield f"{told} has {len(rows)} payments"
        for payment in rows:
            if payment[2:5] != (order.buyer, order.seller, Decimal(order.amount)):
                yield f"{told} has another payment: {payment}"
            if not answers and not any(_may_have_made(attempt, payment) for attempt in order.attempts):
                yield f"{told} was never answered with 200 or left open, and has a payment: {payment}"
            # An earlier attempt that was left open may still take effect after a later one was refused; but what had
            # its accounts locked before that one was sent should have been found by it.
            if any(attempt.status == 400 and payment.time < attempt.sent - _TOLERANCE for attempt in order.attempts):
                yield f"{told} was refused when it was made already: {payment}"
        if answers and not rows:
            yield f"{told} was answered with 200, and has no payment"
        if len({attempt.body for attempt in answers}) > 1:
            yield f"{told} was answered in {len({attempt.body for attempt in answers})} ways"
        if sum(not attempt.replayed for attempt in answers) > 1:
            yield f"{told} was answered twice as if it were new"
    for payment in (payment for rows in stored.values() for payment in rows):
        yield f"no request had the key of {payment}"


def _may_have_made(attempt: Attempt, payment: Payment) -> bool:
    """Whether it is unknown what came of an attempt, and it may have been this payment."""
    return _is_unknown(attempt) and attempt.sent - _TOLERANCE <= payment.time


def _is_unknown(attempt: Attempt) -> bool:
    return attempt.status is None or attempt.status in UNKNOWN


def _wrong_without_key(orders: list[Order], payments: list[Payment]) -> Iterator[str]:
    """Every payment was asked for, and none by two answers or without a request that may have made it."""
    attempts = [(order, attempt) for order in orders for attempt in order.attempts]
    told = Counter(json.loads(attempt.body).get("ID") for _, attempt in attempts if attempt.status == 200)
    for payment_id, times in told.items():
        if times > 1:
            yield f"payment {payment_id} is the answer to {times} requests"
    for order, attempt in attempts:
        if attempt.replayed:
            yield f"{order} has no key, and was answered with a replay"
    # Of equal requests without an answer, it is unknown which one made which payment; there have to be enough of them.
    free = defaultdict(list)
    for order, attempt in attempts:
        if _is_unknown(attempt):
            free[order.buyer, order.seller, Decimal(order.amount)].append(attempt.sent - _TOLERANCE)
    for payment in payments:
        if payment.id in told:
            continue
        sent = free[payment[2:5]]
        earlier = [moment for moment in sent if moment <= payment.time]
        if earlier:
            sent.remove(min(earlier))
        else:
            yield f"no request without another answer can have made {payment}"


def _shows(body: str, payment: Payment) -> bool:
    """Whether an answer is this payment, with the fields that it should have."""
    shown = json.loads(body)
    moment = datetime.fromisoformat(shown.pop("OperationTimestamp", "1970-01-01"))
    return moment == payment.operation_timestamp and shown == {
        "ID": payment.id,
        "CurrencyID": payment.currency_id,
        "Amount": f"{payment.amount.normalize():f}",
        "BuyerAccountID": payment.buyer_account_id,
        "SellerAccountID": payment.seller_account_id,
    }


# All faults of the test.
STRUCK: list[Fault] = []


def agree(admin: psycopg.Connection[Any], address: Address, recorder: Recorder) -> None:
    """Reports what a recorder went through, and fails if a fault did not strike, or anything contradicts."""
    print(recorder.report())
    STRUCK.extend(recorder.faults)
    assert recorder.faults != [], "nothing was done to the service"
    missed = [fault.kind for fault in recorder.faults if fault.in_flight == 0]
    assert missed == [], f"no payment was in flight at: {missed}"
    found = verdict(admin, address, recorder)
    assert found == [], "\n".join([f"{len(found)} contradictions:", *found[:20]])


def verdict(admin: psycopg.Connection[Any], address: Address, recorder: Recorder) -> list[str]:
    """What is wrong after a recorder has stopped, a sentence each: none when all is well."""
    _wait_until_quiet(admin)
    payments = stored_payments(admin, recorder.accounts)
    found = contradictions(recorder.accounts, _shown_balances(address), payments, recorder.orders)
    found += recorder.follower.contradictions(address, [payment.id for payment in payments])
    found += [f"was never answered for good: {order}" for order in recorder.unsettled()]
    found += [f"check_ledger() finds: {link}" for link in ledger_problems(admin)]
    return found


def _wait_until_quiet(admin: psycopg.Connection[Any]) -> None:
    """Waits until nothing is under way any more, of clients that have gone either."""
    busy = "from pg_stat_activity where application_name = 'wallet' and state <> 'idle'"
    query = f"select (select last_value from ledger.payment_id_seq), (select count(*) {busy})"
    seen: list[tuple[Any, ...] | None] = [None] * 3

    def quiet() -> bool:
        seen.append(admin.execute(query).fetchone())
        return seen[-1] is not None and seen[-1][1] == 0 and len(set(seen[-3:])) == 1

    wait_until(quiet)


def _shown_balances(address: Address) -> dict[int, Decimal]:
    connection = http.client.HTTPConnection(*address, timeout=TIMEOUT)
    connection.request("GET", "/accounts")
    accounts = json.loads(connection.getresponse().read())["Accounts"]
    connection.close()
    return {account["ID"]: Decimal(account["Amount"]) for account in accounts}
