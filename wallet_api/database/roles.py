"""The database roles of a wallet: their names, and the password of wallet_app.

All databases of a cluster share its roles. WALLET_ROLE_PREFIX gives a database roles of its own: before a file of db/
runs, each role name in it (wallet_owner, wallet_app …) gets the prefix.
"""

import re
from typing import Any, NamedTuple

import psycopg

from wallet_api.database.installer import MigrationRefused, call

_NAME = re.compile(r"\bwallet_(?:owner|app|ops|reporting)\b")


class Roles(NamedTuple):
    """The names of those roles that Python needs, which begin with `prefix`."""

    prefix: str = ""

    @property
    def app(self) -> str:
        """For the HTTP layer."""
        return f"{self.prefix}wallet_app"

    @property
    def ops(self) -> str:
        """For operators in psql."""
        return f"{self.prefix}wallet_ops"

    def named(self, text: str) -> str:
        """The SQL text with these roles' names instead of the unprefixed ones."""
        return _NAME.sub(rf"{self.prefix}\g<0>", text)


def check_service(conninfo: str, app: str) -> None:
    """Raises MigrationRefused if this user may not act as the role `app`, as the service does in each session."""
    # In one statement, because a pooler may allow no transactions: the service says so then.
    with psycopg.connect(conninfo, autocommit=True) as connection:
        right = "set" if connection.info.server_version >= 160000 else "member"
        query = "select pg_catalog.pg_has_role(%s::pg_catalog.name, %s::pg_catalog.text)"
        try:
            may_act = connection.execute(query, [app, right]).fetchone() == (True,)
        except psycopg.errors.UndefinedObject:
            may_act = False
        if not may_act:
            raise MigrationRefused(
                f"The service acts as the role {app}, and {connection.info.user} may not: serve as {app}, or as a "
                "member of it. If the names of the roles have a prefix, set WALLET_ROLE_PREFIX."
            )


def check_password(connection: psycopg.Connection[Any], conninfo: str, app: str, password: str) -> None:
    """Raises MigrationRefused if `password` is new and other databases of the cluster use the role `app`."""
    others = call(connection, "other_databases")
    if others and not _is_password(conninfo, app, password):
        raise MigrationRefused(
            f"The role {app} is used by other databases of this server, too ({', '.join(others)}), and they "
            "share its password. Give this database roles of its own (WALLET_ROLE_PREFIX, before its first migration), "
            "or change the password for all: migrate --shared-password."
        )


def _is_password(conninfo: str, role: str, password: str) -> bool:
    """Whether a role can log in with this password. False if the server does not ask for one."""
    try:
        with psycopg.connect(conninfo, user=role, password=password) as connection:
            return connection.pgconn.used_password
    except psycopg.OperationalError:
        return False


def set_password(connection: psycopg.Connection[Any], conninfo: str, app: str, password: str) -> None:
    """Sets the password of the role `app`, in a transaction of its own.

    Raises MigrationRefused if the database user may not, unless that is the password already.
    """
    # Hashed here, so that the password itself is neither sent nor appears in the server's log.
    secret = connection.pgconn.encrypt_password(password.encode(), app.encode(), b"scram-sha-256").decode()
    try:
        call(connection, "set_password", secret)
    except MigrationRefused:
        if not _is_password(conninfo, app, password):
            raise
