"""Pools of connections to PostgreSQL, as a role that may only call functions; and the call of a function."""

import asyncio
import contextlib
import logging
import random
import select
from collections.abc import AsyncGenerator, Callable, Sequence
from time import perf_counter
from typing import Any, NamedTuple, Self
from weakref import WeakSet

import psycopg
import psycopg_pool
from psycopg import AsyncConnection, AsyncCursor
from psycopg.pq import TransactionStatus
from psycopg.types.numeric import Int8
from psycopg.types.string import TextLoader
from psycopg_pool import AsyncConnectionPool

from wallet_api.database import session
from wallet_api.database.outage import Outage, primary_outage
from wallet_api.database.positions import Positions
from wallet_api.database.session import GRACE
from wallet_api.observability import metrics
from wallet_api.observability.record import Record
from wallet_api.settings import Settings

logger = logging.getLogger(__name__)

# Rows per page: the maximum that the functions allow, and few enough that writing a page delays no other request.
_PAGE = 1000

# Detect a server that has vanished without closing its connections: within half a minute, where the system supports it.
_TCP = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 25_000}

# In seconds. The pool gives up a connection that it cannot make within this time, and only a new request for one makes
# it try again. So a request for a connection is repeated as often: after a failover, it finds the new primary soon.
_RECONNECT_TIMEOUT = 1.0

# A transaction whose queries all see the same snapshot.
_BEGIN_READING = "begin isolation level repeatable read"
# The server function that warns (no more than that) that a commit did not wait for its synchronous standby.
_UNSAFE_COMMIT = "SyncRepWaitForLSN"
_POSITION = "select wallet.ledger_position(), wallet.ledger_identity()"
_POSITION_TO_REACH = "select wallet.ledger_position(p_mark => true), wallet.ledger_identity()"


class Rows(NamedTuple):
    """A function's result: `columns`, each a name and a type OID, and `values`, whose rows may be longer than that.

    Values are text as PostgreSQL writes it, in UTC. If this is a page that others follow, `next_after` is the id after
    which the next one begins; if it was read backwards, and others precede it, the id before which that one ends.
    """

    columns: tuple[tuple[str, int], ...]
    values: Sequence[tuple[Any, ...]]
    next_after: str | None = None

    def page(self, *, backward: bool = False) -> "Rows":
        """The rows as a page. The first column is the id, the last is `more`: whether there is another page.

        `backward` says that the page was read from its end, so that its first row is the last one found. If a page ends
        before it is full, as those of list_payments may, that row is a marker: all null but the id at which it ended.
        """
        found = self.values if backward else reversed(self.values)
        last = next((row for row in found if row[0] is not None), None)  # a statement begins with a row without an id
        if last is None:
            return Rows(self.columns[:-1], self.values)
        is_marker = last[1:-1].count(None) == len(last) - 2
        values = self.values[is_marker:] if backward else self.values[: len(self.values) - is_marker]
        return Rows(self.columns[:-1], values, last[0] if last[-1] else None)


class ConnectionLost(Exception):
    """The connection broke before the call was answered: its effect is unknown, and may not be durable."""


# A prepared statement is missing in the session, or its plan no longer fits: the call changed nothing.
_Unprepared = (psycopg.errors.FeatureNotSupported, psycopg.errors.InvalidSqlStatementName)


def load_as_text(connection: psycopg.AsyncConnection[Any] | psycopg.Connection[Any]) -> None:
    """Makes a connection return values as Rows has them."""
    for type_name in ("int8", "numeric", "timestamptz", "jsonb"):
        connection.adapters.register_loader(type_name, TextLoader)


