"""Creates, lists and revokes API keys with the same database functions as in psql."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import psycopg

from wallet_api.commands import CommandRefused, table, wallet
from wallet_api.observability.log import printable

# How the role of the service is refused, unless it acts for an API key.
_NO_API_KEY = "WA001"


def create(
    conninfo: str,
    name: str,
    scopes: Sequence[str],
    account_ids: Sequence[int] | None,
    expires_at: datetime | None,
    tenant: str | None,
) -> str:
    """Creates a key. Returns its secret, which cannot be retrieved again. Raises CommandRefused.

    `expires_at` is in UTC unless it has a time zone.
    """
    query = "select secret from wallet.create_api_key(%s, %s::text[], %s::bigint[], %s::timestamptz, %s)"
    [(secret,)] = _call(conninfo, query, name, scopes, account_ids, expires_at, tenant)
    return str(secret)


def revoke(conninfo: str, key_id: int) -> str:
    """Revokes a key. Returns a confirmation line. Raises CommandRefused."""
    query = "select id, name, revoked_at from wallet.revoke_api_key(%s)"
    [(id_, name, revoked_at)] = _call(conninfo, query, key_id)
    return f"API key {id_} ({printable(name)}) was revoked at {_moment(revoked_at)}"


def listed(conninfo: str) -> list[str]:
    """Lists all keys, one per line, below a heading. Raises CommandRefused."""
    query = """select id, name, scopes, account_ids, tenant, expires_at, last_used_at, revoked_at
               from wallet.list_api_keys()"""
    rows: list[tuple[str, ...]] = [("id", "name", "scopes", "accounts", "tenant", "expires", "last used", "revoked")]
    for id_, name, scopes, account_ids, tenant, *moments in _call(conninfo, query):
        accounts = "all" if account_ids is None else ",".join(map(str, account_ids))
        whose = "-" if tenant is None else printable(tenant)
        rows.append((str(id_), printable(name), ",".join(scopes), accounts, whose, *map(_moment, moments)))
    return table(rows)


def _moment(value: datetime | None) -> str:
    return "-" if value is None else f"{value:%Y-%m-%d %H:%M}Z"


def _call(conninfo: str, query: str, *arguments: object) -> list[tuple[Any, ...]]:
    with wallet(conninfo) as connection:
        connection.execute("set local search_path = pg_catalog")  # see check.py
        connection.execute("set local TimeZone = 'UTC'")  # of times without a time zone, and in results
        try:
            return connection.execute(query, arguments).fetchall()
        except psycopg.Error as error:
            if error.sqlstate == _NO_API_KEY:
                raise CommandRefused(
                    f"{connection.info.user} manages API keys only over HTTP (docs/configuration.md has the users)"
                ) from None
            raise
