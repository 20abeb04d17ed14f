"""Brings a database to the version of db/: migrations once each, functions every time.

Files of db/migrations/ are applied in the order of their numbers. Consecutive files share a transaction, the last ones
with the functions: as a rule there is one transaction, and it does everything or nothing. Only a file that cannot run
in a transaction (database.concurrent_indexes) comes between two transactions. If a migration is interrupted there,
instances of the previous version still find their functions, and continue; the next migrate resumes.

Any number of callers at once take turns; all but the first find nothing to do. Two locks see to that:

- One belongs to the session, from the beginning to the end. Whoever waits for it asks again and again, instead of
  waiting in PostgreSQL: who waits there keeps a snapshot, an index that is built concurrently waits for all older
  snapshots, and its builder would have the lock.
- The other one belongs to each transaction, and is all that versions before this one know. They do wait for it in
  PostgreSQL, with a snapshot, so it is not held while an index is built. What they may do then is what they may do
  before: to install their functions once more, or, when a newer file was applied, to refuse.
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

# Any numbers will do that nobody else's program uses with advisory locks in this database.
_SESSION_LOCK = 0x4D494752415445  # "MIGRATE"
_TRANSACTION_LOCK = 0x57414C4C4554  # "WALLET"
# Seconds to wait for each of them.
_TURN_LIMIT = 60.0
_TURN_INTERVAL = 0.05
# Shorter than payments wait: while a change of a table waits for its lock, they queue behind it.
_LOCK_LIMIT = "3s"

# A session whose process was killed ends soon, instead of building an index for nobody (which Windows cannot tell).
_SESSION = """
    select set_config('search_path', 'pg_catalog, pg_temp', false),
           set_config('quote_all_identifiers', 'off', false),
           set_config('client_connection_check_interval',
                      case when version() ~ 'Visual C|mingw' then '0' else '1s' end, false)"""


def _read(folder: Path, names: Roles = Roles()) -> list[SqlFile]:  # noqa: B008 - it is a constant
    """The files of a folder, with the names of the roles that they are for."""
    files = []
    for path in sorted(folder.glob("*.sql")):
        content = path.read_bytes()
        name = f"db/{folder.name}/{path.name}"
        files.append(SqlFile(name, names.named(content.decode()), hashlib.sha256(content).hexdigest()))
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
    """Brings the database to this version and returns what was done, a line each.

    Safe to run any number of times, by any number of processes at once. `app_password`, if given, becomes the
    password of the role wallet_app; where other databases use that role, only with `shared_password`. The names of
    all roles begin with `role_prefix`. Without `back`, a database that has left this version for another one
    stays there. `tell` is called meanwhile, perhaps by another thread, with what it waits for.

    It waits a minute for its turn, and some seconds for a table that it changes. There is no limit to how long an index
    is built concurrently, nor to how long that waits for the transactions of others, pg_dump's for instance: nobody
    waits for it but other migrations, and to give up would leave nothing better behind.

    Raises MigrationRefused, or psycopg.OperationalError where the database cannot be reached. Then nothing has
    changed; or, where there was a file that cannot run in a transaction, the text says what was applied and stays, and
    the functions are as they were.
    """
    names = Roles(role_prefix)
    try:
        if app_password is not None and not shared_password:
            roles.check_password(conninfo, names, app_password)
        with psycopg.connect(conninfo, client_encoding="utf8", autocommit=True) as connection:
            if session.is_shared_for(connection, conninfo):
                raise MigrationRefused(
                    "A pooler in transaction mode stands before the database, and would mix up what belongs to the "
                    "session of a migration: give migrate a DATABASE_URL that leads to PostgreSQL itself."
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
    """What a migration that failed has left behind."""
    if not applied and building is None:
        return "nothing was changed"
    left = [f"what was applied before it stays ({', '.join(map(_name, applied))})"] if applied else []
    left += ["an index that is not valid may be there until it has run again"] if building is not None else []
    return f"{', '.join(left)}; the functions are as they were"


def _take_turn(connection: psycopg.Connection, tell: Tell) -> None:
    """Takes the lock that the session keeps until it ends. Asks again and again: see above."""
    begin = time.monotonic()
    told = False
    while connection.execute("select pg_try_advisory_lock(%s)", [_SESSION_LOCK]).fetchone() != (True,):
        waited = time.monotonic() - begin
        if waited > _TURN_LIMIT:
            raise MigrationRefused(
                f"Another migration of this database has been under way for {_TURN_LIMIT:.0f} s"
                f"{_turn_holder(connection)}; nothing was changed by this one. Run it again when that is over."
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
    """Begins a transaction's work: the other lock, and a look at what is still to be applied."""
    connection.execute("select set_config('lock_timeout', %s, true)", [f"{_TURN_LIMIT}s"])
    connection.execute("select pg_advisory_xact_lock(%s)", [_TRANSACTION_LOCK])
    connection.execute("select set_config('lock_timeout', %s, true)", [_LOCK_LIMIT])
    _check_encoding(connection)
    applied: list[tuple[str, str]] = []
    # not to_regclass, which asks for a right on the schema
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
    """Applies files within the transaction, and becomes the owner."""
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
    """Installs the functions, and says that the database is at this version."""
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
            concurrent_indexes.statements(by_name[name])  # before anything is done
    return [by_name[name] for name in pending]
