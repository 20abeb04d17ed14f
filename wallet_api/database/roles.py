"""The database roles of a wallet: their names, what migrate checks and sets for them, and the password of wallet_app.

All databases of a cluster share its roles. WALLET_ROLE_PREFIX gives a database roles of its own: before a file of db/
runs, each role name in it (wallet_owner, wallet_app …) gets the prefix.
"""

import re
import time
from typing import NamedTuple

import psycopg
from psycopg import sql

from wallet_api.database.installer import MigrationRefused

_NAME = re.compile(r"\bwallet_(?:owner|app|ops|reporting)\b")


class Roles(NamedTuple):
    """The names of the four roles, which begin with `prefix`."""

    prefix: str = ""

    @property
    def owner(self) -> str:
        """Owns all objects of the wallet; cannot log in."""
        return f"{self.prefix}wallet_owner"

    @property
    def app(self) -> str:
        """For the HTTP layer."""
        return f"{self.prefix}wallet_app"

    @property
    def ops(self) -> str:
        """For operators in psql."""
        return f"{self.prefix}wallet_ops"

    @property
    def reporting(self) -> str:
        """For reports."""
        return f"{self.prefix}wallet_reporting"

    @property
    def doors(self) -> tuple[str, str, str]:
        """The roles that may call functions."""
        return self.app, self.ops, self.reporting

    def named(self, text: str) -> str:
        """The SQL text with these roles' names instead of the unprefixed ones."""
        return _NAME.sub(lambda name: f"{self.prefix}{name[0]}", text) if self.prefix else text


def become_owner(connection: psycopg.Connection, roles: Roles, *, for_good: bool = False) -> None:
    """Acts as the owner until `reset role`, or, without `for_good`, until the transaction ends."""
    statement = "set role {}" if for_good else "set local role {}"
    try:
        connection.execute(sql.SQL(statement).format(sql.Identifier(roles.owner)))
    except psycopg.errors.InsufficientPrivilege:
        raise MigrationRefused(
            f"This database user may not migrate: it should be a superuser or a member of the role {roles.owner}."
        ) from None
    except psycopg.errors.InvalidParameterValue:
        raise MigrationRefused(
            f"The ledger exists, but the role {roles.owner} does not: was the database restored from another cluster? "
            "Copy the roles as well: pg_dumpall --roles-only."
        ) from None


def check_names(connection: psycopg.Connection, roles: Roles) -> None:
    """Refuses a role prefix other than the one of the database's first migration."""
    row = connection.execute("select nspowner::regrole::text from pg_namespace where nspname = 'ledger'").fetchone()
    owner = str(row[0]).strip('"') if row else roles.owner
    prefix = owner.removesuffix(Roles().owner)
    if owner not in (roles.owner, prefix):
        raise MigrationRefused(
            f"The ledger of this database belongs to {owner}: WALLET_ROLE_PREFIX should be "
            f"{prefix!r}, as it was at the first migration."
        )


def check_weak(connection: psycopg.Connection, roles: Roles) -> None:
    """Refuses roles that existed before and have more rights than migrate gives: they could reach the tables."""
    too_strong = connection.execute(
        """select role.rolname from pg_roles as role
           where role.rolname = any (%(roles)s) and (role.rolsuper or role.rolcreaterole or role.rolbypassrls)
              or role.rolname = any (%(doors)s) and pg_has_role(role.oid, %(owner)s, 'member')""",
        {"roles": [roles.owner, *roles.doors], "doors": list(roles.doors), "owner": roles.owner},
    ).fetchall()
    if too_strong:
        raise MigrationRefused(
            f"The role {too_strong[0][0]} may do more than it should: be superuser, create roles, bypass row "
            f"security, or act as {roles.owner}. Revoke that."
        )


def set_search_path(connection: psycopg.Connection, role: str) -> list[str]:
    """Lets a role write make_payment(…) instead of wallet.make_payment(…). Returns notes.

    Checked by every migration, because a copy of a database (a clone, a restored dump) lacks this setting.
    """
    known = connection.execute(
        """select from pg_db_role_setting as setting
           join pg_database as database on database.oid = setting.setdatabase
           where database.datname = current_database() and setting.setrole = %s::regrole
             and array_to_string(setting.setconfig, chr(10)) like '%%search_path=%%'""",
        [role],
    ).fetchone()
    if known is not None:
        return []
    statement = sql.SQL("alter role {} in database {} set search_path = wallet")
    try:
        with connection.transaction():
            connection.execute(statement.format(sql.Identifier(role), sql.Identifier(connection.info.dbname)))
    except psycopg.errors.InsufficientPrivilege:
        return [f"{role} has to write wallet.make_payment(…): this database user may not set its search_path"]
    return []


