"""Whether the process, and the database behind it, answer."""

import psycopg
from starlette.datastructures import State
from starlette.requests import Request
from starlette.responses import Response

from wallet_api import errors, messages, refusals
from wallet_api.answers import NOTHING, Special
from wallet_api.operation import Operation
from wallet_api.pool import ConnectionLost
from wallet_api.refusals import Refusal

_READINESS = "select wallet.schema_version(), current_setting('transaction_read_only')"


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
        [(version, read_only)] = (await state.readiness.call(_READINESS)).values
    except (psycopg.Error, ConnectionLost):
        return refusals.NO_DATABASE
    if read_only == "on":
        # A standby, perhaps, or what was the primary: the next connection may be to another server.
        state.stale = True
        await state.readiness.renew()
        return refusals.READ_ONLY
    if state.stale:
        state.stale = False
        for database in state.databases:
            await database.renew()
    return None if version == state.version else refusals.OTHER_VERSION


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
            for refusal in (refusals.STOPPING, refusals.NO_DATABASE, refusals.READ_ONLY, refusals.OTHER_VERSION)
        ),
        answers=Special(ready, NOTHING),
    ),
)
