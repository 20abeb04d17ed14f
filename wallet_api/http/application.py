"""The ASGI application: its connection pools, the batcher of payments, and its start and end."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

from starlette.applications import Starlette
from starlette.datastructures import State
from starlette.types import ASGIApp

from wallet_api.database import migrations, standbys
from wallet_api.database.batching import Batcher, Watch
from wallet_api.database.outage import STANDBY_POOLS
from wallet_api.database.pool import Database
from wallet_api.database.positions import Positions
from wallet_api.database.standbys import Reads, Standby
from wallet_api.http import errors, messages, payments
from wallet_api.http.authentication import Keys
from wallet_api.http.entry import Entry
from wallet_api.http.feed import Feed
from wallet_api.http.sampling import sample
from wallet_api.settings import Settings

# Seconds beyond the lock timeout after which a call whose connection broke has ended, committed or not.
_MARGIN = 0.1


def connections_of_worker(settings: Settings) -> int:
    """The number of database connections of a process: for calls, lists, payments, API keys and /readyz."""
    return settings.pool_size + _list_connections(settings) + 3 + 2


def _list_connections(settings: Settings) -> int:
    return max(1, settings.pool_size // 2)


def create_app(
    conninfo: Callable[[], str],
    read_conninfo: Callable[[], str],
    settings: Settings,
    is_stopping: Callable[[], bool],
    finish: Callable[[], Awaitable[None]],
    clients: Callable[[], int],
    watch: Watch | None,
) -> ASGIApp:
    """The ASGI application. The database may still be at another version; /readyz fails until it is at this one.

    `conninfo` and `read_conninfo` return the connection string for each new connection. While `is_stopping`, /readyz
    fails. `finish` runs last, when no request is in progress. `clients` returns the number of connected clients.
    `watch` receives each call of make_payments.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, str]]:
        app.state.settings = settings
        app.state.version = migrations.version()
        app.state.is_stopping = is_stopping
        # Positions are needed only if there are standbys to compare with them.
        app.state.positions = Positions(settings.read_lag) if settings.database_read_url is not None else None
        app.state.database = Database("calls", conninfo, settings, positions=app.state.positions)
        # Separate pools: lists, because clients may read slowly; readiness, so that a busy service does not look dead
        # to the load balancer; API keys, so that requests without a valid key take no capacity from the others;
        # payments, because batches have a shorter lock timeout.
        app.state.lists = Database("lists", conninfo, replace(settings, pool_size=_list_connections(settings)))
        app.state.key_database = Database("keys", conninfo, replace(settings, pool_size=1))
        app.state.keys = Keys(app.state.key_database, required=settings.auth == "required")
        app.state.readiness = Database("readiness", conninfo, replace(settings, pool_size=1, pool_timeout=2))
        patience = min(settings.lock_timeout, settings.coalesce_lock_timeout)
        # One batch at a time: two concurrent ones carry half as much each, and compete for accounts and CPUs. The other
        # two connections are for a batch beside a stuck one, and for payments that are retried.
        impatient = replace(settings, pool_size=3, lock_timeout=patience)
        paying = Database("payments", conninfo, impatient, keeps=True, positions=app.state.positions)
        app.state.payments = Batcher(
            make_batch=payments.maker(paying),
            make_unblocked=payments.maker(paying, wait=False),
            is_blocked=payments.is_blocked,
            make_blocked=payments.maker(paying),
            judge=errors.judge,
            repeatable=payments.repeatable,
            is_success=payments.is_made,
            tell=errors.log_retry,
            watch=watch,
            max_batch=settings.coalesce_most,
            max_waiting=settings.coalesce_waiting,
            wait_timeout=settings.coalesce_timeout,
            lock_timeout=settings.lock_timeout,
            # by then, a call whose connection broke no longer waits for a lock
            retry_pause=patience + _MARGIN,
        )
        app.state.feed = Feed(app.state.database)
        app.state.databases = [app.state.database, app.state.lists, app.state.key_database, paying]
        app.state.reads, app.state.list_reads, app.state.standbys = app.state.database, app.state.lists, []
        if app.state.positions is not None:
            _read_from_standbys(app.state, read_conninfo)
        # Whether connections may lead to a read-only or outdated server.
        app.state.stale = False
        async with contextlib.AsyncExitStack() as stack:
            for resource in (*app.state.databases, app.state.readiness, app.state.payments, app.state.feed):
                await stack.enter_async_context(resource)
            tasks = []
            if settings.metrics_port is not None:
                tasks.append(asyncio.create_task(sample(app.state, clients)))
            if app.state.positions is not None:
                for standby in app.state.standbys:
                    await stack.enter_async_context(standby)
                look = standbys.watch(app.state.positions, app.state.readiness, app.state.standbys)
                tasks.append(asyncio.create_task(look))
            yield {messages.ROOT_PATH: settings.root_path}  # in the state of each request's scope
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await finish()

    return Entry(settings, lifespan)


def _read_from_standbys(state: State, conninfo: Callable[[], str]) -> None:
    """Lets standbys answer what changes nothing, in pools of their own as on the primary."""
    positions, settings = state.positions, state.settings
    # A read that waits for long is better sent to the primary.
    impatient = replace(settings, pool_timeout=min(1, settings.pool_timeout))
    for_lists = replace(impatient, pool_size=_list_connections(settings))
    calls, lists = (
        Standby(name, conninfo, limits, positions)
        for name, limits in zip(STANDBY_POOLS, (impatient, for_lists), strict=True)
    )
    state.reads = Reads(calls, state.database, positions)
    state.list_reads = Reads(lists, state.lists, positions)
    state.standbys = [calls, lists]
