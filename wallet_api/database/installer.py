"""Installs db/functions/ into the schema wallet: creates or replaces functions, and drops obsolete ones.

Functions are replaced in place, so that the rights and views of others that depend on them survive. If one would be
lost, a note reports it, or the migration is refused. The SQL part is in db/install.sql.
"""

import contextlib
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import psycopg

# The errors of a call if the database has no wallet of this version, or none that this user may use.
NO_WALLET = (
    psycopg.errors.InvalidSchemaName,
    psycopg.errors.UndefinedFunction,
    psycopg.errors.InsufficientPrivilege,
)

_DEFINES = re.compile(r"^create or replace function wallet\.(\w+)", re.MULTILINE)


class MigrationRefused(Exception):
    """The database and the files of db/ do not match; the text says why, and what to do.

    `state` is there if the database user lacks a right for a migration: how the database differs from this version, and
    what to do instead.
    """

    def __init__(self, text: str, state: str | None = None) -> None:
        super().__init__(text)
        self.state = state


class SqlFile(NamedTuple):
    """A file of db/, with the SHA-256 of its bytes."""

    folder: str
    name: str
    text: str
    checksum: str


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except psycopg.errors.RaiseException as error:
        raise MigrationRefused(error.diag.message_primary or "", error.diag.message_detail) from error


def begin(connection: psycopg.Connection[Any], text: str, version: str) -> None:
    """Creates the functions of db/install.sql, its text, for this session.

    Raises MigrationRefused if the database user lacks a right for a migration to `version`.
    """
    connection.execute("select pg_catalog.set_config('wallet.program', %s, false)", [version])
    with _refusals():
        connection.execute(text)
    call(connection, "check_rights")


def call(connection: psycopg.Connection[Any], function: str, *arguments: object) -> list[Any]:
    """Calls a function of db/install.sql, and returns its rows. Raises MigrationRefused with what it refuses."""
    query = f"select pg_temp.{function}({', '.join(['%s'] * len(arguments))})"
    with _refusals():
        return [row[0] for row in connection.execute(query, arguments).fetchall()]


def defined(file: SqlFile) -> list[str]:
    """The names of the functions that a file of db/functions/ defines."""
    return _DEFINES.findall(file.text)


def execute(connection: psycopg.Connection[Any], file: SqlFile, text: str) -> None:
    """Runs SQL of a file. Raises MigrationRefused, which names the file."""
    try:
        connection.execute(text)
    except psycopg.Error as error:
        raise MigrationRefused(f"db/{file.folder}/{file.name} failed: {error}") from error


def install(connection: psycopg.Connection[Any], files: list[SqlFile], version: str) -> list[str]:
    """Installs the functions of these files, and records `version`. Returns notes, one line each.

    Call as the owner. Acts as the database user afterwards, who also sets what the wallet's roles need.
    """
    notes = call(connection, "begin_install")
    names: list[str] = []
    for file in files:
        _install_file(connection, file, defined(file))
        names += defined(file)
    notes += call(connection, "finish_install", names, version)
    connection.execute("reset role")
    return notes + call(connection, "set_search_path") + call(connection, "limit_connect")


def _install_file(connection: psycopg.Connection[Any], file: SqlFile, names: list[str]) -> None:
    """Creates or replaces a file's functions, and drops old ones of the same names with other arguments.

    A function whose result columns have changed cannot be replaced. Then all of these names are dropped first.
    """
    try:
        with connection.transaction():  # a savepoint
            execute(connection, file, file.text)
    except MigrationRefused as refusal:
        if not isinstance(refusal.__cause__, psycopg.errors.InvalidFunctionDefinition):
            raise
        call(connection, "drop_replaced", names)
        execute(connection, file, file.text)
    call(connection, "drop_replaced", names)
