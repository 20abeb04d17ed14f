"""Maps exceptions to a status, a code and {"Error": "…"}. It knows classes of SQLSTATEs, but no rule."""

import asyncio
import http
import logging
import re

import psycopg
import psycopg_pool
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Scope

from wallet_api.database.batching import Full, Verdict
from wallet_api.database.outage import primary_outage
from wallet_api.database.pool import ConnectionLost
from wallet_api.http import refusals
from wallet_api.http.codec import encode
from wallet_api.http.messages import CLIENT, root_path
from wallet_api.http.refusals import Error, Refusal, Refused
from wallet_api.observability import metrics
from wallet_api.observability.record import RECORD, Record

logger = logging.getLogger(__name__)

# The DETAIL of a refusal of one payment of a batch.
_INDEX = re.compile("Index: ([0-9]+)")

LOCKED = "55P03"

# The 503s of every operation that calls a function.
UNAVAILABLE = (*refusals.BY_STATE.values(), refusals.TOO_BUSY, refusals.NO_CONNECTION, refusals.UNKNOWN_OUTCOME)

# The scope key of the names of a request's fields, by the function's arguments.
FIELD_NAMES = "wallet.field_names"

# SQLSTATE classes: the connection is lost, or about to be.
_LOST_STATES = ("08", "57P")

# SQLSTATE classes: the cause is the state of the database, not the request.
_ENVIRONMENT = ("0A", "25", "3F", "53", "57")

# What the pool raises if it has no connection for a request.
_NO_CONNECTION = (psycopg_pool.TooManyRequests, psycopg_pool.PoolTimeout, psycopg_pool.PoolClosed)

_PROBLEM = "application/problem+json"
_WEIGHT = re.compile(r"[01](\.[0-9]*)?")
# Error-Field names an unknown field only if its name fits in a header.
_HEADER_VALUE = re.compile(r"[!-~]([ -~]{0,62}[!-~])?")


def answer(scope: Scope | None, error: Error, headers: dict[str, str] | None = None) -> Response:
    """An error response: the contract's form, or RFC 9457's if the request accepts it. `scope` may be None."""
    about = {"Error-Code": error.code}
    if _HEADER_VALUE.fullmatch(error.field):
        about["Error-Field"] = error.field
    if error.status == 401:
        about["WWW-Authenticate"] = 'Bearer realm="wallet"'
    if error.status == 503:
        about["Retry-After"] = "1"
    body: dict[str, object] = {"Error": error.sentence}
    media_type = "application/json"
    if scope is not None:
        record: Record = scope[RECORD]
        record.code = record.code or error.code
        if prefers(scope, _PROBLEM):
            media_type = _PROBLEM
            title = http.HTTPStatus(error.status).phrase
            page = f"{root_path(scope)}/docs"
            body = {"type": f"{page}#{error.code}", "title": title, "status": error.status, "detail": error.sentence}
            body |= {"code": error.code} | ({"field": error.field} if "Error-Field" in about else {})
    if error.index is not None:
        body["Index" if media_type != _PROBLEM else "index"] = error.index
    return Response(encode(body), error.status, about | (headers or {}), media_type=media_type)


def refused(scope: Scope | None, refused: Refused) -> Response:
    """The response to a request that the HTTP layer refuses."""
    return answer(scope, refused.error, refused.headers)


def prefers(scope: Scope, wanted: str) -> bool:
    """Whether Accept names this media type, and does not prefer application/json."""
    weights = {"application/json": 0.0, wanted: 0.0}
    for choice in ",".join(Headers(scope=scope).getlist("accept")).lower().split(","):
        media_type, *parameters = [part.strip() for part in choice.split(";")]
        if media_type in weights:
            weight = next((value[2:] for value in parameters if value.startswith("q=")), "1")
            weights[media_type] = float(weight) if _WEIGHT.fullmatch(weight) else 0.0
    return weights[wanted] > 0 and weights[wanted] >= weights["application/json"]


