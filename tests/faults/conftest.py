"""A database that can be killed, and instances of the service on it, for each test anew."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import model, postgres, scene
from tests.faults.postgres import Postgres
from tests.faults.scene import Scene


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says how many faults the run caused, and how many payments were in flight when they struck."""
    kinds = sorted({fault.kind for fault in model.STRUCK})
    if kinds:
        terminalreporter.section("faults caused")
    for kind in kinds:
        in_flight = [fault.in_flight for fault in model.STRUCK if fault.kind == kind]
        terminalreporter.line(f"{kind}: {len(in_flight)}, with {sum(in_flight)} payments in flight")


@pytest.fixture
def primary(tmp_path: Path) -> Iterator[Postgres]:
    """A PostgreSQL of the test's own."""
    with postgres.running(tmp_path / "primary") as running:
        yield running


@pytest.fixture
def standby(tmp_path: Path, primary: Postgres) -> Iterator[Postgres]:
    """A synchronous standby of it."""
    with primary.new_standby(tmp_path / "standby") as following:
        yield following


@pytest.fixture
def stage(tmp_path: Path, primary: Postgres) -> Iterator[Scene]:
    """Two instances behind the load balancer."""
    with scene.scene(tmp_path, primary.conninfo()) as ready:
        yield ready
