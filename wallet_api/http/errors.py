"""Maps exceptions to a status, a code and {"Error": "…"}. Knows classes of SQLSTATEs, but no single rule."""

import asyncio
import functools
import http
import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import psycopg
import psycopg_pool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, ExceptionHandler, Message, Receive, Scope, Send

from wallet_api.database.batching import Full, Verdict
from wallet_api.database.pool import ConnectionLost
from wallet_api.http import refusals
from wallet_api.http.client import CLIENT
from wallet_api.http.codec import encode
from wallet_api.http.refusals import Refusal, Refused
from wallet_api.observability import metrics
from wallet_api.observability.record import RECORD, Record

logger = logging.getLogger(__name__)

# The DETAIL of a refusal of one payment of a batch.
_INDEX = re.compile("Index: ([0-9]+)")

LOCKED = "55P03"

# The 503s of every operation that calls a function.
UNAVAILABLE = (
    *refusals.BY_STATE.values(),
    refusals.TOO_BUSY,
    refusals.NO_CONNECTION,
    refusals.UNKNOWN_OUTCOME,
)
CHALLENGE = 'Bearer realm="wallet"'

# The scope key of the names of a request's fields, by the function's arguments.
FIELD_NAMES = "wallet.field_names"

# SQLSTATE classes: the connection is lost, or about to be.
_LOST_STATES = ("08", "57P")

# SQLSTATE classes: the cause is the state of the database, not the request.
_ENVIRONMENT = ("0A", "25", "3F", "53", "57")

_ROUTING = {404: refusals.NOT_FOUND, 405: refusals.METHOD_NOT_ALLOWED}

_PROBLEM = "application/problem+json"
# Error-Field names an unknown field only if its name fits in a header.
_HEADER_VALUE = re.compile(r"[!-~]([ -~]{0,62}[!-~])?")


@dataclass(frozen=True, slots=True)
class Error:
    """The error response to a request.

    `field` is the cause. `index` is the position of the payment in its batch, from 0. `replayed` means that the error
    repeats an earlier response under the same idempotency key.
    """

    status: int
    code: str
    sentence: str
    field: str = ""
    index: int | None = None
    replayed: bool = False


def answer(scope: Scope | None, error: Error, headers: dict[str, str] | None = None) -> Response:
    """An error response: the contract's form, or RFC 9457's if the request accepts it. `scope` may be None."""
    _note(scope, error.code)
    about = {"Error-Code": error.code}
    if _HEADER_VALUE.fullmatch(error.field):
        about["Error-Field"] = error.field
    if error.status == 401:
        about["WWW-Authenticate"] = CHALLENGE
    body: dict[str, object] = {"Error": error.sentence}
    media_type = "application/json"
    if scope is not None and _accepts_problem(scope):
        media_type = _PROBLEM
        title = http.HTTPStatus(error.status).phrase
        body = {"type": f"/docs#{error.code}", "title": title, "status": error.status, "detail": error.sentence}
        body |= {"code": error.code} | ({"field": error.field} if "Error-Field" in about else {})
    if error.index is not None:
        body["Index" if media_type != _PROBLEM else "index"] = error.index
    return Response(encode(body), error.status, about | (headers or {}), media_type=media_type)


def _note(scope: Scope | None, code: str) -> None:
    """Records an error code for the log, unless the request has no record, or has the database's code already."""
    record: Record | None = (scope or {}).get(RECORD)
    if record is not None and not record.code:
        record.code = code


def _accepts_problem(scope: Scope) -> bool:
    """Whether Accept names application/problem+json, and does not prefer application/json."""
    quality = {"application/json": 0.0, _PROBLEM: 0.0}
    for name, value in scope["headers"]:
        if name == b"accept":
            for choice in value.decode("latin-1").lower().split(","):
                media_type, *parameters = [part.strip() for part in choice.split(";")]
                if media_type in quality:
                    quality[media_type] = _quality(parameters)
    return quality[_PROBLEM] > 0 and quality[_PROBLEM] >= quality["application/json"]


def _quality(parameters: list[str]) -> float:
    try:
        return next((float(value[2:]) for value in parameters if value.startswith("q=")), 1.0)
    except ValueError:
        return 0.0


def refused(scope: Scope | None, refused: Refused) -> Response:
    """The response to a request that the HTTP layer refuses."""
    return answer(scope, error_of(refused), refused.headers)


def error_of(refused: Refused) -> Error:
    """The error of a request that the HTTP layer refuses."""
    return Error(refused.refusal.status, refused.refusal.code, refused.sentence, refused.field)


def rule_error(code: str, sentence: str, field: str) -> Error:
    """The error of a request that one of the wallet's rules refuses."""
    return Error(status_of(code), code, sentence, field)


def unavailable(scope: Scope | None, refusal: Refusal, seconds: int = 1) -> Response:
    """A 503: the request was valid, and may be repeated after `seconds`."""
    return refused(scope, Refused(refusal, headers={"Retry-After": str(seconds)}))


def crowded(scope: Scope, seconds: int, refusal: Refusal = refusals.TOO_BUSY) -> Response:
    """The 503 for overload, which may be repeated after `seconds`. Cached, so that it is cheap."""
    _note(scope, refusal.code)
    return _crowded(seconds, refusal, _accepts_problem(scope))


