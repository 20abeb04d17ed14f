"""Reads from standbys that have replayed what a read must see. Otherwise, the primary answers.

A read may carry the position that an earlier change returned, and sees that change, whichever instance and server
answers. Other reads may see the ledger as it was a while ago, at most WALLET_READ_LAG seconds.
"""

import asyncio
import contextlib
import functools
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from time import perf_counter
from typing import NoReturn

import psycopg

from wallet_api.database import session
from wallet_api.database.outage import standby_outage
from wallet_api.database.pool import Connection, ConnectionLost, Database, Rows
from wallet_api.database.positions import Positions
from wallet_api.observability import metrics
from wallet_api.observability.record import Record
from wallet_api.settings import Settings

logger = logging.getLogger(__name__)

# Seconds between two looks at the servers, and for a standby to answer one.
_INTERVAL = 1.0


class _Behind(psycopg.OperationalError):
    """The standby has not replayed what the read must see."""


class Standby(Database):
    """A pool of connections to standbys. A call raises an error if its connection's standby is too far behind."""

    def __init__(self, name: str, conninfo: Callable[[], str], settings: Settings, positions: Positions) -> None:
        super().__init__(name, conninfo, settings, outage=standby_outage)
        self._positions = positions

    async def is_in_reach(self) -> bool:
        """Whether a standby answers, and does not lag too much."""
        try:
            await self.position()
        except (psycopg.Error, ConnectionLost):
            return False
        return True

    async def _connection(self, record: Record | None) -> Connection:
        connection = await super()._connection(record)
        try:
            await self._check_position(connection, 0 if record is None else record.position)
        except BaseException:
            await self._put_back(connection)
            raise
        return connection

    async def _check_position(self, connection: Connection, position: int) -> None:
        """Raises _Behind if the connection's server is not at this position, lags too much, or has another ledger."""
        least = self._positions.least
        if connection.position < max(position, least):
            await self._ask_position(connection)
        if connection.identity != self._positions.identity:
            self._positions.leave_out()
            _tell_elsewhere()
            raise _Behind("the server has another ledger")
        if connection.position < least:
            self._positions.leave_out()
            await self.renew()  # new connections may reach another standby
        if connection.position < max(position, least):
            raise _Behind("the standby is behind")

    async def _configure(self, connection: Connection) -> None:
        await super()._configure(connection)
        if connection.shared:
            raise session.Unusable(
                "DATABASE_READ_URL leads to a pooler in transaction mode, which may change the server between two "
                "statements: set its pool_mode to session."
            )


@functools.cache
def _tell_elsewhere() -> None:
    """Logs it once."""
    logger.warning("DATABASE_READ_URL leads to another database than DATABASE_URL: it is not read")


class Reads:
    """Calls functions that change nothing: on a standby if one may answer, otherwise on the primary."""

    def __init__(self, standby: Standby, primary: Database, positions: Positions) -> None:
        self._standby = standby
        self._primary = primary
        self._positions = positions

    async def call(self, query: str, arguments: Sequence[object] = (), record: Record | None = None) -> Rows:
        """Like Database.call."""
        if self._may_ask_standby():
            try:
                rows = await self._standby.call(query, arguments, record)
                metrics.standby_reads.labels("answered").inc()
                return rows
            except (psycopg.Error, ConnectionLost) as error:
                _pass_on(error)
        return await self._primary.call(query, arguments, record)

    async def pages(self, query: str, arguments: Sequence[object], record: Record) -> AsyncGenerator[Rows]:
        """Like Database.pages. All pages come from the same server."""
        databases = [self._standby, self._primary] if self._may_ask_standby() else [self._primary]
        for database in databases:
            async with contextlib.aclosing(database.pages(query, arguments, record)) as pages:
                try:
                    page = await anext(pages)
                except (psycopg.Error, ConnectionLost) as error:
                    if database is self._primary:
                        raise
                    _pass_on(error)
                    continue
                yield page
                async for page in pages:
                    yield page
                if database is self._standby:
                    metrics.standby_reads.labels("answered").inc()
                return

    def _may_ask_standby(self) -> bool:
        may = self._positions.standbys_may_answer() and self._standby.is_connected()
        if not may:
            metrics.standby_reads.labels("left_out").inc()
        return may


def _pass_on(error: Exception) -> None:
    """Counts a read that the primary answers instead. A refusal too is the primary's: it may have changed.

    Raises an error that the primary would repeat: the read has already taken as long as it may.
    """
    if isinstance(error, psycopg.errors.QueryCanceled):
        raise error
    metrics.standby_reads.labels("behind" if isinstance(error, _Behind) else "failed").inc()


async def watch(positions: Positions, primary: Database, standbys: Sequence[Standby]) -> NoReturn:
    """Looks at the servers every second, until cancelled: how far the primary is, and whether the standbys answer."""
    while True:
        began = perf_counter()
        with contextlib.suppress(psycopg.Error, ConnectionLost):
            positions.note(began, *await primary.position())
        # This also makes a pool without connections try again.
        looks = [asyncio.create_task(standby.is_in_reach()) for standby in standbys]
        await asyncio.wait(looks, timeout=2 * _INTERVAL)
        in_reach = all(look.done() and look.result() for look in looks)
        if not in_reach:
            positions.leave_out()
        metrics.standby_usable.set(in_reach and positions.standbys_may_answer())
        await asyncio.sleep(_INTERVAL)
