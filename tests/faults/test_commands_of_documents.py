"""Every command that README and docs print is run as printed, or is listed here with the reason why not."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.faults import test_backup as backup
from tests.faults.postgres import Postgres, free_port
from tests.support import PROJECT, wait_until

DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    *sorted(f"docs/{path.name}" for path in (PROJECT / "docs").glob("*.md")),
    "db/README.md",
]

# How a command begins in the documents: assignments, a program, and another word.
COMMAND = re.compile(
    r"(?:\$ )?(?:[A-Z_]+=\S+ )*(?:[A-Za-z_]+=\$\()?"
    r"(?:\.venv/bin/\S+|apt-get|caddy|cp|curl|docker|git|install|kubectl|make|openssl|pg_[a-z]+|pip|psql|python3?"
    r"|server\.py|ssh|vacuumdb|wallet) \S"
)

# Blocks that hold no commands, by their beginning.
NO_COMMANDS = {
    "README.md": ["server.py      starts the commands"],
    "docs/architecture.md": [
        "wallet_api.command_line", "client\n", "the transaction of", "a rule (db/", "database/installer.py",
    ],
    "docs/guarantees.md": ["DATABASE_URL=postgresql://wallet_app@one,two"],
    "docs/high-availability.md": ["clients ──"],
    "docs/installation.md": ["- job_name"],
    "docs/operations.md": ["max_connections", "# type"],
    "db/README.md": ["drop index"],
}  # fmt: skip

BACKUP = [
    backup.DUMP, backup.RESTORE_DUMP, backup.PROVE, backup.NIGHTLY, backup.RESTORE_NIGHTLY, backup.BACK_UP,
    backup.RESTORE, backup.ARCHIVE, backup.RESTORE_TO_MOMENT,
]  # fmt: skip

# Commands that are not run here, by document and beginning, with the reason.
NOT_RUN = [
    (".*", r"(GRAFANA_PASSWORD=\S+ )?docker |old=\$\(docker ", "needs Docker"),
    (".*", r"install --directory .*\n(.*\n)*docker compose", "needs Docker; the last test runs the rest"),
    (".*", "caddy |ssh ", "needs another machine"),
    (".*", "apt-get install ", "changes the machine"),
    (".*", r"pip install ['.]|wallet ", "make package installs the package and runs its command"),
    (
        "docs/high-availability.md",
        "cp deploy/ha/host.env ",
        "needs three hosts; tests/ha runs the cluster without Docker",
    ),
    ("docs/high-availability.md", "curl -i -d", "needs a standby; tests/faults/test_standbys.py carries positions"),
    ("docs/clients.md", ".*", "tests/clients runs the commands and the programs"),
    (".*", "kubectl ", "needs Kubernetes; tests/deploy runs what the manifests say"),
    ("docs/installation.md", "python3 -m venv /opt|systemctl ", "needs root and systemd; tests/deploy runs the units"),
    ("docs/installation.md", "DATABASE_URL_FILE=/etc/wallet/", "tests/deploy/test_documents.py runs it"),
    (
        "docs/installation.md",
        "create role wallet_owner|DATABASE_URL=postgresql://app_owner@",
        "tests/schema/test_dba.py",
    ),
    ("docs/installation.md", "psql --file=dist/wallet.sql ", "tests/schema/test_onefile.py installs the file"),
    (
        "docs/operations.md",
        "pg_dump --dbname=wallet --create|psql --dbname=postgres .*/wallet.sql|psql --no-psqlrc .*(OLD|NEW)|until psql",
        "tests/faults/test_postgres_upgrade.py runs them",
    ),
    ("CONTRIBUTING.md", r"\.venv/bin/python -m pytest ", "are tests themselves"),
    (".*", r"(python )?server\.py\b", "names a command of the program, which other tests run"),
    ("docs/changing.md", "diff --|--- a/|--- /dev/null|git apply", "tests/http/test_documents.py applies the patches"),
    ("docs/changing.md", r"\.venv/bin/python -m pytest ", "tests/http/test_documents.py runs them on the changed tree"),
    ("docs/(changing|recipes|tour).md", r"\$ |wallet=", "tests/http/test_documents.py replays the sessions"),
    ("docs/recipes.md", "import json", "tests/http/test_documents.py runs the program"),
    ("docs/operations.md", "|".join(map(re.escape, BACKUP)), "tests/faults/test_backup.py runs them"),
    (
        "docs/(operations|recipes).md",
        "pg_dumpall --no-role-passwords|psql --username",
        "is a variant of a command beside it",
    ),
    ("docs/performance.md", r"\.venv/bin/python -m tests\.bench\.console", "takes minutes"),
    (
        "docs/scaling.md",
        r"taskset -c 0 \.venv/bin/python -m tests\.bench\.cost",
        "needs wrk, and minutes on a quiet machine",
    ),
    (".*", r"\.venv/bin/python server\.py check --every", "never ends; tests/sql/test_check_ledger.py runs it"),
]

# Commands that take minutes, change the tree, or serve: "make -n" fails if their target is missing.
LOOKED_UP = re.compile(
    r"make (test|lint|package|clients|console|screenshots|soak|agree|fuzz|follow|bench|generate|run)\b"
)


class Printed(NamedTuple):
    """A block, or a command within a sentence."""

    document: str
    text: str

    def reason(self) -> str | None:
        """Why it is not run, or None."""
        for document, beginning, reason in NOT_RUN:
            if re.fullmatch(document, self.document) and re.match(beginning, self.text):
                return reason
        return None


def printed(document: str) -> list[Printed]:
    """The blocks and the commands of a document, in order."""
    found = []
    pattern = r"^( *)```\w*\n(.*?)^ *```$|`([^`]+)`"
    for match in re.finditer(pattern, (PROJECT / document).read_text(), re.MULTILINE | re.DOTALL):
        indent, block, words = match.groups()
        if block is not None:
            text = re.sub(f"^{indent}", "", block, flags=re.MULTILINE)
            found.append(Printed(document, text))
        elif COMMAND.match(words):
            found.append(Printed(document, " ".join(words.split())))
    return found


def has_commands(item: Printed) -> bool:
    return not any(item.text.startswith(beginning) for beginning in NO_COMMANDS.get(item.document, []))


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the source tree, with the dependencies of this one: nothing is downloaded."""
    tree = tmp_path_factory.mktemp("clone") / "tree"
    shutil.copytree(PROJECT, tree, ignore=shutil.ignore_patterns(".*", "__pycache__"))
    (tree / ".venv").mkdir()
    for name in ("bin", "lib", "pyvenv.cfg"):
        (tree / ".venv" / name).symlink_to(Path(sys.prefix) / name)
    for name in ("made", "installed", "installed-dev"):
        (tree / ".venv" / name).touch()
    (tree.parent / ".curlrc").write_text("silent\nshow-error\nfail-with-body\n")
    return tree


