"""A proxy between service and database that does one awkward thing to a call that makes payments.

It reads PostgreSQL's protocol, as far as it takes to know where such a call begins and where its answer ends: a
call is a statement of make_payments, with a name or without, that is bound and executed, and all that is sent with it;
an answer ends when the database is ready for the next call, and so has committed.
"""

import asyncio
import contextlib
import enum
import threading
from asyncio import StreamReader, StreamWriter
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Self

from psycopg.conninfo import conninfo_to_dict, make_conninfo

# Seconds that a call is late, and then its answer.
_LATE = 0.5


class Fault(enum.Enum):
    """What happens to a call."""

    CUT_BEFORE_CALL = "the connection is cut before the call reaches the database"
    CUT_IN_CALL = "the connection is cut when the database has the first half of the call"
    LATE_CALL = "the connection is cut for the service, and the call reaches the database later"
    CUT_BEFORE_ANSWER = "the connection is cut when the database has committed, and nothing of its answer came back"
    CUT_IN_ANSWER = "the connection is cut in the middle of the answer"
    CUT_AT_THE_END = "the connection is cut before the last byte of the answer"
    HALF_CLOSE_TO_SERVICE = "the database's side of the connection ends while the call is under way"
    HALF_CLOSE_TO_DATABASE = "the service's side of the connection ends while the call is under way"
    SILENCE = "the answer never comes, and the connection stays"
    STALL = "call and answer are late"


# Those after which the database has made the payments, and those after which it has not. After the others the
# service has the answer; or the database gave the call up, because it saw within a second that no client waits.
MADE = [
    Fault.LATE_CALL,
    Fault.CUT_BEFORE_ANSWER,
    Fault.CUT_IN_ANSWER,
    Fault.CUT_AT_THE_END,
    Fault.HALF_CLOSE_TO_SERVICE,
]
NOT_MADE = [Fault.CUT_BEFORE_CALL, Fault.CUT_IN_CALL]
HARMLESS = [Fault.HALF_CLOSE_TO_DATABASE, Fault.STALL]


