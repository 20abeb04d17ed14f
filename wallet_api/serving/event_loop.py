"""An event loop that takes in all clients who have come, many a turn.

uvloop (libuv, since its 1.45) accepts one connection a turn of the loop. A busy turn takes some 50 ms, so a service
with much to do would let in 20 new clients a second, the load balancer and whoever asks /livez among them.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable
from typing import Any, ClassVar

import uvloop

logger = logging.getLogger(__name__)

# Clients taken in a turn, so that those who are served already are not forgotten over a crowd.
_MOST_A_TURN = 100
# Seconds until it looks again, where there is no room for one more.
_PAUSE = 0.5


class Loop(uvloop.Loop):
    """uvloop's event loop; its servers listen on one socket, and accept many connections a turn, while there is room.

    Whoever knows how much room there is says so in `rooms`.
    """

    rooms: ClassVar[list[Callable[[], bool]]] = []

    def has_room(self) -> bool:
        """Whether one more client may come in."""
        return all(has_room() for has_room in self.rooms)

    async def create_server(  # type: ignore[override]
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], *, sock: socket.socket, backlog: int, **_: Any
    ) -> "_Server":
        """Begins to listen, until the server is closed."""
        sock.listen(backlog)
        sock.setblocking(False)
        return _Server(self, sock, protocol_factory)


class _Server:
    def __init__(self, loop: Loop, listener: socket.socket, factory: Callable[[], asyncio.BaseProtocol]) -> None:
        self._loop = loop
        self._listener = listener
        self._factory = factory
        self._newcomers: set[asyncio.Task[Any]] = set()
        self._pause: asyncio.TimerHandle | None = None
        self._listen()

    def close(self) -> None:
        """Takes in nobody any more."""
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._listener)

    async def wait_closed(self) -> None:
        """Waits for those who were just coming in."""
        await asyncio.gather(*self._newcomers, return_exceptions=True)

    def _listen(self) -> None:
        self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        try:
            for _ in range(_MOST_A_TURN):
                if not self._loop.has_room():
                    raise OSError("as many as may be are connected")
                with contextlib.suppress(ConnectionAbortedError):
                    self._take_in(self._listener.accept()[0])
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as error:
            logger.warning("No room for more clients at the moment: %s", error)
            self._loop.remove_reader(self._listener)
            self._pause = self._loop.call_later(_PAUSE, self._listen)

    def _take_in(self, client: socket.socket) -> None:
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = self._loop.create_task(self._loop.connect_accepted_socket(self._factory, client))
        self._newcomers.add(task)
        task.add_done_callback(self._newcomers.discard)
