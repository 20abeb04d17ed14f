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
  wait for it in PostgreSQL, with a snapshot, so it is not held during an index build. An earlier version may then do
  what it may do at other times: install its functions again, or refuse if a newer file was applied.
"""

import hashlib
import itertools
import re
import time
from pathlib import Path

import psycopg

from wallet_api.database import concurrent_indexes, installer, roles, session
from wallet_api.database.concurrent_indexes import Tell
from wallet_api.database.installer import NO_WALLET, FileFailed, MigrationRefused, SqlFile
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


def _read(folder: Path, names: Roles = Roles()) -> list[SqlFile]:  # noqa: B008 - it is a constant
    """The files of a folder in order, with role names replaced by `names`."""
    files = []
    for path in sorted(folder.glob("*.sql")):
        content = path.read_bytes()
        name = f"db/{folder.name}/{path.name}"
        files.append(SqlFile(name, names.named(content.decode()), hashlib.sha256(content).hexdigest()))
    return files


def version(db: Path = DB) -> str:
    """The fingerprint of all files of db/, which wallet.schema_version() returns once they are installed."""
    digest = hashlib.sha256()
    for file in _read(db / "migrations") + _read(db / "functions"):
        digest.update(f"{file.name} {file.checksum}\n".encode())
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
    tell: Tell | None = None,
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
        if app_password is not None and not shared_password:
            roles.check_password(conninfo, names, app_password)
        with psycopg.connect(conninfo, client_encoding="utf8", autocommit=True) as connection:
            if session.is_shared_for(connection, conninfo):
                raise MigrationRefused(
                    "A pooler in transaction mode is in front of the database, and a migration needs a session of its "
                    "own: give migrate a DATABASE_URL that leads to PostgreSQL itself."
                )
            notes = _migrate(connection, conninfo, db, names, back, tell or (lambda line: None))
        if app_password is not None:
            roles.set_password(conninfo, names.app, app_password)
    except psycopg.Error as error:
        if error.sqlstate is None:
            raise
        raise MigrationRefused(f"The migration failed: {error}") from error
    return notes


def _migrate(
    connection: psycopg.Connection, conninfo: str, db: Path, names: Roles, back: bool, tell: Tell
) -> list[str]:
    connection.execute(_SESSION)
    _take_turn(connection, tell)
    this = version(db)
    files, functions = _read(db / "migrations", names), _read(db / "functions", names)
    applied: list[SqlFile] = []
    building: SqlFile | None = None
    try:
        while True:
            with connection.transaction():
                pending = _begin(connection, files, names, None if back else this)
                together = list(itertools.takewhile(lambda file: not concurrent_indexes.is_one(file), pending))
                _apply(connection, together, names)
                last = together == pending
                notes = _install(connection, functions, names, this) if last else []
            applied += together
            if last:
                return [f"applied {_name(file)}" for file in applied] + notes
            building = pending[len(together)]
            _apply_alone(connection, building, names, conninfo, tell)
            applied.append(building)
            building = None
    except FileFailed as failure:
        raise FileFailed(failure.name, failure.error, _left(applied, building)) from failure.error
    except (MigrationRefused, psycopg.Error) as error:
        if not (applied or building) or (isinstance(error, psycopg.Error) and error.sqlstate is None):
            raise
        raise MigrationRefused(f"The migration ended, and {_left(applied, building)}: {error}") from error


def _left(applied: list[SqlFile], building: SqlFile | None) -> str:
    """What a failed migration has left behind."""
    if not applied and building is None:
        return "nothing was changed"
    left = [f"what was applied before it stays ({', '.join(map(_name, applied))})"] if applied else []
    left += ["an invalid index may remain until it has run again"] if building is not None else []
    return f"{', '.join(left)}; the functions are as they were"


def _take_turn(connection: psycopg.Connection, tell: Tell) -> None:
    """Takes the session lock, by polling: see the module's docstring."""
    begin = time.monotonic()
    told = False
    while connection.execute("select pg_try_advisory_lock(%s)", [_SESSION_LOCK]).fetchone() != (True,):
        waited = time.monotonic() - begin
        if waited > _TURN_LIMIT:
            raise MigrationRefused(
                f"Another migration of this database has been under way for {_TURN_LIMIT:.0f} s"
                f"{_turn_holder(connection)}; nothing was changed by this one. Run it again when the other has ended."
            )
        if waited > concurrent_indexes.LOOK_INTERVAL and not told:
            tell(f"waits for another migration of this database{_turn_holder(connection)}")
            told = True
        time.sleep(_TURN_INTERVAL)


