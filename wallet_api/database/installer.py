"""Installs db/functions/ into the schema wallet: creates or replaces functions, and drops obsolete ones.

Functions are replaced in place, so that the rights and views of others that depend on them survive. A loss is never
silent: a note reports it, or the migration is refused. The table ledger.installed_function lists the wallet's own
functions; new row versions in pg_proc show which functions a file has created or replaced.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import psycopg
from psycopg import sql

# The errors of a call if the database has no wallet of this version, or none that this user may use.
NO_WALLET = (
    psycopg.errors.InvalidSchemaName,
    psycopg.errors.UndefinedFunction,
    psycopg.errors.InsufficientPrivilege,
)

_DEFINES = re.compile(r"^create or replace function wallet\.(\w+)", re.MULTILINE)


class MigrationRefused(Exception):
    """The database and the files of db/ do not match; the text says why, and what to do."""


class FileFailed(MigrationRefused):
    """A file of db/ failed; `left` says what it and the files before it left behind."""

    def __init__(self, name: str, error: psycopg.Error, left: str = "nothing was changed") -> None:
        super().__init__(f"{name} failed, and {left}: {error}")
        self.name = name
        self.error = error


class SqlFile(NamedTuple):
    """A file of db/, with the SHA-256 of its bytes."""

    name: str
    text: str
    checksum: str


class Function(NamedTuple):
    """A function in the schema wallet; `row` identifies the version of its row in pg_proc."""

    signature: str
    name: str
    row: tuple[int, str]


def install(connection: psycopg.Connection, files: list[SqlFile], doors: Sequence[str]) -> list[str]:
    """Installs the functions of these files, as the current role, the owner. Returns notes, one line each.

    `doors` are the roles to which the files grant rights. Their earlier rights are revoked: the files alone decide.
    """
    notes = [
        f"{signature} had been changed by hand; it is again what db/functions/ says"
        for (signature,) in connection.execute(
            """select installed.signature
               from ledger.installed_function as installed
               where md5(pg_get_functiondef(to_regprocedure(installed.signature))) <> installed.checksum"""
        ).fetchall()
    ]
    _withdraw(connection, doors)
    before = _functions(connection)
    for file in files:
        notes += _install_file(connection, file, before)
    defined = {name for file in files for name in _DEFINES.findall(file.text)}
    notes += _record(connection, defined, before)
    _close_helpers(connection, doors)
    return notes


def _functions(connection: psycopg.Connection) -> list[Function]:
    rows = connection.execute(
        """select function.oid::regprocedure::text, function.proname, function.oid, function.xmin::text
           from pg_proc as function where function.pronamespace = 'wallet'::regnamespace order by 1"""
    ).fetchall()
    return [Function(signature, name, (oid, xmin)) for signature, name, oid, xmin in rows]


def _installed(connection: psycopg.Connection) -> set[str]:
    """The signatures of the functions that the previous migration installed."""
    return {row[0] for row in connection.execute("select signature from ledger.installed_function").fetchall()}


def _install_file(connection: psycopg.Connection, file: SqlFile, before: list[Function]) -> list[str]:
    """Creates or replaces a file's functions, and drops old ones of the same names with other arguments.

    A function whose result columns have changed cannot be replaced. Then the file's functions are dropped and created
    again, with the rights that were granted on them.
    """
    defined = set(_DEFINES.findall(file.text))
    ours = _installed(connection)
    old = [function.signature for function in before if function.name in defined and function.signature in ours]
    try:
        with connection.transaction():
            connection.execute(file.text)
        rights = []
    except psycopg.errors.InvalidFunctionDefinition:
        rights = _rights(connection, old)
        _drop(connection, old)
        execute(connection, file)
    except psycopg.Error:
        execute(connection, file)  # fails again, and raises FileFailed
        raise
    notes = [note for right in rights for note in _give_again(connection, *right)]
    unchanged = {function.row for function in before}
    gone = [function.signature for function in _functions(connection) if function.row in unchanged]
    gone = [signature for signature in gone if signature in old]
    _drop(connection, gone)
    return notes + [f"dropped {signature}, which this version does not have" for signature in gone]


def _rights(connection: psycopg.Connection, signatures: list[str]) -> list[tuple[str, str, bool]]:
    """Grants on these functions: signature, role, and whether with grant option. The owner's are left out."""
    return connection.execute(
        """select function.oid::regprocedure::text,
                  case acl.grantee when 0 then 'public' else acl.grantee::regrole::text end,
                  acl.is_grantable
           from pg_proc as function, aclexplode(function.proacl) as acl
           where function.oid = any (%s::regprocedure[]::oid[]) and acl.grantee <> function.proowner""",
        [signatures],
    ).fetchall()


