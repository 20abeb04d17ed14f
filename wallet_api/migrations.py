"""Brings a database to the version of db/: migrations once each, functions every time, in one transaction.

The advisory lock makes any number of callers at once take turns; all but the first find nothing to do.
Functions are replaced in place, so that whatever others made upon them (grants, views) stays. What cannot
stay is never taken away in silence: it is said in a note, or the migration is refused.
"""

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import psycopg
from psycopg import sql

from wallet_api.settings import PROJECT

DB = PROJECT / "db"

# Any number will do that nobody else's program uses with advisory locks in this database.
_ADVISORY_LOCK = 0x57414C4C4554  # "WALLET"
_LOCK_TIMEOUT = "60s"

_DEFINES = re.compile(r"^create or replace function (wallet\.\w+)", re.MULTILINE)


class MigrationRefused(Exception):
    """The database and the files of db/ do not fit; its text says which, and what to do."""


class SqlFile(NamedTuple):
    """A file of db/, with the SHA-256 of its bytes."""

    name: str
    text: str
    checksum: str


def _read(folder: Path) -> list[SqlFile]:
    files = []
    for path in sorted(folder.glob("*.sql")):
        content = path.read_bytes()
        files.append(SqlFile(path.name, content.decode(), hashlib.sha256(content).hexdigest()))
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


def migrate(conninfo: str, *, db: Path = DB, app_password: str | None = None) -> list[str]:
    """Brings the database to this version and returns what was done, a line each.

    Safe to run any number of times, by any number of processes at once. `app_password`, if given, becomes
    the password of the role wallet_app. Raises MigrationRefused, and then nothing has changed.
    """
    with psycopg.connect(conninfo) as connection:
        connection.execute(f"set local lock_timeout = '{_LOCK_TIMEOUT}'")
        connection.execute("set local search_path = pg_catalog, pg_temp")
        connection.execute("select pg_advisory_xact_lock(%s)", [_ADVISORY_LOCK])
        notes = _apply_migrations(connection, _read(db / "migrations"))
        notes += _install_functions(connection, _read(db / "functions"))
        connection.execute(
            """insert into ledger.rulebook (version)
               select %(version)s where wallet.schema_version() is distinct from %(version)s""",
            {"version": version(db)},
        )
        connection.execute("reset role")
        notes += _set_search_path(connection, "wallet_ops")
        if app_password is not None:
            _set_password(connection, "wallet_app", app_password)
    return notes


def _apply_migrations(connection: psycopg.Connection, files: list[SqlFile]) -> list[str]:
    applied: list[tuple[str, str]] = []
    # not to_regclass, which asks for a right on the schema
    known = connection.execute(
        "select from pg_tables where schemaname = 'ledger' and tablename = 'migration'"
    ).fetchone()
    if known is not None:
        _become_owner(connection)
        applied = connection.execute("select name, checksum from ledger.migration order by name").fetchall()
        connection.execute("reset role")
    pending = _pending(files, applied)
    for file in pending:
        _execute(connection, f"db/migrations/{file.name}", file.text)
        connection.execute("reset role")
    _become_owner(connection)
    for file in pending:
        connection.execute("insert into ledger.migration (name, checksum) values (%s, %s)", [file.name, file.checksum])
    return [f"applied {file.name}" for file in pending]


def _pending(files: list[SqlFile], applied: list[tuple[str, str]]) -> list[SqlFile]:
    """The files that are still to be applied, in order. Refuses files that do not continue what was applied."""
    numbers: dict[str, str] = {}
    for file in files:
        if not re.fullmatch(r"\d{4}_\w+\.sql", file.name):
            raise MigrationRefused(f"db/migrations/{file.name} should have a name like 0007_what_it_does.sql.")
        if (other := numbers.setdefault(file.name[:4], file.name)) != file.name:
            raise MigrationRefused(f"{other} and {file.name} of db/migrations/ have the same number.")

    checksums = {file.name: file.checksum for file in files}
    for name, checksum in applied:
        if name not in checksums:
            raise MigrationRefused(
                f"This database was migrated with {name}, which is missing in db/migrations/: "
                "it belongs to another version of the wallet. Run that version, or a newer one."
            )
        if checksums[name] != checksum:
            raise MigrationRefused(
                f"db/migrations/{name} was edited after this database was migrated with it. "
                "Put it back as it was, and make the change in a new file."
            )
    known = {name for name, _ in applied}
    pending = [file for file in files if file.name not in known]
    if applied and pending and pending[0].name < applied[-1][0]:
        raise MigrationRefused(
            f"db/migrations/{pending[0].name} comes before {applied[-1][0]}, which this database was already "
            "migrated with. Give it a higher number."
        )
    return pending


def _become_owner(connection: psycopg.Connection) -> None:
    try:
        connection.execute("set local role wallet_owner")
    except psycopg.errors.InsufficientPrivilege:
        raise MigrationRefused(
            "This database user may not migrate: it should be a superuser or a member of the role wallet_owner."
        ) from None


def _execute(connection: psycopg.Connection, name: str, text: str) -> None:
    try:
        connection.execute(text)
    except psycopg.Error as error:
        raise MigrationRefused(f"{name} failed, and nothing was changed: {error}") from error


