"""The feed beside writers of every kind: each event exactly once, for all readers in the same order."""

import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import psycopg

from tests.conftest import Connection
from tests.support import account, ledger_problems

WRITERS = 12
ROUNDS = 25

Event = tuple[str, str, int]

LIST = """select cursor, event, case when event = 'payment_made' then payment_id else coalesce(hold_id, account_id) end, more
          from wallet.list_feed(%s, %s, %s)"""
# What happened, by the tables. Accounts of this test change their terms at most once.
HAPPENED = """
    select 'payment_made', id from ledger.payment
    union all select 'hold_created', id from ledger.hold
    union all select 'hold_ended', id from ledger.hold where status <> 'open'
    union all select 'account_created', id from ledger.account
    union all select 'account_changed', id from ledger.account where credit_limit <> 0"""


def page(connection: Connection, after: str | None, until: str | None = None, limit: int = 1000) -> list[Event]:
    return [row[:3] for row in connection.execute(LIST, [after, limit, until]).fetchall()]


def whole_feed(connection: Connection) -> list[Event]:
    events: list[Event] = []
    while found := page(connection, events[-1][0] if events else None):
        events += found
    return events


def happened(connection: Connection) -> set[tuple[str, int]]:
    return {(event, subject) for event, subject in connection.execute(HAPPENED).fetchall()}


def subjects(events: list[Event]) -> list[tuple[str, int]]:
    return [(event, subject) for _, event, subject in events]


def ends(connection: Connection) -> Iterator[str | None]:
    """The ends of the feed, as a reader finds them that calls feed_end again and again."""
    looks = None
    while True:
        query = "select feed_end, looks from wallet.feed_end(%s::jsonb)"
        [(cursor, looks)] = connection.execute(query, [None if looks is None else json.dumps(looks)]).fetchall()
        yield cursor
        time.sleep(0.002)


def read_pages(connection: Connection, is_over: Callable[[], bool]) -> list[Event]:
    """Reads page after page, of any size, until nothing follows after the writers have ended."""
    events: list[Event] = []
    while True:
        over = is_over()
        found = page(connection, events[-1][0] if events else None, limit=random.choice((1, 7, 1000)))
        events += found
        if over and not found:
            return events


def read_to_ends(connection: Connection, is_over: Callable[[], bool]) -> list[Event]:
    """Reads up to each end that feed_end finds, until some calls after the writers have ended."""
    events: list[Event] = []
    calls_left = 5
    for end in ends(connection):
        while end is not None and (found := page(connection, events[-1][0] if events else None, end)):
            events += found
        calls_left -= is_over()
        if calls_left == 0:
            return events
    raise AssertionError


def write(connection: Connection, number: int) -> None:
    """Changes the ledger in every way, each in its own transaction, some rolled back."""
    chance = random.Random(number)

    def pay() -> None:
        connection.execute("select wallet.make_payment(%s, %s, 0.01)", chance.sample(range(1, 9), 2))

    def pay_batch() -> None:
        pairs = [chance.sample(range(1, 9), 2) for _ in range(chance.choice((20, 300)))]
        buyers, sellers = (list(side) for side in zip(*pairs, strict=True))
        query = "select count(*) from wallet.make_payments(%s, %s, array_fill(0.01, array[%s::int]))"
        connection.execute(query, [buyers, sellers, len(pairs)])

    def pay_in_transaction() -> None:
        with suppress(ZeroDivisionError), connection.transaction():
            for _ in range(chance.randrange(1, 4)):
                pay()
                time.sleep(chance.uniform(0, 0.02))
            if chance.random() < 0.3:
                raise ZeroDivisionError  # rolls back

    def hold() -> None:
        query = "select id from wallet.create_hold(%s, %s, 1, %s)"
        [(id_,)] = connection.execute(query, [*chance.sample(range(1, 9), 2), chance.choice((1, 1000))]).fetchall()
        match chance.randrange(3):
            case 0:
                connection.execute("select wallet.capture_hold(%s)", [id_])
            case 1:
                connection.execute("select wallet.void_hold(%s)", [id_])

    def open_one() -> None:
        id_ = account(connection, f"{number} {chance.random()}")
        if chance.random() < 0.5:
            connection.execute("select wallet.set_credit_limit(%s, 5)", [id_])

    for _ in range(ROUNDS):
        with suppress(psycopg.errors.DeadlockDetected):  # a transaction of several calls may be ended by one
            chance.choice((pay, pay, pay_batch, pay_in_transaction, hold, open_one))()


def test_each_event_comes_exactly_once_and_in_the_same_order_for_all_readers(admin: Connection, database: str) -> None:
    for number in range(8):
        account(admin, f"account {number}", 100_000)
    over = threading.Event()

    def reading(read: Callable[[Connection, Callable[[], bool]], list[Event]]) -> list[Event]:
        with psycopg.connect(database, user="wallet_ops", autocommit=True) as connection:
            return read(connection, over.is_set)

    def writing(number: int) -> None:
        with psycopg.connect(database, user="wallet_ops", autocommit=True) as connection:
            write(connection, number)

    with ThreadPoolExecutor(WRITERS + 3) as threads:
        readers = [threads.submit(reading, read) for read in (read_pages, read_pages, read_to_ends)]
        writers = [threads.submit(writing, number) for number in range(WRITERS)]
        for writer in writers:
            writer.result()
        time.sleep(1)  # all holds that expire have expired
        over.set()
        read = [reader.result() for reader in readers]

    whole = whole_feed(admin)
    assert set(subjects(whole)) == happened(admin)
    assert len(subjects(whole)) == len(set(subjects(whole)))
    assert read == [whole] * 3
    assert ledger_problems(admin) == []
