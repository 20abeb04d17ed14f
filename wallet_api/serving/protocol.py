"""Extends uvicorn's HTTP/1.1 protocol.

It limits the request head and the number of clients, answers requests that offer an upgrade, and answers
invalid HTTP in the contract's form.

It relies on these private or undocumented parts of uvicorn (checked with 0.54). Other modules use only those that are
listed with their names. tests/http/test_uvicorn.py has a test for each part.

- HttpToolsProtocol, RequestResponseCycle: uvicorn exports neither.
- connection_made() sets transport, flow and client. A later replacement of transport carries all answers; one of client
  is in all scopes.
- An answer's head is one write(); its body follows. "100 Continue" is the one other write() before the head, exactly
  the bytes of _CONTINUE.
- on_message_begin() creates the scope of each request. scope["headers"] and headers are the same list.
- on_header() converts names to lower case. url is the raw request target.
- on_headers_complete() sets cycle to the new request; connection_lost() and shutdown() use it.
- A request that waits for an earlier answer starts after on_response_complete(), unless the connection is closing.
- on_response_complete() runs when an answer is complete, after close() if it is the last one.
- connection_lost() marks only cycle as disconnected; each other cycle needs disconnected and message_event.set().
- A disconnected cycle sends nothing.
- cycle.scope is that scope. cycle.more_body is true until the body is complete.
- cycle.keep_alive = False closes the connection after the answer.
- shutdown() closes the connection after the answer to its request, or at once without one. When the server stops, it
  is called for each connection, after close() of the result of create_server().
- flow.pause_reading() and flow.resume_reading() may be repeated.
- timeout_keep_alive, timeout_keep_alive_task, timeout_keep_alive_handler(): the keep-alive timer.
- _unset_keepalive_if_required() stops that timer; on_response_complete() starts it.
- parser may be replaced between two calls of feed_data().
- server_state.default_headers are the headers of every answer.
- For event_loop.py: Server calls create_server() with sock and backlog; of its result, only close() and wait_closed().
- For processes.py: Server handles SIGINT and SIGTERM with handle_exit(), and stops gracefully if should_exit is true.
  Multiprocess handles them as soon as it is created.

And of httptools (checked with 0.9):

- An exception in a callback stops the parser, and feed_data() raises HttpParserError.
- Before feed_data() raises HttpParserUpgrade, also for CONNECT, it calls on_headers_complete() and
  on_message_complete(). Then get_method(), get_http_version() and should_keep_alive() still describe the request.
- The fields of a trailer go to on_header().
"""

import asyncio
import http
import logging
from collections import deque
from typing import Any, ClassVar

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from wallet_api.http import errors, refusals
from wallet_api.http.messages import CLIENT
from wallet_api.http.refusals import Refused
from wallet_api.observability.record import Record, end, record_in, request_id

logger = logging.getLogger(__name__)

# How many refused clients may return per second.
_RETURNING = 2000
# Seconds for the first request of a connection that was being set up when the server stopped.
_LATE_GRACE = 1.0
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_HEAD_LIMIT = 64 * 1024
# Headers that offer an upgrade. Without one, they have no meaning.
_UPGRADE_HEADERS = (b"connection", b"upgrade", b"http2-settings")
_CLOSE = {"Connection": "close"}
_NOT_HTTP = Refused(refusals.NOT_HTTP, headers=_CLOSE)
_NO_PROXY = Refused(refusals.NO_PROXY, headers=_CLOSE)
_HEAD_TOO_LARGE = Refused(refusals.HEAD_TOO_LARGE, headers=_CLOSE, limit=_HEAD_LIMIT)