def _install_functions(connection: psycopg.Connection, files: list[SqlFile]) -> list[str]:
    notes = [
        f"{signature} had been changed by hand; it is again what db/functions/ says"
        for (signature,) in connection.execute(
            """select installed.signature
               from ledger.installed_function as installed
               where md5(pg_get_functiondef(to_regprocedure(installed.signature))) <> installed.checksum"""
        ).fetchall()
    ]
    for file in files:
        notes += _install_file(connection, file)
    notes += _drop_leftovers(connection)
    # Names that begin with an underscore are helpers, for the other functions only.
    connection.execute(
        """do $$
           declare
               v_signature text;
           begin
               for v_signature in
                   select installed.signature from ledger.installed_function as installed
                   where installed.signature not like 'wallet.\\_%'
               loop
                   execute 'grant execute on function ' || v_signature || ' to wallet_app, wallet_ops';
               end loop;
           end $$"""
    )
    return notes


def _install_file(connection: psycopg.Connection, file: SqlFile) -> list[str]:
    """Creates or replaces a file's functions.

    A function whose result columns changed cannot be replaced: then those of the file are dropped, made
    anew, and the rights that others gave on them are given again.
    """
    try:
        with connection.transaction():
            connection.execute(file.text)
        return []
    except psycopg.errors.InvalidFunctionDefinition:
        old = _installed(connection, _DEFINES.findall(file.text))
    except psycopg.Error:
        old = []
    rights = connection.execute(
        """select function.oid::regprocedure::text, acl.grantee::regrole::text
           from pg_proc as function, aclexplode(function.proacl) as acl
           where function.oid = any (%s::regprocedure[]::oid[])
             and acl.grantee not in (0, function.proowner)""",
        [old],
    ).fetchall()
    _drop(connection, old)
    _execute(connection, f"db/functions/{file.name}", file.text)
    return [note for right in rights for note in _grant_again(connection, *right)]


def _grant_again(connection: psycopg.Connection, signature: str, grantee: str) -> list[str]:
    if connection.execute("select to_regprocedure(%s)", [signature]).fetchone() == (None,):
        return [f"{signature} is no more, and so is the right of {grantee} to execute it"]
    # both come from the catalog, quoted where they need it
    right = [sql.SQL(name) for name in (signature, grantee)]
    connection.execute(sql.SQL("grant execute on function {} to {}").format(*right))
    return []


def _installed(connection: psycopg.Connection, names: Iterable[str]) -> list[str]:
    """The signatures of what an earlier migration installed under these names."""
    rows = connection.execute(
        """select installed.signature
           from ledger.installed_function as installed
           join pg_proc as function on function.oid = to_regprocedure(installed.signature)
           where 'wallet.' || function.proname = any (%s)
           order by installed.signature""",
        [list(names)],
    ).fetchall()
    return [signature for (signature,) in rows]


def _drop(connection: psycopg.Connection, signatures: list[str]) -> None:
    """Drops functions of ours, all at once, but nothing that somebody else built upon them."""
    if signatures:
        functions = sql.SQL(", ".join(signatures))
        try:
            connection.execute(sql.SQL("drop function {}").format(functions))
        except psycopg.errors.DependentObjectsStillExist as error:
            raise MigrationRefused(
                f"This version changes or removes a function that something else in the database uses: "
                f"{error.diag.message_detail}. Drop that first, and make it again afterwards."
            ) from error


def _drop_leftovers(connection: psycopg.Connection) -> list[str]:
    """Drops what an earlier version installed and this one did not, and records what there is now."""
    functions = connection.execute(
        # a row that this transaction wrote is at most as old as the transaction
        """select function.oid::regprocedure::text,
                  age(function.xmin) <= age(pg_current_xact_id()::xid),
                  installed.signature is not null
           from pg_proc as function
           left join ledger.installed_function as installed on to_regprocedure(installed.signature) = function.oid
           where function.pronamespace = 'wallet'::regnamespace
           order by 1"""
    ).fetchall()
    leftovers = [signature for signature, current, ours in functions if ours and not current]
    foreign = [signature for signature, current, ours in functions if not ours and not current]
    _drop(connection, leftovers)
    connection.execute("delete from ledger.installed_function")
    connection.execute(
        """insert into ledger.installed_function (signature, checksum)
           select signature, md5(pg_get_functiondef(signature::regprocedure)) from unnest(%s::text[]) as signature""",
        [[signature for signature, current, _ in functions if current]],
    )
    return [f"dropped {signature}, which this version does not have" for signature in leftovers] + [
        f"left alone {signature}, which is not the wallet's" for signature in foreign
    ]


def _set_search_path(connection: psycopg.Connection, role: str) -> list[str]:
    """Lets people in psql write make_payment(…) instead of wallet.make_payment(…).

    Asked for each time, because a copy of a database (a clone, a dump that was restored) comes without it.
    """
    known = connection.execute(
        """select from pg_db_role_setting as setting
           join pg_database as database on database.oid = setting.setdatabase
           where database.datname = current_database() and setting.setrole = %s::regrole""",
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


def _set_password(connection: psycopg.Connection, role: str, password: str) -> None:
    # Hashed here, so that the password itself is neither sent nor found in the server's log.
    secret = connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256")
    connection.execute(sql.SQL("alter role {} password {}").format(sql.Identifier(role), sql.Literal(secret.decode())))
