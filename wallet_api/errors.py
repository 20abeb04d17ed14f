"""From whatever went wrong to a status and {"Error": "…"}. Knows classes of SQLSTATEs, and no rule."""

import asyncio
import functools
import logging
import re
from collections.abc import Awaitable, Callable

import psycopg
import psycopg_pool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, ExceptionHandler, Message, Receive, Scope, Send

from wallet_api import metrics
from wallet_api.coalescing import Full, Verdict
from wallet_api.observing import record_of
from wallet_api.pool import ConnectionLost
from wallet_api.wire import encode

logger = logging.getLogger(__name__)

# The wallet's own classes of refusals; their words are meant for the client. See db/README.md.
_REFUSALS = {"WA": 401, "WB": 400, "WC": 409, "WF": 403, "WK": 422, "WN": 404}

# The detail of a refusal of one payment among several.
_INDEX = re.compile("Index: ([0-9]+)")

LOCKED = "55P03"

# The call was certainly rolled back, and the same one may well pass a moment later.
_TRY_AGAIN = {
    "40001": "The accounts changed at the same time; nothing was done, try again",
    "40P01": "The accounts were locked crosswise; nothing was done, try again",
    LOCKED: "An account is locked by somebody else for too long; nothing was done, try again",
    "57014": "The database took too long; nothing was done, try again",
    "25006": "The database accepts no changes at the moment; nothing was done, try again",
    "3F000": "The database is not at this version of the wallet yet; nothing was done, try again",
    "0A000": "The database changes to another version of the wallet; nothing was done, try again",
    "42703": "The database is not at this version of the wallet yet; nothing was done, try again",
    "42883": "The database is not at this version of the wallet yet; nothing was done, try again",
}
_OVERLOADED = "The database has no resources left at the moment; nothing was done, try again"
_BUSY = "Too many requests are waiting; nothing was done, try again"
_NO_CONNECTION = "The database is out of reach or too busy at the moment; nothing was done, try again"
_LOST = (
    "The database did not answer before the connection to it was lost or given up; "
    "look whether the request took effect before you repeat it, or repeat it with its Idempotency-Key"
)

# Everything that a 503 says of the database, and of how much there is to do.
UNAVAILABLE = tuple(dict.fromkeys([*_TRY_AGAIN.values(), _OVERLOADED, _BUSY, _NO_CONNECTION, _LOST]))
INTERNAL = "Internal error"
CHALLENGE = 'Bearer realm="wallet"'

# The connection is lost, or about to be.
_LOST_STATES = ("08", "57P")

# What says nothing of the request: it is the state of the database.
_ENVIRONMENT = ("0A", "25", "3F", "53", "57")

_HTTP = {404: "Not found", 405: "Method not allowed"}


def answer(status: int, error: str, headers: dict[str, str] | None = None, index: int | None = None) -> Response:
    """An error in the contract's form; `index` says which of several payments it is about."""
    fields = {"Error": error} | ({} if index is None else {"Index": index})
    challenge = {"WWW-Authenticate": CHALLENGE} if status == 401 else {}
    return Response(encode(fields), status, challenge | (headers or {}), media_type="application/json")


def unavailable(error: str, seconds: int = 1) -> Response:
    """A 503: the request was right, and may be sent again, after some seconds."""
    return answer(503, error, {"Retry-After": str(seconds)})


@functools.cache
def crowded(seconds: int, error: str = _BUSY) -> Response:
    """The 503 for when there is much to do: each is made once."""
    return unavailable(error, seconds)


def full(scope: Scope) -> Response:
    """The answer to a request that is one too many; whoever asks again before the time will not be heard."""
    metrics.queue_full.inc()
    return crowded(scope["come_back_later"]())


def status_of(code: str) -> int:
    """The status of a refusal by one of the wallet's rules."""
    return _REFUSALS[code[:2]]


def is_refusal(error: Exception) -> bool:
    """Whether one of the wallet's rules raised it."""
    return isinstance(error, psycopg.Error) and (error.sqlstate or "")[:2] in _REFUSALS


