"""Creates, lists and revokes API keys with the same database functions as in psql."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import psycopg

from wallet_api.database.installer import NO_WALLET
from wallet_api.http import errors
from wallet_api.observability.log import printable


class KeyRefused(Exception):
    """The database refuses the command. The text gives the reason."""


def create(
    conninfo: str, name: str, scopes: Sequence[str], account_ids: Sequence[int] | None, expires_at: datetime | None
) -> str:
    """Creates a key. Returns its secret, which cannot be retrieved again. Raises KeyRefused."""
    query = "select secret from wallet.create_api_key(%s, %s::text[], %s::bigint[], %s)"
    accounts = None if account_ids is None else list(account_ids)
    [(secret,)] = _call(conninfo, query, [name, list(scopes), accounts, expires_at])
    return str(secret)


def revoke(conninfo: str, key_id: int) -> str:
    """Revokes a key. Returns a confirmation line. Raises KeyRefused."""
    query = "select id, name, revoked_at from wallet.revoke_api_key(%s)"
    [(id_, name, revoked_at)] = _call(conninfo, query, [key_id])
    return f"API key {id_} ({printable(name)}) was revoked at {_moment(revoked_at)}"


def listed(conninfo: str) -> list[str]:
    """Lists all keys, one per line, below a heading. Raises KeyRefused."""
    query = "select id, name, scopes, account_ids, expires_at, last_used_at, revoked_at from wallet.list_api_keys()"
    rows: list[tuple[str, ...]] = [("id", "name", "scopes", "accounts", "expires", "last used", "revoked")]
    for id_, name, scopes, account_ids, *moments in _call(conninfo, query, []):
        accounts = "all" if account_ids is None else ",".join(map(str, account_ids))
        rows.append((str(id_), printable(name), ",".join(scopes), accounts, *map(_moment, moments)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _moment(value: datetime | None) -> str:
    return "-" if value is None else f"{value:%Y-%m-%d %H:%M}Z"


def _call(conninfo: str, query: str, arguments: Sequence[object]) -> list[tuple[Any, ...]]:
    with psycopg.connect(conninfo, client_encoding="utf8") as connection:
        try:
            connection.execute("set local TimeZone = 'UTC'")
            return connection.execute(query, arguments).fetchall()
        except NO_WALLET as error:
            raise KeyRefused(
                f"there is no wallet of this version in which this user may manage keys: {error}"
            ) from None
        except psycopg.Error as error:
            if errors.is_refusal(error):
                raise KeyRefused(error.diag.message_primary) from None
            raise
