"""Connections to PostgreSQL, as the role that may call functions and nothing else, and the call of one."""

import asyncio
import logging
import random
import select
from collections.abc import AsyncGenerator, Callable, Sequence
from time import perf_counter
from typing import Any, NamedTuple, Self
from weakref import WeakSet

import psycopg
import psycopg_pool
from psycopg import AsyncConnection, AsyncCursor, adapters
from psycopg.adapt import AdaptersMap
from psycopg.pq import TransactionStatus
from psycopg.types.numeric import Int8
from psycopg.types.string import TextLoader
from psycopg_pool import AsyncConnectionPool

from wallet_api.database import session
from wallet_api.database.rows import Rows
from wallet_api.database.session import GRACE
from wallet_api.observability import metrics
from wallet_api.observability.record import Record
from wallet_api.settings import Settings

logger = logging.getLogger(__name__)

# Rows of a page: as many as there may be, and few enough that nobody waits for one to be written.
_PAGE = 1000

# What finds out that a server has vanished without a word: within half a minute, where the system supports it.
_TCP = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 25_000}


# Begins a transaction that sees all of one moment.
_BEGIN_READING = "begin isolation level repeatable read"
# What reports, by a mere warning, that a commit did not wait for the standby that it should have been safe on.
_UNSAFE_COMMIT = "SyncRepWaitForLSN"


class ConnectionLost(Exception):
    """The connection broke between a call and its answer: nobody here knows whether it took effect, or will last."""


class _WireContext:
    """Values come from the database as text: see database.rows."""

    def __init__(self) -> None:
        self.adapters = AdaptersMap(adapters)
        for type_name in ("int8", "numeric", "timestamptz"):
            self.adapters.register_loader(type_name, TextLoader)
        self.connection = None


# The session does not have a statement that was prepared, or a plan no longer fits: nothing was done.
_Unprepared = (psycopg.errors.FeatureNotSupported, psycopg.errors.InvalidSqlStatementName)


class _Connection(AsyncConnection[Any]):
    """A connection that remembers that a commit on it was not as safe as it should be.

    Where its transactions share sessions with those of others, `local_settings` come first in each.
    """

    unsafe = False
    shared = False
    local_settings = ""
    server_pid = 0

    async def begin_session(self, settings: Settings) -> None:
        """Finds out what stands between, and sets what calls need."""
        self.add_notice_handler(self._note)
        # No two connections give a statement the same name: where a pooler mixes sessions up after all, a statement is
        # missing, and never another one. psycopg has no other way to name them.
        self._prepared._prepared_idx = random.getrandbits(60)
        values = await session.values_for(self, settings)
        self.shared = await session.is_shared(self, self._connect_once_more)
        if self.shared:
            self.local_settings = session.setting_query(values, local=True).as_string(self)
        else:
            await self.execute(session.setting_query(values, local=False), prepare=False)
            self.server_pid = await session.server_pid(self)

    async def run(self, query: str, arguments: Sequence[object] = ()) -> AsyncCursor[Any]:
        """Runs a query, in a transaction of its own or in the one that has begun."""
        if not self.shared:
            return await self.execute(query, arguments, prepare=True)
        if query == _BEGIN_READING:
            return await self._begin(query)
        if self.pgconn.transaction_status != TransactionStatus.IDLE:
            return await self.execute(query, arguments, prepare=False)
        try:
            async with self.pipeline():
                await self._begin("begin isolation level read committed")
                cursor = await self.execute(query, arguments, prepare=False)
                await self.execute("commit", prepare=False)
        except psycopg.Error:
            if not self.closed:
                await self.rollback()
            raise
        return cursor

    async def _begin(self, statement: str) -> AsyncCursor[Any]:
        """Begins a transaction, in a session that is shared, with the settings of this connection."""
        cursor = await self.execute(statement, prepare=False)
        await self.execute(self.local_settings, prepare=False)
        return cursor

    async def _connect_once_more(self) -> AsyncConnection[Any]:
        return await AsyncConnection.connect(
            self.info.dsn, password=self.info.password, connect_timeout=10, autocommit=True
        )

    def _note(self, notice: psycopg.errors.Diagnostic) -> None:
        if notice.source_function == _UNSAFE_COMMIT:
            self.unsafe = True