@functools.cache
def _crowded(seconds: int, refusal: Refusal, as_problem: bool) -> Response:
    headers = [(b"accept", _PROBLEM.encode())] if as_problem else []
    return unavailable({"headers": headers}, refusal, seconds)


def full(scope: Scope) -> Response:
    """The 503 for a full queue. The client's connection is not read until Retry-After has passed."""
    metrics.queue_full.inc()
    return crowded(scope, scope[CLIENT].come_back_later())


def status_of(code: str) -> int:
    """The status of a rule's refusal, by its code."""
    return refusals.STATUS[code[:2]]


def is_refusal(error: Exception) -> bool:
    """Whether one of the wallet's rules raised the error."""
    return isinstance(error, psycopg.Error) and (error.sqlstate or "")[:2] in refusals.STATUS


def judge(error: Exception) -> Verdict:
    """Classifies an exception of make_payments, for batching."""
    state = error.sqlstate if isinstance(error, psycopg.Error) else None
    if isinstance(error, ConnectionLost) or (state or "").startswith(_LOST_STATES):
        return Verdict.UNKNOWN
    if state is None or state.startswith(_ENVIRONMENT) or state in ("42703", "42883"):
        return Verdict.COMMON
    if state in ("40001", "40P01"):
        return Verdict.PASSING
    return Verdict.BLOCKED if state == LOCKED else Verdict.PERSONAL


def tell_repeated(error: Exception) -> None:
    """Logs and counts that a call is retried, and why."""
    state = sqlstate(error)
    logger.warning("Retrying a call: %s %s", state, error)
    metrics.retries.labels(state).inc()


def sqlstate(error: Exception) -> str:
    """The SQLSTATE of an exception; 08006 (connection failure) if it has none."""
    return (error.sqlstate if isinstance(error, psycopg.Error) else None) or "08006"


def cancelled(scope: Scope) -> Response:
    """The response to a request that is cancelled because the shutdown timeout has passed."""
    return unavailable(scope, refusals.UNKNOWN_OUTCOME)


async def respond(request: Request, error: Exception) -> Response:
    """The response to a request whose handler raised `error`. If it is a 500, the caller re-raises the error."""
    handle = next(_HANDLERS[cls] for cls in type(error).__mro__ if cls in _HANDLERS)
    try:
        return await handle(request, error)
    except Exception:
        return await _internal_error(request, error)


class AnswerWhenCancelled:
    """Middleware: sends a response to a request that is cancelled before its response has started."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles a request."""
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
            await cancelled(scope)(scope, receive, send)


async def _database_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, psycopg.Error)
    state = error.sqlstate or ""
    record: Record = request.scope[RECORD]
    record.code = state
    if status := refusals.STATUS.get(state[:2]):
        record.outcome = "refused" if record.outcome else ""
        index = _INDEX.fullmatch(error.diag.message_detail or "")
        field = request.scope[FIELD_NAMES].get(error.diag.column_name, "")
        sentence = error.diag.message_primary or ""
        return answer(request.scope, Error(status, state, sentence, field, int(index[1]) if index else None))
    words = error.diag.message_primary or error  # without CONTEXT: a call may carry many payments
    logger.warning("%s %s: %s %s", request.method, request.url.path, state or type(error).__name__, words)
    if isinstance(error, psycopg_pool.TooManyRequests):
        return full(request.scope)
    if isinstance(error, psycopg_pool.PoolTimeout | psycopg_pool.PoolClosed):
        return unavailable(request.scope, refusals.NO_CONNECTION)
    if state.startswith(_LOST_STATES):
        return unavailable(request.scope, refusals.UNKNOWN_OUTCOME)
    refusal = refusals.BY_STATE.get("53000" if state.startswith("53") else state)
    if refusal is None:
        raise error
    return unavailable(request.scope, refusal)


async def _request_refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return refused(request.scope, error)


async def _too_many_requests(request: Request, error: Exception) -> Response:
    return full(request.scope)


async def _connection_lost(request: Request, error: Exception) -> Response:
    logger.warning("%s %s: %s", request.method, request.url.path, error)
    return unavailable(request.scope, refusals.UNKNOWN_OUTCOME)


async def _not_routed(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    return refused(request.scope, Refused(_ROUTING[error.status_code], headers=headers))


async def _client_gone(request: Request, error: Exception) -> Response:
    return refused(request.scope, Refused(refusals.BODY_CUT))


async def _internal_error(request: Request, error: Exception) -> Response:
    # After this response, Starlette re-raises the error; uvicorn logs it with a traceback, and closes the connection.
    return refused(request.scope, Refused(refusals.INTERNAL, headers={"Connection": "close"}))


_HANDLERS: dict[type[Exception], Callable[[Request, Exception], Awaitable[Response]]] = {
    psycopg.Error: _database_error,
    ConnectionLost: _connection_lost,
    Full: _too_many_requests,
    Refused: _request_refused,
    HTTPException: _not_routed,
    ClientDisconnect: _client_gone,
    Exception: _internal_error,
}

# The same, with the type that Starlette expects.
HANDLERS: dict[type[Exception], ExceptionHandler] = {**_HANDLERS}