def _sqlstate(error: Exception) -> str:
    return (error.sqlstate if isinstance(error, psycopg.Error) else None) or ""


def is_refusal(error: Exception) -> bool:
    """Whether one of the wallet's rules raised the error."""
    return _sqlstate(error)[:2] in refusals.STATUS


def judge(error: Exception) -> Verdict:
    """Classifies an exception of make_payments, for batching."""
    state = _sqlstate(error)
    if isinstance(error, ConnectionLost) or state.startswith(_LOST_STATES):
        return Verdict.UNKNOWN
    if state == "" or state.startswith(_ENVIRONMENT) or state in ("42703", "42883"):
        return Verdict.COMMON
    if state in ("40001", "40P01"):
        return Verdict.PASSING
    return Verdict.BLOCKED if state == LOCKED else Verdict.PERSONAL


def log_retry(error: Exception) -> None:
    """Logs and counts that a call is retried, and why: a lost connection counts as 08006, connection failure.

    The loss itself is in the log already.
    """
    state = _sqlstate(error) or "08006"
    if not isinstance(error, ConnectionLost):
        logger.warning("Retrying a call: %s %s", state, error)
    metrics.retries.labels(state).inc()


def respond(scope: Scope, error: BaseException) -> Response:
    """The response to a request whose handler raised `error`. Logs an error that is not expected."""
    try:
        return _response(scope, error)
    except Exception:
        logger.exception("Cannot answer %s %s", scope["method"], scope["path"])
        return refused(scope, Refused(refusals.INTERNAL, headers={"Connection": "close"}))


def _response(scope: Scope, error: BaseException) -> Response:
    match error:
        case Refused():
            return refused(scope, error)
        case Full():
            metrics.queue_full.inc()
            return refused(scope, come_back_later(scope, refusals.TOO_BUSY))
        case ClientDisconnect():
            return refused(scope, Refused(refusals.BODY_CUT))
        case ConnectionLost():  # it is in the log already
            primary_outage.refused += 1
            return refused(scope, Refused(refusals.UNKNOWN_OUTCOME))
        case asyncio.CancelledError():  # the shutdown timeout has passed
            return refused(scope, Refused(refusals.UNKNOWN_OUTCOME))
        case psycopg.Error():
            return _database_response(scope, error)
    raise error


def come_back_later(scope: Scope, refusal: Refusal) -> Refused:
    """Refuses a request for overload. The client's connection is not read until Retry-After has passed."""
    return Refused(refusal, headers={"Retry-After": str(scope[CLIENT].come_back_later())})


def _database_response(scope: Scope, error: psycopg.Error) -> Response:
    record: Record = scope[RECORD]
    record.code = state = _sqlstate(error)
    if status := refusals.STATUS.get(state[:2]):
        record.outcome = "refused" if record.outcome else ""
        index = _INDEX.fullmatch(error.diag.message_detail or "")
        field = scope[FIELD_NAMES].get(error.diag.column_name, "")
        sentence = error.diag.message_primary or ""
        return answer(scope, Error(status, state, sentence, field, int(index[1]) if index else None))
    may_be_outage = isinstance(error, _NO_CONNECTION) or state.startswith(_LOST_STATES)
    if may_be_outage and primary_outage.explains(record.started):
        primary_outage.refused += 1
    else:
        words = error.diag.message_primary or error  # without CONTEXT: a call may carry many payments
        logger.warning("%s %s: %s %s", scope["method"], scope["path"], state or type(error).__name__, words)
    if isinstance(error, psycopg_pool.TooManyRequests):
        return _response(scope, Full())
    if isinstance(error, psycopg_pool.PoolTimeout | psycopg_pool.PoolClosed):
        refusal = refusals.NO_CONNECTION
    elif state.startswith(_LOST_STATES):
        refusal = refusals.UNKNOWN_OUTCOME
    elif (known := refusals.BY_STATE.get("53000" if state.startswith("53") else state)) is not None:
        refusal = known
    else:
        raise error
    return refused(scope, Refused(refusal))
