"""The accounts that payments are made between, and the proof that none of them makes or loses money."""

import contextlib
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any, LiteralString, NamedTuple

import psycopg

from tests.bench.load import BenchError
from tests.support import ledger_problems, totals

ACCOUNTS = 1000
PLENTY = 1_000_000_000
MIX_ACCOUNTS = 100
_USD, _RUB = 1, 2
_CHUNK = 10_000
_LONGEST_WAIT = 60.0
_PLAIN_FUNCTION = Path(__file__).parent / "plain_function.sql"

Admin = psycopg.Connection[Any]


class Accounts(NamedTuple):
    """Ids of the first ones: 1,000 with plenty of money, and the 100 of the original's test; the others follow."""

    rich: int
    mix: int


def open_accounts(admin: Admin) -> Accounts:
    """Creates the accounts, under names that no run before had."""
    run = f"bench {time.time_ns()}"
    rich = _create(admin, f"{run} rich", [(PLENTY, _USD)] * ACCOUNTS)
    empty = [(0, (_USD, _RUB)[number % 2]) for number in range(MIX_ACCOUNTS - 2)]
    return Accounts(rich, _create(admin, f"{run} mix", [(500, _USD), (600, _RUB), *empty]))


def _create(admin: Admin, name: str, openings: list[tuple[int, int]]) -> int:
    """The id of the first one. wrk and pgbench count on from there, so there may be no gaps."""
    with admin.transaction():
        rows = [
            admin.execute(
                "select id from wallet.create_account(%s, %s, %s)", [f"{name} {number}", amount, currency_id]
            ).fetchone()
            for number, (amount, currency_id) in enumerate(openings)
        ]
    ids = [int(row[0]) for row in rows if row is not None]
    if ids != list(range(ids[0], ids[0] + len(openings))):
        raise BenchError("another client creates accounts in this database at the same time")
    return ids[0]


@contextlib.contextmanager
def plain_function(admin: Admin) -> Iterator[None]:
    """Until the end of the block there is the plain function that make_payment is compared with, and its accounts."""
    admin.execute(_PLAIN_FUNCTION.read_text())
    query = "insert into bench_plain.account select n, %s, %s from generate_series(1, %s) as n"
    admin.execute(query, [_USD, PLENTY, ACCOUNTS])
    admin.execute("analyze bench_plain.account")
    try:
        yield
    finally:
        admin.execute("drop schema bench_plain cascade")


def payments(admin: Admin) -> int:
    """How many payments there are."""
    return _number(admin, "select count(*) from ledger.payment")


def plain_payments(admin: Admin) -> int:
    """How many payments the plain function has made. Raises BenchError if it made or lost money."""
    if _number(admin, "select sum(balance) from bench_plain.account") != ACCOUNTS * PLENTY:
        raise BenchError("the plain function has made or lost money")
    return _number(admin, "select count(*) from bench_plain.payment")


def _number(admin: Admin, query: LiteralString) -> int:
    row = admin.execute(query).fetchone()
    assert row is not None
    return int(row[0])


def fill(admin: Admin, first: int, number: int, tell: Callable[[int], object] = lambda done: None) -> None:
    """Makes so many payments between the rich accounts, in SQL, many a call. `tell` hears how many are done."""
    random = Random(number)
    for done in range(0, number, _CHUNK):
        pairs = list(_pairs(random, first, min(_CHUNK, number - done)))
        admin.execute(
            "select count(*) from wallet.make_payments(%s::bigint[], %s::bigint[], %s::numeric[], true)",
            [[buyer for buyer, _ in pairs], [seller for _, seller in pairs], [Decimal("0.01")] * len(pairs)],
        )
        tell(done + len(pairs))
    # Now, lest PostgreSQL does it by itself during a measurement.
    admin.execute("vacuum analyze ledger.payment")
    admin.execute("checkpoint")


def _pairs(random: Random, first: int, number: int) -> Iterator[tuple[int, int]]:
    for _ in range(number):
        buyer, seller = random.sample(range(first, first + ACCOUNTS), 2)
        yield buyer, seller


class PaymentCount:
    """Watches one row: how many payments it made, and that the money is what it was."""

    def __init__(self, admin: Admin) -> None:
        self._admin = admin
        self._totals = totals(admin)
        self._payments = payments(admin)

    def accepted(self) -> int:
        """Payments made since the beginning. Waits for those still under way when the load ended.

        Raises BenchError if money was made or lost, or a balance is below zero.
        """
        self._wait_until_quiet()
        accepted = payments(self._admin) - self._payments
        found = totals(self._admin)
        if found != self._totals:
            raise BenchError(f"money was not conserved: {self._totals} before, {found} after")
        if self._admin.execute("select from ledger.account where (balance >= 0) is not true limit 1").fetchone():
            raise BenchError("an account's balance is below zero")
        return accepted

    def _wait_until_quiet(self) -> None:
        """Waits until twice in a row no connection of the service is at work and nothing has been added."""
        deadline = time.monotonic() + _LONGEST_WAIT
        query = """select (select last_value from ledger.payment_id_seq), count(*) from pg_stat_activity
                   where datname = current_database() and state <> 'idle' and application_name in ('wallet', 'pgbench')"""
        before = None
        while (now := self._admin.execute(query).fetchone()) is None or now != before or now[1] > 0:
            if time.monotonic() > deadline:
                raise BenchError(f"payments are still under way {_LONGEST_WAIT:g} s after the load ended")
            before = now
            time.sleep(0.1)


def prove(admin: Admin) -> None:
    """Raises BenchError unless every balance follows from the payments, one by one."""
    broken = ledger_problems(admin)
    if broken:
        raise BenchError(f"check_ledger() finds {len(broken)} problems, the first one {broken[0]}")
