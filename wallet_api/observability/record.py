"""The record of a request: the facts for its log line, its metrics and its trace.

Any code may add facts while the request is handled. The record is read after the request has ended.
"""

import asyncio
import itertools
import random
import re
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from time import perf_counter
from typing import Any

from starlette.requests import Request
from starlette.types import Scope

# The key of the record in a request's scope.
RECORD = "wallet.record"
# The key of a request's headers by name in its scope. If a header is repeated, it is the last one.
HEADERS = "wallet.headers"
# The route of a request that matches none.
NO_ROUTE = "other"
# The status if the client disconnected before the answer, as in nginx's log.
GONE = 499
_GIVEN_ID = re.compile(rb"[\w.:/+=@-]{1,128}")
# W3C Trace Context: version, trace id, parent span id, flags, additions of later versions.
_TRACEPARENT = re.compile(rb"(?!ff)[\da-f]{2}-(?!0{32})([\da-f]{32})-(?!0{16})[\da-f]{16}-[\da-f]{2}(?:-.*)?")

# A new id looks like a trace id: 20 random digits per process, then a counter of 12 digits.
_PREFIX = f"{random.getrandbits(80):020x}"
_number = itertools.count(10**11)

# Creates the span of a request, if tracing is on. It may return None.
begin_span: Callable[["Record", Scope], Any] | None = None

# The id of the current request, for log lines written meanwhile.
current_id: ContextVar[str] = ContextVar("current_id", default="")


class Record:
    """The facts about one request, without secrets and bodies. Times are in seconds."""

    # The path template, such as /account/{id}.
    route = NO_ROUTE
    status = 0
    seconds = 0.0
    # Time waiting for a batch or a connection, time in database calls, and the number of payments in its batch.
    waited = 0.0
    database = 0.0
    batch = 0
    # Time waiting for a locked account; 0 if it met none.
    locked = 0.0
    # The position that it must see.
    position = 0
    # The error code.
    code = ""
    payment_id = ""
    # The outcome of its payment, if it requests one: made, replayed, refused or failed.
    outcome = ""
    # The name of its API key.
    key = ""
    # Its span if tracing is on, and then its waits and calls: name, start, end, and for calls, what failed or "".
    span: Any = None
    steps: tuple[tuple[str, float, float, str | None], ...] = ()

    def __init__(self, id_: str, client: str, method: str = "", path: str = "") -> None:
        self.id = id_
        self.client = client
        self.method = method
        self.path = path
        self.started = perf_counter()

    def add_step(self, name: str, began: float, ended: float, failure: str | None = None) -> None:
        """Adds a step, which becomes a child span. `began` and `ended` are values of perf_counter().

        If the step is a database call, `failure` is the SQLSTATE or the type of its error, or "".
        """
        if self.span is not None:
            self.steps += ((name, began, ended, failure),)


def begin(scope: Scope) -> Record:
    """The record of a request that begins, and its span if tracing is on."""
    record = record_in(scope)
    current_id.set(record.id)
    if begin_span is not None:
        record.span = begin_span(record, scope)
    return record


def record_in(scope: Scope) -> Record:
    """The record in a request's scope. Creates it if missing: the request may be refused before it begins."""
    record: Record | None = scope.get(RECORD)
    if record is None:
        client = scope["client"]
        headers = scope[HEADERS] = dict(scope["headers"])
        record = Record(request_id(headers), client[0] if client else "", scope["method"], scope["path"])
        scope[RECORD] = record
    return record


def request_id(headers: Mapping[bytes, bytes]) -> str:
    """The request id: a well-formed X-Request-ID, or else the trace id in traceparent, or else a new one."""
    if (given := headers.get(b"x-request-id")) and _GIVEN_ID.fullmatch(given):
        return given.decode()
    if (parent := headers.get(b"traceparent")) and (trace := _TRACEPARENT.fullmatch(parent)):
        return trace[1].decode()
    return f"{_PREFIX}{next(_number)}"


def record_of(request: Request) -> Record:
    """The record of a request."""
    found: Record = request.scope[RECORD]
    return found


Reader = Callable[[list[Record]], None]

_readers: list[Reader] = []
_ended: list[Record] = []


def read_with(reader: Reader) -> None:
    """Calls `reader` with the records of ended requests, once per iteration of the event loop."""
    _readers.append(reader)


def end(record: Record) -> None:
    """Ends a record. The readers receive it in the next iteration of the event loop."""
    record.status = record.status or GONE
    record.seconds = perf_counter() - record.started
    if _readers:
        if not _ended:
            asyncio.get_running_loop().call_soon(_read)
        _ended.append(record)


def _read() -> None:
    records = _ended.copy()
    _ended.clear()
    for reader in _readers:
        reader(records)