class Reader:
    """Follows the documents in the tree. The service has another port than 8080."""

    def __init__(self, tree: Path, **environment: str) -> None:
        self.tree, self.port = tree, str(free_port())
        kept = {name: value for name, value in os.environ.items() if name in ("PATH", "WALLET_POSTGRES_BIN")}
        self.environment = kept | {"HOME": str(tree.parent), "PORT": self.port} | environment

    def run(self, script: str, typed: str = "") -> str:
        """Runs commands, and returns what they print. Fails with all of it if one fails."""
        script = script.replace("localhost:8080", f"localhost:{self.port}")
        done = subprocess.run(
            ["bash", "-eo", "pipefail", "-c", f"exec 2>&1 19>trace; BASH_XTRACEFD=19; set -x\n{script}"],
            cwd=self.tree, env=self.environment, input=typed, capture_output=True, text=True, check=False,
        )  # fmt: skip
        traced = (self.tree / "trace").read_text()
        assert done.returncode == 0, f"the last of these commands failed:\n{traced}It printed:\n{done.stdout}"
        return done.stdout

    @contextmanager
    def serving(self, command: str) -> Iterator[None]:
        """Runs a command that serves, until Ctrl-C."""
        log = self.tree / "log"
        with log.open("w") as output:
            process = subprocess.Popen(
                ["bash", "-c", command], cwd=self.tree, env=self.environment, stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip
            try:
                wait_until(lambda: "Application startup complete" in log.read_text() or process.poll() is not None)
                assert process.poll() is None, log.read_text()
                yield
            finally:
                os.killpg(process.pid, signal.SIGINT)
                process.wait()


@pytest.fixture(scope="module")
def reader(tree: Path) -> Iterator[Reader]:
    """Has begun as README says, and has made what the sentences of the documents assume."""
    reader = Reader(tree)
    [begin] = [item.text for item in printed("README.md") if item.text == "make run\n"]
    with reader.serving(begin):
        reader.run("make psql PSQL=\"-U postgres -c 'create role anna login in role wallet_ops'\"")
        secret = reader.run(".venv/bin/python server.py key create admin --scopes read,pay,admin 2>/dev/null")
        reader.environment["SECRET"] = secret.strip()
        yield reader


def blank(text: str) -> list[str]:
    """Lines without their moments, blanks at their ends, and empty lines."""
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", "MOMENT", text)
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def test_the_sessions_of_readme_print_what_is_shown(reader: Reader) -> None:
    http, sql = (item.text for item in printed("README.md") if item.text.startswith("$ "))
    for command, shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", http, re.MULTILINE):
        assert blank(reader.run(command)) == blank(shown), command
    command, *lines = sql.removeprefix("$ ").splitlines(keepends=True)
    typed = [line.removeprefix("wallet=> ") for line in lines if line.startswith("wallet=> ")]
    shown = [line for line in lines if not line.startswith("wallet=> ")]
    assert blank(reader.run(command, "".join(typed))) == blank("".join(shown))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_each_command_runs_as_printed(reader: Reader, document: str) -> None:
    script = ""
    for item in filter(has_commands, printed(document)):
        if item.reason() or (document == "README.md" and item.text.startswith(("$ ", "make install\n"))):
            continue  # the other tests run README's
        assert COMMAND.match(item.text), f"neither a command nor listed above:\n{item.text}"
        script += LOOKED_UP.sub(r"make -n \1", item.text) + "\n"
    reader.run(script)


def test_no_exception_is_out_of_date() -> None:
    items = [item for document in DOCUMENTS for item in printed(document)]
    assert {reason for *_, reason in NOT_RUN} - {item.reason() for item in items} == set()
    for document, beginnings in NO_COMMANDS.items():
        for beginning in beginnings:
            assert [item for item in items if item.document == document and item.text.startswith(beginning)]


def test_it_serves_from_a_postgresql_of_ones_own(tree: Path, tmp_path: Path) -> None:
    [block] = [item.text for item in printed("README.md") if item.text.startswith("make install\n")]
    *commands, serve = block.splitlines()
    postgres = Postgres(tmp_path / "own")
    try:
        with postgres.turn():
            postgres.start()
        reader = Reader(tree, PGPORT=str(postgres.port))
        assert "The database is at version " in reader.run("\n".join(commands))
        with reader.serving(serve):
            assert reader.run("curl http://localhost:8080/accounts") == "{}"
            assert "proved" in reader.run("DATABASE_URL=postgresql://postgres@localhost/wallet make check")
    finally:
        postgres.close()


def test_the_files_for_docker_are_written(tree: Path, tmp_path: Path) -> None:
    [block] = [item.text for item in printed("docs/installation.md") if item.text.startswith("install --directory")]
    (tmp_path / "docker").write_text("#!/bin/sh\n")
    (tmp_path / "docker").chmod(0o755)
    reader = Reader(tree, PATH=f"{tmp_path}:{os.environ['PATH']}")
    reader.run(block.replace("/etc/wallet", str(tmp_path / "wallet")))
    assert (tmp_path / "wallet").stat().st_mode & 0o777 == 0o700
    named = dict(line.split("=", 1) for line in (tree / ".env").read_text().splitlines())
    for name in ("POSTGRES_PASSWORD_FILE", "WALLET_APP_PASSWORD_FILE"):
        file = Path(named[name])
        assert re.fullmatch("[0-9a-f]{48}\n", file.read_text())
        assert file.stat().st_mode & 0o777 == 0o444
    assert len(named["GRAFANA_PASSWORD"]) == 24
