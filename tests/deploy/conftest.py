"""A database of the test's own, for what sets passwords and migrates as the owner; and the secrets for it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.environment import write_secrets
from tests.faults import postgres
from tests.faults.postgres import Postgres


@pytest.fixture
def primary(tmp_path: Path, postgres_template: Path) -> Iterator[Postgres]:
    with postgres.running(tmp_path / "primary", postgres_template) as running:
        yield running


@pytest.fixture
def secrets(tmp_path: Path, primary: Postgres) -> Path:
    """The folder with the secrets for that database."""
    write_secrets(tmp_path / "secrets", primary.conninfo())
    return tmp_path / "secrets"