class Usage(NamedTuple):
    """How many connections are used and idle, and how many requests wait for one."""

    used: int
    idle: int
    waiting: int


class Database:
    """A pool of connections, called `name`. Within `async with`, it can `call` functions."""

    def __init__(self, name: str, conninfo: Callable[[], str], settings: Settings) -> None:
        self.name = name
        self._settings = settings
        self._connected = 0
        self._connections: WeakSet[_Connection] = WeakSet()
        self._pool = AsyncConnectionPool(
            conninfo,
            connection_class=_Connection,
            kwargs={
                "autocommit": True,
                **_TCP,
                "connect_timeout": settings.connect_timeout,
                "client_encoding": "utf8",
                "application_name": "wallet",
                "context": _WireContext(),
            },
            min_size=settings.pool_size,
            max_waiting=settings.pool_waiting,
            timeout=settings.pool_timeout,
            # After this many seconds a slot that cannot connect is given up; the next request tries again.
            reconnect_timeout=5,
            configure=self._configure,
            open=False,
            name=name,
        )

    async def __aenter__(self) -> Self:
        """Begins to connect, and does not wait for it."""
        await self._pool.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Ends all connections."""
        await self._pool.close()

    async def call(self, query: str, arguments: Sequence[object] = (), record: Record | None = None) -> Rows:
        """Runs a query that calls one function, in a transaction of its own, and returns its rows.

        Raises psycopg.Error with the function's SQLSTATE, ConnectionLost, or what the pool raises when it
        has no connection to give. Notes in the `record` of a request how long it waited, and for what.
        """
        for _ in range(self._settings.pool_size + 1):
            connection = await self._connection_for(record)
            try:
                return await self._run(connection, query, arguments, record)
            except _Unprepared as error:
                # The function's columns have changed since this connection prepared its call, or a pooler has mixed
                # sessions up: a new connection will see it.
                logger.warning("A call is made again on a new connection: %s", error)
                metrics.retries.labels(error.sqlstate).inc()
                await connection.close()
            except psycopg.errors.ReadOnlySqlTransaction:
                # It was another kind of server when it was dialled, or will be; a new connection may find a better one.
                await connection.close()
                raise
            finally:
                await self._put_back(connection)
        raise psycopg.errors.FeatureNotSupported("on every connection of the pool")

    def usage(self) -> Usage:
        """What the pool is doing at the moment."""
        stats = self._pool.get_stats()
        idle = stats["pool_available"]
        return Usage(stats["pool_size"] - idle, idle, stats.get("requests_waiting", 0))

    async def renew(self) -> None:
        """Replaces all connections by new ones: to another server perhaps, where DATABASE_URL names several."""
        await self._pool.drain()

    async def is_usable(self, seconds: float) -> bool:
        """Whether there is a connection, or one can be made within so many seconds."""
        if any(not connection.closed for connection in self._connections):
            return True
        try:
            await self._put_back(await self._pool.getconn(seconds))
        except (psycopg_pool.PoolTimeout, psycopg_pool.TooManyRequests, psycopg_pool.PoolClosed):
            return False
        return True

    def is_of(self, server_pid: int) -> bool:
        """Whether this process of the server belongs to one of the connections, or to a pooler that shares them."""
        return any(connection.shared or connection.server_pid == server_pid for connection in self._connections)

    async def pages(self, query: str, arguments: Sequence[object], record: Record) -> AsyncGenerator[Rows]:
        """Runs a query whose first two arguments are the id after which a page begins, and how many rows it may have.

        Yields all pages, all of one moment; at least one, and any of them may be empty. The columns are those that
        Rows.page wants. Holds a connection until it is closed. Raises, and notes, what `call` does.
        """
        begin, _, *others = arguments
        connection = await self._connection_for(record)
        page: asyncio.Task[Rows] | None = None
        try:
            await self._run(connection, _BEGIN_READING)
            page = asyncio.create_task(self._run(connection, query, [begin, _PAGE, *others], record))
            while page is not None:
                rows = (await page).page()
                page = None
                if rows.goes_on is not None:
                    following = [Int8(int(rows.goes_on)), _PAGE, *others]
                    page = asyncio.create_task(self._run(connection, query, following, record))
                    await asyncio.sleep(0)  # lets it ask for the next page, to be made while this one is written
                yield rows
        except _Unprepared:
            await connection.close()  # as in `call`; but part of the list may be written already
            raise
        finally:
            if page is not None:
                page.cancel()
                await asyncio.gather(page, return_exceptions=True)
            try:
                await connection.rollback()
            except psycopg.Error:
                await connection.close()
            await self._put_back(connection)

    async def _run(
        self, connection: _Connection, query: str, arguments: Sequence[object] = (), record: Record | None = None
    ) -> Rows:
        began = perf_counter()
        try:
            async with asyncio.timeout(self._settings.statement_timeout + GRACE):
                cursor = await connection.run(query, arguments)
                columns = _columns(cursor)
                rows = Rows(columns, await cursor.fetchall() if columns else [])
        except TimeoutError:
            # The server keeps statement_timeout itself, so it must be out of reach.
            await connection.close()
            raise ConnectionLost("no answer in time") from None
        except psycopg.OperationalError as error:
            if connection.closed:
                raise ConnectionLost(str(error)) from error
            raise
        finally:
            ended = perf_counter()
            function = metrics.observe_call(query, ended - began)
            if record is not None:
                record.database += ended - began
                record.add_step(function or query, began, ended)
        if connection.unsafe:
            await connection.close()
            raise ConnectionLost("the commit stopped waiting for the standby")
        return rows

    async def _connection_for(self, record: Record | None) -> _Connection:
        began = perf_counter()
        try:
            return await self._connection()
        finally:
            ended = perf_counter()
            if record is not None:
                record.waited += ended - began
                record.add_step("wait for a connection", began, ended)

    async def _connection(self) -> _Connection:
        while True:
            connection = await self._pool.getconn()
            if not _has_news(connection):
                return connection
            # Closed ones are replaced by the pool. It would find out by itself, but only by failing a request.
            await connection.close()
            await self._pool.putconn(connection)

    async def _put_back(self, connection: _Connection) -> None:
        await self._pool.putconn(connection)

    async def _configure(self, connection: _Connection) -> None:
        await connection.begin_session(self._settings)
        self._connections.add(connection)
        self._connected += 1
        if self._connected > self._settings.pool_size:
            logger.info("Connected to the database again, for %s", self.name)


class Line(Database):
    """A database with one connection, for calls one after another: it is kept at hand between them."""

    _kept: _Connection | None = None

    async def __aexit__(self, *error: object) -> None:
        """Ends the connection."""
        if self._kept is not None:
            await super()._put_back(self._kept)
        await super().__aexit__(*error)

    def usage(self) -> Usage:
        """What the connection is doing at the moment."""
        used, idle, waiting = super().usage()
        kept = self._kept is not None
        return Usage(used - kept, idle + kept, waiting)

    async def renew(self) -> None:
        """Replaces the connection by a new one."""
        connection, self._kept = self._kept, None
        if connection is not None:
            await super()._put_back(connection)
        await super().renew()

    async def _connection(self) -> _Connection:
        connection, self._kept = self._kept, None
        if connection is None:
            return await super()._connection()
        if _has_news(connection):
            await connection.close()
            await super()._put_back(connection)
            return await super()._connection()
        return connection

    async def _put_back(self, connection: _Connection) -> None:
        if connection.pgconn.transaction_status == TransactionStatus.IDLE:
            self._kept = connection
        else:
            await super()._put_back(connection)


def _columns(cursor: AsyncCursor[Any]) -> tuple[tuple[str, int], ...]:
    """The names and types of a result's columns, without all else that cursor.description would find out."""
    result = cursor.pgresult
    assert result is not None
    return tuple([((result.fname(n) or b"").decode(), result.ftype(n)) for n in range(result.nfields)])


def _has_news(connection: _Connection) -> bool:
    """Whether an idle connection has something to read: a server's farewell, in all likelihood, or its end."""
    if connection.closed:
        return True
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))