def _turn_holder(connection: psycopg.Connection) -> str:
    row = connection.execute(
        """select lock.pid from pg_locks as lock join pg_database as database on database.oid = lock.database
           where lock.locktype = 'advisory' and lock.granted and database.datname = current_database()
             and lock.classid::bigint << 32 | lock.objid::bigint = %s""",
        [_SESSION_LOCK],
    ).fetchone()
    return f" (process {row[0]} in pg_stat_activity)" if row else ""


def _begin(
    connection: psycopg.Connection, files: list[SqlFile], names: Roles, not_back_to: str | None
) -> list[SqlFile]:
    """Takes the transaction lock and returns the pending files. Refuses a database that does not match."""
    connection.execute("select set_config('lock_timeout', %s, true)", [f"{_TURN_LIMIT}s"])
    connection.execute("select pg_advisory_xact_lock(%s)", [_TRANSACTION_LOCK])
    connection.execute("select set_config('lock_timeout', %s, true)", [_LOCK_LIMIT])
    _check_encoding(connection)
    applied: list[tuple[str, str]] = []
    # to_regclass would require a right on the schema.
    known = connection.execute(
        "select from pg_tables where schemaname = 'ledger' and tablename = 'migration'"
    ).fetchone()
    if known is not None:
        roles.check_names(connection, names)
        roles.become_owner(connection, names)
        applied = connection.execute("select name, checksum from ledger.migration order by name").fetchall()
    pending = _pending(files, applied)
    if known is not None and not_back_to is not None:
        _check_direction(connection, not_back_to)
    connection.execute("reset role")
    return pending


def _apply(connection: psycopg.Connection, files: list[SqlFile], names: Roles) -> None:
    """Applies files within the transaction, and acts as the owner afterwards."""
    for file in files:
        installer.execute(connection, file)
        connection.execute("reset role")
    roles.check_weak(connection, names)
    roles.become_owner(connection, names)
    for file in files:
        _record(connection, file)


def _apply_alone(connection: psycopg.Connection, file: SqlFile, names: Roles, conninfo: str, tell: Tell) -> None:
    """Applies a file that cannot run in a transaction, as the owner."""
    roles.become_owner(connection, names, for_good=True)
    concurrent_indexes.run(connection, file, conninfo, tell)
    _record(connection, file)
    connection.execute("reset role")


def _record(connection: psycopg.Connection, file: SqlFile) -> None:
    connection.execute("insert into ledger.migration (name, checksum) values (%s, %s)", [_name(file), file.checksum])


def _install(connection: psycopg.Connection, functions: list[SqlFile], names: Roles, this: str) -> list[str]:
    """Installs the functions, and records that the database is at this version."""
    notes = installer.install(connection, functions, names.doors)
    connection.execute(
        """insert into ledger.rulebook (version)
           select %(version)s where wallet.schema_version() is distinct from %(version)s""",
        {"version": this},
    )
    connection.execute("reset role")
    for role in (names.ops, names.reporting):
        notes += roles.set_search_path(connection, role)
    return notes + roles.limit_connect(connection, names)


def _name(file: SqlFile) -> str:
    return Path(file.name).name


def _check_encoding(connection: psycopg.Connection) -> None:
    if connection.execute("show server_encoding").fetchone() != ("UTF8",):
        raise MigrationRefused("The wallet needs a database with the encoding UTF8: create database … encoding 'UTF8'.")


def _check_direction(connection: psycopg.Connection, this: str) -> None:
    """Refuses to go back: an instance of an old version that restarts must not restore its old rules."""
    rows = connection.execute("select version from ledger.rulebook order by id").fetchall()
    versions = [installed for (installed,) in rows]
    if this in versions[:-1] and versions[-1] != this:
        raise MigrationRefused(
            f"This program has version {this}, which this database has left for version {versions[-1]}. "
            "Run that version; or, to go back, run: server.py migrate."
        )


def _pending(files: list[SqlFile], applied: list[tuple[str, str]]) -> list[SqlFile]:
    """The files still to be applied, in order. Refuses files that do not continue those already applied."""
    by_name = {_name(file): file for file in files}
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
    for name in pending:
        if concurrent_indexes.is_one(by_name[name]):
            concurrent_indexes.statements(by_name[name])  # refuses a bad file before anything is applied
    return [by_name[name] for name in pending]
