"""The private parts of uvicorn and httptools that wallet_api.serving relies on, one by one: an upgrade may move them."""

import asyncio
import signal
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import httptools
import pytest
import uvicorn
from uvicorn.protocols.http import httptools_impl
from uvicorn.server import ServerState
from uvicorn.supervisors import Multiprocess

GET = b"GET /a%20path?query HTTP/1.1\r\nHost: localhost\r\nX-Mixed: Case\r\n\r\n"
POST = b"POST /path HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\n"
EXPECTING = POST.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n")
CLOSING = GET.replace(b"Host", b"Connection: close\r\nHost")

Message = MutableMapping[str, Any]
App = Callable[..., Awaitable[None]]


class Transport(asyncio.Transport):
    """Keeps what is written, and whether reading is paused and the connection closed."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.reading = True
        self.closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def close(self) -> None:
        self.closing = True

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


async def answering(scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[..., Any]) -> None:
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"{}"})


class Protocol(httptools_impl.HttpToolsProtocol):
    """uvicorn's protocol on a transport of ours, which notes the callbacks."""

    def __init__(self, app: App = answering) -> None:
        config = uvicorn.Config(app, ws="none", log_config=None, access_log=False, timeout_keep_alive=7)
        super().__init__(config, ServerState(), {})
        self.ours = Transport()
        self.completed: list[bool] = []
        self.connection_made(self.ours)

    def on_response_complete(self) -> None:
        self.completed.append(self.ours.closing)
        super().on_response_complete()


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(20):
            await test()

    asyncio.run(limited())


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_a_connection_has_its_transport_flow_and_client() -> None:
    async def test() -> None:
        protocol = Protocol()
        assert protocol.transport is protocol.ours, (
            "connection_made() no longer sets transport, which Protocol replaces"
        )
        assert protocol.flow is not None, "connection_made() no longer sets flow, which Protocol._read_on needs"
        assert hasattr(protocol, "client"), "connection_made() no longer sets client, which Protocol._refuse records"

    run(test)


def test_a_later_transport_carries_the_answers() -> None:
    async def test() -> None:
        protocol = Protocol()
        protocol.transport = later = Transport()
        protocol.data_received(GET)
        await settle()
        assert later.written, "An answer no longer goes to a transport that was replaced: _Transport sees none"
        assert protocol.ours.written == [], "An answer bypasses the transport that was replaced: _Transport misses it"

    run(test)


def test_a_later_client_is_that_of_each_request() -> None:
    async def test() -> None:
        protocol = Protocol()
        protocol.client = ("192.0.2.1", 7)
        protocol.data_received(GET)
        moved = "A client that was replaced is not in the scope: Protocol.connection_made leaves IPv4 written as IPv6"
        assert protocol.scope["client"] == ("192.0.2.1", 7), moved
        await settle()

    run(test)


def test_the_head_of_an_answer_is_one_write_and_its_body_follows() -> None:
    async def test() -> None:
        protocol = Protocol()
        protocol.data_received(GET)
        await settle()
        head, *body = protocol.ours.written
        moved = "An answer's head is no longer one write before its body: _Transport.write joins the wrong parts"
        assert (head[:9], head[-4:], body) == (b"HTTP/1.1 ", b"\r\n\r\n", [b"{}"]), moved

    run(test)


def test_100_continue_is_a_write_of_its_own() -> None:
    async def test() -> None:
        protocol = Protocol()
        protocol.data_received(EXPECTING)
        await settle()
        expected = [b"HTTP/1.1 100 Continue\r\n\r\n"]
        assert protocol.ours.written == expected, "100 Continue has other bytes: _Transport.write takes it for a head"

    run(test)


def test_a_request_has_its_scope_headers_and_url() -> None:
    async def test() -> None:
        protocol = Protocol()
        protocol.data_received(GET)
        moved = "scope['headers'] is no longer the list headers: Protocol.on_headers_complete lets trailers into it"
        assert protocol.scope["headers"] is protocol.headers, moved
        moved = "on_header() keeps the case of names: Protocol._without_upgrade finds no header to remove"
        assert (b"x-mixed", b"Case") in protocol.headers, moved
        moved = "url is no longer the raw request target, which Protocol._without_upgrade repeats"
        assert protocol.url == b"/a%20path?query", moved
        moved = "on_headers_complete() no longer sets cycle and its scope, which Protocol.on_headers_complete keeps"
        assert protocol.cycle.scope is protocol.scope, moved
        await settle()

    run(test)


def test_a_request_says_whether_its_body_is_complete() -> None:
    async def test() -> None:
        protocol = Protocol()
        complete = []
        for part in (POST + b"12", b"34"):
            protocol.data_received(part)
            complete.append(not protocol.cycle.more_body)
        moved = "more_body no longer says if a body is incomplete: Protocol.eof_received drops the wrong request"
        assert complete == [False, True], moved
        await settle()

    run(test)


