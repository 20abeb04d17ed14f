"""Files of db/migrations/ that cannot run in a transaction: they build indexes while payments continue.

`create index` blocks payments until it is done. `create index concurrently` does not, but cannot run in a transaction.
If it fails, it is not rolled back but leaves an invalid index, so its file must be safe to run again from the start.
Such a file may hold only a few kinds of statements, which are checked before anything runs.
"""

import contextlib
import re
import threading
from collections.abc import Callable
from typing import Any

import psycopg

from wallet_api.database.installer import FileFailed, MigrationRefused, SqlFile

# The first line of such a file, where every reader sees it. Without it, the file fails: PostgreSQL refuses to build an
# index concurrently in a transaction.
MARK = "-- migrate: outside a transaction"

# The statements that it may hold. `drop index` needs the schema: the search_path does not
# contain it. `validate constraint` checks the existing rows while payments continue.
_STATEMENT = re.compile(
    r"(?:drop index concurrently if exists ledger\.(?P<dropped>\w+)"
    r"|create (?:unique )?index concurrently (?!if\b)(?P<created>\w+) on ledger\.[^;]+"
    r"|comment on index ledger\.\w+ is [^;]+"
    r"|alter table ledger\.\w+ validate constraint \w+) ?;"
)

# A build has to wait for other transactions, so the limits of the database or the user are lifted.
_LIMITS = ["lock_timeout", "statement_timeout", "transaction_timeout"]
# Seconds before the first report of what a migration waits for, and between two checks.
LOOK_INTERVAL = 1.0

# The transactions that a process waits for, in words.
_WAITED_FOR = """
    select case when blocking.pid = 0 then 'a prepared one'
           else concat_ws(' ', 'process', blocking.pid, 'of', usename, nullif(application_name, ''), state,
                          'since ' || date_trunc('second', xact_start)) end
    from unnest(pg_blocking_pids(%s)) as blocking (pid) left join pg_stat_activity as activity using (pid)
    order by 1"""

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
    parts = map(str.strip, re.split(r"(?<=;)[ \t]*\n", "\n".join(lines)))
    found = [part for part in parts if part]
    dropped = set()
    for statement in found:
        words = " ".join(statement.split())
        match = _STATEMENT.fullmatch(words)
        if match is None:
            raise MigrationRefused(
                f"{file.path} runs outside a transaction, so it should hold nothing but: drop index concurrently if "
                "exists ledger.…, create index concurrently … on ledger.…, comment on index ledger.…, alter table "
                "ledger.… validate constraint …, in lower case, each with one semicolon, at the end of a line. "
                f"It also holds: {words}"
            )
        dropped.add(match["dropped"])
        if match["created"] and match["created"] not in dropped:
            raise MigrationRefused(
                f"{file.path} should say: drop index concurrently if exists ledger.{match['created']}; before it "
                "creates that index: an earlier attempt may have left an invalid one."
            )
    return found


def run(connection: psycopg.Connection[Any], file: SqlFile, conninfo: str, tell: Tell) -> None:
    """Runs a file's statements on a connection in autocommit mode, without a time limit.

    Meanwhile, tells which transactions they wait for. Raises FileFailed.
    """
    over = threading.Event()
    watch = threading.Thread(target=_watch, args=(connection.info.backend_pid, file, conninfo, tell, over), daemon=True)
    # Older versions of PostgreSQL do not have all of these settings.
    connection.execute("select set_config(name, '0', false) from pg_settings where name = any (%s)", [_LIMITS])
    watch.start()
    try:
        for statement in statements(file):
            connection.execute(statement)
    except psycopg.Error as error:
        if error.sqlstate is None:
            raise
        raise FileFailed(file.path, error) from error
    finally:
        over.set()
        watch.join()
    connection.execute("select set_config(name, reset_val, false) from pg_settings where name = any (%s)", [_LIMITS])


def _watch(pid: int, file: SqlFile, conninfo: str, tell: Tell, over: threading.Event) -> None:
    """Tells which transactions the process waits for, whenever they change, until `over`."""
    told: list[str] = []
    while not over.wait(LOOK_INTERVAL):
        # Nothing depends on these reports: if no connection is left for them, there are none.
        with contextlib.suppress(psycopg.Error), psycopg.connect(conninfo, autocommit=True) as connection:
            others = [words for (words,) in connection.execute(_WAITED_FOR, [pid]).fetchall()]
            if others and others != told:
                tell(f"{file.path} waits for the end of a transaction: {'; '.join(others)}")
            told = others
