"""Files of db/migrations/ that cannot run in a transaction: they build indexes while payments continue.

`create index` blocks payments until it is done, and `create index concurrently` cannot run in a transaction. If it
fails, it is not rolled back but leaves an invalid index, and its file must be safe to run again from the start. So such
a file may hold only a few kinds of statements, which are checked before anything runs.
"""

import contextlib
import re
import threading
from collections.abc import Callable, Iterator

import psycopg
from psycopg import sql

from wallet_api.database.installer import FileFailed, MigrationRefused, SqlFile

# The first line of such a file, where every reader sees it. Without it, the file fails: PostgreSQL refuses to build an
# index concurrently in a transaction.
MARK = "-- migrate: outside a transaction"

# The statements that it may hold. `drop index` needs the schema: the search_path does not contain it.
_DROP = re.compile(r"drop index concurrently if exists ledger\.(\w+)")
_CREATE = re.compile(r"create (?:unique )?index concurrently (?!if\b)(\w+) on ledger\..+")
_COMMENT = re.compile(r"comment on index ledger\.\w+ is .+")
# Checks the existing rows while payments continue.
_VALIDATE = re.compile(r"alter table ledger\.\w+ validate constraint \w+")

# A build has to wait for other transactions, so the limits of the database or the user are lifted.
_LIMITS = ["lock_timeout", "statement_timeout", "transaction_timeout"]
# Seconds before the first report of what a migration waits for, and between two checks.
LOOK_INTERVAL = 1.0

Tell = Callable[[str], None]


def is_one(file: SqlFile) -> bool:
    """Whether a file runs outside a transaction."""
    return file.text.partition("\n")[0] == MARK


def statements(file: SqlFile) -> list[str]:
    """The statements of such a file. Raises MigrationRefused if it holds anything else.

    A statement ends with a `;` at the end of a line and contains no other `;`, not even in a string or a comment, so no
    parser is needed. Lines that begin with -- are skipped.
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
                    "that index: an earlier attempt may have left an invalid one."
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
        f"constraint …, in lower case, each with one semicolon, at the end of a line. It also holds: {words}"
    )


def run(connection: psycopg.Connection, file: SqlFile, conninfo: str, tell: Tell) -> None:
    """Runs a file's statements on a connection in autocommit mode, without a time limit.

    Meanwhile, tells which transactions they wait for. Raises FileFailed.
    """
    # Older versions of PostgreSQL do not have all of them.
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
                raise FileFailed(file.name, error, "an invalid index may remain") from error
    for limit in limits:
        connection.execute(sql.SQL("reset {}").format(limit))


@contextlib.contextmanager
def _telling(pid: int, file: SqlFile, conninfo: str, tell: Tell) -> Iterator[None]:
    """Tells, from a thread, which transactions the process waits for, whenever they change."""
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
    # Nothing depends on these reports: if no connection is left for them, there are none.
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
    """Descriptions of the transactions that a process waits for."""
    rows = connection.execute(
        """select case when blocking.pid = 0 then 'a prepared one'
                  else concat_ws(' ', 'process', blocking.pid, 'of', usename, nullif(application_name, ''), state,
                                 'since ' || date_trunc('second', xact_start)) end
           from unnest(pg_blocking_pids(%s)) as blocking (pid) left join pg_stat_activity as activity using (pid)
           order by 1""",
        [pid],
    ).fetchall()
    return [words for (words,) in rows]
