"""Fixtures of several modules."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.conftest import postgres_programs
from tests.schema.managed import Managed
from wallet_api.database import embedded


@pytest.fixture(scope="module")
def managed_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Managed]:
    with embedded.running(tmp_path_factory.mktemp("dba"), postgres_programs(), {"fsync": "off"}) as conninfo:
        with psycopg.connect(conninfo, dbname="postgres", autocommit=True) as admin:
            admin.execute("create role dba login createrole createdb password 'dba'")
            [rules] = admin.execute("show hba_file").fetchone() or [""]
            Path(rules).write_text("local all postgres trust\nlocal all all scram-sha-256\n")
            admin.execute("select pg_reload_conf()")
        yield Managed(make_conninfo(conninfo, dbname="postgres"))


@pytest.fixture
def managed(managed_server: Managed) -> Iterator[Managed]:
    managed_server.clean()
    yield managed_server
    managed_server.clean()
