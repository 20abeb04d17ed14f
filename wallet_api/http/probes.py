"""Liveness and readiness of the process."""

import asyncio

import psycopg
from starlette.datastructures import State
from starlette.requests import Request
from starlette.responses import Response

from wallet_api.database.pool import ConnectionLost
from wallet_api.http import messages, refusals
from wallet_api.http.operations import Operation
from wallet_api.http.refusals import Refusal, Refused

# Paths that are served even beyond the limit of clients.
ALWAYS = ("/livez", "/readyz")

_READINESS = "select wallet.schema_version(), current_setting('transaction_read_only'), pg_backend_pid()"
# Seconds that a pool without a connection has to open one.
_PATIENCE = 2.0


async def live(operation: Operation, request: Request) -> Response:
    """Succeeds whatever the state of the database."""
    return messages.Answer("{}")


async def ready(operation: Operation, request: Request) -> Response:
    """Succeeds if the database answers, accepts changes and is at this version, and the process is not stopping.

    With any_version, the database may be at another version: the process makes payments until it is replaced.
    """
    state = request.app.state
    any_version = (await operation.read(request))["any_version"]
    found = refusals.STOPPING if state.is_stopping() else await trouble(state, any_version=bool(any_version))
    if found is not None:
        raise Refused(found)
    return messages.Answer("{}")


async def trouble(state: State, *, any_version: bool = False) -> Refusal | None:
    """The reason why the application cannot use its database, or None. `any_version` accepts another version of it.

    After a failover, it replaces the connections.
    """
    try:
        [(version, read_only, server_pid)] = (await state.readiness.call(_READINESS)).values
    except (psycopg.Error, ConnectionLost):
        return refusals.NO_DATABASE
    # A standby, or a former primary: a new connection may reach another server.
    if read_only == "on" or not state.readiness.is_of(int(server_pid)):
        # Replaces the connections: this pool's now, the others' when the database is usable again.
        state.stale = True
        await state.readiness.renew()
        return refusals.READ_ONLY if read_only == "on" else refusals.POOLER_CHANGED
    if state.stale:
        state.stale = False
        for database in state.databases:
            await database.renew()
    if version != state.version and not any_version:
        return refusals.OTHER_VERSION
    usable = await asyncio.gather(*[database.is_usable(_PATIENCE) for database in state.databases])
    return None if all(usable) else refusals.POOL_EMPTY
