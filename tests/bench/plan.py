"""What is measured: the rows, and the ratios that are made of them, with their targets."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from tests.bench.ledger import ACCOUNTS, MIX_ACCOUNTS

ROUNDS = 3
BATCH = 1000
LISTED = 100_000
# of payments, for the panel "by number of hot accounts"
HOT_HTTP, HOT_SQL = 64, 16


@dataclass(frozen=True)
class Row:
    """One thing to measure. `load` names the script of wrk or pgbench."""

    title: str
    door: str
    load: str
    clients: int
    accounts: int = 0

    @property
    def makes_payments(self) -> bool:
        """Whether the ledger is checked afterwards."""
        return self.load not in ("livez", "list", "plain")

    def __str__(self) -> str:
        """As in the lines of progress."""
        return f"{self.title}, {self.clients:,} {'client' if self.clients == 1 else 'clients'} ({self.door})"


@dataclass(frozen=True)
class Measurement:
    """One round of a row. Latencies in milliseconds, memory in MiB."""

    per_second: float
    p50: float | None = None
    p99: float | None = None
    average: float | None = None
    accepted: int | None = None
    paid_per_second: float | None = None
    refused: int | None = None
    unread: int | None = None  # made, but wrk was gone before the answer
    failed: int = 0
    statuses: Mapping[str, int] = field(default_factory=dict)
    memory_before: float | None = None
    memory_at_most: float | None = None


Results = Mapping[Row, Sequence[Measurement]]


def livez(clients: int) -> Row:
    """The cheapest answer there is: what HTTP alone costs."""
    return Row("GET /livez", "HTTP", "livez", clients)


def http(clients: int, accounts: int = ACCOUNTS) -> Row:
    """POST /payments, one payment a request."""
    return Row(f"payments among {accounts:,} accounts", "HTTP", "payments", clients, accounts)


def http_seller(clients: int) -> Row:
    """POST /payments, all to the same account."""
    return Row("payments to one seller", "HTTP", "seller", clients, ACCOUNTS)


def sql(clients: int, accounts: int = ACCOUNTS) -> Row:
    """make_payment, one a transaction."""
    return Row(f"payments among {accounts:,} accounts", "SQL", "payments", clients, accounts)


def sql_seller(clients: int) -> Row:
    """make_payment, all to the same account."""
    return Row("payments to one seller", "SQL", "seller", clients, ACCOUNTS)


def plain(clients: int) -> Row:
    """The plain function, one call a transaction: what the rules cost is the difference to make_payment."""
    return Row("payments of a plain function", "SQL", "plain", clients, ACCOUNTS)


def stored(payments: int) -> Row:
    """POST /payments at 64, on a database that has so many payments."""
    before = f"{payments:,}" if payments else "none"
    return Row(f"payments among 1,000 accounts, {before} stored before", "HTTP", "payments", 64, ACCOUNTS)


MIX = Row("payments as in the original's test", "HTTP", "mix", 64, MIX_ACCOUNTS)
BATCHES = Row(f"payments in batches of {BATCH:,}", "HTTP", "batch", 8, ACCOUNTS)
LIST = Row(f"rows of GET /payments, {LISTED:,} payments", "HTTP", "list", 1)
COPY = Row(f"rows of psql's copy, {LISTED:,} payments", "SQL", "list", 1)

HTTP_CLIENTS = (1, 8, 64, 256)
# far more than the service carries: more than may wait for a call, who are refused
CROWD = 8000
SQL_CLIENTS = (1, 8, 16, 64, 256)
SELLER_HTTP_CLIENTS = (64, 256)
SELLER_SQL_CLIENTS = (1, 2, 16, 64)
PLAIN_CLIENTS = (1, 8, 64)


def rows(connections: int, files: int) -> list[Row]:
    """The rows of one round, those side by side that are compared.

    SQL gets no more clients than connections, HTTP no more than files that may be open.
    """
    planned = [
        *(livez(1), http(1), sql(1), plain(1)),
        *(livez(8), http(8), sql(8), plain(8)),
        *(plain(64), sql(64), http(64), livez(64), http_seller(64), sql_seller(64)),
        # the best ones, usually
        *(sql(16), BATCHES, http(CROWD), http(256), livez(256), http_seller(256), sql_seller(2)),
        *(sql(256), sql_seller(1), sql_seller(16)),
        *(http(HOT_HTTP, 10), sql(HOT_SQL, 10), http(HOT_HTTP, 100), sql(HOT_SQL, 100)),
        MIX,
    ]
    return [row for row in planned if row.clients <= (files if row.door == "HTTP" else connections)]


def seconds(row: Row, usual: int) -> int:
    """How long a row is measured.

    wrk does not count what is under way when it ends: of few and slow requests, that would be a part that matters. Nor
    does it wait until all its clients are connected, which takes a crowd a second.
    """
    return usual * 3 if row.load == "batch" or row.clients == CROWD else usual


def in_order(measured: Collection[Row]) -> list[Row]:
    """As they stand in the table: those of one title together, by door and clients."""
    titles = {row.title: number for number, row in reversed(list(enumerate(measured)))}
    return sorted(measured, key=lambda row: (titles[row.title], row.door, row.clients))


@dataclass(frozen=True)
class Ratio:
    """A ratio, as it was in each round, and what it should be; no rounds where it was not measured."""

    title: str
    target: float
    rounds: Sequence[float]
    at_most: bool = False

    @property
    def value(self) -> float:
        """The median of the rounds."""
        return median(self.rounds)

    @property
    def verdict(self) -> str:
        """Whether the target was reached."""
        if not self.rounds:
            return "not measured"
        reached = self.value <= self.target if self.at_most else self.value >= self.target
        return "reached" if reached else "not reached"


def ratios(results: Results, stored_payments: int | None = None) -> list[Ratio]:
    """All ratios, each round's own first, then their median: what slows the machine down slows both sides."""
    payments = best(results, [http(64), http(256)])
    call = best(results, [sql(clients) for clients in SQL_CLIENTS])
    seller = best(results, [http_seller(clients) for clients in SELLER_HTTP_CLIENTS])
    seller_call = best(results, [sql_seller(clients) for clients in SELLER_SQL_CLIENTS])
    plain_call = best(results, [plain(clients) for clients in PLAIN_CLIENTS])
    found = [
        *(
            Ratio(
                f"make_payment : plain function, at {clients}",
                target,
                _quotients(results, sql(clients), plain(clients)),
            )
            for clients, target in zip(PLAIN_CLIENTS, (0.85, 0.85, 0.75), strict=True)
        ),
        Ratio("POST /payments : plain function, both at best", 1.8, _quotients(results, payments, plain_call)),
        Ratio("POST /payments : one SQL call a transaction, both at best", 2.0, _quotients(results, payments, call)),
        Ratio("one seller: HTTP : SQL, both at 64", 14, _quotients(results, http_seller(64), sql_seller(64))),
        Ratio("one seller: HTTP : SQL, both at best", 4, _quotients(results, seller, seller_call)),
    ]
    for clients in (64, 256):
        both = _quotients(results, http(clients), livez(clients))
        found.append(Ratio(f"POST /payments : /livez, at {clients}", 0.6, both))
    for clients in SELLER_HTTP_CLIENTS:
        both = _quotients(results, http_seller(clients), http(clients))
        found.append(Ratio(f"one seller : 1,000 accounts, HTTP at {clients}", 0.9, both))
    found += [
        Ratio("one connection: p50 of POST /payments : SQL call + p50 of /livez", 1.3, _latencies(results), True),
        Ratio(f"payments made at {CROWD:,} clients : at best", 0.8, _made(results, http(CROWD), payments)),
        Ratio("payments in batches : POST /payments at best", 3, _quotients(results, BATCHES, payments)),
        Ratio("rows of GET /payments : rows of psql's copy", 0.5, _quotients(results, LIST, COPY)),
        Ratio("worker's memory during GET /payments : before", 1.2, _memory(results), True),
    ]
    if stored_payments is not None:
        both = _quotients(results, stored(stored_payments), stored(0))
        found.append(Ratio(f"POST /payments at 64, {stored_payments:,} payments stored : none", 0.9, both))
    return found


