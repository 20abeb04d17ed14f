"""One warning when a database cannot be used, one each half minute while that lasts, and one line when it is over.

Otherwise, each connection of each pool and each request that waits for one would log the same outage.
"""

import logging
import math
from time import perf_counter

logger = logging.getLogger(__name__)

# In seconds: between two warnings; how long after an outage its consequences may still be found; how long a failed
# attempt to connect took at most; and the time without a failure after which a call ends an outage. That is longer than
# a pool pauses between two attempts: a call may succeed on an old connection.
_INTERVAL = 30.0
_AFTERMATH = 60.0
_ATTEMPT = 1.0
_QUIET = 10.0

# The functions of psycopg_pool that warn of a lost connection.
_OF_LOST = ("check", "_return_connection")


class Outage:
    """The present outage of `database`, as the log names it, or the last one. Times are values of perf_counter()."""

    # Whether it lasts, and how many requests it has refused.
    lasts = False
    refused = 0
    _began = _ended = _failed = _told = _answered = -math.inf

    def __init__(self, database: str) -> None:
        self._database = database
        # The names of the pools that miss a connection.
        self._pools: set[str] = set()

    def lost(self, cause: object, pool: str, made: float) -> None:
        """Logs that a pool has lost a connection that was made at this moment."""
        self._failed_to("Lost the connection to", cause, pool, made)

    def unreachable(self, cause: object, pool: str = "") -> None:
        """Logs that a connection cannot be made."""
        self._failed_to("Cannot connect to", cause, pool)

    def _failed_to(self, event: str, cause: object, pool: str = "", since: float | None = None) -> None:
        """Logs a failure, unless an outage explains it. `since` is when what failed began."""
        now = perf_counter()
        if not self.explains(now - _ATTEMPT if since is None else since):
            self.lasts, self.refused, self._began, self._told = True, 0, now, now
            logger.warning("%s %s: %s", event, self._database, cause)
        elif self.lasts and now - self._told > _INTERVAL:
            self._told = now
            logger.warning(
                "Trouble with %s for %.0f s, %d refused requests. %s it: %s",
                self._database,
                *self._extent(now),
                event,
                cause,
            )
        self._failed = now
        if self.lasts and pool:
            self._pools.add(pool)

    def waited(self, error: Exception, since: float) -> None:
        """Logs that a request has got no connection since `since`, if no call was answered meanwhile."""
        if self._answered < since:
            self._failed_to("Got no connection to", error, since=since)

    def explains(self, since: float = -math.inf) -> bool:
        """Whether an outage explains the failure of something that began at `since`."""
        return self.lasts or (since < self._ended and perf_counter() - self._ended < _AFTERMATH)

    def connected(self, pool: str, made: float) -> None:
        """Tells that a pool misses no connection since `made`. Ends the outage if none does."""
        self._pools.discard(pool)
        if self.lasts and not self._pools:
            self._end(made)

    def answered(self, began: float, ended: float) -> None:
        """Ends the outage if the call of this time was made long after the last failure.

        A pool that has given up misses its connections until it is used: it may be the only one that the outage was of.
        """
        self._answered = ended
        if self.lasts and began > self._failed + _QUIET:
            self._pools.clear()
            self._end(began)

    def _end(self, moment: float) -> None:
        self.lasts, self._ended = False, moment
        logger.info(
            "Connected to %s again after %.0f s, %d refused requests", self._database, *self._extent(perf_counter())
        )

    def _extent(self, now: float) -> tuple[float, int]:
        return now - self._began, self.refused


primary_outage = Outage("the database")
standby_outage = Outage("the standbys")
# The pools of connections to standbys, by name: the filter below knows only that.
STANDBY_POOLS = ("standby", "standby_lists")


class _PoolFilter(logging.Filter):
    """Takes failed attempts to connect, and what follows from them, out of the log of psycopg's pools.

    It relies on the arguments of their records and on the names of their functions, which are not documented (checked
    with psycopg_pool 3.3). tests/faults/test_outage.py fails if they change.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is logged."""
        if record.levelno != logging.WARNING:
            return True
        match record.args:
            case (str(pool), Exception() as error):
                (standby_outage if pool in STANDBY_POOLS else primary_outage).unreachable(error, pool)
                return False
            case (str(), int() | float()):  # it has given up
                return False
        # A connection that was lost; the pool also warns of one that was not returned as it should be.
        is_lost = record.funcName in _OF_LOST
        return not (is_lost and (primary_outage.explains() or standby_outage.explains()))


logging.getLogger("psycopg.pool").addFilter(_PoolFilter())
