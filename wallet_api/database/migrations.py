"""Brings a database to the version of db/: migrations once each, functions every time.

Files of db/migrations/ are applied in the order of their numbers. Consecutive files share a transaction, the last ones
with the functions: as a rule there is one transaction, and it does everything or nothing. Only a file that cannot run
in a transaction (database.concurrent_indexes) comes between two transactions. If a migration is interrupted there,
instances of the previous version still find their functions, and continue; the next migrate resumes.

Concurrent callers take turns; all but the first find nothing to do. Two advisory locks ensure this:

- The session lock is held from start to end. A caller polls for it instead of waiting in PostgreSQL. A waiting
  statement holds a snapshot, and a concurrent index build waits for all older snapshots: the builder, which holds the
  lock, and the waiting caller would deadlock.
- The transaction lock is held by each transaction. It is the only lock that earlier versions of this program know. They
  wait for it in PostgreSQL, with a snapshot, so it is not held during an index build. Meanwhile, an earlier version may
  install its functions again, or refuse if a newer file was applied, as at any other time.
"""

import hashlib
import itertools
import time
from pathlib import Path
from typing import Any

import psycopg

from wallet_api.database import concurrent_indexes, installer, roles, session
from wallet_api.database.concurrent_indexes import Tell
from wallet_api.database.installer import NO_WALLET, FileFailed, MigrationRefused, SqlFile, call
from wallet_api.database.roles import Roles
from wallet_api.settings import PROJECT

DB = PROJECT / "db"

# Arbitrary numbers that no other program should use for advisory locks in this database.
_SESSION_LOCK = 0x4D494752415445  # "MIGRATE"
_TRANSACTION_LOCK = 0x57414C4C4554  # "WALLET"
# Seconds to wait for each of them.
_TURN_LIMIT = 60.0
_TURN_INTERVAL = 0.05
# Shorter than the lock timeout of payments: they queue behind a table change that waits for its lock.
_LOCK_LIMIT = "3s"

# With client_connection_check_interval, the session of a killed process ends soon instead of building its index to the
# end. Windows does not support it.
_SESSION = """
    select set_config('search_path', 'pg_catalog, pg_temp', false),
           set_config('quote_all_identifiers', 'off', false),
           set_config('client_connection_check_interval',
                      case when version() ~ 'Visual C|mingw' then '0' else '1s' end, false)"""

# Takes the session lock if it is free, and finds the process that holds it.
_TURN = """select pg_try_advisory_lock(%(lock)s),
    (select min(pid) from pg_locks
     where locktype = 'advisory' and granted and classid::bigint << 32 | objid::bigint = %(lock)s
       and database = (select oid from pg_database where datname = current_database()))"""


def _read(folder: Path, names: Roles = Roles()) -> list[SqlFile]:  # noqa: B008 - it is a constant
    """The files of a folder in order, with role names replaced by `names`."""
    files = []
    for path in sorted(folder.glob("*.sql")):
        content = path.read_bytes()
        text = names.named(content.decode())
        files.append(SqlFile(f"db/{folder.name}/{path.name}", text, hashlib.sha256(content).hexdigest()))
    return files


def version(db: Path = DB) -> str:
    """The fingerprint of migrations and functions, which wallet.schema_version() returns once they are installed."""
    digest = hashlib.sha256()
    for file in _read(db / "migrations") + _read(db / "functions"):
        digest.update(f"{file.path} {file.checksum}\n".encode())
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
    or, if a file ran outside a transaction, the text says which files stay applied, and the functions are unchanged.
    """
    names = Roles(role_prefix)
    try:
        with psycopg.connect(conninfo, client_encoding="utf8", autocommit=True) as connection:
            _check_database(connection, conninfo)
            connection.execute(_SESSION)
            _take_turn(connection, tell)
            connection.execute(names.named((db / "install.sql").read_text("utf8")))
            if app_password is not None and not shared_password:
                roles.check_password(connection, conninfo, names.app, app_password)
            notes = _Migration(connection, conninfo, db, names, back, tell).run()
            if app_password is not None:
                roles.set_password(connection, names.app, app_password)
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
    """Takes the session lock, by polling: see the module's docstring."""
    begin = time.monotonic()
    told = False
    while True:
        [(has_turn, holder)] = connection.execute(_TURN, {"lock": _SESSION_LOCK}).fetchall()
        if has_turn:
            return
        process = f" (process {holder} in pg_stat_activity)" if holder else ""
        waited = time.monotonic() - begin
        if waited > _TURN_LIMIT:
            raise MigrationRefused(
                f"Another migration of this database has been under way for {_TURN_LIMIT:.0f} s{process}; nothing was "
                "changed by this one. Run it again when the other has ended."
            )
        if waited > concurrent_indexes.LOOK_INTERVAL and not told:
            tell(f"waits for another migration of this database{process}")
            told = True
        time.sleep(_TURN_INTERVAL)