def limit_connect(connection: psycopg.Connection, roles: Roles) -> list[str]:
    """Revokes the right to connect from PUBLIC, and grants it to the roles that use this database.

    Otherwise every role of the server could connect, for example that of another wallet. Roles that own or may use an
    object here, or are members of a wallet role, keep the right. Returns a note that names those that have lost it.
    """
    database = sql.Identifier(connection.info.dbname)
    was_public = _is_public(connection)
    before = _may_connect(connection)
    users = _users(connection, roles) if was_public else list(roles.doors)
    names = sql.SQL(", ").join(map(sql.Identifier, users))
    statements = [sql.SQL("grant connect on database {} to {}").format(database, names)]
    if was_public:
        statements.append(sql.SQL("revoke connect on database {} from public").format(database))
    try:
        with connection.transaction():
            for statement in statements:
                connection.execute(statement)
    except psycopg.errors.InsufficientPrivilege:
        pass  # Detected below, as in the cases in which PostgreSQL only warns.
    if was_public and _is_public(connection):
        return ["every role may still connect to this database: only its owner can change that"]
    lost = sorted(before - _may_connect(connection))
    return [f"took the right to connect from PUBLIC, and so from {', '.join(lost)}"] if lost else []


def _users(connection: psycopg.Connection, roles: Roles) -> list[str]:
    """The roles that own or may use an object in this database, or are members of one of the wallet's roles."""
    rows = connection.execute(
        """select distinct role.rolname
           from pg_roles as role
           left join pg_shdepend as used on used.refclassid = 'pg_authid'::regclass and used.refobjid = role.oid
               and used.dbid = (select oid from pg_database where datname = current_database())
           where not role.rolsuper and role.rolname !~ '^pg_' and (
               used.refobjid is not null
               or exists (select from unnest(%s::text[]) as door where pg_has_role(role.oid, door, 'member'))
           )
           order by 1""",
        [list(roles.doors)],
    ).fetchall()
    return [name for (name,) in rows]


def _may_connect(connection: psycopg.Connection) -> set[str]:
    """The roles that may log in and connect to this database."""
    rows = connection.execute(
        """select role.rolname from pg_roles as role
           where role.rolcanlogin and has_database_privilege(role.oid, current_database(), 'connect')"""
    ).fetchall()
    return {name for (name,) in rows}


def _is_public(connection: psycopg.Connection) -> bool:
    """Whether PUBLIC, and so every role, may connect to this database."""
    row = connection.execute(
        """select from pg_database as database,
               aclexplode(coalesce(database.datacl, acldefault('d', database.datdba))) as acl
           where database.datname = current_database() and acl.grantee = 0 and acl.privilege_type = 'CONNECT'"""
    ).fetchone()
    return row is not None


def check_password(conninfo: str, roles: Roles, password: str) -> None:
    """Raises MigrationRefused if `password` is new and other databases of the cluster use the role wallet_app."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        others = [
            name
            for (name,) in connection.execute(
                """select distinct database.datname
                   from pg_shdepend as used
                   join pg_roles as role on used.refclassid = 'pg_authid'::regclass and used.refobjid = role.oid
                   join pg_database as database on database.oid = used.dbid
                   where role.rolname = %s and database.datname <> current_database()
                   order by 1""",
                [roles.app],
            ).fetchall()
        ]
    if others and not _is_password(conninfo, roles.app, password):
        raise MigrationRefused(
            f"The role {roles.app} is used by other databases of this server, too ({', '.join(others)}), and they "
            "share its password. Give this database roles of its own (WALLET_ROLE_PREFIX, before its first migration), "
            "or change the password for all: server.py migrate --shared-password."
        )


def _is_password(conninfo: str, role: str, password: str) -> bool:
    """Whether a role can log in with this password. False if the server does not ask for one."""
    try:
        with psycopg.connect(conninfo, user=role, password=password) as connection:
            return connection.pgconn.used_password
    except psycopg.OperationalError:
        return False


def set_password(conninfo: str, role: str, password: str) -> None:
    """Sets a role's password, in a transaction of its own: other databases' migrations may change the role, too."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        # Hashed here, so that the password itself is neither sent nor appears in the server's log.
        secret = connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
        statement = sql.SQL("alter role {} password {}").format(sql.Identifier(role), sql.Literal(secret))
        for attempt in range(20):
            try:
                connection.execute(statement)
                return
            except psycopg.errors.InternalError_:  # "tuple concurrently updated", by a migration of another database
                time.sleep(0.05 * attempt)
        connection.execute(statement)