def refused(code: str, error: str) -> Response:
    """A refusal by one of the wallet's rules."""
    return answer(status_of(code), error)


def judge(error: Exception) -> Verdict:
    """What an exception says of a call of make_payments."""
    state = error.sqlstate if isinstance(error, psycopg.Error) else None
    if isinstance(error, ConnectionLost) or (state or "").startswith(_LOST_STATES):
        return Verdict.UNKNOWN
    if state is None or state.startswith(_ENVIRONMENT) or state in ("42703", "42883"):
        return Verdict.COMMON
    if state in ("40001", "40P01"):
        return Verdict.PASSING
    return Verdict.BLOCKED if state == LOCKED else Verdict.PERSONAL


def tell_repeated(error: Exception) -> None:
    """Says that a call is made again, and why."""
    state = sqlstate(error)
    logger.warning("A call is made again: %s %s", state, error)
    metrics.retries.labels(state).inc()


def sqlstate(error: Exception) -> str:
    """The SQLSTATE of an exception; that of a connection that failed, where nobody told one."""
    return (error.sqlstate if isinstance(error, psycopg.Error) else None) or "08006"


def cancelled() -> Response:
    """What a request gets that is cancelled, because the time for stopping is over."""
    return unavailable(_LOST)


async def respond(request: Request, error: Exception) -> Response:
    """The answer to a request whose handler raised `error`: a 500 for one that should be raised further."""
    handle = next(_HANDLERS[cls] for cls in type(error).__mro__ if cls in _HANDLERS)
    try:
        return await handle(request, error)
    except Exception:
        return await _internal_error(request, error)


class AnswerWhenCancelled:
    """Middleware: a request that is cancelled is told so."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        started = False

        async def note_and_send(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, note_and_send)
        except asyncio.CancelledError:
            if started:
                raise
            await cancelled()(scope, receive, send)


async def _database_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, psycopg.Error)
    state = error.sqlstate or ""
    record = record_of(request)
    record.code = state
    if status := _REFUSALS.get(state[:2]):
        record.outcome = "refused" if record.outcome else ""
        index = _INDEX.fullmatch(error.diag.message_detail or "")
        return answer(status, error.diag.message_primary or "", index=int(index[1]) if index else None)
    words = error.diag.message_primary or error  # not the context: a failed call may have had many payments
    logger.warning("%s %s: %s %s", request.method, request.url.path, state or type(error).__name__, words)
    if isinstance(error, psycopg_pool.TooManyRequests):
        return full(request.scope)
    if isinstance(error, psycopg_pool.PoolTimeout | psycopg_pool.PoolClosed):
        return unavailable(_NO_CONNECTION)
    if state in _TRY_AGAIN:
        return unavailable(_TRY_AGAIN[state])
    if state.startswith("53"):
        return unavailable(_OVERLOADED)
    if state.startswith(_LOST_STATES):
        return unavailable(_LOST)
    raise error


async def _too_many_requests(request: Request, error: Exception) -> Response:
    return full(request.scope)


async def _connection_lost(request: Request, error: Exception) -> Response:
    logger.warning("%s %s: %s", request.method, request.url.path, error)
    return unavailable(_LOST)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return answer(error.status_code, _HTTP.get(error.status_code, error.detail), dict(error.headers or {}))


async def _client_gone(request: Request, error: Exception) -> Response:
    return answer(400, "The body ended early")


async def _internal_error(request: Request, error: Exception) -> Response:
    # Starlette raises the error again once this is sent; uvicorn logs it with its traceback, and hangs up.
    return answer(500, INTERNAL, {"Connection": "close"})


_HANDLERS: dict[type[Exception], Callable[[Request, Exception], Awaitable[Response]]] = {
    psycopg.Error: _database_error,
    ConnectionLost: _connection_lost,
    Full: _too_many_requests,
    HTTPException: _http_error,
    ClientDisconnect: _client_gone,
    Exception: _internal_error,
}

# As Starlette wants them.
HANDLERS: dict[type[Exception], ExceptionHandler] = {**_HANDLERS}
