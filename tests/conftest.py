"""One cluster per session, a template database, and a clone for each test that commits."""

import contextlib
import functools
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
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.support import serving
from wallet_api.database import embedded, migrations

# The tests use plain HTTP, but each httpx2 client would load all CA certificates, which takes 50 ms.
os.environ.pop("SSL_CERT_FILE", None)
os.environ["SSL_CERT_DIR"] = os.devnull

# These tests do not test durability, and are faster without fsync.
_OPTIONS = {
    "fsync": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_connections": "400",
    "max_prepared_transactions": "10",
    "deadlock_timeout": "20ms",  # instead of one second for each deadlock
}
# No deadline: on a busy machine, the duration of an example says nothing about the code.
hypothesis.settings.register_profile("wallet", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("wallet")
# `make test-engine` gives a migrated database on a server that several processes share.
_GIVEN = os.environ.get("WALLET_TEST_DATABASE_URL")
_names = (f"wallet_test_{os.environ.get('PYTEST_XDIST_WORKER', 'alone')}_{number}" for number in itertools.count())

Connection = psycopg.Connection[Any]


def pytest_report_header() -> str:
    programs = postgres_programs()
    return "PostgreSQL: that of DATABASE_URL" if _GIVEN else f"PostgreSQL: {programs or embedded.wheel_programs()}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Reports how many faults the run caused, and how many payments were in flight at those moments."""
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
    """A migrated PostgreSQL for the tests: its superuser's connection string."""
    with contextlib.ExitStack() as stack:
        conninfo = _GIVEN
        if conninfo is None:
            folder = tmp_path_factory.mktemp("cluster")
            conninfo = stack.enter_context(embedded.running(folder, postgres_programs(), _OPTIONS))
            migrations.migrate(conninfo)
        yield conninfo
        _maintenance(conninfo).close()


@pytest.fixture(scope="session")
def empty_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data of a PostgreSQL with an empty database, for copies."""
    from tests.faults.postgres import make_template  # imports this module

    return make_template(tmp_path_factory.mktemp("empty") / "data", None)


@pytest.fixture(scope="session")
def postgres_template(tmp_path_factory: pytest.TempPathFactory, empty_template: Path) -> Path:
    """The data of a migrated PostgreSQL, for copies."""
    from tests.faults.postgres import make_template  # imports this module

    return make_template(tmp_path_factory.mktemp("migrated") / "data", empty_template, migrations.migrate)


@pytest.fixture
def database(cluster: str) -> Iterator[str]:
    """A migrated database that the test may commit to: its superuser's connection string."""
    yield from clone(cluster, "wallet")


@pytest.fixture
def bare_database(cluster: str) -> Iterator[str]:
    """An empty database: its superuser's connection string."""
    yield from clone(cluster, "template0")


@pytest.fixture(scope="session")
def rolled_back_database(cluster: str) -> Iterator[str]:
    """A migrated database that stays empty, because every test rolls back: its superuser's connection string."""
    for conninfo in clone(cluster, "wallet"):
        migrations.migrate(conninfo)
        yield conninfo


@pytest.fixture(scope="session")
def http_database(cluster: str) -> Iterator[str]:
    """A migrated database, shared by HTTP tests that accept data of other tests."""
    yield from clone(cluster, "wallet")


def clone(cluster: str, template: str) -> Iterator[str]:
    """Yields the superuser's connection string of a copy of `template`, and drops the copy afterwards."""
    name, maintenance = next(_names), _maintenance(cluster)
    if template == "wallet":
        template = str(conninfo_to_dict(cluster)["dbname"])
    # The default strategy, wal_log, takes twice the time.
    strategy = "" if _GIVEN else "strategy file_copy"
    try:
        maintenance.execute(f"create database {name} template {template} {strategy}")
    except psycopg.errors.FeatureNotSupported:  # a distributed server may copy no databases
        maintenance.execute(f"create database {name}")
        if template != "template0":
            migrations.migrate(make_conninfo(cluster, dbname=name))
    yield make_conninfo(cluster, dbname=name)
    maintenance.execute(f"drop database {name} with (force)")


@functools.cache
def _maintenance(cluster: str) -> Connection:
    return psycopg.connect(make_conninfo(cluster, dbname="postgres"), autocommit=True)


@pytest.fixture
def admin(database: str) -> Iterator[Connection]:
    """A superuser's autocommit connection to the test's own database."""
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


# Shared by all tests: a new connection has to compile the functions again, which takes longer than most tests.
@pytest.fixture(scope="session")
def ops_connection(rolled_back_database: str) -> Iterator[Connection]:
    with psycopg.connect(rolled_back_database, user="wallet_ops") as connection:
        yield connection


@pytest.fixture
def ops(ops_connection: Connection) -> Iterator[Connection]:
    """A connection as wallet_ops, as psql users have it. Rolls back after the test."""
    yield ops_connection
    ops_connection.rollback()


@pytest.fixture(scope="session")
def keeper_connection(rolled_back_database: str) -> Iterator[Connection]:
    with psycopg.connect(rolled_back_database) as connection:
        yield connection


@pytest.fixture
def keeper(keeper_connection: Connection) -> Iterator[Connection]:
    """The same as superuser, for changes that no function makes, such as expiring a hold or setting clocks back."""
    yield keeper_connection
    keeper_connection.rollback()


@pytest.fixture(scope="session")
def api_url(http_database: str) -> Iterator[str]:
    with serving(DATABASE_URL=http_database) as server:
        yield server.url


@pytest.fixture(scope="session")
def api(api_url: str) -> Iterator[httpx2.Client]:
    """An HTTP client of a running server."""
    with httpx2.Client(base_url=api_url) as client:
        yield client
