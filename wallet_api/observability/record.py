"""The record of a request: what is known of it in the end, for its line in the log and for the metrics.

Whoever knows something notes it in the record, and nobody reads it before the request has ended.
"""

import asyncio
import itertools
import random
import re
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from time import perf_counter
from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

# Where it is in the scope of a request.
RECORD = "wallet.record"
# The route of a request that is for none.
NO_ROUTE = "other"
# What stands for the status where the client was gone before it was answered, as in other servers' logs.
_GONE = 499
_GIVEN_ID = re.compile(rb"[\w.:/+=@-]{1,128}")
# Of W3C's Trace Context: version, trace id, the caller's span id, flags, and what later versions add.
_TRACEPARENT = re.compile(rb"(?!ff)[\da-f]{2}-(?!0{32})([\da-f]{32})-(?!0{16})[\da-f]{16}-[\da-f]{2}(?:-.*)?")

# A new id looks like a trace's: 20 digits that tell processes apart, and a number of 12.
_PREFIX = f"{random.getrandbits(80):020x}"
_number = itertools.count(10**11)

# The id of the request that is being answered, for whatever is logged meanwhile.
current_id: ContextVar[str] = ContextVar("current_id", default="")


class Record:
    """What is known of one request; never a secret, and never a body. Times are in seconds."""

    # The path's template, such as /account/{id}.
    route = NO_ROUTE
    status = 0
    seconds = 0.0
    # How long it waited for a call or a connection, and for its calls' answers; with how many payments it went.
    waited = 0.0
    database = 0.0
    batch = 0
    # How long it waited for an account that somebody else had locked, if it met one.
    locked = 0.0
    # The SQLSTATE of what went wrong.
    code = ""
    payment_id = ""
    # What became of the payment that it asks for, if it does: made, replayed, refused or failed.
    outcome = ""
    # The name of the key that it came with.
    key = ""
    # Its span, where there are traces; and then what it waited for and called: each by name, with its begin and end.
    span: Any = None
    steps: tuple[tuple[str, float, float], ...] = ()

    def __init__(self, id_: str, client: str, method: str = "", path: str = "") -> None:
        self.id = id_
        self.client = client
        self.method = method
        self.path = path
        self.started = perf_counter()

    def add_step(self, name: str, began: float, ended: float) -> None:
        """Notes what is to be a span."""
        if self.span is not None:
            self.steps += ((name, began, ended),)


class Observer:
    """ASGI application: gives each request a record and an id, and tells who wants to know when `app` is done with it.

    The id is the client's own, or that of its trace, or a new one. serving.protocol tells it, as X-Request-ID, and
    notes the status.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = record_in(scope)
        current_id.set(record.id)
        if _begin_span is not None:
            record.span = _begin_span(record, scope)
        try:
            await self._app(scope, receive, send)
        finally:
            record.status = record.status or _GONE
            if (key := scope.get("wallet.key")) is not None:
                record.key = key.name
            end(record)


def record_in(scope: Scope) -> Record:
    """The record in a request's scope, where it is made if it is not there: a request may be refused very early."""
    record: Record | None = scope.get(RECORD)
    if record is None:
        client = scope["client"]
        record = Record(request_id(scope["headers"]), client[0] if client else "", scope["method"], scope["path"])
        scope[RECORD] = record
    return record


def request_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The id in a request's head, X-Request-ID or the trace's, if it is well-formed; or a new one."""
    found = dict(headers)
    if (given := found.get(b"x-request-id")) and _GIVEN_ID.fullmatch(given):
        return given.decode()
    if (parent := found.get(b"traceparent")) and (trace := _TRACEPARENT.fullmatch(parent)):
        return trace[1].decode()
    return f"{_PREFIX}{next(_number)}"


def record_of(request: Request) -> Record:
    """The record of a request."""
    found: Record = request.scope[RECORD]
    return found


Reader = Callable[[list[Record]], None]

_begin_span: Callable[[Record, Scope], Any] | None = None
_readers: list[Reader] = []
_ended: list[Record] = []


def begin_spans_with(begin_span: Callable[[Record, Scope], Any]) -> None:
    """Has `begin_span` make the span of each request."""
    global _begin_span
    _begin_span = begin_span


def read_with(reader: Reader) -> None:
    """Has `reader` called with the records of requests that have ended: of all that end in a turn of the event loop."""
    _readers.append(reader)


def end(record: Record) -> None:
    """Ends a record, and has it read soon: in the loop's next turn, the last one that it may have included."""
    record.seconds = perf_counter() - record.started
    if _readers:
        _ended.append(record)
        if len(_ended) == 1:
            asyncio.get_running_loop().call_soon(_read)


def _read() -> None:
    records = _ended.copy()
    _ended.clear()
    for reader in _readers:
        reader(records)