def speed(results: Results, row: Row) -> float:
    """The median of the rounds."""
    return median(measurement.per_second for measurement in results[row])


def unsteady(results: Results) -> int:
    """How many rows had a round more than half again as fast as another one."""
    speeds = [[one.per_second for one in rounds] for rounds in results.values()]
    return sum(max(rounds) > 1.5 * min(rounds) for rounds in speeds)


def best(results: Results, candidates: Sequence[Row]) -> Row:
    """The fastest one; by its median, because the best of single rounds would be the luckiest."""
    measured = [row for row in candidates if row in results]
    return max(measured, key=lambda row: speed(results, row), default=candidates[0])


def _quotients(results: Results, above: Row, below: Row) -> list[float]:
    pairs = zip(results.get(above, ()), results.get(below, ()), strict=False)
    return [one.per_second / other.per_second for one, other in pairs]


def _made(results: Results, above: Row, below: Row) -> list[float]:
    """Of those that were made alone: many of a crowd's are refused."""
    pairs = zip(results.get(above, ()), results.get(below, ()), strict=False)
    return [
        one.paid_per_second / other.paid_per_second
        for one, other in pairs
        if one.paid_per_second and other.paid_per_second
    ]


def _latencies(results: Results) -> list[float]:
    triples = zip(*(results.get(row, ()) for row in (http(1), sql(1), livez(1))), strict=False)
    return [
        payment.p50 / (call.average + alone.p50)
        for payment, call, alone in triples
        if payment.p50 and call.average and alone.p50
    ]


def _memory(results: Results) -> list[float]:
    return [
        measurement.memory_at_most / measurement.memory_before
        for measurement in results.get(LIST, ())
        if measurement.memory_at_most and measurement.memory_before
    ]
