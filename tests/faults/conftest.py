"""A database that can be killed, and instances of the service on it, for each test anew."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from tests.conftest import postgres_programs
from tests.faults import contradictions, postgres, scene
from tests.faults.postgres import Postgres
from tests.faults.scene import Scene
from tests.pgbouncer import pgbouncer
from wallet_api.database import embedded


@pytest.fixture(autouse=True)
def _faults_are_told(record_property: Callable[[str, object], None]) -> Iterator[None]:
    """With the test's report, so that tests/conftest.py can sum them up, whatever process the test ran in."""
    yield
    record_property("faults", [(fault.kind, fault.in_flight) for fault in contradictions.STRUCK])
    contradictions.STRUCK.clear()


@pytest.fixture
def primary(tmp_path: Path, postgres_template: Path) -> Iterator[Postgres]:
    """A PostgreSQL of the test's own."""
    with postgres.running(tmp_path / "primary", postgres_template) as running:
        yield running


@pytest.fixture
def standby(tmp_path: Path, primary: Postgres) -> Iterator[Postgres]:
    """A synchronous standby of it."""
    with primary.new_standby(tmp_path / "standby") as following:
        yield following


@pytest.fixture
def stage(request: pytest.FixtureRequest, tmp_path: Path, primary: Postgres) -> Iterator[Scene]:
    """Two instances behind the load balancer; a parameter names the mode of a PgBouncer before the database."""
    with ExitStack() as stack:
        conninfo, mode = primary.conninfo(), getattr(request, "param", "direct")
        if mode != "direct":
            conninfo = stack.enter_context(pgbouncer(tmp_path, conninfo, mode)).conninfo()
        yield stack.enter_context(scene.scene(tmp_path, conninfo))


@pytest.fixture
def protected(tmp_path: Path, postgres_template: Path) -> Iterator[str]:
    """A PostgreSQL of the test's own, where all but its superuser need a password: a connection string for that one."""
    (tmp_path / "data").mkdir(mode=0o711)
    postgres.copy(postgres_template, tmp_path / "data/postgres")
    with embedded.running(tmp_path / "data", postgres_programs()) as conninfo:
        with psycopg.connect(conninfo, autocommit=True) as admin:
            [rules] = admin.execute("show hba_file").fetchone() or [""]
            Path(rules).write_text("local all postgres trust\nlocal all all scram-sha-256\n")
            admin.execute("select pg_reload_conf()")
        yield conninfo
