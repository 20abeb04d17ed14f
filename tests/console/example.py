"""A ledger as a marketplace may have it: shops and customers, payments of the last days, holds, keys, a recorded check."""

import random
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from tests.conftest import Connection
from tests.sql.calls import held, paid, row, rows
from tests.support import account

DAYS = 7
SHOPS = ["Café Amsel", "Bücher Lindgren", "Velo Riga", "Hofladen Peters", "Nordlicht Reisen", "Atelier Okafor"]
CUSTOMERS = [
    *("Amina Haddad", "Jonas Weber", "Sofía Rojas", "Li Na", "Oskar Lindqvist", "Priya Nair", "Tomás Novák"),
    *("Marta Kowalska", "Daniel Stein", "Ewa Zielińska", "Lukas Brandt", "Grace Mensah", "نور الهاشمي", "Hana Sato"),
]
_GOODS = {
    "Café Amsel": (3, 28, ["Breakfast for two", "Espresso beans, 500 g", "Cake to take away"]),
    "Bücher Lindgren": (8, 64, ["Two books", "An atlas", "A notebook and pens"]),
    "Velo Riga": (12, 480, ["Repair of a wheel", "A saddle", "Bicycle lights", "Rent, three days"]),
    "Hofladen Peters": (5, 45, ["Vegetable box", "Apples, 5 kg", "Cheese and bread"]),
    "Nordlicht Reisen": (60, 900, ["Ferry to Turku", "Cabin, two nights", "Rail pass"]),
    "Atelier Okafor": (20, 260, ["A print, framed", "Commission, first part", "Postcards"]),
}


class Example(NamedTuple):
    """What of it the tests and pictures look at."""

    account: int
    payment: int
    hold: int


class _Ledger:
    """Writes what happened, and notes when, because only a superuser can have it happen in the past."""

    def __init__(self, keeper: Connection, now: datetime) -> None:
        self._keeper = keeper
        self._now = now
        self._moments: list[tuple[datetime, int]] = []
        self.accounts: dict[str, int] = {}

    def open(self, name: str, currency_id: int) -> int:
        self.accounts[name] = account(self._keeper, name, 0, currency_id)
        return self.accounts[name]

    def pay(self, ago: timedelta, buyer: str, seller: str, amount: str, **named: object) -> int:
        made = paid(self._keeper, self.accounts[buyer], self.accounts[seller], amount, **named)
        return self._note(ago, made)

    def refund(self, ago: timedelta, payment: int, amount: str, description: str) -> int:
        return self._note(ago, row(self._keeper, "refund_payment", payment, amount, description=description)["id"])

    def _note(self, ago: timedelta, payment: int) -> int:
        self._moments.append((self._now - ago, payment))
        return payment

    def settle(self, opened: datetime) -> None:
        """Gives everything the moment at which it happened."""
        with self._keeper.transaction():
            self._keeper.execute("set local session_replication_role = replica")
            with self._keeper.cursor() as cursor:
                update = "update ledger.payment set operation_timestamp = %s where id = %s"
                cursor.executemany(update, self._moments)
            self._keeper.execute("update ledger.account set created_at = %s", [opened])
            self._keeper.execute(
                "update ledger.account_change set changed_at = %s + id * interval '1 minute'", [opened]
            )


