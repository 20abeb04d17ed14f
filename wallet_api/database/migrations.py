"""Brings a database to the version of db/: migrations once each, functions every time.

Files of db/migrations/ are applied in the order of their numbers. Consecutive files share a transaction, the last ones
with the functions: as a rule there is one transaction, and it does everything or nothing. Only a file that builds
indexes concurrently, while payments continue, comes between two transactions: PostgreSQL does not do that in one. If
a migration is interrupted there, instances of the previous version still find their functions, and continue; the next
migrate resumes. tests/schema/test_migration_files.py checks what the files of both kinds hold.

Concurrent callers take turns; all but the first find nothing to do. The SQL part is in db/install.sql.
"""

import contextlib
import hashlib
import itertools
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import psycopg

from wallet_api.database import installer, roles, session
from wallet_api.database.installer import NO_WALLET, MigrationRefused, SqlFile, call
from wallet_api.database.roles import Roles
from wallet_api.settings import DB

# Seconds to wait for the end of another migration, and between two attempts to begin.
_TURN_LIMIT = 60.0
_TURN_INTERVAL = 0.05
# Seconds before the first report of what a migration waits for, and between two checks.
_LOOK_INTERVAL = 1.0

# A statement that cannot run in a transaction.
_CONCURRENT = re.compile(r"^(?:create|create unique|drop) index concurrently ", re.MULTILINE)

# The transactions that a process waits for, in words.
_WAITED_FOR = """
    select case when blocking.pid = 0 then 'a prepared one'
           else concat_ws(' ', 'process', blocking.pid, 'of', usename, nullif(application_name, ''), state,
                          'since ' || date_trunc('second', xact_start)) end
    from unnest(pg_blocking_pids(%s)) as blocking (pid) left join pg_stat_activity as activity using (pid)
    where pid <> pg_backend_pid() order by 1"""

# Attempts at a transaction that ends in a deadlock.
_ATTEMPTS = 5

Result = TypeVar("Result")
Tell = Callable[[str], None]


def read(folder: Path, names: Roles = Roles()) -> list[SqlFile]:  # noqa: B008 - it is a constant
    """The files of a folder in order, with role names replaced by `names`."""
    files = []
    for path in sorted(folder.glob("*.sql")):
        content = path.read_bytes()
        text = names.named(content.decode())
        files.append(SqlFile(folder.name, path.name, text, hashlib.sha256(content).hexdigest()))
    return files


def version(db: Path = DB) -> str:
    """The fingerprint of migrations and functions, which wallet.schema_version() returns once they are installed."""
    digest = hashlib.sha256()
    for file in read(db / "migrations") + read(db / "functions"):
        digest.update(f"db/{file.folder}/{file.name} {file.checksum}\n".encode())
    return digest.hexdigest()[:16]


def installed_version(conninfo: str) -> str | None:
    """The version of a database, or None if it has no wallet that this user may use.

    Raises psycopg.OperationalError if the database cannot be reached.
    """
    with psycopg.connect(conninfo, autocommit=True) as connection:
        try:
            row = connection.execute("select wallet.schema_version()").fetchone()
        except NO_WALLET:
            return None
    return str(row[0]) if row else None


def migrate(
    conninfo: str,
    *,
    db: Path = DB,
    app_password: str | None = None,
    shared_password: bool = False,
    role_prefix: str = "",
    back: bool = True,
    tell: Tell = lambda note: None,
) -> list[str]:
    """Brings the database to this version and returns what was done, one line each.

    Safe to run repeatedly and concurrently. `app_password` becomes the password of the role wallet_app; if other
    databases use that role, only with `shared_password`. The names of all roles begin with `role_prefix`. Without
    `back`, refuses to return a database to this version from another one. `tell` receives what the migration waits for,
    perhaps in another thread.

    Waits up to a minute for other migrations, and a few seconds for the lock of a table that it changes. A concurrent
    index build has no time limit, even while it waits for other transactions (pg_dump, for example): it blocks only
    other migrations, and giving up would leave the database in no better state.

    Raises MigrationRefused, or psycopg.OperationalError if the database cannot be reached. Then nothing has changed;
    or, if indexes were built, the text says which files stay applied, and the functions are unchanged. If only the
    password could not be set, the text says that the database is at this version.
    """
    names = Roles(role_prefix)
    try:
        with psycopg.connect(conninfo, client_encoding="utf8", autocommit=True) as connection:
            _check_database(connection, conninfo)
            installer.begin(connection, names.named((db / "install.sql").read_text("utf8")), version(db))
            _take_turn(connection, tell)
            if app_password is not None and not shared_password:
                roles.check_password(connection, conninfo, names.app, app_password)
            with _telling_waits(connection.info.backend_pid, conninfo, tell):
                notes = _apply(connection, db, names, back)
            if app_password is not None:
                try:
                    roles.set_password(connection, conninfo, names.app, app_password)
                except (MigrationRefused, psycopg.Error) as error:
                    for note in notes:
                        tell(note)
                    done = f"The database is at version {version(db)}, but the password of {names.app} was not set"
                    raise MigrationRefused(f"{done}: {error}") from error
            connection.execute("discard temp")
    except psycopg.Error as error:
        if error.sqlstate is None:
            raise
        raise MigrationRefused(f"The migration failed: {error}") from error
    return notes


