"""One cluster a session, a template database, a clone for each test that commits."""

import itertools
import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import hypothesis
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.support import serving
from wallet_api.database import embedded, migrations

# The tests speak plain HTTP. Each httpx2 client would read the certificates of all authorities all the same: 50 ms.
os.environ.pop("SSL_CERT_FILE", None)
os.environ["SSL_CERT_DIR"] = os.devnull

# Durability is not what these tests are about, and fsync off makes them fast.
_OPTIONS = {
    "fsync": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_connections": "400",
    "deadlock_timeout": "20ms",  # if there should be any, the tests will not take a second for each
}
# How long an example takes on a busy machine says nothing about the code.
hypothesis.settings.register_profile("wallet", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("wallet")
_names = (f"test_{number}" for number in itertools.count())

Connection = psycopg.Connection[Any]


def pytest_report_header() -> str:
    programs = postgres_programs()
    return f"PostgreSQL: {programs or embedded.wheel_programs()}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says how many faults the run caused, and how many payments were in flight when they struck."""
    in_flight: dict[str, list[int]] = defaultdict(list)
    for report in itertools.chain.from_iterable(terminalreporter.stats.values()):
        if getattr(report, "when", None) == "teardown":
            for kind, payments in dict(report.user_properties).get("faults", []):
                in_flight[kind].append(payments)
    if in_flight:
        terminalreporter.section("faults caused")
    for kind, payments in sorted(in_flight.items()):
        terminalreporter.line(f"{kind}: {len(payments)}, with {sum(payments)} payments in flight")


def postgres_programs() -> Path | None:
    folder = os.environ.get("WALLET_POSTGRES_BIN")
    return Path(folder) if folder else None


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL of the tests' own, migrated; a connection string for its superuser."""
    with embedded.running(tmp_path_factory.mktemp("cluster"), postgres_programs(), _OPTIONS) as conninfo:
        migrations.migrate(conninfo)
        yield conninfo


@pytest.fixture
def database(cluster: str) -> Iterator[str]:
    """A migrated database that the test may commit to: a connection string for its superuser."""
    yield from clone(cluster, "wallet")


@pytest.fixture
def bare_database(cluster: str) -> Iterator[str]:
    """A database with nothing in it: a connection string for its superuser."""
    yield from clone(cluster, "template0")


@pytest.fixture(scope="session")
def rolled_back_database(cluster: str) -> Iterator[str]:
    """A migrated database, empty for every test, because every test takes back what it did."""
    for conninfo in clone(cluster, "wallet"):
        migrations.migrate(conninfo)
        yield conninfo


@pytest.fixture(scope="session")
def http_database(cluster: str) -> Iterator[str]:
    """A migrated database for the tests over HTTP that do not mind what others left in it."""
    yield from clone(cluster, "wallet")


def clone(cluster: str, template: str) -> Iterator[str]:
    """A copy of a database, as long as it is needed: a connection string for its superuser."""
    name = next(_names)
    maintenance = make_conninfo(cluster, dbname="postgres")
    with psycopg.connect(maintenance, autocommit=True) as admin:
        admin.execute(f"create database {name} template {template}")
        yield make_conninfo(cluster, dbname=name)
        admin.execute(f"drop database {name} with (force)")


@pytest.fixture
def admin(database: str) -> Iterator[Connection]:
    """A superuser's connection to the test's own database; every statement commits."""
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


# One connection for all of them, which has prepared its functions once: a new one would take longer than most tests.
@pytest.fixture(scope="session")
def ops_connection(rolled_back_database: str) -> Iterator[Connection]:
    with psycopg.connect(rolled_back_database, user="wallet_ops") as connection:
        yield connection


@pytest.fixture
def ops(ops_connection: Connection) -> Iterator[Connection]:
    """The door of psql: a connection as wallet_ops. What the test does with it is rolled back."""
    yield ops_connection
    ops_connection.rollback()


@pytest.fixture(scope="session")
def keeper_connection(rolled_back_database: str) -> Iterator[Connection]:
    with psycopg.connect(rolled_back_database) as connection:
        yield connection


@pytest.fixture
def keeper(keeper_connection: Connection) -> Iterator[Connection]:
    """The same for a superuser, who can do to the tables what no function does: have a hold expire, put clocks back."""
    yield keeper_connection
    keeper_connection.rollback()


@pytest.fixture(scope="session")
def api_url(http_database: str) -> Iterator[str]:
    with serving(DATABASE_URL=http_database) as server:
        yield server.url


@pytest.fixture(scope="session")
def api(api_url: str) -> Iterator[httpx2.Client]:
    """The door of HTTP: a client of a running server."""
    with httpx2.Client(base_url=api_url) as client:
        yield client