def test_requests_that_wait_are_answered_in_order() -> None:
    async def test() -> None:
        protocol = Protocol()
        protocol.data_received(GET)
        first = protocol.cycle
        protocol.data_received(GET)
        moved = "A request that waits no longer has a cycle of its own: Protocol._unanswered counts too few"
        assert protocol.cycle is not first, moved
        await settle()
        assert len(protocol.completed) == 2, "A request that waits is not answered, or completes unnoticed"

    run(test)


def test_requests_that_wait_do_not_start_on_a_connection_that_closes() -> None:
    async def test() -> None:
        protocol = Protocol()
        protocol.data_received(GET)
        first = protocol.cycle
        protocol.data_received(POST)
        first.keep_alive = False
        await settle()
        moved = "A request starts after the last answer: Protocol.eof_received leaves one that never ends"
        assert (len(protocol.completed), protocol.tasks) == (1, set()), moved

    run(test)


def test_the_last_answer_is_complete_after_close() -> None:
    async def test() -> None:
        protocol = Protocol()
        protocol.data_received(CLOSING)
        await settle()
        moved = (
            "on_response_complete() does not follow close(): Protocol.on_response_complete reads a closed connection"
        )
        assert protocol.completed == [True], moved

    run(test)


def test_keep_alive_false_closes_after_the_answer() -> None:
    async def test() -> None:
        protocol = Protocol()
        protocol.data_received(GET)
        protocol.cycle.keep_alive = False
        await settle()
        moved = "keep_alive = False no longer closes: Protocol.eof_received leaves connections open"
        assert protocol.ours.closing, moved

    run(test)


def test_a_disconnected_request_is_told_and_sends_nothing() -> None:
    async def test() -> None:
        told: list[str] = []

        async def app(scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[..., Any]) -> None:
            told.append((await receive())["type"])
            await send({"type": "http.response.start", "status": 200, "headers": []})

        protocol = Protocol(app)
        protocol.data_received(POST)
        await settle()
        protocol.cycle.disconnected = True
        protocol.cycle.message_event.set()
        await settle()
        moved = "disconnected and message_event no longer end a request: Protocol._abandon_requests leaves it waiting"
        assert told == ["http.disconnect"], moved
        assert protocol.ours.written == [], "A disconnected request still sends: Protocol._refuse answers twice"

    run(test)


def test_a_lost_connection_is_told_to_the_last_request() -> None:
    async def test() -> None:
        protocol = Protocol()
        protocol.data_received(POST)
        protocol.connection_lost(None)
        assert protocol.cycle.disconnected, "connection_lost() no longer marks cycle, the last request"
        await settle()

    run(test)


def test_reading_may_be_paused_and_resumed_twice() -> None:
    async def test() -> None:
        protocol = Protocol()
        for pause, reading in ((protocol.flow.pause_reading, False), (protocol.flow.resume_reading, True)):
            for _ in range(2):
                pause()
                moved = f"flow.{pause.__name__}() has another effect, which Protocol.on_response_complete relies on"
                assert protocol.ours.reading is reading, moved

    run(test)


def test_the_keep_alive_timer() -> None:
    async def test() -> None:
        protocol = Protocol()
        moved = "timeout_keep_alive is no longer the setting, with which Protocol.connection_made starts the timer"
        assert protocol.timeout_keep_alive == 7, moved
        protocol.data_received(GET)
        await settle()
        timer = protocol.timeout_keep_alive_task
        assert timer is not None, "No timer runs after an answer: Protocol leaves idle connections open"
        protocol._unset_keepalive_if_required()
        moved = (
            "_unset_keepalive_if_required() no longer stops the timer: Protocol.on_headers_complete leaves it running"
        )
        assert timer.cancelled(), moved
        assert protocol.timeout_keep_alive_task is None, moved
        protocol.timeout_keep_alive_handler()
        moved = "timeout_keep_alive_handler() no longer closes: Protocol.connection_made starts a timer without effect"
        assert protocol.ours.closing, moved

    run(test)


def test_a_parser_may_be_replaced() -> None:
    async def test() -> None:
        protocol = Protocol()
        protocol.parser = httptools.HttpRequestParser(protocol)
        protocol.data_received(GET)
        await settle()
        moved = "A request of another parser is not answered: Protocol._without_upgrade cannot replace it"
        assert protocol.ours.written, moved

    run(test)


def test_default_headers_are_sent_with_each_answer() -> None:
    async def test() -> None:
        protocol = Protocol()
        protocol.server_state.default_headers = [(b"date", b"today")]
        protocol.data_received(GET)
        await settle()
        moved = "server_state.default_headers are not sent: Protocol._refuse sends headers that other answers lack"
        assert b"\r\ndate: today\r\n" in protocol.ours.written[0], moved

    run(test)


