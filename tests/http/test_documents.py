"""The sessions of README, docs/tour.md and docs/recipes.md give, on a new database, what is shown, byte for byte."""

import json
import re
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx2
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.conftest import Connection, postgres_programs
from tests.support import PROJECT, account, open_account, serving, wait_until, waiting_for_locks
from wallet_api.database import embedded

# A command on a line of its own, and what it gives on the lines below it: "$ curl …", or in psql "wallet=> …", and
# "wallet=# …" where a superuser says it.
STEP = re.compile(r"^(?:\$ (curl .*)|wallet=([>#]) (.*))\n((?:(?!\$ |wallet=[>#] |```).*\n)*)", re.MULTILINE)
# Opens psql for the rest of the section, as wallet_ops or as a person.
LOGIN = re.compile(r"^\$ (?:PGUSER=(\w+) )?make psql$", re.MULTILINE)
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


def curl(client: httpx2.Client, command: str) -> tuple[int, str]:
    """Does what curl would do, for the few options that the sessions use; gives the status too."""
    command, _, wanted = command.partition(" | grep -i ^")
    words = iter(shlex.split(command)[1:])
    url, method, data, headers = "", "GET", None, {"Content-Type": "application/x-www-form-urlencoded"}
    for word in words:
        if word == "-d":
            method, data = "POST", next(words).encode()
        elif word == "-X":
            method = next(words)
        elif word == "-H":
            name, _, value = next(words).partition(": ")
            headers[name] = value
        elif not word.startswith("-"):
            url = word.removeprefix("http://localhost:8080")
    response = client.request(method, url, content=data, headers=headers)
    assert response.headers["content-type"] == "application/json"
    if wanted:
        lines = [f"{name}: {value}" for name, value in response.headers.items()]
        return response.status_code, "\n".join(line for line in lines if line.startswith(wanted))
    return response.status_code, response.text


def psql(database: str, user: str, query: str) -> str:
    """What psql shows, without the blanks at the ends of its lines; of an error, the first line."""
    program = (postgres_programs() or embedded.wheel_programs()) / "psql"
    conninfo = make_conninfo(database, user=user, options="-csearch_path=wallet")  # as migrate sets it
    done = subprocess.run([program, "-X", conninfo, "-c", query], capture_output=True, text=True, check=False)
    shown = done.stdout + done.stderr.partition("\n")[0]
    return "\n".join(line.rstrip() for line in shown.rstrip("\n").splitlines())


def replayed(client: httpx2.Client, database: str, text: str) -> int:
    """Replays the steps of a session, each of which gives what the text shows; returns how many there were."""
    steps = list(STEP.finditer(text))
    shown_moments: dict[str, str] = {}
    for step in steps:
        command, prompt, query, shown = step.groups(default="")
        if command:
            status, answer = curl(client, command)
            assert status == 200 or '{"Error"' in shown or "error-" in shown
        else:
            section = text[: step.start()].rpartition("\n#")[2]
            person = ["", *LOGIN.findall(section)][-1] or "wallet_ops"
            answer = psql(database, person if prompt == ">" else "postgres", query)
        # Moments are all that differs: equal ones in the text are equal in the session.
        for then, now in zip(MOMENT.findall(shown), MOMENT.findall(answer), strict=True):
            assert shown_moments.setdefault(then, now) == now
            answer = answer.replace(now, then)
        assert answer == shown.rstrip("\n"), command or query
    return len(steps)


@pytest.fixture
def client(database: str) -> Iterator[httpx2.Client]:
    with serving(DATABASE_URL=database) as server, server.client() as client:
        yield client


@pytest.mark.parametrize("document", ["README.md", "docs/tour.md", "docs/recipes.md"])
def test_a_session(client: httpx2.Client, database: str, document: str) -> None:
    text = (PROJECT / document).read_text()
    steps = re.findall(r"^(\$ curl|wallet=[>#])", text, re.MULTILINE)
    assert steps
    try:
        assert replayed(client, database, text) == len(steps)
    finally:
        with psycopg.connect(database) as admin:
            admin.execute("drop role if exists anna, carl")  # who belong to the whole server


CHANGING = (PROJECT / "docs/changing.md").read_text().split("\n## ")[1:]


