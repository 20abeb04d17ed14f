"""An event loop that accepts many connections per iteration.

uvloop accepts one per iteration (libuv since 1.45). An iteration under load takes about 50 ms, so a busy service would
accept only 20 clients a second, including the load balancer and /livez probes.
"""

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Any

import uvloop

from wallet_api.serving.protocol import Protocol

logger = logging.getLogger(__name__)

# Connections accepted per iteration. The limit keeps a burst from delaying connected clients.
_MOST_A_TURN = 100
# Seconds to stop accepting when there is no room.
_PAUSE = 0.5


class Loop(uvloop.Loop):
    """uvloop's event loop. Its servers listen on one socket and accept many connections per iteration."""

    async def create_server(  # type: ignore[override]
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], *, sock: socket.socket, backlog: int, **_: Any
    ) -> "_Server":
        """Starts to listen on `sock`. The returned server has only the methods that uvicorn calls."""
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
        loop.add_reader(listener, self._accept)

    def close(self) -> None:
        """Stops accepting connections."""
        Protocol.stopping = True
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._listener)

    async def wait_closed(self) -> None:
        """Waits for connections that are being set up."""
        await asyncio.gather(*self._newcomers, return_exceptions=True)

    def _accept(self) -> None:
        try:
            for _ in range(_MOST_A_TURN):
                if not Protocol.has_room():
                    raise OSError("the connection limit is reached")
                client, _ = self._listener.accept()
                task = self._loop.create_task(self._loop.connect_accepted_socket(self._factory, client))
                self._newcomers.add(task)
                task.add_done_callback(self._newcomers.discard)
        except (BlockingIOError, ConnectionAbortedError):
            pass  # the loop calls again for the next one
        except OSError as error:
            logger.warning("No room for more clients at the moment: %s", error)
            self._loop.remove_reader(self._listener)
            self._pause = self._loop.call_later(_PAUSE, self._loop.add_reader, self._listener, self._accept)
