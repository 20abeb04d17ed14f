"""What the files of db/ may hold, so that a migration does what it promises: all or nothing, or safe to run again."""

import re
from pathlib import Path

import pytest

from tests.support import PROJECT

pytestmark = pytest.mark.once

MIGRATIONS = sorted((PROJECT / "db/migrations").glob("*.sql"))
FILES = [*MIGRATIONS, *sorted((PROJECT / "db/functions").glob("*.sql"))]

# What a file may hold that builds indexes concurrently. `drop index` needs the schema: the search_path does not contain
# it. `validate constraint` checks the existing rows while payments continue.
CONCURRENT = re.compile(
    r"drop index concurrently if exists ledger\.(?P<dropped>\w+)"
    r"|create (?:unique )?index concurrently (?!if\b)(?P<created>\w+) on ledger\.[^;]+"
    r"|comment on index ledger\.\w+ is [^;]+"
    r"|alter table ledger\.\w+ validate constraint \w+"
)
DROP, CREATE = "drop index concurrently if exists ledger.i;", "create index concurrently i on ledger.payment (amount);"


def problems(text: str) -> list[str]:
    """What is wrong with a file that has the word "concurrently" in its statements.

    migrate recognizes it by an index that is built or dropped concurrently at the start of a line, and splits it where
    a semicolon ends a line. An earlier attempt may have left an invalid index, which the file has to drop.
    """
    lines = [line for line in text.splitlines(keepends=True) if not line.startswith("--")]
    if "concurrently" not in "".join(lines).lower():
        return []
    *statements, rest = "".join(lines).split(";\n")
    found = [f"it ends without a semicolon: {rest}"] if rest.strip() else []
    dropped = set()
    for statement in statements:
        words = " ".join(statement.split())
        match = CONCURRENT.fullmatch(words)
        if match is None:
            found.append(f"it should hold nothing but concurrent builds, one statement a line: {words}")
            continue
        dropped.add(match["dropped"])
        if match["created"] and match["created"] not in dropped:
            found.append(f"it should first drop {match['created']}")
    return found


def ends_transaction(text: str) -> bool:
    """Whether a statement of a file begins or ends a transaction."""
    text = re.sub(r"--[^\n]*|\$(\w*)\$.*?\$\1\$|'[^']*'", "", text, flags=re.DOTALL)
    words = r"begin|start|commit|end|rollback|abort|prepare|savepoint|release"
    return re.search(rf"(?:^|;)\s*(?:{words})\b", text, re.IGNORECASE) is not None


@pytest.mark.parametrize("file", MIGRATIONS, ids=lambda file: str(file.name))
def test_a_file_that_builds_indexes_concurrently_is_safe_to_run_again(file: Path) -> None:
    assert problems(file.read_text()) == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.name))
def test_no_file_ends_the_transaction(file: Path) -> None:
    assert not ends_transaction(file.read_text())


@pytest.mark.parametrize(
    "statements",
    [
        f"{DROP}\n{CREATE}\nupdate ledger.account set balance = 0;",
        f"{DROP}\n{CREATE}\ncreate index i on ledger.payment (amount);",
        f"{DROP}\ncreate index concurrently on ledger.payment (amount);",
        f"{DROP}\ncreate index concurrently if not exists i on ledger.payment (amount);",
        f"{DROP}\n{CREATE.upper()}",
        f"{DROP} {CREATE}",
        f"{DROP} -- why\n{CREATE}",
        f"{DROP}\n{CREATE[:-1]} where amount > 1; drop table ledger.payment;",
        f"{DROP}\n{CREATE}\nselect 1",
        f"drop index concurrently if exists i;\n{CREATE}",
        f"drop index concurrently ledger.i;\n{CREATE}",
        f"drop index if exists ledger.i;\n{CREATE}",
        f"{DROP}\n{CREATE}\ncomment on table ledger.payment is 'x';",
        f"begin;\n{DROP}",
        CREATE,
        f"{CREATE}\n{DROP}",
        f"{DROP.replace('.i', '.j')}\n{CREATE}",
    ],
)
def test_what_else_it_might_hold_is_noticed(statements: str) -> None:
    assert problems(f"{DROP}\n{CREATE}\n") == []
    assert problems(f"-- Why.\n{statements}\n") != []


@pytest.mark.parametrize("text", ["commit;", "select 1; Commit", "select 1;\nbegin;", "select $$;$$; end;"])
def test_the_end_of_a_transaction_is_noticed(text: str) -> None:
    assert ends_transaction(text)
