"""The comparison that the other tests end with sees each kind of contradiction."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from tests.faults.contradictions import Payment, contradictions
from tests.faults.recorder import Account, Attempt, Order
from tests.support import sentence

BUYER, SELLER, ROUBLES, FULL = 1, 2, 3, 4
_BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Record:
    """What contradictions() is given."""

    accounts: list[Account]
    shown: dict[int, Decimal]
    payments: list[Payment]
    orders: dict[str, Order]

    def contradictions(self) -> list[str]:
        return contradictions(self.accounts, self.shown, self.payments, self.orders.values())

    def change(self, number: int, **fields: object) -> None:
        self.payments[number] = self.payments[number]._replace(**fields)  # type: ignore[arg-type]

    def add(self, buyer: int, seller: int, amount: int, key: str | None = None) -> None:
        """Stores one more payment at the end, which is made right."""
        number, currency = len(self.payments) + 1, self.accounts[buyer - 1].currency_id
        self.shown[buyer] -= amount
        self.shown[seller] += amount
        after = self.shown[buyer], self.shown[seller]
        self.payments.append(Payment(number, currency, buyer, seller, Decimal(amount), *after, moment(20), key))


def moment(second: float) -> datetime:
    return _BEGIN + timedelta(seconds=second)


def attempt(sent: float, status: int | None = None, body: object = "", *, replayed: bool = False) -> Attempt:
    begin = moment(sent).timestamp()
    retry_after = "1" if status == 503 else None
    broke = "ConnectionResetError()" if status is None else ""
    return Attempt(begin, begin + 1, status, json.dumps(body), replayed, retry_after, broke)


def paid(sent: float, payment: Payment, *, replayed: bool = False) -> Attempt:
    body = {
        "ID": payment.id,
        "CurrencyID": payment.currency_id,
        "Amount": str(payment.amount),
        "BuyerAccountID": payment.buyer_account_id,
        "SellerAccountID": payment.seller_account_id,
        "OperationTimestamp": payment.operation_timestamp.isoformat(),
    }
    return attempt(sent, 200, body, replayed=replayed)


def refused(sent: float, code: str) -> Attempt:
    found = attempt(sent, 400, {"Error": sentence(code)})
    found.code = code
    return found


@pytest.fixture
def record() -> Record:
    """A little of everything, and all of it in order."""
    openings = [(BUYER, 1, 10), (SELLER, 1, 0), (ROUBLES, 2, 10), (FULL, 1, 10**15 - 1)]
    accounts = [Account(number, currency, Decimal(opening)) for number, currency, opening in openings]
    payments = [
        Payment(1, 1, BUYER, SELLER, Decimal(4), Decimal(6), Decimal(4), moment(1), "key"),
        Payment(2, 1, BUYER, SELLER, Decimal(1), Decimal(5), Decimal(5), moment(3), None),
        Payment(3, 1, SELLER, BUYER, Decimal(5), Decimal(0), Decimal(10), moment(5), None),
    ]
    with_key = [attempt(0.5), paid(1.6, payments[0], replayed=True), paid(2, payments[0], replayed=True)]
    orders = {
        "repeated": Order(BUYER, SELLER, "4", "key", with_key),
        "lost": Order(BUYER, SELLER, "1", None, [attempt(2.5)]),
        "paid": Order(SELLER, BUYER, "5.0", None, [paid(4.5, payments[2])]),
        "too poor": Order(SELLER, BUYER, "1", None, [refused(6, "WB006")]),
        "too rich": Order(BUYER, FULL, "1", None, [refused(6, "WB007")]),
        "another currency": Order(BUYER, ROUBLES, "1", None, [refused(7, "WB005")]),
        "refused at last": Order(BUYER, SELLER, "100", "other", [attempt(7, 503), refused(8, "WB006")]),
    }
    shown = {account.id: account.opening for account in accounts}
    return Record(accounts, shown, payments, orders)


def test_it_says_nothing_where_all_is_well(record: Record) -> None:
    assert record.contradictions() == []


def test_a_payment_may_be_made_after_its_client_got_no_answer(record: Record) -> None:
    record.add(BUYER, SELLER, 2)
    record.orders["late"] = Order(BUYER, SELLER, "2", None, [attempt(15)])
    assert record.contradictions() == []


Damage = Callable[[Record], object]
STORED: list[tuple[Damage, str]] = [
    (lambda r: r.shown.update({BUYER: Decimal(11)}), "account 1 shows 11"),
    (lambda r: r.shown.pop(SELLER), "account 2 shows None"),
    (lambda r: r.payments.pop(1), "payment 3 left its seller with 10, the model with 11"),
    (lambda r: r.change(1, amount=Decimal(2)), "payment 2 left its buyer with 5, the model with 4"),
    (lambda r: r.change(1, seller_balance=Decimal(6)), "payment 2 left its seller with 6"),
    (lambda r: r.change(1, currency_id=2), "payment 2 has another currency"),
    (lambda r: r.change(1, operation_timestamp=moment(0)), "payment 2 is older than the one before it of account 1"),
    (lambda r: r.add(BUYER, SELLER, 11), "payment 4 should have been refused with WB006"),
    (lambda r: r.add(BUYER, FULL, 1), "payment 4 should have been refused with WB007"),
    (lambda r: r.add(BUYER, ROUBLES, 1), "payment 4 should have been refused with WB005"),
    (lambda r: r.add(BUYER, BUYER, 1), "payment 4 should have been refused with WB001"),
    (lambda r: r.add(BUYER, SELLER, 0), "payment 4 should have been refused with WB002"),
    (lambda r: r.add(BUYER, SELLER, 4, "key"), "key key (1 pays 4 to 2) has 2 payments"),
    (lambda r: r.add(BUYER, SELLER, 4, "made up"), "no request had the key of"),
    (lambda r: r.add(BUYER, SELLER, 1), "no request without another answer"),
    (lambda r: r.add(BUYER, SELLER, 3), "no request without another answer"),
    (lambda r: r.change(0, amount=Decimal(3)), "key key (1 pays 4 to 2) has another payment"),
    (lambda r: r.change(0, idempotency_key=None), "stored is the key None"),
]  # fmt: skip
TOLD: list[tuple[Damage, str]] = [
    (lambda r: r.payments.pop(), "stored is None"),
    (lambda r: r.payments.pop(0), "was answered with 200, and has no payment"),
    (lambda r: r.orders.pop("lost"), "no request without another answer"),
    (lambda r: r.orders.pop("repeated"), "no request had the key of"),
    (lambda r: setattr(r.orders["lost"], "amount", "2"), "no request without another answer"),
    (lambda r: r.orders["lost"].attempts.__setitem__(0, attempt(4)), "no request without another answer"),
    (lambda r: setattr(r.orders["paid"], "amount", "4"), "that is another payment"),
    (lambda r: setattr(r.orders["paid"], "seller", FULL), "that is another payment"),
    (lambda r: setattr(r.orders["paid"], "key", "its own"), "stored is the key None"),
    (lambda r: r.orders["paid"].attempts.__setitem__(0, paid(5.5, r.payments[2])), "not made between"),
    (lambda r: r.orders["paid"].attempts.__setitem__(0, paid(3.5, r.payments[2])), "not made between"),
    (lambda r: r.orders["paid"].attempts.append(paid(4.5, r.payments[2])), "payment 3 is the answer to 2 requests"),
    (lambda r: setattr(r.orders["paid"].attempts[0], "replayed", True), "was answered with a replay"),
    (lambda r: setattr(r.orders["paid"].attempts[0], "status", 500), "that is no answer to a payment"),
    (lambda r: setattr(r.orders["repeated"].attempts[2], "status", 422), "that is no answer to a payment"),
    (lambda r: setattr(r.orders["refused at last"].attempts[0], "retry_after", None), "without Retry-After"),
    (lambda r: r.orders["repeated"].attempts.extend([paid(2, r.payments[0])] * 2), "twice as if it were new"),
    (lambda r: setattr(r.orders["repeated"].attempts[2], "body", json.dumps({})), "was answered in 2 ways"),
    (lambda r: r.orders["repeated"].attempts.append(refused(6, "WB006")), "refused when it was made already"),
    (lambda r: r.orders["repeated"].attempts.__setitem__(slice(3), [refused(0, "WB006")]), "never answered with 200"),
    (lambda r: r.orders["too poor"].attempts.__setitem__(0, refused(3.5, "WB006")), "for this reason: ['']"),
    (lambda r: setattr(r.orders["too rich"], "seller", SELLER), "for this reason: ['']"),
    (lambda r: setattr(r.orders["another currency"], "seller", SELLER), "for this reason: ['']"),
    (lambda r: setattr(r.orders["too poor"].attempts[0], "body", json.dumps({"Error": ""})), "not the sentence of WB006"),
    (lambda r: setattr(r.orders["too poor"], "amount", "0"), "for this reason: ['WB002']"),
    (lambda r: setattr(r.orders["too poor"], "seller", SELLER), "for this reason: ['WB001']"),
    (lambda r: setattr(r.orders["too poor"], "seller", 99), "for this reason: ['WB004']"),
]  # fmt: skip


@pytest.mark.parametrize(("damage", "sentence"), [*STORED, *TOLD])
def test_it_sees(record: Record, damage: Damage, sentence: str) -> None:
    damage(record)
    assert [found for found in record.contradictions() if sentence in found] != [], record.contradictions()
