"""Connections to PostgreSQL, as the role that may call functions and nothing else, and the call of one."""

import asyncio
import select
from collections.abc import Sequence
from datetime import UTC
from typing import Any, LiteralString, Self

import psycopg
from psycopg import AsyncConnection, adapters
from psycopg.abc import AdaptContext, Buffer
from psycopg.adapt import AdaptersMap, Loader
from psycopg.types.datetime import TimestamptzLoader
from psycopg.types.string import TextLoader
from psycopg_pool import AsyncConnectionPool

from wallet_api.settings import Settings
from wallet_api.wire import WireRow

# Seconds that an answer may take on its way, after all that the server itself would allow.
_GRACE = 5

# What finds out that a server has vanished without a word: within half a minute, where the system supports it.
_TCP = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 25_000}


class ConnectionLost(Exception):
    """The connection broke between a call and its answer: nobody here knows whether it took effect."""


class _MomentLoader(Loader):
    """Reads a timestamptz as the contract writes it: RFC 3339, UTC, microseconds."""

    def __init__(self, oid: int, context: AdaptContext | None = None) -> None:
        super().__init__(oid, context)
        self._load = TimestamptzLoader(oid, context).load

    def load(self, data: Buffer) -> str:
        return self._load(data).astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


class _WireContext:
    """Values come from the database as the strings that the contract shows; it writes numbers plainly."""

    def __init__(self) -> None:
        self.adapters = AdaptersMap(adapters)
        self.adapters.register_loader("numeric", TextLoader)
        self.adapters.register_loader("timestamptz", _MomentLoader)
        self.connection = None


class Database:
    """A pool of connections. Within `async with`, it can `call` functions."""

    def __init__(self, conninfo: str, settings: Settings) -> None:
        self._settings = settings
        self._pool = AsyncConnectionPool(
            conninfo,
            kwargs={
                "autocommit": True,
                **_TCP,
                "connect_timeout": settings.connect_timeout,
                "client_encoding": "utf8",
                "application_name": "wallet",
                "row_factory": WireRow,
                "context": _WireContext(),
            },
            min_size=settings.pool_size,
            max_waiting=settings.pool_waiting,
            timeout=settings.pool_timeout,
            # After this many seconds a slot that cannot connect is given up; the next request tries again.
            reconnect_timeout=5,
            configure=self._configure,
            open=False,
            name="database",
        )

    async def __aenter__(self) -> Self:
        """Begins to connect, and does not wait for it."""
        await self._pool.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Ends all connections."""
        await self._pool.close()

    async def call(self, query: LiteralString, arguments: Sequence[object] = ()) -> list[dict[str, Any]]:
        """Runs a query that calls one function, in a transaction of its own, and returns its rows.

        Raises psycopg.Error with the function's SQLSTATE, ConnectionLost, or what the pool raises when it
        has no connection to give.
        """
        for _ in range(self._settings.pool_size + 1):
            connection = await self._connection()
            try:
                async with asyncio.timeout(self._settings.statement_timeout + _GRACE):
                    cursor = await connection.execute(query, arguments, prepare=True)
                    return await cursor.fetchall()
            except TimeoutError:
                # The server keeps statement_timeout itself, so it must be out of reach.
                await connection.close()
                raise ConnectionLost("no answer in time") from None
            except psycopg.errors.FeatureNotSupported:
                # The function's columns have changed since this connection prepared its call: nothing was done,
                # and a new connection will see the new ones.
                await connection.close()
            except psycopg.OperationalError as error:
                if connection.closed:
                    raise ConnectionLost(str(error)) from error
                raise
            finally:
                await self._pool.putconn(connection)
        raise psycopg.errors.FeatureNotSupported("on every connection of the pool")

    async def _connection(self) -> AsyncConnection[dict[str, Any]]:
        while True:
            connection = await self._pool.getconn()
            if not _has_news(connection):
                return connection
            # Closed ones are replaced by the pool. It would find out by itself, but only by failing a request.
            await connection.close()
            await self._pool.putconn(connection)

    async def _configure(self, connection: AsyncConnection[dict[str, Any]]) -> None:
        limits = (self._settings.lock_timeout, self._settings.statement_timeout)
        await connection.execute(
            """select set_config('role', 'wallet_app', false),
                      set_config('lock_timeout', %s, false),
                      set_config('statement_timeout', %s, false)""",
            [f"{seconds * 1000:.0f}ms" for seconds in limits],
        )


def _has_news(connection: AsyncConnection[Any]) -> bool:
    """Whether an idle connection has something to read: a server's farewell, in all likelihood, or its end."""
    if connection.closed:
        return True
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))
