"""Brings a database to the version of db/: migrations once each, functions every time, in one transaction.

An advisory lock makes any number of callers at once take turns; all but the first find nothing to do.
"""

import hashlib
import re
import time
from pathlib import Path

import psycopg
from psycopg import sql

from wallet_api import rulebook
from wallet_api.rulebook import DOORS, MigrationRefused, SqlFile
from wallet_api.settings import PROJECT

DB = PROJECT / "db"
OWNER = "wallet_owner"

# Any number will do that nobody else's program uses with advisory locks in this database.
_ADVISORY_LOCK = 0x57414C4C4554  # "WALLET"
_TURN_LIMIT = "60s"
# Shorter than payments wait: while a change of a table waits for its lock, they queue behind it.
_LOCK_LIMIT = "3s"


def _read(folder: Path) -> list[SqlFile]:
    files = []
    for path in sorted(folder.glob("*.sql")):
        content = path.read_bytes()
        name = f"db/{folder.name}/{path.name}"
        files.append(SqlFile(name, content.decode(), hashlib.sha256(content).hexdigest()))
    return files


def version(db: Path = DB) -> str:
    """The fingerprint of all files of db/: what wallet.schema_version() answers where they are installed."""
    digest = hashlib.sha256()
    for file in _read(db / "migrations") + _read(db / "functions"):
        digest.update(f"{file.name} {file.checksum}\n".encode())
    return digest.hexdigest()[:16]


def installed_version(conninfo: str) -> str | None:
    """The version a database is at, or None where there is no wallet in it that this user may use.

    Raises psycopg.OperationalError where it cannot be reached.
    """
    with psycopg.connect(conninfo, autocommit=True) as connection:
        try:
            row = connection.execute("select wallet.schema_version()").fetchone()
        except (
            psycopg.errors.InvalidSchemaName,
            psycopg.errors.UndefinedFunction,
            psycopg.errors.InsufficientPrivilege,
        ):
            return None
    return str(row[0]) if row else None


def migrate(conninfo: str, *, db: Path = DB, app_password: str | None = None, back: bool = True) -> list[str]:
    """Brings the database to this version and returns what was done, a line each.

    Safe to run any number of times, by any number of processes at once. `app_password`, if given, becomes the
    password of the role wallet_app. Without `back`, a database that has left this version for another one
    stays there. Raises MigrationRefused, and then nothing has changed, or psycopg.OperationalError where the
    database cannot be reached.
    """
    try:
        with psycopg.connect(conninfo, client_encoding="utf8") as connection:
            notes = _migrate(connection, db, back)
        if app_password is not None:
            _set_password(conninfo, "wallet_app", app_password)
    except psycopg.Error as error:
        if error.sqlstate is None:
            raise
        raise MigrationRefused(f"The migration failed: {error}") from error
    return notes


def _migrate(connection: psycopg.Connection, db: Path, back: bool) -> list[str]:
    for setting, value in {
        "lock_timeout": _TURN_LIMIT,
        "search_path": "pg_catalog, pg_temp",
        "quote_all_identifiers": "off",
    }.items():
        connection.execute("select set_config(%s, %s, true)", [setting, value])
    connection.execute("select pg_advisory_xact_lock(%s)", [_ADVISORY_LOCK])
    connection.execute("select set_config('lock_timeout', %s, true)", [_LOCK_LIMIT])
    _check_encoding(connection)
    this = version(db)
    notes = _apply_migrations(connection, _read(db / "migrations"), None if back else this)
    notes += rulebook.install(connection, _read(db / "functions"))
    connection.execute(
        """insert into ledger.rulebook (version)
           select %(version)s where wallet.schema_version() is distinct from %(version)s""",
        {"version": this},
    )
    connection.execute("reset role")
    return notes + _set_search_path(connection, "wallet_ops")


def _check_encoding(connection: psycopg.Connection) -> None:
    if connection.execute("show server_encoding").fetchone() != ("UTF8",):
        raise MigrationRefused("The wallet needs a database with the encoding UTF8: create database … encoding 'UTF8'.")


def _apply_migrations(connection: psycopg.Connection, files: list[SqlFile], not_back_to: str | None) -> list[str]:
    applied: list[tuple[str, str]] = []
    # not to_regclass, which asks for a right on the schema
    known = connection.execute(
        "select from pg_tables where schemaname = 'ledger' and tablename = 'migration'"
    ).fetchone()
    if known is not None:
        _become_owner(connection)
        applied = connection.execute("select name, checksum from ledger.migration order by name").fetchall()
    pending = _pending(files, applied)
    if known is not None and not_back_to is not None:
        _check_direction(connection, not_back_to)
    connection.execute("reset role")
    for file in pending:
        rulebook.execute(connection, file)
        connection.execute("reset role")
    _check_roles(connection)
    _become_owner(connection)
    for file in pending:
        connection.execute(
            "insert into ledger.migration (name, checksum) values (%s, %s)", [Path(file.name).name, file.checksum]
        )
    return [f"applied {Path(file.name).name}" for file in pending]


