"""`make follow`: a reader follows the feed of millions of events, while PostgreSQL is killed again and again.

The writers make batches of 2,000 payments, single payments, payments in transactions that stay open or are rolled
back, and holds. The reader is `server.py follow`'s own. At the end, its events are compared with the tables.
"""

import argparse
import json
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

import psycopg

from tests.faults import postgres
from tests.faults.postgres import Postgres
from tests.support import account
from wallet_api.commands.follow import follow

_ACCOUNTS = 200
_WRITERS = 4
_BATCH = 2000
_PROGRESS = 10.0
# Seconds between two kills.
_KILLS = 30.0
# By kind of event: how many there are by the tables, and the sum of their ids. Accounts open, and nothing else.
_HAPPENED = """
    select 'payment_made', count(*), coalesce(sum(id), 0)::bigint from ledger.payment
    union all select 'hold_created', count(*), coalesce(sum(id), 0)::bigint from ledger.hold
    union all select 'hold_ended', count(*), coalesce(sum(id), 0)::bigint from ledger.hold where status <> 'open'
    union all select 'account_created', count(*), coalesce(sum(id), 0)::bigint from ledger.account"""


class Reader:
    """Counts the events of the feed, and checks that each one's place is after that of the one before it."""

    def __init__(self) -> None:
        self.events = 0
        self.kinds = Counter[str]()
        self.ids = Counter[str]()
        self.out_of_order: list[str] = []
        self._place = (0, 0)

    def run(self, conninfo: Callable[[], str]) -> None:
        """Reads for ever; an outage is none of its business."""
        for text in follow(conninfo, None, lambda _: None):
            event = json.loads(text)
            first, _, second = event["Cursor"].partition(".")
            place = (int(first), int(second))
            if place <= self._place:
                self.out_of_order.append(event["Cursor"])
            self._place = place
            kind = event["Event"]
            subject = event["PaymentID"] if kind == "payment_made" else event.get("HoldID") or event["AccountID"]
            self.kinds[kind] += 1
            self.ids[kind] += subject
            self.events += 1

    def found(self) -> list[tuple[str, int, int]]:
        """The same as _HAPPENED, from what was read."""
        return sorted((kind, number, self.ids[kind]) for kind, number in self.kinds.items())


def write(connection: psycopg.Connection, random: Random) -> None:
    """Makes one change, or several in a transaction, perhaps rolled back."""
    pairs = [random.sample(range(1, _ACCOUNTS + 1), 2) for _ in range(_BATCH)]
    match random.choices(("batch", "open", "hold", "single"), (6, 1, 1, 2))[0]:
        case "batch":
            buyers, sellers = (list(side) for side in zip(*pairs, strict=True))
            query = "select count(*) from wallet.make_payments(%s::bigint[], %s::bigint[], array_fill(0.01, array[%s::int]))"
            connection.execute(query, [buyers, sellers, len(pairs)])
        case "open":
            with suppress(ZeroDivisionError), connection.transaction():
                connection.execute("select wallet.make_payment(%s, %s, 0.01)", sorted(pairs[0]))
                time.sleep(random.uniform(0, 0.5))
                if random.random() < 0.3:
                    raise ZeroDivisionError  # rolls back
        case "hold":
            [(id_,)] = connection.execute("select id from wallet.create_hold(%s, %s, 1)", pairs[0]).fetchall()
            connection.execute(f"select wallet.{random.choice(('capture', 'void'))}_hold(%s)", [id_])
        case _:
            connection.execute("select wallet.make_payment(%s, %s, 0.01)", pairs[0])


def write_until(over: threading.Event, server: Postgres, seed: int) -> None:
    """Writes, and begins again with a new connection after each error."""
    random = Random(seed)
    while not over.is_set():
        with suppress(psycopg.Error), psycopg.connect(server.conninfo(), autocommit=True) as connection:
            while not over.is_set():
                write(connection, random)
        time.sleep(0.1)


def main() -> int:
    """Returns the exit code: 0 if each event was read once, in order."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.follow", description=__doc__)
    parser.add_argument("--events", type=int, default=10_000_000, help="how many events are read (10000000)")
    parser.add_argument("--seed", type=int, default=time.time_ns(), help="of the random choices (the time)")
    options = parser.parse_args()
    print(f"follow: {options.events} events, --seed {options.seed}", flush=True)
    with (
        tempfile.TemporaryDirectory(prefix="wallet-follow-") as folder,
        postgres.running(Path(folder) / "one") as server,
    ):
        with server.admin() as admin:
            for number in range(_ACCOUNTS):
                account(admin, f"account {number}", 1_000_000_000)
        reader, over = Reader(), threading.Event()
        threading.Thread(target=reader.run, args=[server.conninfo], daemon=True).start()
        writers = [
            threading.Thread(target=write_until, args=[over, server, options.seed + number], daemon=True)
            for number in range(_WRITERS)
        ]
        for writer in writers:
            writer.start()
        kills = _run(server, reader, options.events)
        over.set()
        for writer in writers:
            writer.join()
        return _verdict(server, reader, kills)


def _run(server: Postgres, reader: Reader, events: int) -> int:
    """Kills the server every so often, until so many events were read; returns how often."""
    begin = shown = killed = time.monotonic()
    kills = 0
    while reader.events < events:
        time.sleep(0.5)
        now = time.monotonic()
        if now > shown + _PROGRESS:
            shown = now
            print(f"{now - begin:6.0f} s: {reader.events:,} events read, {kills} kills", flush=True)
        if now > killed + _KILLS:
            server.kill()
            server.start()
            kills, killed = kills + 1, time.monotonic()
    return kills


def _verdict(server: Postgres, reader: Reader, kills: int) -> int:
    """Waits until the reader has read what is left, and compares."""
    with server.admin() as admin:
        happened = sorted(admin.execute(_HAPPENED).fetchall())
        last = 0
        while reader.found() != happened and last != reader.events:
            last = reader.events
            time.sleep(5)
        problems = admin.execute("select * from wallet.check_ledger()").fetchall()
    print(f"read {reader.events:,} events, {kills} kills of PostgreSQL", flush=True)
    for (kind, number, ids), found in zip(happened, reader.found(), strict=True):
        print(f"{kind}: {number:,} happened, {found[1]:,} read, {'the same ones' if found[2] == ids else 'OTHERS'}")
    print(f"out of order: {reader.out_of_order or 'none'}; problems in the ledger: {problems or 'none'}")
    return int(reader.found() != happened or bool(reader.out_of_order or problems))


if __name__ == "__main__":
    sys.exit(main())
