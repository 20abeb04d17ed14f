"""uvicorn's HTTP/1.1, and what it leaves open.

That is: limits on a request's head, on clients that do not read, and on their number; requests that offer an upgrade;
and answers in the contract's form to what is no HTTP at all.
"""

import asyncio
import contextlib
import http
import logging
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from wallet_api.http import errors, refusals
from wallet_api.http.probes import ALWAYS
from wallet_api.http.refusals import Refused
from wallet_api.observability.record import Observer, Record, end, record_in, request_id

logger = logging.getLogger(__name__)

# Of those who were told to come back later, so many a second may.
_RETURNING = 2000
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_HEAD_LIMIT = 64 * 1024
# What asks for another protocol on this connection, and means nothing to one who stays with this one.
_UPGRADE_HEADERS = (b"connection", b"upgrade", b"http2-settings")


def _head_too_large() -> Refused:
    return Refused(refusals.HEAD_TOO_LARGE, limit=_HEAD_LIMIT)


class _Transport:
    """Sends the head of an answer together with the beginning of its body: one system call, not two.

    What begins an answer goes through `begin` before.
    """

    def __init__(
        self, transport: asyncio.Transport, linger: Callable[[], object], begin: Callable[[bytes], bytes]
    ) -> None:
        self._transport = transport
        self._linger = linger
        self._begin = begin
        self._head = b""
        self._begun = False

    def write(self, data: bytes) -> None:
        """Sends data, or keeps it if it is the head of an answer."""
        if self._head:
            self._transport.write(self._head + data)
            self._head = b""
        elif self._begun or data == _CONTINUE:
            self._transport.write(data)
        else:
            self._begun = True
            self._head = self._begin(data)

    def end_answer(self) -> None:
        """Sends what is left; what comes next is a head again."""
        if self._head and not self._transport.is_closing():
            self._transport.write(self._head)
        self._head = b""
        self._begun = False

    def close(self) -> None:
        """Sends what is left, and closes."""
        self.end_answer()
        self._transport.close()
        if self._transport.get_write_buffer_size() > 0:
            self._linger()

    def cut_off(self) -> None:
        """Ends the connection, and drops what the client has not read, in the system's buffers too (by a reset)."""
        with contextlib.suppress(OSError, ValueError):  # it is closed already
            connection = self._transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def __getattr__(self, name: str) -> Any:
        """All else is the transport's own."""
        return getattr(self._transport, name)