@pytest.mark.parametrize("example", CHANGING, ids=[example.partition("\n")[0] for example in CHANGING])
def test_a_worked_example_of_a_change(bare_database: str, tmp_path: Path, example: str) -> None:
    [patch] = re.findall(r"^```diff\n(.*?)^```", example, re.MULTILINE | re.DOTALL)
    ignored = shutil.ignore_patterns(".*", "__pycache__")
    tree = Path(shutil.copytree(PROJECT, tmp_path / "tree", ignore=ignored))
    apply = ["git", "apply", "--unidiff-zero", "-"]
    subprocess.run(apply, cwd=tree, input=patch, text=True, check=True)
    [modules] = re.findall(r"^\.venv/bin/python -m pytest (.*)$", example, re.MULTILINE)
    # With a folder of its own, pytest does not remove those of earlier runs, which takes long.
    for command in (["tools.generate"], ["pytest", "-q", f"--basetemp={tmp_path / 'own'}", *modules.split()]):
        done = subprocess.run([sys.executable, "-m", *command], cwd=tree, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    with serving(tree, DATABASE_URL=bare_database) as server, server.client() as client:
        with psycopg.connect(bare_database) as admin:
            for name in ("buyer", "seller"):
                account(admin, name)
        assert replayed(client, bare_database, example) > 0


def test_the_recipe_for_who_waits_names_both(admin: Connection, database: str) -> None:
    section = (PROJECT / "docs/recipes.md").read_text().partition("\n## Find who holds a lock\n")[2]
    [(_, _, query, _), *_] = STEP.findall(section)
    for name in ("buyer", "seller"):
        account(admin, name, 6)

    def pay() -> None:
        with psycopg.connect(database, user="wallet_ops") as ops:
            ops.execute("select wallet.make_payment(1, 2, 5)")

    with psycopg.connect(database) as holder:
        holder.execute("select wallet.make_payment(1, 2, 1)")
        waiter = threading.Thread(target=pay)
        waiter.start()
        [waiting] = waiting_for_locks(admin, 1)
        [(pid, user, waits_for, *_)] = admin.execute(query.encode()).fetchall()
        assert (pid, user, waits_for) == (waiting, "wallet_ops", [holder.info.backend_pid])
    waiter.join()


@pytest.mark.parametrize(
    "document", sorted(str(path.relative_to(PROJECT)) for path in [*PROJECT.glob("*.md"), *PROJECT.glob("d*/*.md")])
)
def test_links_lead_somewhere(document: str) -> None:
    path = PROJECT / document
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", path.read_text()):
        file = (path.parent / target).resolve() if target else path
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings]


def test_a_worker_keeps_as_many_connections_as_the_document_says(admin: Connection, database: str) -> None:
    assert "= instances × workers × (pool + pool / 2 + 5)" in (PROJECT / "docs/operations.md").read_text()

    def connections() -> int:
        ours = "datname = current_database() and application_name = 'wallet'"
        [(number,)] = admin.execute(f"select count(*) from pg_stat_activity where {ours}").fetchall()
        return int(number)

    with serving(DATABASE_URL=database, WALLET_POOL_SIZE="6", WEB_CONCURRENCY="2") as server, server.client() as api:
        wait_until(lambda: connections() >= 2 * (6 + 3 + 5))
        assert [api.get(path).status_code for path in ("/readyz", "/accounts", "/readyz")] == [200] * 3
        assert connections() == 2 * (6 + 3 + 5)


def test_the_recipe_delivers_webhooks_in_order_and_at_least_once(client: httpx2.Client, tmp_path: Path) -> None:
    text = (PROJECT / "docs/recipes.md").read_text()
    [program] = re.findall(r"## Deliver webhooks\n.*?```python\n(.*?)```", text, re.DOTALL)
    received: list[str] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["Cursor"])
            self.send_response(500 if len(received) == 2 else 204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Hook) as hook:
        threading.Thread(target=hook.serve_forever).start()
        program = program.replace("http://localhost:8080", str(client.base_url).rstrip("/"))
        program = program.replace("https://shop.example/wallet-events", f"http://127.0.0.1:{hook.server_port}/")
        program = program.replace("time.sleep(5)", "time.sleep(0.1)")
        for name in ("one", "two", "three"):
            open_account(client, name)
        delivered = ["0.1", "0.2", "0.2", "0.3"]  # the second one was answered with 500, and is delivered again
        for expected in (delivered, [*delivered, "0.4"]):
            with subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path) as process:
                wait_until(lambda wanted=expected: received == wanted)  # type: ignore[misc]
                wait_until(lambda wanted=expected: (tmp_path / "cursor").read_text() == wanted[-1])  # type: ignore[misc]
                process.kill()
            open_account(client, "four" if expected == delivered else "five")
        hook.shutdown()
