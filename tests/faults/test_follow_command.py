"""`python server.py follow`, for pipes."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from tests.faults.postgres import Postgres
from tests.support import PROJECT, account, command, sentence, wait_until


@contextmanager
def following(conninfo: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "server.py", "follow", *arguments],
        cwd=PROJECT,
        env={"PATH": os.environ["PATH"], "DATABASE_URL": conninfo},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
        if process.poll() is None:
            process.terminate()
            assert process.wait(20) == 0
    finally:
        process.kill()
        process.communicate()


def next_events(process: subprocess.Popen[str], number: int) -> list[dict[str, Any]]:
    assert process.stdout is not None
    return [json.loads(process.stdout.readline()) for _ in range(number)]


def pay(primary: Postgres) -> None:
    with psycopg.connect(primary.conninfo(), autocommit=True) as connection:
        connection.execute("select wallet.make_payment(1, 2, 1)")


def test_it_prints_each_event_once_although_the_database_is_killed(primary: Postgres) -> None:
    with psycopg.connect(primary.conninfo(), autocommit=True) as connection:
        account(connection, "buyer", 100)
        account(connection, "seller")
    with following(primary.conninfo(), "--after", "0.1") as process:
        [first] = next_events(process, 1)
        assert {name: first[name] for name in ("Cursor", "Event", "AccountID", "Name", "Amount")} == {
            "Cursor": "0.2",
            "Event": "account_created",
            "AccountID": 2,
            "Name": "seller",
            "Amount": "0",
        }
        pay(primary)
        pay(primary)
        assert [event["PaymentID"] for event in next_events(process, 2)] == [1, 2]
        primary.kill()
        assert process.stderr is not None
        assert process.stderr.readline().startswith("server.py: the feed cannot be read: ")
        primary.start()
        for _ in range(3):
            pay(primary)
        ids = [event["PaymentID"] for event in next_events(process, 3)]
        with psycopg.connect(primary.conninfo()) as connection:
            made = connection.execute("select id from ledger.payment order by id").fetchall()
        assert [1, 2, *ids] == [id_ for (id_,) in made]


def test_it_ends_quietly_with_its_reader(primary: Postgres) -> None:
    with psycopg.connect(primary.conninfo(), autocommit=True) as connection:
        account(connection, "buyer", 100)
        account(connection, "seller")
        with following(primary.conninfo()) as process:
            assert process.stdout is not None
            next_events(process, 2)
            process.stdout.close()
            account(connection, "third")
            wait_until(lambda: process.poll() is not None)
            assert process.stderr is not None
            assert process.stderr.read() == ""


def test_what_it_cannot_follow_is_an_error(primary: Postgres) -> None:
    refused = command("follow", "--after", "latest", DATABASE_URL=primary.conninfo())
    assert (refused.returncode, refused.stdout, refused.stderr) == (1, "", f"server.py: {sentence('WB063')}\n")
    missing = command("follow", DATABASE_URL=primary.conninfo("postgres"))
    assert (missing.returncode, missing.stdout) == (1, "")
    assert "there is no wallet of this version" in missing.stderr