def test_the_server_needs_little_of_the_event_loop() -> None:
    """What event_loop.Loop.create_server accepts and what its result offers is enough to start and stop."""

    class Listener:
        closed = waited = False

        def close(self) -> None:
            self.closed = True

        async def wait_closed(self) -> None:
            self.waited = True

    given: list[dict[str, Any]] = []
    made = Listener()

    async def create_server(factory: Callable[[], asyncio.BaseProtocol], **arguments: Any) -> Listener:
        given.append(arguments)
        return made

    async def test() -> None:
        asyncio.get_running_loop().create_server = create_server  # type: ignore[method-assign, assignment]
        server = uvicorn.Server(uvicorn.Config(answering, lifespan="off", log_config=None))
        server.should_exit = True  # stops as soon as it has started
        with socket.create_server(("127.0.0.1", 0)) as listener:
            await server.serve([listener])
        moved = "Server no longer calls create_server() with sock and backlog: event_loop.Loop does not fit"
        assert {"sock", "backlog"} <= given[0].keys(), moved
        moved = "Server no longer stops with close() and wait_closed(): event_loop._Server does not fit"
        assert (made.closed, made.waited) == (True, True), moved

    run(test)


def test_the_server_stops_with_shutdown_of_each_connection() -> None:
    stopped: list[asyncio.Protocol] = []

    class Stopped(Protocol):
        def shutdown(self) -> None:
            stopped.append(self)
            self.connections.discard(self)

    async def test() -> None:
        server = uvicorn.Server(uvicorn.Config(answering, lifespan="off", log_config=None))
        server.should_exit = True  # stops as soon as it has started
        protocol = Stopped()
        server.server_state.connections.add(protocol)
        protocol.connections = server.server_state.connections
        with socket.create_server(("127.0.0.1", 0)) as listener:
            await server.serve([listener])
        moved = (
            "Server no longer calls shutdown() of each connection: Protocol does not end requests that wait for events"
        )
        assert stopped == [protocol], moved

    run(test)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_the_server_handles_signals_with_handle_exit(signum: signal.Signals) -> None:
    handled: list[int] = []

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: object) -> None:
            handled.append(sig)

    with Server(uvicorn.Config(answering, log_config=None)).capture_signals():
        signal.raise_signal(signum)
    moved = "Server no longer handles signals with handle_exit(): processes._Server does not stop it gracefully"
    assert handled == [signum], moved


def test_the_supervisor_handles_signals_once_it_is_created(monkeypatch: pytest.MonkeyPatch) -> None:
    handled: list[int] = []
    monkeypatch.setattr(signal, "signal", lambda signum, _: handled.append(signum))
    Multiprocess(uvicorn.Config(answering, workers=2, log_config=None), [])
    moved = "Multiprocess no longer handles signals once created: an early one ends processes.serve at once"
    assert {signal.SIGINT, signal.SIGTERM} <= set(handled), moved


class Parsed:
    """The callbacks of httptools, by name, with their arguments."""

    def __init__(self) -> None:
        self.called: list[tuple[Any, ...]] = []
        self.error: Exception | None = None

    def on_header(self, name: bytes, value: bytes) -> None:
        self.called.append(("on_header", name, value))

    def on_headers_complete(self) -> None:
        self.called.append(("on_headers_complete",))
        if self.error is not None:
            raise self.error

    def on_message_complete(self) -> None:
        self.called.append(("on_message_complete",))


def test_an_exception_in_a_callback_stops_the_parser() -> None:
    parsed = Parsed()
    parsed.error = ValueError("stop")
    with pytest.raises(httptools.HttpParserError):
        httptools.HttpRequestParser(parsed).feed_data(GET)
    moved = "An exception no longer stops the parser: Protocol.on_headers_complete cannot refuse a large head"
    assert parsed.called[-1] == ("on_headers_complete",), moved


@pytest.mark.parametrize(
    "request_",
    [b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n", GET.replace(b"Host", b"Connection: Upgrade\r\nUpgrade: h2c\r\nHost")],
)
def test_an_upgrade_is_raised_after_the_request(request_: bytes) -> None:
    parsed = Parsed()
    parser = httptools.HttpRequestParser(parsed)
    with pytest.raises(httptools.HttpParserUpgrade):
        parser.feed_data(request_)
    moved = "An upgrade is raised before the request's callbacks: Protocol.data_received answers another request"
    assert parsed.called[-2:] == [("on_headers_complete",), ("on_message_complete",)], moved
    moved = "The parser forgets the request after an upgrade: Protocol._without_upgrade cannot repeat its head"
    assert (parser.get_method(), parser.get_http_version()) == (request_.split()[0], "1.1"), moved
    assert parser.should_keep_alive() in (True, False), moved


def test_the_fields_of_a_trailer_are_headers_to_the_parser() -> None:
    parsed = Parsed()
    head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    httptools.HttpRequestParser(parsed).feed_data(head + b"0\r\nX-Trailer: x\r\n\r\n")
    moved = "Trailers no longer go to on_header(): Protocol.on_headers_complete takes precautions that nothing needs"
    assert ("on_header", b"X-Trailer", b"x") in parsed.called, moved