class Connection(AsyncConnection[Any]):
    """A connection that remembers (`unsafe`) that one of its commits did not wait for the synchronous standby.

    If a pooler shares its sessions with other clients, each transaction begins with `local_settings`.
    """

    unsafe = False
    shared = False
    local_settings = ""
    server_pid = 0
    # A position that the server behind it is known to have, and the identity of its database if it was asked for.
    position = 0
    identity = ""
    # When it was made, as a value of perf_counter().
    made = 0.0

    async def begin_session(self, settings: Settings) -> None:
        """Detects a pooler in transaction mode, and sets what calls need."""
        self.made = perf_counter()
        self.add_notice_handler(self._note)
        load_as_text(self)
        # Statement names that are unique to this connection: if a pooler mixes up sessions after all, a statement is
        # missing instead of a wrong one being executed. psycopg has no other way to name them.
        self._prepared._prepared_idx = random.getrandbits(60)
        values = await session.values_for(self, settings)
        self.shared = await session.is_shared(self)
        if self.shared:
            await session.check_pooler(self)
            self.local_settings = session.setting_query(values, local=True).as_string(self)
        else:
            await self.execute(session.setting_query(values, local=False), prepare=False)
            self.server_pid = await session.server_pid(self)

    async def run(self, query: str, arguments: Sequence[object] = ()) -> AsyncCursor[Any]:
        """Runs a query, in a transaction of its own or in the open one."""
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
        """Begins a transaction in a shared session, with the settings of this connection."""
        cursor = await self.execute(statement, prepare=False)
        await self.execute(self.local_settings, prepare=False)
        return cursor

    def _note(self, notice: psycopg.errors.Diagnostic) -> None:
        if notice.source_function == _UNSAFE_COMMIT:
            self.unsafe = True


