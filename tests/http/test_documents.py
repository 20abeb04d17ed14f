"""The sessions of README and docs/tour.md give, on a new database, what is shown there, byte for byte."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from psycopg.conninfo import make_conninfo

from tests.conftest import postgres_programs
from tests.support import PROJECT, serving
from wallet_api import embedded

# A command on a line of its own, and what it gives on the lines below it: "$ curl …", or "wallet=> …" in psql.
STEP = re.compile(r"^(?:\$ (curl .*)|wallet=> (.*))\n((?:(?!\$ |wallet=> |```).*\n)*)", re.MULTILINE)
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


def psql(database: str, query: str) -> str:
    """What psql shows, without the blanks at the ends of its lines; of an error, the first line."""
    program = (postgres_programs() or embedded.wheel_programs()) / "psql"
    conninfo = make_conninfo(database, user="wallet_ops", options="-csearch_path=wallet")  # as migrate sets it
    done = subprocess.run([program, "-X", conninfo, "-c", query], capture_output=True, text=True, check=False)
    shown = done.stdout + done.stderr.partition("\n")[0]
    return "\n".join(line.rstrip() for line in shown.rstrip("\n").splitlines())


@pytest.fixture
def client(database: str) -> Iterator[httpx2.Client]:
    with serving(DATABASE_URL=database) as server, server.client() as client:
        yield client


@pytest.mark.parametrize(
    ("document", "curls", "queries", "refusals"), [("README.md", 12, 0, 1), ("docs/tour.md", 37, 14, 8)]
)
def test_a_session(
    client: httpx2.Client, database: str, document: str, curls: int, queries: int, refusals: int
) -> None:
    steps = STEP.findall(Path(PROJECT / document).read_text().partition("\n## In psql\n")[0])
    done = {"curl": 0, "psql": 0, "refused": 0}
    shown_moments: dict[str, str] = {}
    for command, query, shown in steps:
        if command:
            status, answer = curl(client, command)
            done["curl"] += 1
            done["refused"] += status != 200
            assert status == (200 if '{"Error"' not in shown else status)
        else:
            answer = psql(database, query)
            done["psql"] += 1
        # The moment is the only thing that differs; it is the same one wherever the document shows the same.
        for then, now in zip(MOMENT.findall(shown), MOMENT.findall(answer), strict=True):
            assert shown_moments.setdefault(then, now) == now
            answer = answer.replace(now, then)
        assert answer == shown.rstrip("\n"), command or query
    assert done == {"curl": curls, "psql": queries, "refused": refusals}
    assert shown_moments