class _Transport:
    """Sends the head of an answer together with the start of its body, in one system call."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        # A head to send with its body; None while the body is sent.
        self._head: bytes | None = b""

    def write(self, data: bytes) -> None:
        """Sends data, or keeps it until the body if it is a head."""
        if self._head:
            self._transport.write(self._head + data)
            self._head = None
        elif self._head is None or data == _CONTINUE:
            self._transport.write(data)
        else:
            self._head = data

    def end_answer(self) -> None:
        """Sends a kept head. The next write() is a head again."""
        if self._head:
            self._transport.write(self._head)
        self._head = b""

    def close(self) -> None:
        """Sends a kept head and closes."""
        self.end_answer()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        """Delegates everything else to the transport."""
        return getattr(self._transport, name)


class Protocol(HttpToolsProtocol):
    """One client connection, with pipelining. Requests find it in their scope.

    uvicorn starts its keep-alive timer after an answer and stops it at the next byte. Here it also starts with the
    connection, and runs until a request head is complete: this closes clients that send nothing or half a head.
    """

    # Connections a process serves. Up to twice as many are accepted but get 503; the rest wait in the backlog.
    most_connections = 10_000
    # All connections of this process.
    _open: ClassVar[set["Protocol"]] = set()
    # How many of them are not read until they may return.
    _away: ClassVar[int] = 0
    # Whether the server stops. Then requests that wait for something end.
    stopping: ClassVar[bool] = False

    # Seconds to stop reading this connection after the current answer.
    _pause = 0
    _upgrading = False
    # Whether the body of the last request is complete.
    in_head = True
    # Bytes received since the last part of a body: head, chunk sizes, trailer.
    _overhead = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Starts a connection."""
        super().connection_made(transport)
        self.transport = _Transport(transport)  # type: ignore[assignment]
        if self.client is not None:  # on a socket for both IPv6 and IPv4, an IPv4 address is written as one of IPv6
            self.client = self.client[0].removeprefix("::ffff:"), self.client[1]
        self._open.add(self)
        # Whether this connection exceeds the limit. Older connections are served.
        self._late = len(self._open) > self.most_connections
        # Requests with a complete head and an incomplete answer; all but the first one wait.
        self._unanswered: deque[RequestResponseCycle] = deque()
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)
        if self.stopping:  # it was being set up when uvicorn asked all others to shut down
            self.loop.call_later(_LATE_GRACE, self.shutdown)

    def connection_lost(self, exc: Exception | None) -> None:
        """Cleans up after a connection."""
        super().connection_lost(exc)
        self._open.discard(self)
        if isinstance(exc, TimeoutError) and self._unanswered:
            scope = self._unanswered[0].scope
            logger.warning("%s %s was cut off: its reader is too slow", scope["method"], scope["path"])
        self._abandon_requests()

    @classmethod
    def clients(cls) -> int:
        """The number of connected clients."""
        return len(cls._open)

    @classmethod
    def has_room(cls) -> bool:
        """Whether one more connection may be accepted."""
        return len(cls._open) < 2 * cls.most_connections

    @classmethod
    async def abort_all(cls) -> None:
        """Aborts all connections at shutdown: clients that do not read their answers would keep the loop running."""
        while cls._open:
            for connection in list(cls._open):
                connection.transport.abort()
            await asyncio.sleep(0)

    def is_late(self) -> bool:
        """Whether more clients are connected than the process serves, and this one is not among the first."""
        self._late = self._late and len(self._open) > self.most_connections
        return self._late

    def come_back_later(self) -> int:
        """Stops reading from this client after the current answer. Returns for how many seconds, for Retry-After.

        Refusals are cheap, but clients that retry immediately would still take time from those being served.
        """
        self._pause = 1 + self._away // _RETURNING
        return self._pause

    def on_response_complete(self) -> None:
        """Continues with the next request."""
        self.transport.end_answer()  # type: ignore[attr-defined]
        self._unanswered.popleft()
        super().on_response_complete()
        if self._pause:
            self.flow.pause_reading()
            self.loop.call_later(self._pause, self._read_on)
            self._pause = 0
            Protocol._away += 1

    def _read_on(self) -> None:
        Protocol._away -= 1
        if not self.transport.is_closing():
            self.flow.resume_reading()

    def data_received(self, data: bytes) -> None:
        """Parses received bytes: part of a request, or several requests."""
        self._overhead += len(data)
        while data:
            try:
                self.parser.feed_data(data)
                data = b""
            except httptools.HttpParserUpgrade as upgrade:
                if self.parser.get_method() == b"CONNECT":
                    self._refuse(_NO_PROXY)
                    return
                data = self._without_upgrade() + data[upgrade.args[0] :]
            except httptools.HttpParserError:
                self._refuse(_HEAD_TOO_LARGE if self._head_size() > _HEAD_LIMIT else _NOT_HTTP)
                return
        if self._overhead > _HEAD_LIMIT:
            self._refuse(_HEAD_TOO_LARGE)

    def on_headers_complete(self) -> None:
        """Starts a request, whose body may still be incomplete."""
        if self._overhead > _HEAD_LIMIT and self._head_size() > _HEAD_LIMIT:
            raise ValueError("the head is too large")  # stops the parser
        self._upgrading = self.parser.should_upgrade()
        if not self._upgrading:
            self._unset_keepalive_if_required()
            self.scope[CLIENT] = self  # type: ignore[literal-required]
            super().on_headers_complete()
            self._unanswered.append(self.cycle)
            self.in_head = False
            self.headers = []  # keeps trailer fields out of the request's headers

    def on_body(self, body: bytes) -> None:
        """Receives a part of a request body."""
        self._overhead = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Ends a request body."""
        self.in_head = True
        self._overhead = 0
        if not self._upgrading:
            super().on_message_complete()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Closes the connection after the answer to the last complete request, or at once if there is none (False)."""
        complete = [cycle for cycle in self._unanswered if not cycle.more_body]
        if complete:
            complete[-1].keep_alive = False
            self.flow.pause_reading()
        return bool(complete)

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def _without_upgrade(self) -> bytes:
        """Replaces the parser, and returns the current head without its upgrade headers, to be parsed again.

        The old parser would treat the following bytes as the other protocol instead of a body.
        """
        version = self.parser.get_http_version()
        lines = [self.parser.get_method() + b" " + self.url + b" HTTP/" + version.encode()]
        lines += [name + b": " + value for name, value in self.headers if name not in _UPGRADE_HEADERS]
        if not self.parser.should_keep_alive():
            lines.append(b"connection: close")
        self.parser = httptools.HttpRequestParser(self)
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def _refuse(self, refused: Refused) -> None:
        if self.eof_received():
            return  # another answer now would be taken for one of theirs
        if not self.in_head and not self._unanswered:
            self.transport.close()  # already answered without its body
            return
        scope: Any = self._unanswered[0].scope if self._unanswered else None
        if scope is not None:
            record = record_in(scope)
        else:  # its head is refused
            record = Record(request_id(dict(self.headers or ())), self.client[0] if self.client else "")
            end(record)
        response = errors.refused(scope, refused)
        record.status = response.status_code
        self._abandon_requests()  # or a handler that does not read the body would send a second answer
        head = [f"HTTP/1.1 {record.status} {http.HTTPStatus(record.status).phrase}".encode()]
        headers = [*self.server_state.default_headers, (b"x-request-id", record.id.encode()), *response.raw_headers]
        head += [name + b": " + value for name, value in headers]
        self.transport.write(b"\r\n".join(head) + b"\r\n\r\n" + bytes(response.body))
        self.transport.close()

    def _abandon_requests(self) -> None:
        """Tells the handlers of unanswered requests that the client is gone. uvicorn tells only the last one."""
        for cycle in self._unanswered:
            cycle.disconnected = True
            cycle.message_event.set()