def fill(keeper: Connection, now: datetime | None = None) -> Example:
    """Fills an empty ledger, as superuser. The same every time, but for the moments, which end now."""
    chance = random.Random(18)
    now = now or datetime.now(UTC)
    euro = row(keeper, "create_currency", "EUR", 2)["id"]
    ledger = _Ledger(keeper, now)
    row(keeper, "set_credit_limit", ledger.open("Bank clearing", euro), 250_000)
    for name in [*SHOPS, *CUSTOMERS]:
        ledger.open(name, euro)
    begin = timedelta(days=DAYS + 1)
    for number, name in enumerate(CUSTOMERS):
        top_up = str(chance.randrange(5000, 9000, 50))
        ledger.pay(begin - timedelta(minutes=number), "Bank clearing", name, top_up, description="Top-up")
    sold = _sales(ledger, chance)
    refunded = next(payment for shop, payment, amount in reversed(sold) if shop == "Velo Riga" and amount > 90)
    ledger.refund(timedelta(minutes=9), refunded, "45", "One of two lights did not work")
    ledger.settle(now - begin - timedelta(days=1))
    hold = _holds(keeper, ledger)
    _keys(keeper, ledger)
    row(keeper, "set_account_status", ledger.accounts["Lukas Brandt"], "frozen")
    row(keeper, "record_ledger_check", 0)
    row(keeper, "set_credit_limit", ledger.accounts["Jonas Weber"], 500)
    return Example(ledger.accounts["Jonas Weber"], refunded, hold)


def _sales(ledger: _Ledger, chance: random.Random) -> list[tuple[str, int, float]]:
    """A few hundred payments, more of them by day: the shop, the payment and the amount of each."""
    moments = sorted((_moment(chance) for _ in range(420)), reverse=True)
    sold = []
    for number, ago in enumerate(moments):
        shop = chance.choice(SHOPS)
        low, high, goods = _GOODS[shop]
        amount = round(low + (high - low) * chance.random() ** 3, 2)
        payment = ledger.pay(
            ago, chance.choice(CUSTOMERS), shop, str(amount),
            description=chance.choice(goods), reference=f"order {1000 + number}",
        )  # fmt: skip
        sold.append((shop, payment, amount))
    return sold


def _moment(chance: random.Random) -> timedelta:
    """How long ago a payment was: within the days, of which each has more than the one before, and rarely by night."""
    while True:
        ago = timedelta(minutes=10, hours=24 * DAYS * chance.random() ** 1.5)
        if chance.random() < (0.25 if ago.seconds // 3600 in range(9, 16) else 1):
            return ago


def _holds(keeper: Connection, ledger: _Ledger) -> int:
    """Open ones, of which some end soon, and ended ones. Returns one of which a part was captured."""
    seller = ledger.accounts["Nordlicht Reisen"]
    for minutes, name, amount, goods in [
        (12, "Amina Haddad", "120", "Deposit for a cabin"),
        (41, "Daniel Stein", "64.5", "Ferry to Turku"),
        (55, "Grace Mensah", "18.9", "Seat reservation"),
        (60 * 26, "Hana Sato", "310", "Cabin, two nights"),
        (60 * 60, "Priya Nair", "89.9", "Rail pass"),
    ]:
        held(keeper, ledger.accounts[name], seller, amount, expires_in=minutes * 60, description=goods)
    partly, captured, voided = (
        held(keeper, ledger.accounts[name], ledger.accounts["Velo Riga"], amount, reference=f"repair {number}")
        for number, (name, amount) in enumerate([("Jonas Weber", 180), ("Ewa Zielińska", 75), ("Li Na", 40)], 311)
    )
    row(keeper, "capture_hold", partly, "60", final=False)
    row(keeper, "capture_hold", captured)
    row(keeper, "void_hold", voided)
    return partly


def _keys(keeper: Connection, ledger: _Ledger) -> None:
    row(keeper, "create_api_key", "checkout", ["read", "pay"])
    row(keeper, "create_api_key", "velo-riga", ["read", "pay"], [ledger.accounts["Velo Riga"]], tenant="velo-riga")
    row(keeper, "create_api_key", "reports", ["read"], None, datetime.now(UTC) + timedelta(days=90))
    row(keeper, "create_api_key", "back office", ["read", "pay", "admin"])
    row(keeper, "create_api_key", "old till", ["pay"])
    [old] = [key["id"] for key in rows(keeper, "list_api_keys") if key["name"] == "old till"]
    row(keeper, "revoke_api_key", old)
    with keeper.transaction():
        keeper.execute("set local session_replication_role = replica")
        keeper.execute("update ledger.api_key set last_used_at = now() - interval '3 minutes' where name = 'checkout'")
