"""Measures one row once: runs the load, counts what the database has of it, and proves that the money is all there."""

import contextlib
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from random import randrange

import psycopg

from tests.bench import load, plan
from tests.bench.ledger import (
    ACCOUNTS,
    Accounts,
    Admin,
    PaymentCount,
    open_accounts,
    payments,
    plain_function,
    plain_payments,
)
from tests.bench.load import BenchError
from tests.bench.plan import Measurement, Row
from tests.support import PROJECT, serving

# Seconds, beyond those that a client of the crowd may be told to wait.
_COME_BACK = 6.0


@dataclass(frozen=True)
class Wallet:
    """A service that runs, its database, and accounts in it."""

    url: str
    process: int
    conninfo: str
    admin: Admin
    accounts: Accounts
    # Of the API key that clients have, if they need one.
    secret: str | None


@contextlib.contextmanager
def wallet(conninfo: str, environment: dict[str, str]) -> Iterator[Wallet]:
    """Runs the service on a database, and makes the accounts. `conninfo` is a superuser's."""
    try:
        with serving(PROJECT, **environment) as server, psycopg.connect(conninfo, autocommit=True) as admin:
            # The settings of this connection are not what is measured: it counts, and holds nothing.
            secret = _secret(admin) if environment.get("WALLET_AUTH") == "required" else None
            with plain_function(admin):
                yield Wallet(server.url, server.process.pid, conninfo, admin, open_accounts(admin), secret)
    except AssertionError as error:
        raise BenchError(f"the service did not start or stop: {error}") from error


def _secret(admin: Admin) -> str:
    query = "select secret from wallet.create_api_key(%s, array['read', 'pay'])"
    row = admin.execute(query, [f"bench {uuid.uuid4()}"]).fetchone()
    assert row is not None
    return str(row[0])


def warm_up(service: Wallet) -> None:
    """Lets the service and the database prepare what they prepare at the first requests."""
    load.wrk(f"{service.url}/livez", "livez", 8, 1)
    load.wrk(service.url, "payments", 64, 1, 1, service.accounts.rich, ACCOUNTS, secret=service.secret)
    PaymentCount(service.admin).accepted()


def has_batches(service: Wallet) -> int:
    """The status of a batch of one payment."""
    buyer = service.accounts.rich
    payment = f'{{"BuyerAccountID":{buyer},"SellerAccountID":{buyer + 1},"Amount":0.01}}'
    return load.post_status(service.url, "/payments/batch", f'{{"Payments":[{payment}]}}', service.secret)


def measure(service: Wallet, row: Row, seconds: int) -> Measurement:
    """One round of a row that wrk or pgbench drives."""
    if row.load == "plain":
        return _measure_plain(service, row, seconds)
    if not row.makes_payments:
        answers = load.wrk(f"{service.url}/livez", row.load, row.clients, seconds)
        speed = answers.requests / answers.seconds
        return Measurement(speed, answers.p50, answers.p99, failed=answers.failed)
    count = PaymentCount(service.admin)
    first = service.accounts.mix if row.load == "mix" else service.accounts.rich
    if row.door == "SQL":
        answers = load.pgbench(service.conninfo, row.load, row.clients, seconds, first, row.accounts)
    else:
        seed = randrange(1 << 30)
        arguments = (seed, first, row.accounts, plan.BATCH)
        answers = load.wrk(
            service.url, row.load, row.clients, plan.seconds(row, seconds), *arguments, secret=service.secret
        )
    if row.clients == plan.CROWD:
        # What those had sent who were told to come back later is read after that time, though they are gone.
        time.sleep(_COME_BACK)
    return _counted(row, answers, count.accepted())


def _measure_plain(service: Wallet, row: Row, seconds: int) -> Measurement:
    before = plain_payments(service.admin)
    answers = load.pgbench(service.conninfo, row.load, row.clients, seconds, 1, row.accounts)
    made = plain_payments(service.admin) - before
    if made != answers.requests:
        raise BenchError(f"{row}: {answers.requests:,} were answered as made, and {made:,} are in the database")
    return Measurement(answers.requests / answers.seconds, average=answers.average, accepted=made)


def _counted(row: Row, answers: load.Answers, accepted: int) -> Measurement:
    """What was answered, beside what the database has.

    When wrk ends, each of its connections may have one more request under way. Those payments are made, and are
    not counted: its answer came after the time was over. Any other difference would be a payment made twice or lost.
    """
    each = plan.BATCH if row.load == "batch" else 1
    paid = (answers.requests - answers.refused) * each
    under_way = 0 if row.door == "SQL" else (row.clients + answers.failed) * each
    if row.load == "batch":
        # within an answer of 200, single payments may be refused
        refused = max(paid - accepted, 0)
        paid -= refused
    else:
        refused = answers.refused
    if not paid <= accepted <= paid + under_way:
        raise BenchError(f"{row}: {paid:,} were answered as made, and {accepted:,} are in the database")
    return Measurement(
        per_second=(paid + refused) / answers.seconds,
        paid_per_second=paid / answers.seconds,
        p50=answers.p50,
        p99=answers.p99,
        average=answers.average,
        accepted=accepted,
        refused=refused,
        unread=accepted - paid,
        failed=answers.failed,
        statuses=answers.statuses,
    )


def listing(service: Wallet) -> Iterator[tuple[Row, Measurement]]:
    """The rounds of GET /payments and of its counterpart in psql.

    "Before" is before the first of them, because memory that was once used may stay with the process.
    """
    expected = payments(service.admin)
    memory = load.Memory(service.process)
    before = memory.now()
    for _ in range(plan.ROUNDS):
        memory.forget_peak()
        seconds, listed = load.read_payments(service.url, service.secret)
        if listed != expected:
            raise BenchError(f"GET /payments lists {listed:,} payments of {expected:,}")
        # of several workers one has answered: the one that grew the most
        grown = max(
            zip(before, memory.at_most(), strict=True), key=lambda pair: pair[1] / pair[0], default=(None, None)
        )
        yield plan.LIST, Measurement(listed / seconds, memory_before=grown[0], memory_at_most=grown[1])
        yield plan.COPY, Measurement(expected / load.psql_copy(service.conninfo))
