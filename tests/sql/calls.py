"""Calls of the wallet's functions by name, their rows by the names of their columns, and their refusals by code."""

from typing import Any

import psycopg
import pytest

from tests.conftest import Connection
from tools import rules

Row = dict[str, Any]


def rows(connection: Connection, function: str, *arguments: object, **named: object) -> list[Row]:
    """What wallet.function(arguments, p_name => …) returns."""
    places = ["%s"] * len(arguments) + [f"p_{name} => %s" for name in named]
    cursor = connection.execute(f"select * from wallet.{function}({', '.join(places)})", [*arguments, *named.values()])
    assert cursor.description is not None
    names = [column.name for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def row(connection: Connection, function: str, *arguments: object, **named: object) -> Row:
    """The same of a function that returns one row."""
    [only] = rows(connection, function, *arguments, **named)
    return only


def refusal(connection: Connection, function: str, *arguments: object, **named: object) -> str | None:
    """The code that the call is refused with."""
    with pytest.raises(psycopg.Error) as refused, connection.transaction():
        rows(connection, function, *arguments, **named)
    return refused.value.sqlstate


def refusal_of(connection: Connection, call: str) -> str | None:
    """The same of a call as people write it: make_payment(1, 2, 'NaN')."""
    with pytest.raises(psycopg.Error) as refused, connection.transaction():
        connection.execute(f"select * from wallet.{call}")
    return refused.value.sqlstate


def message(code: str) -> str:
    """The message that the registry in SQL has for a code."""
    found: str = rules.registry()[code]["message"]
    return found


def paid(connection: Connection, buyer: int, seller: int, amount: object, **named: object) -> int:
    """Makes a payment and returns its id."""
    return int(row(connection, "make_payment", buyer, seller, amount, **named)["id"])


def held(connection: Connection, buyer: int, seller: int, amount: object, **named: object) -> int:
    """Makes a hold and returns its id."""
    return int(row(connection, "create_hold", buyer, seller, amount, **named)["id"])


def as_if_an_hour_ago(connection: Connection, hold_id: int, expired_since: str = "1 second") -> None:
    """Has a hold expired, for a superuser: as if it had been made an hour ago, and its time were over since then."""
    connection.execute("set local session_replication_role = replica")  # no trigger keeps it as it is
    connection.execute(
        """update ledger.hold set operation_timestamp = clock_timestamp() - interval '1 hour',
               expires_at = clock_timestamp() - %s::interval where id = %s""",
        [expired_since, hold_id],
    )
    connection.execute("set local session_replication_role = origin")


def state(connection: Connection) -> list[Any]:
    """All that a refused call must not change: accounts with what they may and what is held of them, and payments."""
    return [rows(connection, "list_accounts"), rows(connection, "list_payments")]


def at(connection: Connection, payment_id: int, moment: str) -> int:
    """Has a payment made at another moment than it was, for a superuser: as if the clock had said so."""
    connection.execute("set local session_replication_role = replica")
    connection.execute(
        "update ledger.payment set operation_timestamp = %s::timestamptz where id = %s", [moment, payment_id]
    )
    connection.execute("set local session_replication_role = origin")
    return payment_id


def opened_at(connection: Connection, account_id: int, moment: str) -> None:
    """The same of an account."""
    connection.execute("set local session_replication_role = replica")
    connection.execute("update ledger.account set created_at = %s::timestamptz where id = %s", [moment, account_id])
    connection.execute("set local session_replication_role = origin")
