"""A reader of the primary and of the synchronous standby, which remembers what it was shown."""

import itertools
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from decimal import Decimal
from typing import Any, Self

import psycopg

from tests.faults.contradictions import stored_payments
from tests.faults.recorder import Account
from tests.ha.cluster import Router, conninfo

# Pause after a read that failed.
_PAUSE = 0.1

# One statement, hence one state: the latest payments, and all balances.
_READ = """
select array(
        select (id, buyer_account_id, seller_account_id, amount)::text
        from wallet.list_payments(p_order => 'desc', p_limit => 200) where buyer_account_id = any (%(ids)s)),
    array(
        select currency_id || ' ' || trim_scale(sum(amount)) from wallet.list_accounts()
        where id = any (%(ids)s) group by currency_id order by currency_id)
"""


class Reader:
    """Reads now here, now there, until it is stopped. No payment that it saw may be missing later."""

    def __init__(self, routers: Sequence[Router], accounts: Sequence[Account]) -> None:
        self.reads = Counter[str]()
        self._places = {name: conninfo(getattr(routers[0], name)) for name in Router._fields}
        self._accounts = accounts
        self._payments: set[str] = set()
        self._totals: set[tuple[str, ...]] = set()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def contradictions(self, admin: psycopg.Connection[Any]) -> Iterator[str]:
        """What it saw and should not have, a sentence each. Call it when it has stopped."""
        made = {
            f"({payment.id},{payment.buyer_account_id},{payment.seller_account_id},{payment.amount.normalize():f})"
            for payment in stored_payments(admin, self._accounts)
        }
        for payment in self._payments - made:
            yield f"a reader was shown payment {payment}, which does not exist"
        opened: dict[int, Decimal] = {}
        for account in self._accounts:
            opened[account.currency_id] = opened.get(account.currency_id, Decimal()) + account.opening
        total = tuple(f"{currency} {amount.normalize():f}" for currency, amount in sorted(opened.items()))
        for other in self._totals - {total}:
            yield f"a reader was shown balances with the totals {other} instead of {total}"
        for place in self._places:
            if not self.reads[place]:
                yield f"nothing was read from the {place}"

    def _run(self) -> None:
        with ExitStack() as stack:
            connections: dict[str, psycopg.Connection[Any]] = {}
            for place in itertools.cycle(self._places):
                if self._stopping.is_set():
                    return
                try:
                    if place not in connections or connections[place].closed:
                        new = psycopg.connect(self._places[place], autocommit=True)
                        connections[place] = stack.enter_context(new)
                    self._read(place, connections[place])
                except psycopg.Error:
                    self._stopping.wait(_PAUSE)

    def _read(self, place: str, connection: psycopg.Connection[Any]) -> None:
        row = connection.execute(_READ, {"ids": [account.id for account in self._accounts]}).fetchone()
        assert row is not None
        payments, totals = row
        self._payments.update(payments)
        self._totals.add(tuple(totals))
        self.reads[place] += 1
