"""The clock of the database's server is set back an hour, while it runs: the past does not change."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from tests.faults.postgres import Postgres
from tests.support import account, ledger_problems, pay, payment_body, serving, wait_until

LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))


class Clock:
    """The clock of a PostgreSQL, by libfaketime: ahead or behind by whole seconds."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.set(0)

    def set(self, seconds: int) -> None:
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+d}s\n")
        new.rename(self._file)

    @contextmanager
    def preloaded(self) -> Iterator[None]:
        """Programs that are started meanwhile have this clock."""
        names = {
            "LD_PRELOAD": str(LIBRARIES[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        os.environ.update(names)
        try:
            yield
        finally:
            for name in names:
                del os.environ[name]


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    if not LIBRARIES:
        pytest.skip("needs libfaketime: apt-get install faketime")
    return Clock(tmp_path / "clock")


@pytest.fixture
def server(tmp_path: Path, clock: Clock, postgres_template: Path) -> Iterator[Postgres]:
    running = Postgres(tmp_path / "server", template=postgres_template)
    try:
        with clock.preloaded():  # for PostgreSQL alone
            running.start()
        yield running
    finally:
        running.close()


def test_what_was_told_of_the_past_stays_when_the_clock_is_set_back(server: Postgres, clock: Clock) -> None:
    with (
        psycopg.connect(server.conninfo(), autocommit=True) as admin,
        serving(DATABASE_URL=server.conninfo()) as service,
        service.client() as api,
    ):
        one, other = account(admin, "one", 1000), account(admin, "other", 1000)

        def time_of_payment(amount: str) -> datetime:
            return datetime.fromisoformat(pay(api, one, other, amount).json()["OperationTimestamp"])

        def told(moment: datetime) -> tuple[str, str, int]:
            at = {"at": moment.isoformat().replace("+00:00", "Z")}
            to = {"to": at["at"]}
            return (
                api.get(f"/account/{one}", params=at).json()["Amount"],
                api.get(f"/account/{one}/statement", params=to).text,
                len(api.get("/payments", params=to).json().get("Payments", [])),
            )

        def now() -> datetime:
            [(moment,)] = admin.execute("select clock_timestamp()").fetchall()
            assert isinstance(moment, datetime)
            return moment

        first = time_of_payment("3")
        asked = now()
        before = told(asked)
        assert before[0] == "997"

        clock.set(-3600)
        wait_until(lambda: now() < asked - timedelta(minutes=30))
        second = time_of_payment("2.5")
        [batch] = api.post(
            "/payments/batch",
            json={"Payments": [payment_body(other, one, "0.5")]},
        ).json()["Results"]
        assert told(asked) == before
        assert api.get(f"/account/{one}").json()["Amount"] == "995"
        assert first < asked < second <= datetime.fromisoformat(batch["OperationTimestamp"])

        clock.set(0)
        wait_until(lambda: now() > asked)
        third = time_of_payment("1")
        assert second <= third
        assert told(asked) == before
        assert ledger_problems(admin) == []


def test_without_a_question_the_times_of_an_account_do_not_go_back_either(server: Postgres, clock: Clock) -> None:
    with psycopg.connect(server.conninfo(), autocommit=True) as admin:
        one, other = account(admin, "one", 1000), account(admin, "other", 1000)
        times = []
        for seconds in (0, -3600, 60, -60, 0):
            clock.set(seconds)
            for _ in range(3):
                [(moment,)] = admin.execute(
                    "select operation_timestamp from wallet.make_payment(%s, %s, 1)", [one, other]
                ).fetchall()
                times.append(moment)
        assert times == sorted(times)
        assert len(set(times)) > 3


def test_a_hold_expires_by_the_clock(server: Postgres, clock: Clock) -> None:
    """It does not hold for an hour longer because payments keep a later time."""
    with psycopg.connect(server.conninfo(), autocommit=True) as admin:
        one, other = account(admin, "one", 10), account(admin, "other", 10)
        admin.execute("select wallet.make_payment(%s, %s, 1)", [one, other])
        clock.set(-3600)
        [(made, expires, now)] = admin.execute(
            "select operation_timestamp, expires_at, clock_timestamp() from wallet.create_hold(%s, %s, 1, 60)",
            [one, other],
        ).fetchall()
        assert made <= now
        assert expires == made + timedelta(seconds=60)
