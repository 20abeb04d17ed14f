"""What is looked at from time to time, for the metrics: queues, connections, and the state of the database."""

import asyncio
from collections import Counter
from collections.abc import Callable

from starlette.datastructures import State

from wallet_api import metrics, probes

# Seconds between two looks.
_INTERVAL = 5.0


async def look_on(state: State, clients: Callable[[], int]) -> None:
    """Looks at an application and its number of clients, until it is cancelled."""
    metrics.info.labels(state.version).set(1)
    while True:
        metrics.queue.set(state.payments.waiting)
        metrics.clients.set(clients())
        _look_at_pools(state)
        trouble = await probes.trouble(state)
        metrics.database_up.set(trouble != probes.NO_DATABASE)
        metrics.database_writable.set(trouble not in (probes.NO_DATABASE, probes.READ_ONLY))
        await asyncio.sleep(_INTERVAL)


def _look_at_pools(state: State) -> None:
    connections: Counter[tuple[str, str]] = Counter()
    waiting: Counter[str] = Counter()
    for database in [*state.databases, state.readiness]:
        usage = database.usage()
        connections[database.name, "used"] += usage.used
        connections[database.name, "idle"] += usage.idle
        waiting[database.name] += usage.waiting
    for labels, number in connections.items():
        metrics.pool_connections.labels(*labels).set(number)
    for name, number in waiting.items():
        metrics.pool_waiting.labels(name).set(number)
