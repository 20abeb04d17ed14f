"""Whether the process, and the database behind it, answer."""

import asyncio

import psycopg
from starlette.datastructures import State
from starlette.requests import Request
from starlette.responses import Response

from wallet_api.database.pool import ConnectionLost
from wallet_api.http import errors, messages, refusals
from wallet_api.http.answers import NOTHING, Special
from wallet_api.http.operation import Operation
from wallet_api.http.refusals import Refusal

# What is answered however many clients there are.
ALWAYS = (b"/livez", b"/readyz")

_READINESS = "select wallet.schema_version(), current_setting('transaction_read_only'), pg_backend_pid()"
# Seconds that a pool without a connection may take to make one.
_PATIENCE = 2.0


async def live(request: Request) -> Response:
    """The process answers, whatever the state of the database."""
    return messages.Answer("{}")


async def ready(request: Request) -> Response:
    """The database answers, accepts changes, and is at the version of this process."""
    state = request.app.state
    found = refusals.STOPPING if state.is_stopping() else await trouble(state)
    return messages.Answer("{}") if found is None else errors.unavailable(request.scope, found)


async def trouble(state: State) -> Refusal | None:
    """What keeps the database of an application from being used, if anything does.

    Where it was another server's turn meanwhile, it has the connections replaced.
    """
    try:
        [(version, read_only, server_pid)] = (await state.readiness.call(_READINESS)).values
    except (psycopg.Error, ConnectionLost):
        return refusals.NO_DATABASE
    if read_only == "on":
        # A standby, perhaps, or what was the primary: the next connection may be to another server.
        await _go_stale(state)
        return refusals.READ_ONLY
    if not state.readiness.is_of(int(server_pid)):
        await _go_stale(state)
        return refusals.POOLER_CHANGED
    if state.stale:
        state.stale = False
        for database in state.databases:
            await database.renew()
    if version != state.version:
        return refusals.OTHER_VERSION
    usable = await asyncio.gather(*[database.is_usable(_PATIENCE) for database in state.databases])
    return None if all(usable) else refusals.POOL_EMPTY


async def _go_stale(state: State) -> None:
    """Has the connections replaced, this one now and the others when it is of use again."""
    state.stale = True
    await state.readiness.renew()


OPERATIONS = (
    Operation(
        name="live",
        group="Probes",
        method="GET",
        path="/livez",
        summary="Whether the process answers, whatever the state of the database",
        answers=Special(live, NOTHING),
    ),
    Operation(
        name="ready",
        group="Probes",
        method="GET",
        path="/readyz",
        summary="Whether the database answers, accepts changes, and is at the version of this process",
        refusals=tuple(
            (refusal, "")
            for refusal in (
                refusals.STOPPING,
                refusals.NO_DATABASE,
                refusals.READ_ONLY,
                refusals.OTHER_VERSION,
                refusals.POOL_EMPTY,
                refusals.POOLER_CHANGED,
            )
        ),
        answers=Special(ready, NOTHING),
    ),
)
