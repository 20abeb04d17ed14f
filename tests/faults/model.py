"""The wallet once more, single-threaded and in a few lines, and what its clients were told held against it."""

import http.client
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
from tests.support import PATIENCE, broken_books, wait_until

T = TypeVar("T")

# What a client cannot tell from "it took effect, and the answer was lost".
UNKNOWN = (502, 503, 504)

SELF = "Could not make payment to self"
NOT_POSITIVE = "Amount should be positive"
NO_AMOUNT = "Amount should be a number of at most 15 integer digits and 15 decimals"
NOT_FOUND = "Account not found"
MISMATCH = "Payment allowed only when account currencies match"
TOO_POOR = "Buyer account does not have sufficient balance"
TOO_RICH = "Seller account balance would have more than 15 integer digits"

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


class Model:
    """The accounts, and how they stood from when on."""

    def __init__(self, accounts: Sequence[Account]) -> None:
        self._accounts = {account.id: account for account in accounts}
        self.balances = {account.id: account.opening for account in accounts}
        self._history = {account.id: [(0.0, account.opening)] for account in accounts}

    def make(self, payment: Payment) -> Iterator[str]:
        """Makes a payment, and yields what is wrong with it."""
        buyer, seller = payment.buyer_account_id, payment.seller_account_id
        if refusal := self.refusal(buyer, seller, payment.amount) or self.refusal_now(buyer, seller, payment.amount):
            yield f"payment {payment.id} should have been refused: {refusal}"
        if not {buyer, seller} <= self._accounts.keys():
            return
        if payment.currency_id != self._accounts[buyer].currency_id:
            yield f"payment {payment.id} has another currency than its buyer"
        self.balances[buyer] -= payment.amount
        self.balances[seller] += payment.amount
        for role, account, after in (
            ("buyer", buyer, payment.buyer_balance),
            ("seller", seller, payment.seller_balance),
        ):
            if self.balances[account] != after:
                yield f"payment {payment.id} left its {role} with {after}, the model with {self.balances[account]}"
            if self._history[account][-1][0] > payment.time:
                yield f"payment {payment.id} is older than the one before it of account {account}"
            self._history[account].append((payment.time, self.balances[account]))

    def refusal(self, buyer: int, seller: int, amount: Decimal) -> str | None:
        """Why a payment can never be made, if so."""
        if buyer == seller:
            return SELF
        if not amount > 0:
            return NOT_POSITIVE
        if not _is_amount(amount):
            return NO_AMOUNT
        if not {buyer, seller} <= self._accounts.keys():
            return NOT_FOUND
        return None if self._accounts[buyer].currency_id == self._accounts[seller].currency_id else MISMATCH

    def refusal_now(self, buyer: int, seller: int, amount: Decimal) -> str | None:
        """Why a payment cannot be made as the balances stand, if so."""
        if not {buyer, seller} <= self._accounts.keys():
            return None
        if self.balances[buyer] < amount:
            return TOO_POOR
        return None if _is_amount(self.balances[seller] + amount) else TOO_RICH

    def could_refuse(self, order: Order, attempt: Attempt, error: str) -> bool:
        """Whether there was a moment between request and answer at which a balance was reason to refuse it."""
        amount = Decimal(order.amount)
        if error == TOO_POOR:
            return any(balance < amount for balance in self._balances(order.buyer, attempt))
        return error == TOO_RICH and any(
            not _is_amount(balance + amount) for balance in self._balances(order.seller, attempt)
        )

    def _balances(self, account: int, attempt: Attempt) -> list[Decimal]:
        """The balances in effect between request and answer."""
        history = self._history[account]
        first = bisect_right(history, attempt.sent - _TOLERANCE, key=lambda step: step[0]) - 1
        last = bisect_right(history, (attempt.ended or 0) + _TOLERANCE, key=lambda step: step[0])
        return [balance for _, balance in history[first:last]]


def contradictions(
    accounts: Sequence[Account], shown: dict[int, Decimal], payments: Sequence[Payment], orders: Iterable[Order]
) -> list[str]:
    """What does not fit together, a sentence each: none when all is well.

    `accounts` as they were opened, `shown` as GET /accounts shows them now, `payments` as they are stored, by id,
    and `orders` with all that the clients were told.
    """
    with localcontext(prec=60):  # 28 digits, Python's default, are fewer than an amount may have
        return list(_contradictions(Model(accounts), shown, payments, list(orders)))


def _contradictions(
    model: Model, shown: dict[int, Decimal], payments: Sequence[Payment], orders: list[Order]
) -> Iterator[str]:
    for payment in payments:
        yield from model.make(payment)
    for account, balance in model.balances.items():
        if shown.get(account) != balance:
            yield f"account {account} shows {shown.get(account)}, the model has {balance}"
    by_id = {payment.id: payment for payment in payments}
    for order in orders:
        for attempt in order.attempts:
            yield from _wrong_answer(model, by_id, order, attempt)
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


def _wrong_answer(model: Model, by_id: dict[int, Payment], order: Order, attempt: Attempt) -> Iterator[str]:
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
        error = json.loads(attempt.body)["Error"]
        expected = model.refusal(order.buyer, order.seller, Decimal(order.amount))
        if error != expected and (expected is not None or not model.could_refuse(order, attempt, error)):
            yield f"{told}; {f'it should say: {expected}' if expected else 'there was no moment to refuse it'}"
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
        yield f"nobody sent the key of {payment}"


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
    # Of equal requests without an answer, nobody can say which one made which payment; they have to suffice.
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
            yield f"nobody asked for {payment}, or only once, and got another one"


def _is_amount(amount: Decimal) -> bool:
    exponent = amount.normalize().as_tuple().exponent
    return abs(amount) < 10**15 and isinstance(exponent, int) and exponent >= -15


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
    found += [f"was never answered for good: {order}" for order in recorder.unsettled()]
    found += [f"the books do not hold: {link}" for link in broken_books(admin)]
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
    connection = http.client.HTTPConnection(*address, timeout=PATIENCE)
    connection.request("GET", "/accounts")
    accounts = json.loads(connection.getresponse().read())["Accounts"]
    connection.close()
    return {account["ID"]: Decimal(account["Amount"]) for account in accounts}
