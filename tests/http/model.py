"""The wallet once more, single-threaded and in a few lines: what becomes of each request, one after another."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

LIMIT = Decimal("1e15")
MOST_SECONDS = 31_536_000

SELF = "Could not make payment to self"
NOT_POSITIVE = "Amount should be positive"
NOT_AN_AMOUNT = "Amount should be a number of at most 15 integer digits and 15 decimals"
TAKEN = "Idempotency key belongs to another payment"
TAKEN_BY_HOLD = "Idempotency key belongs to another hold"
TAKEN_BY_REQUEST = "Idempotency key belongs to another request"
# The seller of a payment pays its refund.
OF_REFUNDS = {
    "Buyer account does not have sufficient balance": "Seller account does not have sufficient balance for this refund",
    "Buyer account is frozen": "Seller account is frozen and cannot refund",
    "Buyer account is closed": "Seller account is closed and cannot refund",
    "Seller account is closed": "Buyer account is closed and cannot be refunded",
    "Seller account balance would have more than 15 integer digits": "Buyer account balance would have more than 15 "
    "integer digits",
}


class Refused(Exception):
    """A request is refused: with a status and a sentence."""

    def __init__(self, sentence: str, status: int = 400) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.status = status


class Terms(NamedTuple):
    """What a payment and a hold are asked for with, besides who pays whom how much."""

    key: str | None = None
    description: str | None = None
    reference: str | None = None


@dataclass
class Account:
    """An account, as it is now, and what it was opened with."""

    currency: int
    opening: Decimal
    balance: Decimal
    status: str = "active"
    limit: Decimal = Decimal(0)


@dataclass
class Made:
    """A payment that was made; its JSON is known when it was told for the first time."""

    buyer: int
    seller: int
    amount: Decimal
    description: str | None
    reference: str | None
    refunded: int | None
    hold: int | None
    balances: tuple[Decimal, Decimal]
    json: dict[str, Any] = field(default_factory=dict)


@dataclass
class Hold:
    """A hold; its JSON is that of when it was told for the first time."""

    buyer: int
    seller: int
    amount: Decimal
    expires_in: int | None
    description: str | None
    reference: str | None
    status: str = "open"
    captured: Decimal | None = None
    json: dict[str, Any] = field(default_factory=dict)


@dataclass
class Answered:
    """A request under a key that changed an account or a hold; its JSON is known when it was answered the first time."""

    content: tuple[object, ...]
    thing: Hold | Account
    json: dict[str, Any] = field(default_factory=dict)


class Outcome(NamedTuple):
    """What becomes of a request."""

    thing: Made | Hold | Account | Answered | None = None
    replayed: bool = False
    error: str = ""
    status: int = 200

    def told(self) -> tuple[int, bool, str]:
        """How an answer tells it: its status, whether it was made before, the error."""
        return self.status, self.replayed, self.error


def is_amount(amount: Decimal) -> bool:
    return abs(amount) < LIMIT and amount == round(amount, 15)


def has_length(text: str | None) -> bool:
    return text is None or 1 <= len(text) <= 255


def decimals(amount: Decimal) -> int:
    exponent = amount.normalize().as_tuple().exponent
    assert isinstance(exponent, int)
    return max(0, -exponent)


@dataclass
class Model:
    """The whole wallet. Payments and holds are known by the ids that their first answers told."""

    scales: dict[int, int] = field(default_factory=dict)
    accounts: dict[int, Account] = field(default_factory=dict)
    payments: list[Made] = field(default_factory=list)
    holds: list[Hold] = field(default_factory=list)
    keys: dict[str, Made] = field(default_factory=dict)
    hold_keys: dict[str, Hold] = field(default_factory=dict)
    # by operation and key
    request_keys: dict[tuple[str, str], Answered] = field(default_factory=dict)

    def copy(self) -> "Model":
        return copy.deepcopy(self)

    def payment(self, id_: int) -> Made | None:
        return next((made for made in self.payments if made.json.get("ID") == id_), None)

    def hold(self, id_: int) -> Hold | None:
        return next((hold for hold in self.holds if hold.json.get("ID") == id_), None)

    def held(self, account: int) -> Decimal:
        return sum((hold.amount for hold in self.holds if hold.buyer == account and hold.status == "open"), Decimal(0))

    def available(self, account: int) -> Decimal:
        return self.accounts[account].balance + self.accounts[account].limit - self.held(account)

    def refunds(self, payment: int) -> list[Made]:
        return [made for made in self.payments if made.refunded == payment]

    # What each operation does.

    def pay(self, buyer: int, seller: int, amount: Decimal, terms: Terms) -> Outcome:
        self._check_key(terms)
        if terms.key in self.keys:
            return self._replay(terms, (buyer, seller, amount, terms.description, terms.reference, None, None))
        self._check_request(buyer, seller, amount, terms)
        self._check_parties(buyer, seller, amount, self.held(buyer) if buyer in self.accounts else Decimal(0))
        return self._make(buyer, seller, amount, terms)

    def refund(self, payment: int, amount: Decimal | None, terms: Terms) -> Outcome:
        original = self.payment(payment)
        if original is None:
            raise Refused("Payment not found", 404)
        self._check_key(terms)
        before = self.keys.get(terms.key or "")
        earlier = self.payments[: self.payments.index(before)] if before else self.payments
        left = original.amount - sum(made.amount for made in earlier if made.refunded == payment)
        buyer, seller, asked = original.seller, original.buyer, left if amount is None else amount
        if before:
            return self._replay(terms, (buyer, seller, asked, terms.description, terms.reference, payment, None))
        if original.refunded is not None:
            raise Refused("A refund cannot be refunded")
        self._check_request(buyer, seller, original.amount if amount is None else amount, terms)
        if left == 0 or asked > left:
            raise Refused("Refunds should not exceed the payment")
        try:
            self._check_parties(buyer, seller, asked, self.held(buyer))
        except Refused as refused:
            raise Refused(OF_REFUNDS.get(refused.sentence, refused.sentence)) from None
        return self._make(buyer, seller, asked, terms, refunded=payment)

    def create_hold(self, buyer: int, seller: int, amount: Decimal, expires_in: int, terms: Terms) -> Outcome:
        self._check_key(terms)
        if terms.key in self.hold_keys:
            hold = self.hold_keys[terms.key]
            content = (hold.buyer, hold.seller, hold.amount, hold.expires_in, hold.description, hold.reference)
            if content != (buyer, seller, amount, expires_in, terms.description, terms.reference):
                raise Refused(TAKEN_BY_HOLD, 422)
            return Outcome(hold, replayed=True)
        self._check_request(buyer, seller, amount, terms)
        if not 1 <= expires_in <= MOST_SECONDS:
            raise Refused("ExpiresIn should be 1 to 31536000 seconds")
        self._check_parties(buyer, seller, amount, self.held(buyer) if buyer in self.accounts else Decimal(0))
        hold = Hold(buyer, seller, amount, expires_in, terms.description, terms.reference)
        self.holds.append(hold)
        if terms.key is not None:
            self.hold_keys[terms.key] = hold
        return Outcome(hold)

    def capture(self, id_: int, amount: Decimal | None, terms: Terms) -> Outcome:
        hold = self.hold(id_)
        if hold is None:
            raise Refused("Hold not found", 404)
        self._check_key(terms)
        asked = hold.amount if amount is None else amount
        of_hold = Terms(terms.key, hold.description, hold.reference)
        if terms.key in self.keys:
            return self._replay(terms, (hold.buyer, hold.seller, asked, hold.description, hold.reference, None, id_))
        self._check_open(hold)
        self._check_request(hold.buyer, hold.seller, asked, of_hold)
        if asked > hold.amount:
            raise Refused("Amount should not exceed the hold")
        self._check_parties(hold.buyer, hold.seller, asked, self.held(hold.buyer) - hold.amount)
        hold.status, hold.captured = "captured", asked
        return self._make(hold.buyer, hold.seller, asked, of_hold, hold=id_)

    def void(self, id_: int, key: str | None = None) -> Outcome:
        hold = self.hold(id_)
        if hold is None:
            raise Refused("Hold not found", 404)
        return self._once("void", key, (id_,), lambda: self._void(hold))

    def _void(self, hold: Hold) -> Hold:
        self._check_open(hold)
        hold.status = "voided"
        return hold

    def set_status(self, id_: int, status: str, key: str | None = None) -> Outcome:
        return self._once("status", key, (id_, status), lambda: self._set_status(id_, status))

    def _set_status(self, id_: int, status: str) -> Account:
        if status not in ("active", "frozen", "closed"):
            raise Refused("Status should be active, frozen or closed")
        account = self._account(id_)
        if status == "closed" and account.balance != 0:
            raise Refused("Account should have a balance of 0 to be closed", 409)
        if status == "closed" and self.held(id_) != 0:
            raise Refused("Account should have nothing held to be closed", 409)
        account.status = status
        return account

    def set_limit(self, id_: int, amount: Decimal, key: str | None = None) -> Outcome:
        return self._once("limit", key, (id_, amount), lambda: self._set_limit(id_, amount))

    def _set_limit(self, id_: int, amount: Decimal) -> Account:
        if amount < 0:
            raise Refused("Amount should not be negative")
        if not is_amount(amount):
            raise Refused(NOT_AN_AMOUNT)
        account = self._account(id_)
        self._check_scale(account, amount)
        if account.balance + amount < self.held(id_):
            raise Refused("Credit limit should cover what is used of it", 409)
        account.limit = amount
        return account

    def _once(
        self, operation: str, key: str | None, content: tuple[object, ...], change: Callable[[], Hold | Account]
    ) -> Outcome:
        """Makes a change once under its key."""
        if key is None:
            return Outcome(change())
        self._check_key(Terms(key))
        answered = self.request_keys.get((operation, key))
        if answered is None:
            answered = self.request_keys[operation, key] = Answered(content, change())
            return Outcome(answered)
        if answered.content != content:
            raise Refused(TAKEN_BY_REQUEST, 422)
        return Outcome(answered, replayed=True)

    # The rules that several share.

    def _account(self, id_: int) -> Account:
        if id_ not in self.accounts:
            raise Refused("Account not found", 404)
        return self.accounts[id_]

    def _check_key(self, terms: Terms) -> None:
        if not has_length(terms.key):
            raise Refused("Idempotency key should have 1 to 255 characters")

    def _check_request(self, buyer: int, seller: int, amount: Decimal, terms: Terms) -> None:
        if buyer == seller:
            raise Refused(SELF)
        if amount <= 0:
            raise Refused(NOT_POSITIVE)
        if not is_amount(amount):
            raise Refused(NOT_AN_AMOUNT)
        if not has_length(terms.description):
            raise Refused("Description should have 1 to 255 characters")
        if not has_length(terms.reference):
            raise Refused("Reference should have 1 to 255 characters")

    def _check_scale(self, account: Account, amount: Decimal) -> None:
        if decimals(amount) > self.scales[account.currency]:
            raise Refused("Amount should have no more decimals than its currency has")

    def _check_parties(self, buyer_id: int, seller_id: int, amount: Decimal, held: Decimal) -> None:
        if buyer_id not in self.accounts or seller_id not in self.accounts:
            raise Refused("Account not found")
        buyer, seller = self.accounts[buyer_id], self.accounts[seller_id]
        if buyer.currency != seller.currency:
            raise Refused("Payment allowed only when account currencies match")
        self._check_scale(buyer, amount)
        if buyer.status != "active":
            raise Refused(f"Buyer account is {buyer.status}")
        if seller.status == "closed":
            raise Refused("Seller account is closed")
        if buyer.balance + buyer.limit - held < amount:
            raise Refused("Buyer account does not have sufficient balance")
        if not is_amount(seller.balance + amount):
            raise Refused("Seller account balance would have more than 15 integer digits")

    def _check_open(self, hold: Hold) -> None:
        if hold.status != "open":
            was = {"captured": "was captured already", "voided": "was voided already", "expired": "has expired"}
            raise Refused(f"Hold {was[hold.status]}", 409)

    def _replay(self, terms: Terms, content: tuple[Any, ...]) -> Outcome:
        made = self.keys[terms.key or ""]
        of_made = (
            made.buyer,
            made.seller,
            made.amount,
            made.description,
            made.reference,
            made.refunded,
            made.hold,
        )
        if of_made != content:
            raise Refused(TAKEN, 422)
        return Outcome(made, replayed=True)

    def _make(
        self,
        buyer: int,
        seller: int,
        amount: Decimal,
        terms: Terms,
        refunded: int | None = None,
        hold: int | None = None,
    ) -> Outcome:
        self.accounts[buyer].balance -= amount
        self.accounts[seller].balance += amount
        balances = (self.accounts[buyer].balance, self.accounts[seller].balance)
        made = Made(buyer, seller, amount, terms.description, terms.reference, refunded, hold, balances)
        self.payments.append(made)
        if terms.key is not None:
            self.keys[terms.key] = made
        return Outcome(made)