def _check_database(connection: psycopg.Connection[Any], conninfo: str) -> None:
    if session.is_shared_for(conninfo):
        raise MigrationRefused(
            "A pooler in transaction mode is in front of the database, and a migration needs a session of its "
            "own: give migrate a DATABASE_URL that leads to PostgreSQL itself."
        )
    if connection.info.parameter_status("server_encoding") != "UTF8":
        raise MigrationRefused("The wallet needs a database with the encoding UTF8: create database … encoding 'UTF8'.")


def _take_turn(connection: psycopg.Connection[Any], tell: Tell) -> None:
    """Waits until no other session migrates this database.

    Polls instead of waiting in PostgreSQL: a waiting statement holds a snapshot, and a concurrent index build waits for
    all older snapshots. So the other session and this one would wait for each other.
    """
    for attempt in itertools.count():
        holders = call(connection, "take_turn")
        if not holders:
            return
        other = f"another migration of this database (process {holders[0]} in pg_stat_activity)"
        if attempt == 0:
            tell(f"waits for {other}")
        if attempt * _TURN_INTERVAL > _TURN_LIMIT:
            raise MigrationRefused(
                f"Waited {_TURN_LIMIT:.0f} s for {other}. Nothing was changed. Run it again when the other has ended."
            )
        time.sleep(_TURN_INTERVAL)


@contextlib.contextmanager
def _telling_waits(pid: int, conninfo: str, tell: Tell) -> Iterator[None]:
    """Meanwhile, tells which transactions a process of the server waits for, whenever they change."""
    over = threading.Event()

    def watch() -> None:
        told: list[str] = []
        while not over.wait(_LOOK_INTERVAL):
            # Nothing depends on these reports: if no connection is left for them, there are none.
            with contextlib.suppress(psycopg.Error), psycopg.connect(conninfo, autocommit=True) as connection:
                connection.execute("set search_path = pg_catalog")  # see db/install.sql
                others = [words for (words,) in connection.execute(_WAITED_FOR, [pid]).fetchall()]
                if others and others != told:
                    tell(f"waits for the end of a transaction: {'; '.join(others)}")
                told = others

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _apply(connection: psycopg.Connection[Any], db: Path, names: Roles, back: bool) -> list[str]:
    """Applies all pending files and installs the functions. Returns notes."""
    files, current = read(db / "migrations", names), version(db)
    listed = [file.name for file in files], [file.checksum for file in files]
    functions = read(db / "functions", names)
    kept: list[str] = []

    def apply_together() -> tuple[list[SqlFile], list[SqlFile], list[str]]:
        """One transaction. Returns the files that were pending, those applied, and notes about the functions."""
        with connection.transaction():
            unapplied = call(connection, "pending_files", *listed, None if back else current)
            pending = [file for file in files if file.name in unapplied]
            together = list(itertools.takewhile(lambda file: not _CONCURRENT.search(file.text), pending))
            for file in together:
                [text] = call(connection, "supported", file.text)
                installer.execute(connection, file, text)
                connection.execute("reset role")
            _record(connection, together)
            return pending, together, installer.install(connection, functions, current) if together == pending else []

    try:
        while True:
            pending, together, notes = _repeated(apply_together)
            kept += [file.name for file in together]
            if together == pending:
                return [f"applied {name}" for name in kept] + notes
            file = pending[len(together)]
            kept.append(f"{file.name} in part, with an invalid index perhaps")
            _build(connection, file)
            kept[-1] = file.name
    except (MigrationRefused, psycopg.Error) as error:
        if isinstance(error, psycopg.Error) and error.sqlstate is None:
            raise  # the connection is lost, perhaps during a commit
        left = f"These files stay applied: {', '.join(kept)}. The functions are" if kept else "Everything is"
        raise MigrationRefused(f"{error}\n{left} as before.") from error


def _repeated(transaction: Callable[[], Result]) -> Result:
    """The result of a transaction, which is repeated after a deadlock.

    Calls read and lock tables in various orders. So a migration that alters several can meet a call that has one of
    them and waits for another, and PostgreSQL ends either of the two.
    """
    for _ in range(_ATTEMPTS - 1):
        try:
            return transaction()
        except MigrationRefused as refused:
            if not isinstance(refused.__cause__, psycopg.errors.DeadlockDetected):
                raise
    return transaction()


def _build(connection: psycopg.Connection[Any], file: SqlFile) -> None:
    """Applies a file that cannot run in a transaction, as the owner: each statement ends at the end of a line.

    A failed build is not rolled back but leaves an invalid index, so the file is safe to run again from the start. A
    server that refuses "concurrently" builds or drops the index without.
    """
    call(connection, "become_owner", False)
    for statement in filter(None, re.split(r";\s*\n", file.text)):
        try:
            installer.execute(connection, file, statement)
        except MigrationRefused as refused:
            if not isinstance(refused.__cause__, psycopg.errors.FeatureNotSupported):
                raise
            installer.execute(connection, file, statement.replace(" concurrently ", " ", 1))
    _record(connection, [file])
    connection.execute("reset role")


def _record(connection: psycopg.Connection[Any], files: list[SqlFile]) -> None:
    call(connection, "record_files", [file.name for file in files], [file.checksum for file in files])
