"""Installs db/functions/ into the schema wallet: replaces what is there, and drops what is no more.

Functions are replaced in place, so that whatever others made upon them (rights, views) stays. What cannot stay
is never taken away in silence: it is said in a note, or refused. The table ledger.installed_function tells the
wallet's own functions from somebody else's; a row of the catalog that was not there before tells what a file made.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import psycopg
from psycopg import sql

# What a call of a function raises where there is no wallet of this version, or none that this user may use.
NO_WALLET = (
    psycopg.errors.InvalidSchemaName,
    psycopg.errors.UndefinedFunction,
    psycopg.errors.InsufficientPrivilege,
)

_DEFINES = re.compile(r"^create or replace function wallet\.(\w+)", re.MULTILINE)


class MigrationRefused(Exception):
    """The database and the files of db/ do not fit; its text says which, and what to do."""


class FileFailed(MigrationRefused):
    """A file of db/ failed; `left` is what it, and those before it, left behind."""

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
    """A function in the schema wallet, and which version of its row in the catalog that is."""

    signature: str
    name: str
    row: tuple[int, str]


def install(connection: psycopg.Connection, files: list[SqlFile], doors: Sequence[str]) -> list[str]:
    """Installs the functions of these files, as the owner, and returns what is worth to be told, a line each.

    `doors` are the roles that the files grant rights to; the files alone decide, whatever was granted before.
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
    """The signatures of what the migration before this one installed."""
    return {row[0] for row in connection.execute("select signature from ledger.installed_function").fetchall()}


def _install_file(connection: psycopg.Connection, file: SqlFile, before: list[Function]) -> list[str]:
    """Creates or replaces a file's functions, and drops those of the same names whose arguments were others.

    A function whose result columns changed cannot be replaced: then those of the file are dropped, made
    anew, and the rights that others gave on them are given again.
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
        execute(connection, file)  # fails again, and says so
        raise
    notes = [note for right in rights for note in _give_again(connection, *right)]
    unchanged = {function.row for function in before}
    gone = [function.signature for function in _functions(connection) if function.row in unchanged]
    gone = [signature for signature in gone if signature in old]
    _drop(connection, gone)
    return notes + [f"dropped {signature}, which this version does not have" for signature in gone]


def _rights(connection: psycopg.Connection, signatures: list[str]) -> list[tuple[str, str, bool]]:
    """Who may execute these functions, besides the owner: signature, role, and whether it may pass that on."""
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
        return [f"{signature} is no more, and so is the right of {grantee} to execute it"]
    # both come from the catalog, quoted where they need it
    option = " with grant option" if grantable else ""
    connection.execute(sql.SQL(f"grant execute on function {signature} to {grantee}{option}"))
    return []


def _drop(connection: psycopg.Connection, signatures: list[str]) -> None:
    """Drops functions of ours, all at once, but nothing that was built upon them."""
    if signatures:
        try:
            connection.execute(sql.SQL(f"drop function {', '.join(signatures)}"))
        except psycopg.errors.DependentObjectsStillExist as error:
            raise MigrationRefused(
                f"This version changes or removes a function that something in the database uses: "
                f"{error.diag.message_detail}. Drop that first, and make it again afterwards."
            ) from error


def _record(connection: psycopg.Connection, defined: set[str], before: list[Function]) -> list[str]:
    """Drops what an earlier version installed and this one did not, and records what there is now."""
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
    """Revokes from the doors every right on our functions: the files grant what they may execute."""
    all_doors = sql.SQL(", ").join(map(sql.Identifier, doors))
    connection.execute(sql.SQL("grant usage on schema wallet to {}").format(all_doors))
    for signature in _installed(connection) & {function.signature for function in _functions(connection)}:
        connection.execute(sql.SQL("revoke all on function {} from {}").format(sql.SQL(signature), all_doors))


def _close_helpers(connection: psycopg.Connection, doors: Sequence[str]) -> None:
    """Revokes every right on helpers, which nobody but our functions calls."""
    others = sql.SQL(", ").join([sql.SQL("public"), *map(sql.Identifier, doors)])
    ours = _installed(connection)
    for function in _functions(connection):
        if function.name.startswith("_") and function.signature in ours:
            connection.execute(sql.SQL("revoke all on function {} from {}").format(sql.SQL(function.signature), others))


def execute(connection: psycopg.Connection, file: SqlFile) -> None:
    """Runs a file within the transaction. Raises FileFailed, or MigrationRefused where it ends the transaction."""
    transaction = connection.execute("select pg_current_xact_id()").fetchone()
    try:
        connection.execute(file.text)
    except psycopg.Error as error:
        raise FileFailed(file.name, error) from error
    if connection.execute("select pg_current_xact_id()").fetchone() != transaction:
        raise MigrationRefused(f"{file.name} ends the transaction: what came before it is done already. It should not.")
