"""Samples gauges for the metrics: queues, connections and the state of the database."""

import asyncio
import contextlib
from collections.abc import Callable

import psycopg
from starlette.datastructures import State

from wallet_api import __version__
from wallet_api.database.pool import ConnectionLost, Database
from wallet_api.http import probes, refusals
from wallet_api.observability import metrics

# Seconds between two samples.
_INTERVAL = 5.0

_LEDGER_CHECK = "select extract(epoch from checked_at), problems from wallet.last_ledger_check()"


async def sample(state: State, clients: Callable[[], int]) -> None:
    """Samples an application and its number of clients, until cancelled."""
    metrics.info.labels(__version__, state.version).set(1)
    task = asyncio.current_task()
    assert task is not None
    # Python 3.11 loses a cancellation that arrives together with the answer of the database (asyncio.wait_for).
    while not task.cancelling():
        metrics.queue.set(state.payments.waiting)
        metrics.clients.set(clients())
        _sample_pools(state)
        trouble = await probes.trouble(state)
        metrics.database_up.set(trouble != refusals.NO_DATABASE)
        metrics.database_writable.set(trouble not in (refusals.NO_DATABASE, refusals.READ_ONLY))
        if trouble is None:
            await _sample_ledger_check(state.readiness)
        await asyncio.sleep(0 if task.cancelling() else _INTERVAL)


def _sample_pools(state: State) -> None:
    for database in [*state.databases, state.readiness, *state.standbys]:
        used, idle, waiting = database.usage()
        metrics.pool_connections.labels(database.name, "used").set(used)
        metrics.pool_connections.labels(database.name, "idle").set(idle)
        metrics.pool_waiting.labels(database.name).set(waiting)


async def _sample_ledger_check(database: Database) -> None:
    with contextlib.suppress(psycopg.Error, ConnectionLost):  # database_up reports an unreachable database
        for moment, problems in (await database.call(_LEDGER_CHECK)).values:
            metrics.ledger_check_moment.set(float(moment))
            metrics.ledger_check_problems.set(int(problems))