def _check_direction(connection: psycopg.Connection, this: str) -> None:
    """An instance of an old version that starts once more must not bring its old rules back."""
    rows = connection.execute("select version from ledger.rulebook order by id").fetchall()
    versions = [installed for (installed,) in rows]
    if this in versions[:-1] and versions[-1] != this:
        raise MigrationRefused(
            f"This database was at version {this}, which this is, and is at version {versions[-1]} now. "
            "Run that version; or, to go back, run: server.py migrate."
        )


def _pending(files: list[SqlFile], applied: list[tuple[str, str]]) -> list[SqlFile]:
    """The files that are still to be applied, in order. Refuses files that do not continue what was applied."""
    by_name = {Path(file.name).name: file for file in files}
    numbers: dict[str, str] = {}
    for name in by_name:
        if not re.fullmatch(r"\d{4}_\w+\.sql", name):
            raise MigrationRefused(f"db/migrations/{name} should have a name like 0007_what_it_does.sql.")
        if (other := numbers.setdefault(name[:4], name)) != name:
            raise MigrationRefused(f"{other} and {name} of db/migrations/ have the same number.")

    for name, checksum in applied:
        if name not in by_name:
            raise MigrationRefused(
                f"This database was migrated with {name}, which is missing in db/migrations/: "
                "it belongs to another version of the wallet. Run that version, or a newer one."
            )
        if by_name[name].checksum != checksum:
            raise MigrationRefused(
                f"db/migrations/{name} was edited after this database was migrated with it. "
                "Put it back as it was, and make the change in a new file."
            )
    known = {name for name, _ in applied}
    pending = [name for name in by_name if name not in known]
    if applied and pending and pending[0] < applied[-1][0]:
        raise MigrationRefused(
            f"db/migrations/{pending[0]} comes before {applied[-1][0]}, which this database was already "
            "migrated with. Give it a higher number."
        )
    return [by_name[name] for name in pending]


def _check_roles(connection: psycopg.Connection) -> None:
    """Roles that somebody made before us have to be as weak as ours, or no table would be out of their reach."""
    too_strong = connection.execute(
        """select role.rolname from pg_roles as role
           where role.rolname = any (%(roles)s) and (role.rolsuper or role.rolcreaterole or role.rolbypassrls)
              or role.rolname = any (%(doors)s) and pg_has_role(role.oid, %(owner)s, 'member')""",
        {"roles": [OWNER, *DOORS], "doors": list(DOORS), "owner": OWNER},
    ).fetchall()
    if too_strong:
        raise MigrationRefused(
            f"The role {too_strong[0][0]} may do more than it should: be superuser, create roles, bypass row "
            f"security, or act as {OWNER}. Take that from it."
        )


def _become_owner(connection: psycopg.Connection) -> None:
    try:
        connection.execute(sql.SQL("set local role {}").format(sql.Identifier(OWNER)))
    except psycopg.errors.InsufficientPrivilege:
        raise MigrationRefused(
            f"This database user may not migrate: it should be a superuser or a member of the role {OWNER}."
        ) from None
    except psycopg.errors.InvalidParameterValue:
        raise MigrationRefused(
            f"There is no role {OWNER} here, although there is a ledger: restored from another cluster, perhaps? "
            "Bring its roles along: pg_dumpall --roles-only."
        ) from None


def _set_search_path(connection: psycopg.Connection, role: str) -> list[str]:
    """Lets people in psql write make_payment(…) instead of wallet.make_payment(…).

    Asked for each time, because a copy of a database (a clone, a dump that was restored) comes without it.
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


def _set_password(conninfo: str, role: str, password: str) -> None:
    """Sets a role's password, in a transaction of its own: roles are shared with the cluster's other databases."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        # hashed here, so that the password itself is neither sent nor found in the server's log
        secret = connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
        statement = sql.SQL("alter role {} password {}").format(sql.Identifier(role), sql.Literal(secret))
        for attempt in range(20):
            try:
                connection.execute(statement)
                return
            except psycopg.errors.InternalError_:  # "tuple concurrently updated", by a migration of another database
                time.sleep(0.05 * attempt)
        connection.execute(statement)
