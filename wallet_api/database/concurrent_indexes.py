"""Files of db/migrations/ that cannot run in a transaction: indexes that are built while payments go on.

`create index` would lock payments out until it is done, and `create index concurrently` refuses to be part of a
transaction. So it is not undone where it fails: it leaves an index that is not valid, and its file has to be of a kind
that can be run again from its start. Hence what such a file may hold is little, and looked at before anything is run.
"""

import contextlib
import re
import threading
from collections.abc import Callable, Iterator

import psycopg
from psycopg import sql

from wallet_api.database.installer import FileFailed, MigrationRefused, SqlFile

# The first line of such a file. It stands in the file, which then says of itself what it is to whoever reads it, and in
# the first line, so that nobody has to look for it. A file that has forgotten it fails: PostgreSQL sees to that.
MARK = "-- migrate: outside a transaction"

# What it may hold. The index's name is qualified where it is dropped: else it would be looked for elsewhere.
_DROP = re.compile(r"drop index concurrently if exists ledger\.(\w+)")
_CREATE = re.compile(r"create (?:unique )?index concurrently (?!if\b)(\w+) on ledger\..+")
_COMMENT = re.compile(r"comment on index ledger\.\w+ is .+")
# Looks at the rows that are there, while payments go on.
_VALIDATE = re.compile(r"alter table ledger\.\w+ validate constraint \w+")

# Such a build waits for others' transactions, and should: whatever limits this database has for its users.
_LIMITS = ["lock_timeout", "statement_timeout", "transaction_timeout"]
# Seconds after which it is worth to be told what is waited for, and between two looks at it.
LOOK_INTERVAL = 1.0

Tell = Callable[[str], None]


def is_one(file: SqlFile) -> bool:
    """Whether a file runs outside a transaction."""
    return file.text.partition("\n")[0] == MARK


def statements(file: SqlFile) -> list[str]:
    """The statements of such a file, one by one. Refuses a file that holds anything else.

    A statement goes to the `;` at the end of a line, and has no other one, not in a string or a comment either: so
    nothing has to be parsed to know where it ends. Lines that begin with -- are left out.
    """
    lines = [line for line in file.text.splitlines() if not line.lstrip().startswith("--")]
    *found, rest = re.split(r";[ \t]*(?:\n|\Z)", "\n".join(lines))
    dropped = set()
    for statement in map(str.strip, found):
        words = " ".join(statement.split())
        if match := _DROP.fullmatch(words):
            dropped.add(match[1])
        elif match := _CREATE.fullmatch(words):
            if match[1] not in dropped:
                raise MigrationRefused(
                    f"{file.name} should say: drop index concurrently if exists ledger.{match[1]}; before it creates "
                    "that index: one that is not valid may be there already, from an attempt before."
                )
        elif not (_COMMENT.fullmatch(words) or _VALIDATE.fullmatch(words)):
            raise _unfit(file, words)
        if ";" in words:
            raise _unfit(file, words)
    if rest.strip():
        raise _unfit(file, " ".join(rest.split()))
    return [statement.strip() for statement in found]


def _unfit(file: SqlFile, words: str) -> MigrationRefused:
    return MigrationRefused(
        f"{file.name} runs outside a transaction, so it should hold nothing but: drop index concurrently if exists "
        "ledger.…, create index concurrently … on ledger.…, comment on index ledger.…, alter table ledger.… validate "
        f"constraint …, in lower case, each with one semicolon, at the end of a line. This is something else: {words}"
    )


def run(connection: psycopg.Connection, file: SqlFile, conninfo: str, tell: Tell) -> None:
    """Runs a file's statements, on a connection in autocommit, without a limit of time.

    Tells, meanwhile, whose transactions they wait for. Raises FileFailed.
    """
    # those that this version of PostgreSQL has
    found = connection.execute("select name from pg_settings where name = any (%s)", [_LIMITS]).fetchall()
    limits = [sql.Identifier(name) for (name,) in found]
    for limit in limits:
        connection.execute(sql.SQL("set {} = 0").format(limit))
    with _telling(connection.info.backend_pid, file, conninfo, tell):
        for statement in statements(file):
            try:
                connection.execute(statement)
            except psycopg.Error as error:
                if error.sqlstate is None:
                    raise
                raise FileFailed(file.name, error, "an index that is not valid may be there") from error
    for limit in limits:
        connection.execute(sql.SQL("reset {}").format(limit))


@contextlib.contextmanager
def _telling(pid: int, file: SqlFile, conninfo: str, tell: Tell) -> Iterator[None]:
    """Tells whom the process waits for, whenever that changes: from a thread, as this one waits too."""
    over = threading.Event()
    thread = threading.Thread(target=_watch, args=(pid, file, conninfo, tell, over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _watch(pid: int, file: SqlFile, conninfo: str, tell: Tell, over: threading.Event) -> None:
    told: list[str] = []
    # Nothing depends on it: where there is no connection left for it, nothing is told.
    with contextlib.suppress(psycopg.Error):
        if over.wait(LOOK_INTERVAL):
            return
        with psycopg.connect(conninfo, autocommit=True) as connection:
            while True:
                others = _waited_for(connection, pid)
                if others and others != told:
                    tell(f"{file.name} waits for the end of a transaction: {'; '.join(others)}")
                told = others
                if over.wait(LOOK_INTERVAL):
                    return


def _waited_for(connection: psycopg.Connection, pid: int) -> list[str]:
    """Whom a process waits for, in words."""
    rows = connection.execute(
        """select case when blocking.pid = 0 then 'one that was prepared'
                  else concat_ws(' ', 'process', blocking.pid, 'of', usename, nullif(application_name, ''), state,
                                 'since ' || date_trunc('second', xact_start)) end
           from unnest(pg_blocking_pids(%s)) as blocking (pid) left join pg_stat_activity as activity using (pid)
           order by 1""",
        [pid],
    ).fetchall()
    return [words for (words,) in rows]
