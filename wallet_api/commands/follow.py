"""Follows the feed: passes on each event as JSON, soon after it has happened."""

import time
from collections.abc import Callable, Iterator

import psycopg

from wallet_api.commands import wallet
from wallet_api.database.pool import Rows, load_as_text
from wallet_api.http import codec
from wallet_api.http.feed import FEED_END, LIST_FEED

# Seconds between two looks, and after one that failed.
_INTERVAL = 0.02
_PAUSE = 1.0


def follow(conninfo: Callable[[], str], after: str | None, complain: Callable[[object], object]) -> Iterator[str]:
    """Yields each event after a cursor (None: all), as GET /feed shows it, without end.

    `conninfo` returns the connection string for each new connection. If the database cannot be used, complains, and
    continues when it can. Raises CommandRefused if there is no wallet, or `after` is no cursor.
    """
    while True:
        try:
            with wallet(conninfo()) as connection:
                connection.autocommit = True
                load_as_text(connection)
                connection.execute("set search_path = pg_catalog")  # see check.py
                connection.execute("set TimeZone = 'UTC'")
                connection.execute("set DateStyle = 'ISO'")
                for end in _ends(connection, complain):
                    while page := _page(connection, after, end):
                        for cursor, event in page:
                            yield event
                            after = cursor
        except psycopg.OperationalError as error:
            complain(f"the feed cannot be read: {error}")
            time.sleep(_PAUSE)


def _ends(connection: psycopg.Connection, complain: Callable[[object], object]) -> Iterator[str]:
    """Yields the end of the feed each time it has moved."""
    looks, shown, waited_for = None, None, None
    while True:
        [(end, looks, waits_for)] = connection.execute(FEED_END, [looks]).fetchall()
        if waits_for not in (None, waited_for):
            complain(f"the feed waits for the end of a transaction: {waits_for}")
        waited_for = waits_for
        if end not in (None, shown):
            shown = end
            yield end
        time.sleep(_INTERVAL)


def _page(connection: psycopg.Connection, after: str | None, end: str) -> list[tuple[str, str]]:
    """The next events up to an end, each with its cursor."""
    cursor = connection.execute(LIST_FEED, [after, None, end, None])
    columns = tuple((column.name, column.type_code) for column in cursor.description or ())
    rows = cursor.fetchall()
    return list(zip([row[0] for row in rows], codec.objects(Rows(columns[:-1], rows)), strict=True))