class Database:
    """A pool of connections, called `name`, that calls functions within `async with`.

    With `keeps`, one connection stays here between calls. For calls one at a time, this saves the pool's work. With
    `positions`, the position of the primary is noted there after each change.
    """

    def __init__(
        self,
        name: str,
        conninfo: Callable[[], str],
        settings: Settings,
        *,
        keeps: bool = False,
        positions: Positions | None = None,
        outage: Outage = primary_outage,
    ) -> None:
        self.name = name
        self._keeps = keeps
        self._changes = positions
        self._outage = outage
        self._kept: Connection | None = None
        self._settings = settings
        self._connections: WeakSet[Connection] = WeakSet()
        # How many requests wait for a connection. At most as many of them as there are connections wait within the
        # pool: its queue keeps those that have given up until there is a connection again.
        self._waiting = 0
        self._turns = asyncio.Semaphore(settings.pool_size)
        self._pool = AsyncConnectionPool(
            conninfo,
            connection_class=Connection,
            kwargs={
                "autocommit": True,
                **_TCP,
                "connect_timeout": settings.connect_timeout,
                "client_encoding": "utf8",
                "application_name": "wallet",
            },
            min_size=settings.pool_size,
            reconnect_timeout=_RECONNECT_TIMEOUT,
            configure=self._configure,
            check=self._check,
            open=False,
            name=name,
        )

    async def __aenter__(self) -> Self:
        """Starts to connect in the background."""
        await self._pool.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Closes all connections."""
        await self._return_kept()
        await self._pool.close()

    async def call(
        self, query: str, arguments: Sequence[object] = (), record: Record | None = None, *, changes: bool = False
    ) -> Rows:
        """Runs a query that calls one function, in a transaction of its own, and returns its rows.

        Raises psycopg.Error with the function's SQLSTATE, ConnectionLost, or what the pool raises if it has no
        connection. Adds to `record` the seconds spent waiting for a connection and in the database. If the function
        `changes` something, the positions include that change when this returns.
        """
        try:
            return await self._call_once(query, arguments, record, changes=changes)
        except _Unprepared as error:
            # The function's columns have changed since this connection prepared its call, or a pooler has mixed
            # up sessions. A new connection has no old statements.
            logger.warning("Retrying a call on a new connection: %s", error)
            metrics.retries.labels(error.sqlstate).inc()
            await self.renew()
            return await self._call_once(query, arguments, record, changes=changes)

    async def _call_once(
        self, query: str, arguments: Sequence[object], record: Record | None, *, changes: bool
    ) -> Rows:
        connection = await self._connection(record)
        try:
            rows = await self._run(connection, query, arguments, record)
            if changes and self._changes is not None:
                await self._note_change(connection, self._changes)
            return rows
        except (*_Unprepared, psycopg.errors.ReadOnlySqlTransaction):
            # Read-only: the server was the primary when the connection was made, or is about to be; a new connection
            # may reach the right one.
            await connection.close()
            raise
        finally:
            await self._put_back(connection)

    async def _note_change(self, connection: Connection, positions: Positions) -> None:
        """Notes the position after a change. If it cannot be found out, the outcome counts as unknown.

        Without it, a read that carries an older position would not see the change.
        """
        try:
            await self._ask_position(connection)
        except psycopg.Error as error:
            await connection.close()
            raise ConnectionLost("the position after the change is unknown") from error
        positions.note_change(connection.position)

    async def _ask_position(self, connection: Connection) -> None:
        [(position, connection.identity)] = (await self._run(connection, _POSITION)).values
        connection.position = int(position)

    async def position(self) -> tuple[int, str]:
        """The position of the server, and the identity of its database. If it is a primary, standbys reach it soon.

        Raises like `call`.
        """
        [(position, identity)] = (await self.call(_POSITION_TO_REACH)).values
        return int(position), identity

    def usage(self) -> tuple[int, int, int]:
        """The numbers of used and idle connections, and of requests that wait for one."""
        stats = self._pool.get_stats()
        idle = stats["pool_available"] + (self._kept is not None)
        return stats["pool_size"] - idle, idle, self._waiting

    async def renew(self) -> None:
        """Replaces all connections. If DATABASE_URL names several servers, the new ones may reach another server."""
        await self._return_kept()
        await self._pool.drain()

    async def _return_kept(self) -> None:
        connection, self._kept = self._kept, None
        if connection is not None:
            await self._pool.putconn(connection)

    def is_connected(self) -> bool:
        """Whether there is an open connection."""
        return any(not connection.closed for connection in self._connections)

    async def is_usable(self, seconds: float) -> bool:
        """Whether there is an open connection, or one can be made within this many seconds."""
        if self.is_connected():
            return True
        try:
            await self._pool.putconn(await self._take(seconds))
        except (psycopg_pool.PoolTimeout, psycopg_pool.TooManyRequests, psycopg_pool.PoolClosed):
            return False
        return True

    def is_of(self, server_pid: int) -> bool:
        """Whether this server process may belong to one of the connections. With a pooler, any process may."""
        return any(connection.shared or connection.server_pid == server_pid for connection in self._connections)

    async def pages(self, query: str, arguments: Sequence[object], record: Record) -> AsyncGenerator[Rows]:
        """Runs a paged query, and yields its pages: at least one, all from the same snapshot. A page may be empty.

        The query's first two arguments are the id after which the page begins, and its maximum number of rows; its
        columns are those that Rows.page expects. Holds a connection until closed. Raises and records like `call`.
        """
        begin, _, *others = arguments
        connection = await self._connection(record)
        following: asyncio.Task[Rows] | None = None
        try:
            await self._run(connection, _BEGIN_READING)
            page = (await self._run(connection, query, [begin, _PAGE, *others], record)).page()
            while page.next_after is not None:
                asked = [Int8(int(page.next_after)), _PAGE, *others]
                following = asyncio.create_task(self._run(connection, query, asked, record))
                await asyncio.sleep(0)  # starts the next query, which runs while this page is written
                yield page
                page = (await following).page()
            yield page
        except _Unprepared:
            await connection.close()  # no retry as in `call`: part of the list may be written already
            raise
        finally:
            if following is not None:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)
            try:
                await connection.rollback()
            except psycopg.Error:
                await connection.close()
            await self._put_back(connection)

    async def _run(
        self, connection: Connection, query: str, arguments: Sequence[object] = (), record: Record | None = None
    ) -> Rows:
        began, failure = perf_counter(), ""
        try:
            async with asyncio.timeout(self._settings.statement_timeout + GRACE):
                cursor = await connection.run(query, arguments)
                columns = _columns(cursor)
                rows = Rows(columns, await cursor.fetchall() if columns else [])
        except TimeoutError:
            # The server enforces statement_timeout, so it must be unreachable.
            failure = "timeout"
            await connection.close()
            self._outage.lost("no answer in time", self.name, connection.made)
            raise ConnectionLost("no answer in time") from None
        except psycopg.Error as error:
            failure = error.sqlstate or type(error).__name__
            if connection.closed and isinstance(error, psycopg.OperationalError):
                self._outage.lost(error, self.name, connection.made)
                raise ConnectionLost(str(error)) from error
            raise
        finally:
            ended = perf_counter()
            function = metrics.observe_call(query, ended - began)
            if record is not None:
                record.database += ended - began
                record.add_step(function or query, began, ended, failure)
        self._outage.answered(began, ended)
        if connection.unsafe:
            await connection.close()
            logger.warning("A commit stopped waiting for the standby")
            raise ConnectionLost("the commit stopped waiting for the standby")
        return rows

    async def _connection(self, record: Record | None) -> Connection:
        began = perf_counter()
        try:
            if self._kept is not None and _has_news(self._kept):
                self._tell_closed(self._kept)
                await self._return_kept()  # the pool replaces it
            kept, self._kept = self._kept, None
            return kept or await self._take(self._settings.pool_timeout)
        except psycopg_pool.PoolTimeout as error:
            self._outage.waited(error, began)
            raise
        finally:
            ended = perf_counter()
            if record is not None:
                record.waited += ended - began
                record.add_step("wait for a connection", began, ended)

    async def _take(self, seconds: float) -> Connection:
        """Takes a connection from the pool within this many seconds. Raises PoolTimeout or TooManyRequests."""
        if self._waiting >= self._settings.pool_waiting and not self._pool.get_stats()["pool_available"]:
            raise psycopg_pool.TooManyRequests(f"{self._waiting} requests wait for a connection, for {self.name}")
        deadline = perf_counter() + seconds
        self._waiting += 1
        try:
            async with asyncio.timeout(seconds) if self._turns.locked() else contextlib.nullcontext():
                await self._turns.acquire()
            try:
                while (remaining := deadline - perf_counter()) > _RECONNECT_TIMEOUT:
                    with contextlib.suppress(psycopg_pool.PoolTimeout):
                        return await self._pool.getconn(_RECONNECT_TIMEOUT)
                return await self._pool.getconn(remaining)
            finally:
                self._turns.release()
        except TimeoutError:
            raise psycopg_pool.PoolTimeout(f"no connection after {seconds:g} s, for {self.name}") from None
        finally:
            self._waiting -= 1

    async def _put_back(self, connection: Connection) -> None:
        is_idle = connection.pgconn.transaction_status == TransactionStatus.IDLE
        if self._keeps and self._kept is None and is_idle:
            self._kept = connection
        else:
            await self._pool.putconn(connection)

    async def _check(self, connection: Connection) -> None:
        """Closes a connection that the server has closed: otherwise, a request would fail first.

        The server has probably closed the others too, so the pool replaces all: it would make a request wait longer
        with each closed connection that it meets.
        """
        if _has_news(connection):
            self._tell_closed(connection)
            await connection.close()
            await self._pool.drain()
            raise psycopg.OperationalError("the server has closed an idle connection")

    def _tell_closed(self, connection: Connection) -> None:
        self._outage.lost("the server has closed an idle connection", self.name, connection.made)

    async def _configure(self, connection: Connection) -> None:
        await connection.begin_session(self._settings)
        self._connections.add(connection)
        if sum(not other.closed for other in self._connections) >= self._settings.pool_size:
            self._outage.connected(self.name, connection.made)


def _columns(cursor: AsyncCursor[Any]) -> tuple[tuple[str, int], ...]:
    """The names and type OIDs of a result's columns. cursor.description would look up much more."""
    result = cursor.pgresult
    assert result is not None
    return tuple([((result.fname(n) or b"").decode(), result.ftype(n)) for n in range(result.nfields)])


def _has_news(connection: Connection) -> bool:
    """Whether an idle connection is closed or has something to read, most likely because the server is closing it."""
    if connection.closed:
        return True
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))