class _Migration:
    """One migration of a database, by a session that has its turn and the functions of db/install.sql."""

    def __init__(
        self, connection: psycopg.Connection[Any], conninfo: str, db: Path, names: Roles, back: bool, tell: Tell
    ) -> None:
        self._connection = connection
        self._conninfo = conninfo
        self._tell = tell
        self._files = _read(db / "migrations", names)
        self._functions = _read(db / "functions", names)
        self._version = version(db)
        self._not_back_to = None if back else self._version
        self._applied: list[str] = []
        # Whether a file runs outside a transaction at the moment.
        self._building = False

    def run(self) -> list[str]:
        """Applies all pending files and installs the functions. Returns notes."""
        try:
            while True:
                with self._connection.transaction():
                    pending = self._begin()
                    together = list(itertools.takewhile(lambda file: not concurrent_indexes.is_one(file), pending))
                    for file in together:
                        installer.execute(self._connection, file)
                        self._connection.execute("reset role")
                    self._record(together)
                    last = together == pending
                    notes = installer.install(self._connection, self._functions, self._version) if last else []
                self._applied += [file.name for file in together]
                if last:
                    return [f"applied {name}" for name in self._applied] + notes
                self._apply_alone(pending[len(together)])
        except FileFailed as failure:
            raise FileFailed(failure.path, failure.error, self._left()) from failure.error
        except (MigrationRefused, psycopg.Error) as error:
            if not (self._applied or self._building) or (isinstance(error, psycopg.Error) and error.sqlstate is None):
                raise
            raise MigrationRefused(f"The migration ended, and {self._left()}: {error}") from error

    def _left(self) -> str:
        """What a failed migration has left behind."""
        left = [f"what was applied before it stays ({', '.join(self._applied)})"] if self._applied else []
        left += ["an invalid index may remain until it has run again"] if self._building else []
        return f"{', '.join(left)}; the functions are as they were" if left else "nothing was changed"

    def _begin(self) -> list[SqlFile]:
        """Takes the transaction lock and returns the pending files. Refuses a database that does not match."""
        self._connection.execute("select set_config('lock_timeout', %s, true)", [f"{_TURN_LIMIT}s"])
        self._connection.execute("select pg_advisory_xact_lock(%s)", [_TRANSACTION_LOCK])
        self._connection.execute("select set_config('lock_timeout', %s, true)", [_LOCK_LIMIT])
        names, checksums = [file.name for file in self._files], [file.checksum for file in self._files]
        pending = call(self._connection, "pending_files", names, checksums, self._not_back_to)
        files = [file for file in self._files if file.name in pending]
        for file in filter(concurrent_indexes.is_one, files):
            concurrent_indexes.statements(file)  # refuses a bad file before anything is applied
        return files

    def _apply_alone(self, file: SqlFile) -> None:
        """Applies a file that cannot run in a transaction, as the owner."""
        self._building = True
        call(self._connection, "become_owner", False)
        concurrent_indexes.run(self._connection, file, self._conninfo, self._tell)
        self._record([file])
        self._connection.execute("reset role")
        self._building = False
        self._applied.append(file.name)

    def _record(self, files: list[SqlFile]) -> None:
        call(self._connection, "record_files", [file.name for file in files], [file.checksum for file in files])
