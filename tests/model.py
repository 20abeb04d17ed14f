"""The reference model: the rules of the wallet in a few lines, for one request after another, refusals by code."""

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

LIMIT = Decimal("1e15")
MOST_SECONDS = 31_536_000
# The seller of a payment pays its refund: the codes of a payment, and those of its refund in their place.
OF_REFUNDS = {
    "WB006": "WB023",
    "WB010": "WB024",
    "WB014": "WB025",
    "WB015": "WB026",
    "WB007": "WB027",
    "WB042": "WB044",
    "WB043": "WB045",
}


class Refused(Exception):
    """A request is refused, with this code."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Terms(NamedTuple):
    """What a payment and a hold are asked for with, besides who pays whom how much."""

    key: str | None = None
    description: str | None = None
    reference: str | None = None
    metadata: Any = None
    up_to: bool = False


NO_TERMS = Terms()


@dataclass
class Account:
    """An account, as it is now, and what it was opened with."""

    currency: int
    opening: Decimal
    balance: Decimal
    status: str = "active"
    limit: Decimal = Decimal(0)
    limits: list[Decimal] = field(default_factory=list)  # all that it has had


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
    up_to: Decimal | None  # what was asked for at most
    final: bool | None  # whether it was a capture that releases the rest; None: either fits
    balances: tuple[Decimal, Decimal]
    metadata: Any = None
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
    buyer_may_void: bool = False
    metadata: Any = None
    status: str = "open"
    captured: Decimal = Decimal(0)
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
    code: str = ""  # of the refusal


def is_amount(amount: Decimal) -> bool:
    return abs(amount) < LIMIT and amount == round(amount, 15)


def has_length(text: str | None) -> bool:
    return text is None or 1 <= len(text) <= 255


def is_metadata(value: Any) -> bool:
    return isinstance(value, dict) and len(json.dumps(value, ensure_ascii=False).encode()) <= 4096


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
        open_holds = [hold for hold in self.holds if hold.buyer == account and hold.status == "open"]
        return sum((hold.amount - hold.captured for hold in open_holds), Decimal(0))

    def available(self, account: int) -> Decimal:
        return self.accounts[account].balance + self.accounts[account].limit - self.held(account)

    def refunds(self, payment: int) -> list[Made]:
        return [made for made in self.payments if made.refunded == payment]

    # What each operation does.

    def pay(self, buyer: int, seller: int, amount: Decimal, terms: Terms) -> Outcome:
        self._check_key(terms)
        if terms.key in self.keys:
            most = amount if terms.up_to else None
            return self._replay(terms, (buyer, seller, amount, terms.description, terms.reference, None, None, most))
        self._check_request(buyer, seller, amount, terms)
        paid = self._up_to(buyer, amount) if terms.up_to else amount
        self._check_parties(buyer, seller, paid)
        return self.make(buyer, seller, paid, terms, up_to=amount if terms.up_to else None)

    def _up_to(self, buyer: int, amount: Decimal) -> Decimal:
        """As much of the amount as is available, if anything is."""
        account = self.accounts.get(buyer)
        if account is None or self.available(buyer) <= 0 or decimals(amount) > self.scales[account.currency]:
            return amount
        return min(amount, self.available(buyer))

    def refund(self, payment: int, amount: Decimal | None, terms: Terms) -> Outcome:
        original = self.payment(payment)
        if original is None:
            raise Refused("WN002")
        self._check_key(terms)
        before = self.keys.get(terms.key or "")
        earlier = self.payments[: self.payments.index(before)] if before else self.payments
        left = original.amount - sum(made.amount for made in earlier if made.refunded == payment)
        buyer, seller, asked = original.seller, original.buyer, left if amount is None else amount
        if before:
            return self._replay(terms, (buyer, seller, asked, terms.description, terms.reference, payment, None, None))
        if original.refunded is not None:
            raise Refused("WB022")
        self._check_request(buyer, seller, original.amount if amount is None else amount, terms)
        if left == 0 or asked > left:
            raise Refused("WB021")
        try:
            self._check_parties(buyer, seller, asked)
        except Refused as refused:
            raise Refused(OF_REFUNDS.get(refused.code, refused.code)) from None
        return self.make(buyer, seller, asked, terms, refunded=payment)

    def create_hold(
        self, buyer: int, seller: int, amount: Decimal, expires_in: int, terms: Terms, buyer_may_void: bool = False
    ) -> Outcome:
        self._check_key(terms)
        if terms.key in self.hold_keys:
            hold = self.hold_keys[terms.key]
            made = (
                hold.buyer,
                hold.seller,
                hold.amount,
                hold.expires_in,
                hold.description,
                hold.reference,
                hold.metadata,
            )
            asked = (buyer, seller, amount, expires_in, terms.description, terms.reference, terms.metadata)
            if (made, hold.buyer_may_void) != (asked, buyer_may_void):
                raise Refused("WK002")
            return Outcome(hold, replayed=True)
        self._check_request(buyer, seller, amount, terms)
        if not 1 <= expires_in <= MOST_SECONDS:
            raise Refused("WB031")
        self._check_parties(buyer, seller, amount)
        hold = Hold(
            buyer, seller, amount, expires_in, terms.description, terms.reference, buyer_may_void, terms.metadata
        )
        self.holds.append(hold)
        if terms.key is not None:
            self.hold_keys[terms.key] = hold
        return Outcome(hold)

    def capture(
        self, id_: int, amount: Decimal | None, terms: Terms, *, final: bool = True, up_to: bool = False
    ) -> Outcome:
        hold = self.hold(id_)
        if hold is None:
            raise Refused("WN003")
        self._check_key(terms)
        before = self.keys.get(terms.key or "")
        earlier = self.payments[: self.payments.index(before)] if before else self.payments
        left = hold.amount - sum(made.amount for made in earlier if made.hold == id_)
        asked, most = left if amount is None else amount, amount if up_to else None
        of_hold = Terms(terms.key, hold.description, hold.reference, hold.metadata)
        if before:
            content = (hold.buyer, hold.seller, asked, hold.description, hold.reference, None, id_, most)
            if before.final not in (final, None):
                raise Refused("WK001")
            return self._replay(of_hold, content)
        self._check_open(hold)
        self._check_request(hold.buyer, hold.seller, asked, of_hold)
        if most is not None:
            self._check_scale(self.accounts[hold.buyer], asked)
            asked = min(asked, left)
        if asked > left:
            raise Refused("WB032")
        self._check_parties(hold.buyer, hold.seller, asked, released=left)
        hold.captured += asked
        if final or asked == left:
            hold.status = "captured"
        kept = None if asked == left else final
        return self.make(hold.buyer, hold.seller, asked, of_hold, hold=id_, up_to=most, final=kept)

    def void(self, id_: int, key: str | None = None) -> Outcome:
        hold = self.hold(id_)
        if hold is None:
            raise Refused("WN003")
        return self._once("void", key, (id_,), lambda: self._void(hold))

    def _void(self, hold: Hold) -> Hold:
        self._check_open(hold)
        hold.status = "voided"
        return hold

    def set_status(self, id_: int, status: str, key: str | None = None) -> Outcome:
        return self._once("status", key, (id_, status), lambda: self._set_status(id_, status))

    def _set_status(self, id_: int, status: str) -> Account:
        if status not in ("active", "frozen", "blocked", "closed"):
            raise Refused("WB041")
        account = self._account(id_)
        if status == "closed" and account.balance != 0:
            raise Refused("WC041")
        if status == "closed" and self.held(id_) != 0:
            raise Refused("WC042")
        account.status = status
        return account

    def set_limit(self, id_: int, amount: Decimal, key: str | None = None) -> Outcome:
        return self._once("limit", key, (id_, amount), lambda: self._set_limit(id_, amount))

    def _set_limit(self, id_: int, amount: Decimal) -> Account:
        if amount < 0:
            raise Refused("WB012")
        if not is_amount(amount):
            raise Refused("WB003")
        account = self._account(id_)
        self._check_scale(account, amount)
        if account.balance + amount < self.held(id_):
            raise Refused("WC043")
        account.limit = amount
        account.limits.append(amount)
        return account

    def set_scale(self, currency: int, scale: int) -> None:
        """Raises Refused if some amount of the currency has more decimals."""
        if not 0 <= scale <= 15:
            raise Refused("WB052")
        if currency not in self.scales:
            raise Refused("WN005")
        amounts = [amount for id_ in self._accounts_of(currency) for amount in self._amounts_of(id_)]
        if scale < self.scales[currency] and any(decimals(amount) > scale for amount in amounts):
            raise Refused("WC052")
        self.scales[currency] = scale

    def _accounts_of(self, currency: int) -> list[int]:
        return [id_ for id_, account in self.accounts.items() if account.currency == currency]

    def _amounts_of(self, id_: int) -> list[Decimal]:
        """Every amount that is or was on the account."""
        paid = [made.amount for made in self.payments if made.buyer == id_]
        held = [hold.amount for hold in self.holds if hold.buyer == id_]
        return [self.accounts[id_].opening, *self.accounts[id_].limits, *paid, *held]

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
            raise Refused("WK003")
        return Outcome(answered, replayed=True)

    # The rules that several share.

    def _account(self, id_: int) -> Account:
        if id_ not in self.accounts:
            raise Refused("WN001")
        return self.accounts[id_]

    def _check_key(self, terms: Terms) -> None:
        if not has_length(terms.key):
            raise Refused("WB008")

    def check_payment(self, buyer: int, seller: int, amount: Decimal, terms: Terms = NO_TERMS) -> None:
        """Raises Refused if this payment cannot be made now."""
        self._check_request(buyer, seller, amount, terms)
        self._check_parties(buyer, seller, amount)

    def _check_request(self, buyer: int, seller: int, amount: Decimal, terms: Terms) -> None:
        if buyer == seller:
            raise Refused("WB001")
        if amount <= 0:
            raise Refused("WB002")
        if not is_amount(amount):
            raise Refused("WB003")
        if not has_length(terms.description):
            raise Refused("WB016")
        if not has_length(terms.reference):
            raise Refused("WB017")
        if terms.metadata is not None and not is_metadata(terms.metadata):
            raise Refused("WB020")

    def _check_scale(self, account: Account, amount: Decimal) -> None:
        if decimals(amount) > self.scales[account.currency]:
            raise Refused("WB009")

    def _check_parties(self, buyer_id: int, seller_id: int, amount: Decimal, released: Decimal = Decimal(0)) -> None:
        """`released` is what is left of the hold that this payment captures."""
        if buyer_id not in self.accounts or seller_id not in self.accounts:
            raise Refused("WB004")
        buyer, seller = self.accounts[buyer_id], self.accounts[seller_id]
        if buyer.currency != seller.currency:
            raise Refused("WB005")
        self._check_scale(buyer, amount)
        if buyer.status != "active":
            raise Refused({"frozen": "WB010", "blocked": "WB042", "closed": "WB014"}[buyer.status])
        if seller.status in ("blocked", "closed"):
            raise Refused({"blocked": "WB043", "closed": "WB015"}[seller.status])
        if self.available(buyer_id) + released < amount:
            raise Refused("WB006")
        if not is_amount(seller.balance + amount):
            raise Refused("WB007")

    def _check_open(self, hold: Hold) -> None:
        if hold.status != "open":
            raise Refused({"captured": "WC031", "voided": "WC032", "expired": "WC033"}[hold.status])

    def _replay(self, terms: Terms, content: tuple[Any, ...]) -> Outcome:
        """The payment under the key, if it has this content: parties, amount, texts, what is refunded or captured, UpTo."""
        made = self.keys[terms.key or ""]
        of_made = (
            made.buyer,
            made.seller,
            made.amount if made.up_to is None else made.up_to,
            made.description,
            made.reference,
            made.refunded,
            made.hold,
            made.up_to,
        )
        if (*of_made, made.metadata) != (*content, terms.metadata):
            raise Refused("WK001")
        return Outcome(made, replayed=True)

    def make(
        self,
        buyer: int,
        seller: int,
        amount: Decimal,
        terms: Terms = NO_TERMS,
        refunded: int | None = None,
        hold: int | None = None,
        up_to: Decimal | None = None,
        final: bool | None = None,
    ) -> Outcome:
        """Makes a payment, whatever the rules say of it."""
        self.accounts[buyer].balance -= amount
        self.accounts[seller].balance += amount
        balances = (self.accounts[buyer].balance, self.accounts[seller].balance)
        texts = (terms.description, terms.reference)
        made = Made(buyer, seller, amount, *texts, refunded, hold, up_to, final, balances, terms.metadata)
        self.payments.append(made)
        if terms.key is not None:
            self.keys[terms.key] = made
        return Outcome(made)