class Protocol(HttpToolsProtocol):
    """One connection of a client, which may send requests before it has the answers to the earlier ones.

    uvicorn's keep-alive timer, which it starts after an answer, is started with the connection here, and runs
    until the next request's head is complete: who sends nothing, or half a head, is closed as well.
    """

    # Seconds that a request's body may take to arrive after its head, and a client to make room for more of an answer.
    body_timeout = 10.0
    reader_timeout = 30.0
    # Connections that a process serves. Of more, it asks them to come back later; more than twice as many wait outside.
    most_connections = 10_000
    # All connections of this process.
    _open: ClassVar[set["Protocol"]] = set()

    _body_timer: asyncio.TimerHandle | None = None
    _reader_timer: asyncio.TimerHandle | None = None
    # How many are not read for now, because they are to come back later.
    _away: ClassVar[int] = 0
    # For how many seconds this one is not, once its request is answered.
    _pause = 0
    _upgrading = False
    _in_head = True
    # Bytes that have arrived since the last part of a body: of a head, of the lines between chunks, of a trailer.
    _overhead = 0
    # What to tell a client whose request the parser gives up.
    _wrong = Refused(refusals.NOT_HTTP)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Takes a new connection."""
        super().connection_made(transport)
        self._application = self.app
        self.transport = _Transport(transport, self._start_reader_timer, self._begin_answer)  # type: ignore[assignment]
        self._open.add(self)
        # Whether it came when there were as many as are served; those who were there before it still are.
        self._late = len(self._open) > self.most_connections
        # Requests whose heads are complete, and whose answers are not; all but the first one wait in `pipeline`.
        self._unanswered: deque[RequestResponseCycle] = deque()
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets a connection."""
        super().connection_lost(exc)
        self._open.discard(self)
        self._stop_body_timer()
        self._stop_reader_timer()
        # uvicorn tells the last one alone.
        for cycle in self._unanswered:
            cycle.disconnected = True
            cycle.message_event.set()

    @classmethod
    def clients(cls) -> int:
        """How many are connected."""
        return len(cls._open)

    @classmethod
    def has_room(cls) -> bool:
        """Whether one more client may be connected."""
        return len(cls._open) < 2 * cls.most_connections

    @classmethod
    async def abort_all(cls) -> None:
        """Drops what is left when all is over: clients that do not read their answers would keep the loop open."""
        while cls._open:
            for connection in list(cls._open):
                connection.transport.abort()
            await asyncio.sleep(0)

    def on_response_complete(self) -> None:
        """Goes on to the next request."""
        self.transport.end_answer()  # type: ignore[attr-defined]
        self._unanswered.popleft()
        super().on_response_complete()
        self._start_body_timer()
        if self._pause:
            self.flow.pause_reading()
            self.loop.call_later(self._pause, self._read_on)
            self._pause = 0
            Protocol._away += 1

    def come_back_later(self) -> int:
        """Once the request is answered, reads nothing from this client for as many seconds as this returns.

        It is to be told them (Retry-After). Those who ask again at once, however cheap it is to refuse them, would take
        the time of those who are served.
        """
        self._pause = 1 + self._away // _RETURNING
        return self._pause

    def _read_on(self) -> None:
        Protocol._away -= 1
        if not self.transport.is_closing():
            self.flow.resume_reading()

    def pause_writing(self) -> None:
        """Begins to wait for a client that does not read its answers."""
        super().pause_writing()
        self._start_reader_timer()

    def resume_writing(self) -> None:
        """Goes on with a client that reads again."""
        super().resume_writing()
        self._stop_reader_timer()

    def _start_reader_timer(self) -> None:
        self._stop_reader_timer()
        self._reader_timer = self.loop.call_later(self.reader_timeout, self._give_up_reader)

    def _stop_reader_timer(self) -> None:
        if self._reader_timer is not None:
            self._reader_timer.cancel()
            self._reader_timer = None

    def _give_up_reader(self) -> None:
        if self._unanswered:
            scope = self._unanswered[0].scope
            logger.warning("%s %s was cut off: its reader is too slow", scope["method"], scope["path"])
        self.transport.cut_off()  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        """Reads what has arrived, be it a part of a request or several of them."""
        self._overhead += len(data)
        while data:
            try:
                self.parser.feed_data(data)
                data = b""
            except httptools.HttpParserUpgrade as upgrade:
                if self.parser.get_method() == b"CONNECT":
                    self._refuse(Refused(refusals.NO_PROXY))
                    return
                data = self._without_upgrade() + data[upgrade.args[0] :]
            except httptools.HttpParserError:
                self._refuse(self._wrong)
                return
        if self._overhead > _HEAD_LIMIT:
            self._refuse(_head_too_large())
        elif not self._in_head:
            self._start_body_timer()

    def on_headers_complete(self) -> None:
        """Begins to answer a request, whose body may still be under way."""
        if self._overhead > _HEAD_LIMIT and self._head_size() > _HEAD_LIMIT:
            self._wrong = _head_too_large()
            raise ValueError(self._wrong)  # which stops the parser
        self._upgrading = self.parser.should_upgrade()
        if not self._upgrading:
            self._unset_keepalive_if_required()
            self.app = self._application
            self._late = self._late and len(self._open) > self.most_connections
            if self._late and self.url not in ALWAYS:
                wait = self.come_back_later()
                self.app = Observer(errors.crowded(self.scope, wait, refusals.TOO_MANY_CLIENTS))  # type: ignore[arg-type]
            self.scope["abort"] = self.transport.cut_off  # type: ignore[attr-defined, typeddict-unknown-key]
            self.scope["come_back_later"] = self.come_back_later  # type: ignore[typeddict-unknown-key]
            super().on_headers_complete()
            self._unanswered.append(self.cycle)
            self._in_head = False
            self.headers = []  # a trailer's fields are none of the request's

    def on_body(self, body: bytes) -> None:
        """Takes a part of a request's body."""
        self._overhead = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Notes the end of a request's body."""
        self._in_head = True
        self._overhead = 0
        self._stop_body_timer()
        if not self._upgrading:
            super().on_message_complete()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Answers a client that has sent its requests and closes its side, as one may."""
        return self._ends_after_answers()

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def _without_upgrade(self) -> bytes:
        """The head of a request that asks for an upgrade, without the question, for a new parser.

        The old one takes what follows such a head for the other protocol, and not for the body.
        """
        version = self.parser.get_http_version()
        lines = [self.parser.get_method() + b" " + self.url + b" HTTP/" + version.encode()]
        lines += [name + b": " + value for name, value in self.headers if name not in _UPGRADE_HEADERS]
        if not self.parser.should_keep_alive():
            lines.append(b"connection: close")
        self.parser = httptools.HttpRequestParser(self)
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def _start_timer(self) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def _start_body_timer(self) -> None:
        """Begins to wait for a body; not while it is not read yet, because answers to earlier requests come first."""
        if not self._in_head and self._body_timer is None and len(self._unanswered) <= 1:
            self._body_timer = self.loop.call_later(self.body_timeout, self._give_up_body)

    def _stop_body_timer(self) -> None:
        if self._body_timer is not None:
            self._body_timer.cancel()
            self._body_timer = None

    def _give_up_body(self) -> None:
        self._refuse(Refused(refusals.BODY_LATE, seconds=self.body_timeout))

    def _ends_after_answers(self) -> bool:
        """If there are answers to requests that have come in full, makes the last of them the connection's end."""
        if self._unanswered and not self._in_head and self._unanswered[-1].more_body:
            broken = self._unanswered[-1]
            if len(self._unanswered) == 1:
                return False
            self._unanswered.pop()
            self.pipeline.remove(next(entry for entry in self.pipeline if entry[0] is broken))
            self.cycle = self._unanswered[-1]
        if self._unanswered:
            self._unanswered[-1].keep_alive = False
            self.flow.pause_reading()
        return bool(self._unanswered)

    def _refuse(self, refused: Refused) -> None:
        if self._ends_after_answers():
            return  # it would be taken for the answer to an earlier request
        if not self._in_head and not self._unanswered:
            self.transport.close()  # the request was answered without its body
            return
        refused.headers = {"Connection": "close"}
        scope = self._unanswered[0].scope if self._unanswered else None
        response = errors.refused(scope, refused)  # type: ignore[arg-type]
        status = response.status_code
        head = [f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}".encode()]
        head += [name + b": " + value for name, value in [*self.server_state.default_headers, *response.raw_headers]]
        self.transport.write(b"\r\n".join(head) + b"\r\n\r\n" + bytes(response.body))
        self.transport.close()

    def _begin_answer(self, answer: bytes) -> bytes:
        """Notes the status of an answer, and adds the request's id: here, it costs a fraction of a header's check."""
        if self._unanswered:
            record = record_in(self._unanswered[0].scope)  # type: ignore[arg-type]
            # of what was refused here, its handler's answer is heard by nobody
            record.status = record.status or int(answer[9:12])
        else:  # it is for what never became a request
            record = Record(request_id(self.headers or ()), self.client[0] if self.client else "")
            record.status = int(answer[9:12])
            end(record)
        return answer.replace(b"\r\n", b"\r\nx-request-id: %b\r\n" % record.id.encode(), 1)
