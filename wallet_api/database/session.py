"""What the service relies on in a session of PostgreSQL, whatever the database's defaults and whatever stands between.

A pooler in transaction mode, such as PgBouncer's, gives each transaction of a connection another session of the server.
There, what was set for the session is lost, or is somebody else's, and a prepared statement may be missing. So settings
travel with each call then, and no statement is prepared.
"""

import functools
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import psycopg
from psycopg import AsyncConnection, sql

from wallet_api.database.roles import Roles
from wallet_api.settings import Settings

logger = logging.getLogger(__name__)

# Seconds that an answer may take on its way, after all that the server itself would allow.
GRACE = 5

# Defaults that change what the service does, or how fast. Those that a database overrides are told.
_TOLD = {
    "array_nulls": "on",
    "default_transaction_deferrable": "off",
    "default_transaction_isolation": "read committed",
    "idle_in_transaction_session_timeout": "",
    "idle_session_timeout": "0",
    "lock_timeout": "",
    "plan_cache_mode": "auto",
    "standard_conforming_strings": "on",
    "statement_timeout": "",
    "synchronous_commit": "on",
    "transaction_timeout": "0",
    "transform_null_equals": "off",
}
# What every session is given, whatever the defaults.
_FORMS = {
    # A call whose client is gone, killed perhaps, ends soon instead of waiting for its locks.
    "client_connection_check_interval": "1s",
    # Only a warning reports that a commit did not wait for its standby.
    "client_min_messages": "warning",
    "DateStyle": "ISO",
    "TimeZone": "UTC",
    "search_path": "pg_catalog",
}

_DEFAULTS = "select name, reset_val, boot_val, version() from pg_catalog.pg_settings where name = any (%s)"
_SERVER_PID = "select pg_catalog.pg_backend_pid()"

# Who asks for the server's process id, a connection or a second one. A pooler that gives a session to each transaction
# gives the last one free, or the one free for the longest time: either is noticed, for any number of sessions.
_PROBES = "abbaabba"


class Unusable(psycopg.OperationalError):
    """The service cannot work with this database as it is set up; the text says what to change."""


async def values_for(connection: AsyncConnection[Any], settings: Settings) -> tuple[tuple[str, str], ...]:
    """The settings that calls need on this server: those that it has, each with its value. Raises Unusable.

    Tells, once, which defaults are overridden.
    """
    names = [*_TOLD, *_FORMS, "session_replication_role"]
    rows = await (await connection.execute(_DEFAULTS, [names], prepare=False)).fetchall()
    defaults = {name: default for name, default, *_ in rows}
    if defaults.get("session_replication_role", "origin") != "origin":
        raise Unusable(
            "session_replication_role should be origin: as it is, the triggers that guard the ledger do not run. "
            "Take it from the database and from the role (alter … reset session_replication_role)."
        )
    values = {
        **_TOLD,
        **_FORMS,
        "role": Roles(settings.role_prefix).app,
        # A default that is safer, or less so by intention, is kept: local, remote_write, remote_apply.
        "synchronous_commit": "on" if defaults["synchronous_commit"] == "off" else defaults["synchronous_commit"],
        "lock_timeout": _milliseconds(settings.lock_timeout),
        "statement_timeout": _milliseconds(settings.statement_timeout),
        "idle_in_transaction_session_timeout": _milliseconds(settings.list_timeout + GRACE),
    }
    if "Visual C" in rows[0][3] or "mingw" in rows[0][3]:
        values["client_connection_check_interval"] = "0"  # which Windows cannot do
    for name, default, built_in, _ in rows:
        if name in _TOLD and default not in (built_in, values[name]):
            _tell(f"The database's default of {name} is {default}; the service uses {values[name]}")
    known = {"role", *defaults}
    return tuple((name, value) for name, value in values.items() if name in known)


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f}ms"


@functools.cache
def _tell(message: str) -> None:
    """Logs a message once."""
    logger.info(message)


def setting_query(values: Sequence[tuple[str, str]], *, local: bool) -> sql.Composed:
    """The query that gives a session, or with `local` its transaction, these values."""
    call = sql.SQL("pg_catalog.set_config({}, {}, {})")
    return sql.SQL("select {}").format(sql.SQL(", ").join(call.format(*value, local) for value in values))


async def is_shared(connection: AsyncConnection[Any], connect: Callable[[], Awaitable[AsyncConnection[Any]]]) -> bool:
    """Whether a pooler gives each transaction of a connection a session of its own. Raises Unusable.

    `connect` makes another connection to the same place.
    """
    if await server_pid(connection) == connection.info.backend_pid:
        return False  # nobody stands between: a pooler tells a process id that it has made up
    other = await connect()
    try:
        pids = [await server_pid(connection if who == "a" else other) for who in _PROBES]
    finally:
        await other.close()
    if not moves(pids):
        return False
    try:
        await connection.execute("begin", prepare=False)
        await connection.rollback()
    except psycopg.Error:
        raise Unusable(
            "A pooler stands before the database and allows no transactions of several statements: "
            "its pool_mode should be transaction or session."
        ) from None
    _tell("A pooler in transaction mode stands before the database: settings travel with each call")
    return True


async def server_pid(connection: AsyncConnection[Any]) -> int:
    """The id of the server's process that this connection reaches now."""
    [(pid,)] = await (await connection.execute(_SERVER_PID, prepare=False)).fetchall()
    return int(pid)


def moves(pids: list[int]) -> bool:
    """Whether two connections, in the order of the probes, have shared or changed sessions with these process ids."""
    first = {pid for pid, who in zip(pids, _PROBES, strict=True) if who == "a"}
    second = {pid for pid, who in zip(pids, _PROBES, strict=True) if who == "b"}
    return len(first) > 1 or len(second) > 1 or not first.isdisjoint(second)


def is_shared_for(connection: psycopg.Connection, conninfo: str) -> bool:
    """The same as `is_shared`, for a connection of a command."""

    def server_pid(asked: psycopg.Connection) -> int:
        [(pid,)] = asked.execute(_SERVER_PID).fetchall()
        return int(pid)

    if server_pid(connection) == connection.info.backend_pid:
        return False
    with psycopg.connect(conninfo, autocommit=True) as other:
        return moves([server_pid(connection if who == "a" else other) for who in _PROBES])