class Proxy:
    """Within `with`, it listens on a port of this machine, and passes on to the database what comes.

    What happens to calls is told by `strike`. `struck` counts what has happened, to its end: the database has answered
    the call or given it up, if it got it, and where the connection is lost, both sides can know.
    """

    def __init__(self, database: str) -> None:
        self.calls = 0
        self.struck: Counter[Fault] = Counter()
        self._begun: Counter[Fault] = Counter()
        self._database = conninfo_to_dict(database)
        self._conninfo = database
        self._faults: Iterator[Fault | None] = iter(())
        self._links: set[asyncio.Task[None]] = set()
        self._listening: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, int]] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        loop, stop, _port = self._listening.result()
        loop.call_soon_threadsafe(stop.set)
        self._thread.join()

    @property
    def url(self) -> str:
        """A connection string for the database, through the proxy."""
        *_, port = self._listening.result()
        plain = {"sslmode": "disable", "gssencmode": "disable"}
        return make_conninfo(self._conninfo, host="127.0.0.1", port=port, **plain)

    def strike(self, *faults: Fault | None) -> None:
        """Each of the next calls gets one of these."""
        self.strike_on(faults)

    def strike_on(self, faults: Iterable[Fault | None]) -> None:
        """The same, with any number of them."""
        self._faults = iter(faults)

    @property
    def settled(self) -> bool:
        """Whether all that has begun to happen has happened."""
        return self.struck == self._begun

    def next_fault(self) -> Fault | None:
        """What happens to the call that has come now."""
        self.calls += 1
        fault = next(self._faults, None)
        if fault is not None:
            self._begun[fault] += 1
        return fault

    async def _run(self) -> None:
        try:
            server = await asyncio.start_server(self._pass_on, "127.0.0.1", 0)
        except OSError as error:
            self._listening.set_exception(error)
            return
        async with server:
            stop = asyncio.Event()
            self._listening.set_result((asyncio.get_running_loop(), stop, server.sockets[0].getsockname()[1]))
            await stop.wait()
        for link in self._links:
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)

    async def _pass_on(self, reader: StreamReader, writer: StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        service = _Peer(reader, writer)
        struck: list[Fault] = []
        try:
            # What ends badly on either side ends on the other; a proxy reports to no client.
            with contextlib.suppress(OSError, EOFError, asyncio.CancelledError):
                database = _Peer(*await self._connect())
                try:
                    await _Link(self, service, database, struck).run()
                finally:
                    await database.close()
        finally:
            await service.close()
            self.struck.update(struck)
            self._links.discard(task)

    async def _connect(self) -> tuple[StreamReader, StreamWriter]:
        host, port = str(self._database["host"]), str(self._database["port"])
        if host.startswith("/"):
            return await asyncio.open_unix_connection(Path(host) / f".s.PGSQL.{port}")
        return await asyncio.open_connection(host, int(port))


class _Peer:
    """One of the two, as messages of PostgreSQL's protocol."""

    def __init__(self, reader: StreamReader, writer: StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self, *, kind: bool = True) -> bytes:
        """The next message; the first one of a connection has no kind. Raises EOFError."""
        head = await self._reader.readexactly(5 if kind else 4)
        return head + await self._reader.readexactly(int.from_bytes(head[-4:]) - 4)

    async def read_to(self, kind: bytes) -> bytes:
        """All messages up to the next one of this kind."""
        messages = b""
        last = b""
        while last[:1] != kind:
            last = await self.read()
            messages += last
        return messages

    def write(self, messages: bytes) -> None:
        self._writer.write(messages)

    def half_close(self) -> None:
        self._writer.write_eof()

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await self._writer.wait_closed()


class _Link:
    """A connection of the service, and the one to the database that goes with it."""

    def __init__(self, proxy: Proxy, service: _Peer, database: _Peer, struck: list[Fault]) -> None:
        self._proxy = proxy
        self._struck = struck  # what counts when this has ended
        self._service = service
        self._database = database
        self._payment_statements: set[bytes] = set()
        self._fault: Fault | None = None  # until it has struck

    async def run(self) -> None:
        """Until one of the two hangs up. But what the database has begun, it finishes first."""
        requests, answers = asyncio.create_task(self._pass_requests()), asyncio.create_task(self._pass_answers())
        try:
            await asyncio.wait([requests, answers], return_when=asyncio.FIRST_COMPLETED)
            if self._fault is not None:
                with contextlib.suppress(EOFError):
                    await answers
            if self._fault is not None:  # the database has given the call up
                self._has_struck()
        finally:
            requests.cancel()
            answers.cancel()
            await asyncio.gather(requests, answers, return_exceptions=True)

    async def _pass_requests(self) -> None:
        self._database.write(await self._service.read(kind=False))
        while True:
            message = await self._service.read()
            if self._begins_call(message):
                call = message + await self._service.read_to(b"S")
                self._fault = self._proxy.next_fault()
                if self._fault in NOT_MADE:
                    self._database.write(call[: len(call) // 2 if self._fault is Fault.CUT_IN_CALL else 0])
                    self._has_struck()
                    return
                await self._pass_call(call)
            else:
                self._database.write(message)

    def _begins_call(self, message: bytes) -> bool:
        """Whether it binds a statement of make_payments: a call. Remembers one that is prepared."""
        kind, content = message[:1], message[5:]
        if kind == b"P":
            name, query, _ = content.split(b"\0", 2)
            if b"make_payments" in query:
                self._payment_statements.add(name)
            else:
                self._payment_statements.discard(name)
        return kind == b"B" and content.split(b"\0", 2)[1] in self._payment_statements

    async def _pass_call(self, call: bytes) -> None:
        if self._fault is Fault.LATE_CALL:
            await self._service.close()
        if self._fault in (Fault.LATE_CALL, Fault.STALL):
            await asyncio.sleep(_LATE)
        if self._fault is Fault.HALF_CLOSE_TO_SERVICE:
            self._service.half_close()
        self._database.write(call)
        if self._fault is Fault.HALF_CLOSE_TO_DATABASE:
            self._database.half_close()

    async def _pass_answers(self) -> None:
        while True:
            message = await self._database.read()
            if self._fault is None:
                self._service.write(message)
                continue
            answer = message if message[:1] == b"Z" else message + await self._database.read_to(b"Z")
            if await self._pass_part(answer, self._fault):
                self._has_struck()
                return
            self._has_struck()

    async def _pass_part(self, answer: bytes, fault: Fault) -> bool:
        """Passes on what the fault leaves of an answer; returns whether it is the last one."""
        if fault is Fault.CUT_IN_ANSWER:
            self._service.write(answer[: len(answer) // 2])
        elif fault is Fault.CUT_AT_THE_END:
            self._service.write(answer[:-1])
        elif fault in HARMLESS:
            await asyncio.sleep(_LATE if fault is Fault.STALL else 0)
            self._service.write(answer)
        return fault in MADE

    def _has_struck(self) -> None:
        assert self._fault is not None
        if self._fault is Fault.STALL:
            self._proxy.struck[self._fault] += 1
        else:
            self._struck.append(self._fault)
        self._fault = None
