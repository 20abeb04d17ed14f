"""The session settings that the service needs, whatever the database's defaults, with or without a pooler.

A pooler in transaction mode (PgBouncer, for example) may run each transaction of a connection in another server
session. Session settings are then lost or another client's, and a prepared statement may be missing. So each call
carries its settings, and no statement is prepared.
"""

import asyncio
import functools
import logging
from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import AsyncConnection, sql

from wallet_api.database.roles import Roles
from wallet_api.settings import Settings

logger = logging.getLogger(__name__)

# Seconds that an answer may take on the network, in addition to the server's own time limit.
GRACE = 5

# Defaults that change what the service does, or how fast. The log names those that the service overrides.
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
# Settings of every session, whatever the defaults. The log does not mention them.
_FORMS = {
    # If the client is gone (killed, for example), its call ends soon instead of waiting for locks.
    "client_connection_check_interval": "1s",
    # A warning is the only sign that a commit did not wait for its standby.
    "client_min_messages": "warning",
    "DateStyle": "ISO",
    "TimeZone": "UTC",
    "search_path": "pg_catalog",
}

_DEFAULTS = """select name, reset_val, boot_val, pg_catalog.version() from pg_catalog.pg_settings
              where name operator(pg_catalog.=) any (%s)"""
_SERVER_PID = "select pg_catalog.pg_backend_pid()"

# The order in which two connections, a and b, ask for the server's process id. A pooler in transaction mode assigns the
# session that was freed last, or the one that has been free for longest: this order detects both, for any number of
# sessions.
_PROBES = "abbaabba"


class Unusable(psycopg.OperationalError):
    """The service cannot work with this database's configuration; the text says what to change."""


async def values_for(connection: AsyncConnection[Any], settings: Settings) -> tuple[tuple[str, str], ...]:
    """The settings that calls need, as names and values; those that this server does not know are left out.

    Logs, once, which of the database's defaults the service overrides. Raises Unusable.
    """
    names = [*_TOLD, *_FORMS, "session_replication_role"]
    rows = await (await connection.execute(_DEFAULTS, [names], prepare=False)).fetchall()
    defaults = {name: default for name, default, *_ in rows}
    if defaults.get("session_replication_role", "origin") != "origin":
        raise Unusable(
            "session_replication_role must be origin: otherwise the triggers that guard the ledger do not run. "
            "Reset it for the database and for the role (alter … reset session_replication_role)."
        )
    values = {
        **_TOLD,
        **_FORMS,
        "role": Roles(settings.role_prefix).app,
        # Other defaults are deliberate and kept: local, remote_write, remote_apply.
        "synchronous_commit": "on" if defaults["synchronous_commit"] == "off" else defaults["synchronous_commit"],
        "lock_timeout": f"{settings.lock_timeout}s",
        "statement_timeout": f"{settings.statement_timeout}s",
        "idle_in_transaction_session_timeout": f"{settings.list_timeout + GRACE}s",
    }
    if "Visual C" in rows[0][3] or "mingw" in rows[0][3]:
        values["client_connection_check_interval"] = "0"  # not supported on Windows
    for name, default, built_in, _ in rows:
        if name in _TOLD and default not in (built_in, values[name]):
            _tell(f"The database's default of {name} is {default}; the service uses {values[name]}")
    known = {"role", *defaults}
    return tuple((name, value) for name, value in values.items() if name in known)


@functools.cache
def _tell(message: str) -> None:
    """Logs a message once."""
    logger.info(message)


def setting_query(values: Sequence[tuple[str, str]], *, local: bool) -> sql.Composed:
    """The query that sets these values for the session, or with `local` for the transaction."""
    call = sql.SQL("pg_catalog.set_config({}, {}, {})")
    return sql.SQL("select {}").format(sql.SQL(", ").join(call.format(*value, local) for value in values))


async def is_shared(connection: AsyncConnection[Any]) -> bool:
    """Whether the connection goes through a pooler in transaction mode, or in statement mode."""
    info = connection.info
    if await server_pid(connection) == info.backend_pid:
        return False  # no pooler: a pooler reports an invented process id to the client
    async with await AsyncConnection.connect(
        info.dsn, password=info.password, connect_timeout=10, autocommit=True
    ) as other:
        pids = [await server_pid(connection if who == "a" else other) for who in _PROBES]
    # If not, each connection always has one session, of its own.
    return (len(set(pids)), len(set(zip(_PROBES, pids, strict=True)))) != (2, 2)


def is_shared_for(conninfo: str) -> bool:
    """Like `is_shared`, for a command: asks on connections of its own."""

    async def ask() -> bool:
        async with await AsyncConnection.connect(conninfo, autocommit=True) as connection:
            return await is_shared(connection)

    return asyncio.run(ask())


async def check_pooler(connection: AsyncConnection[Any]) -> None:
    """Raises Unusable if the pooler of a shared connection does not allow transactions of several statements."""
    try:
        await connection.execute("begin", prepare=False)
        await connection.rollback()
    except psycopg.Error:
        raise Unusable(
            "The pooler in front of the database allows no transactions of several statements: "
            "set its pool_mode to transaction or session."
        ) from None
    _tell("A pooler in transaction mode stands before the database: settings travel with each call")


async def server_pid(connection: AsyncConnection[Any]) -> int:
    """The id of the server process behind this connection at the moment."""
    [(pid,)] = await (await connection.execute(_SERVER_PID, prepare=False)).fetchall()
    return int(pid)