def _give_again(connection: psycopg.Connection, signature: str, grantee: str, grantable: bool) -> list[str]:
    if connection.execute("select to_regprocedure(%s)", [signature]).fetchone() == (None,):
        return [f"{signature} no longer exists, so {grantee} has lost the right to execute it"]
    # Both names come from the catalog, quoted if necessary.
    option = " with grant option" if grantable else ""
    connection.execute(sql.SQL(f"grant execute on function {signature} to {grantee}{option}"))
    return []


def _drop(connection: psycopg.Connection, signatures: list[str]) -> None:
    """Drops functions, in one statement, as they may depend on each other. Refuses if anything else depends on them."""
    if signatures:
        try:
            connection.execute(sql.SQL(f"drop function {', '.join(signatures)}"))
        except psycopg.errors.DependentObjectsStillExist as error:
            raise MigrationRefused(
                f"This version changes or removes a function that something in the database uses: "
                f"{error.diag.message_detail}. Drop that first, and create it again afterwards."
            ) from error


def _record(connection: psycopg.Connection, defined: set[str], before: list[Function]) -> list[str]:
    """Drops functions that an earlier version installed and this one has not, and records the current ones."""
    unchanged = {function.row for function in before}
    ours = _installed(connection)
    current: list[str] = []
    leftovers: list[str] = []
    foreign: list[str] = []
    for function in _functions(connection):
        if function.name in defined and function.row not in unchanged:
            current.append(function.signature)
        else:
            (leftovers if function.signature in ours else foreign).append(function.signature)
    _drop(connection, leftovers)
    connection.execute("delete from ledger.installed_function")
    connection.execute(
        """insert into ledger.installed_function (signature, checksum)
           select signature, md5(pg_get_functiondef(signature::regprocedure)) from unnest(%s::text[]) as signature""",
        [current],
    )
    return [f"dropped {signature}, which this version does not have" for signature in leftovers] + [
        f"left alone {signature}, which is not the wallet's" for signature in foreign
    ]


def _withdraw(connection: psycopg.Connection, doors: Sequence[str]) -> None:
    """Revokes all rights of the doors on the wallet's functions: the files grant them again."""
    all_doors = sql.SQL(", ").join(map(sql.Identifier, doors))
    connection.execute(sql.SQL("grant usage on schema wallet to {}").format(all_doors))
    for signature in _installed(connection) & {function.signature for function in _functions(connection)}:
        connection.execute(sql.SQL("revoke all on function {} from {}").format(sql.SQL(signature), all_doors))


def _close_helpers(connection: psycopg.Connection, doors: Sequence[str]) -> None:
    """Revokes all rights on the helpers, which only the wallet's functions call."""
    others = sql.SQL(", ").join([sql.SQL("public"), *map(sql.Identifier, doors)])
    ours = _installed(connection)
    for function in _functions(connection):
        if function.name.startswith("_") and function.signature in ours:
            connection.execute(sql.SQL("revoke all on function {} from {}").format(sql.SQL(function.signature), others))


def execute(connection: psycopg.Connection, file: SqlFile) -> None:
    """Runs a file within the transaction. Raises FileFailed, or MigrationRefused if the file ends the transaction."""
    transaction = connection.execute("select pg_current_xact_id()").fetchone()
    try:
        connection.execute(file.text)
    except psycopg.Error as error:
        raise FileFailed(file.name, error) from error
    if connection.execute("select pg_current_xact_id()").fetchone() != transaction:
        raise MigrationRefused(
            f"{file.name} ends the transaction, which it must not: the changes before that are committed."
        )
