"""A wallet moves from PostgreSQL 15 to 18, and back, in the ways of docs/operations.md, by its own commands, and pays there."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.faults.contradictions import stored_payments
from tests.faults.postgres import Postgres
from tests.faults.recorder import Recorder, open_accounts
from tests.faults.scene import scene
from tests.faults.test_backup import DUMP, PROVE, RESTORE_DUMP, Operator, acknowledged, commands, feed, start_empty
from tests.support import account, ledger_problems, open_account, pay, serving, wait_until
from wallet_api.database import embedded, migrations

OLD_PROGRAMS = Path("/usr/lib/postgresql/15/bin")
REPLICATE, CATCH_UP, SET_SEQUENCES, END = commands("With logical replication")
DUMP_BACK, RESTORE_BACK = commands("Back to an older version")
# Requests answered before a step, and after it.
LOAD = 100

pytestmark = pytest.mark.skipif(not OLD_PROGRAMS.is_dir(), reason="needs PostgreSQL 15: apt-get install postgresql-15")


class Version(Postgres):
    """A cluster whose programs are those of one version."""

    def __init__(self, folder: Path, programs: Path) -> None:
        super().__init__(folder)
        self.programs = programs
        self.options = {**self.options, "wal_level": "logical"}


@pytest.fixture
def old(tmp_path: Path) -> Iterator[Version]:
    """PostgreSQL 15 with a wallet."""
    old = Version(tmp_path / "old", OLD_PROGRAMS)
    try:
        old.start()
        migrations.migrate(old.conninfo())
        yield old
    finally:
        old.close()


@pytest.fixture
def new(tmp_path: Path) -> Iterator[Version]:
    """PostgreSQL 18, which does not run, and has no data yet."""
    new = Version(tmp_path / "new", embedded.wheel_programs())
    yield new
    new.close()


@pytest.fixture
def operator(tmp_path: Path, old: Version) -> Operator:
    operator = Operator(tmp_path)
    operator.prepare(old)
    return operator


@contextmanager
def paying(old: Version, folder: Path) -> Iterator[Recorder]:
    """Clients that pay on the old server. The instances stop at the end, when all requests have been answered."""
    with (
        scene(folder, old.conninfo()) as stage,
        old.admin() as admin,
        Recorder(stage.addresses, open_accounts(admin)) as clients,
    ):
        clients.wait_for_answers(LOAD)
        yield clients
        clients.wait_for_answers(LOAD)
        clients.stop()


def assert_all_of_it_moved(operator: Operator, old: Version, new: Version, clients: Recorder) -> None:
    """The new server has everything that the old one answered. It pays under higher ids."""
    with old.admin() as before, new.admin() as after:
        payments = stored_payments(before, clients.accounts)
        assert acknowledged(clients) - {payment.id for payment in payments} == set()
        assert stored_payments(after, clients.accounts) == payments
    events = feed(old)
    assert feed(new) == events
    assert_it_pays(operator, new, max(payment.id for payment in payments))
    assert feed(new)[: len(events)] == events, "what is new does not come last"


def assert_it_pays(operator: Operator, new: Version, highest: int, major: int = 18) -> None:
    operator.run(PROVE, new)
    with serving(DATABASE_URL=f"{new.conninfo()} user=wallet_app") as server, server.client() as api:
        buyer, seller = open_account(api, "later buyer", 5), open_account(api, "later seller")
        made = pay(api, buyer, seller, 5)
        assert made.status_code == 200, made.text
        assert made.json()["ID"] > highest
        assert api.post("/holds", json={"BuyerAccountID": seller, "SellerAccountID": buyer, "Amount": 1}).is_success
        assert api.post(f"/account/{seller}/status", json={"Status": "frozen"}).is_success
        assert api.post("/currencies", json={"Name": "later", "Scale": 2}).is_success
    with new.admin() as admin:
        assert ledger_problems(admin) == []
        assert admin.info.server_version // 10000 == major


def test_a_dump_by_the_old_server_s_programs_moves_everything(
    tmp_path: Path, operator: Operator, old: Version, new: Version
) -> None:
    with paying(old, tmp_path) as clients:
        pass
    with old.admin() as admin:
        # As a DBA who is no superuser: PostgreSQL 18 refuses this grantor.
        admin.execute("create role dba createrole; set role dba; create role app_owner; grant app_owner to dba")
        admin.execute("reset role")
    operator.run(DUMP, old)
    start_empty(new)
    operator.run(RESTORE_DUMP, new)
    assert_all_of_it_moved(operator, old, new, clients)


def minor(postgres: Version) -> int:
    with postgres.admin() as admin:
        return admin.info.server_version % 10000


def test_pg_upgrade_moves_everything_or_leaves_the_old_cluster_as_it_was(
    tmp_path: Path, operator: Operator, old: Version, new: Version
) -> None:
    with paying(old, tmp_path) as clients:
        pass
    with old.admin() as admin:
        payments = stored_payments(admin, clients.accounts)
    events, version = feed(old), minor(old)
    old.stop()
    new._run(
        "initdb",
        f"--pgdata={new.data}",
        "--username=postgres",
        "--encoding=UTF8",
        "--locale=C",
        "--auth=trust",
        "--no-data-checksums",
    )
    output = tmp_path / "upgrade"
    output.mkdir()
    new.give(output)
    upgrade = subprocess.run(
        [
            *new.unprivileged(), new.programs / "pg_upgrade", f"--old-bindir={old.programs}",
            f"--new-bindir={new.programs}", f"--old-datadir={old.data}", f"--new-datadir={new.data}",
            "--username=postgres", f"--old-port={old.port}", f"--new-port={new.port}", f"--socketdir={output}",
        ],
        cwd=output, capture_output=True, text=True, check=False,
        env={"PATH": os.environ["PATH"]},
    )  # fmt: skip
    if upgrade.returncode != 0:
        # What 18.4 does with a server 15.20.
        logs = "".join(path.read_text() for path in new.data.glob("pg_upgrade_output.d/**/*.log"))
        assert "pg_attver" in logs, f"{upgrade.stdout}{upgrade.stderr}{logs}"
        assert version >= 20
        old.start()
        assert feed(old) == events
        return
    new.start()
    with new.admin() as admin:
        assert stored_payments(admin, clients.accounts) == payments
    assert feed(new) == events
    assert_it_pays(operator, new, max(payment.id for payment in payments))


@pytest.mark.parametrize("step", ["with the sequences", "without them"])
def test_logical_replication_moves_everything_if_the_sequences_are_set(
    tmp_path: Path, operator: Operator, old: Version, new: Version, step: str
) -> None:
    names = f'export OLD="{old.conninfo()}" NEW="{new.conninfo()}" OLD_BIN="{old.programs}"\n'
    operator.run(DUMP.splitlines()[0], old)
    new.start()
    operator.run(RESTORE_DUMP.splitlines()[0], new)
    with paying(old, tmp_path) as clients:
        operator.run(names + REPLICATE, new)
        with new.admin() as admin:
            states = "select coalesce(bool_and(srsubstate = 'r'), false) from pg_subscription_rel"
            wait_until(lambda: admin.execute(states).fetchone() == (True,))
    operator.run(names + CATCH_UP, new)
    if step == "with the sequences":
        operator.run(names + SET_SEQUENCES + END, new)
        assert_all_of_it_moved(operator, old, new, clients)
        return
    operator.run(names + END, new)
    with new.admin() as admin, pytest.raises(psycopg.errors.UniqueViolation, match="account_pkey"):
        admin.execute("select wallet.create_account('buyer of 18', 5, 1)")


def test_a_dump_moves_everything_back(operator: Operator, old: Version, new: Version) -> None:
    new.start()
    migrations.migrate(new.conninfo())
    with new.admin() as admin:
        buyer, seller = account(admin, "buyer", 5), account(admin, "seller")
        [(highest,)] = admin.execute("select id from wallet.make_payment(%s, %s, 1)", [buyer, seller]).fetchall()
    operator.run(DUMP_BACK, new)
    start_empty(old)  # which has the roles
    operator.run(RESTORE_BACK, old)
    assert feed(old) == feed(new)
    assert_it_pays(operator, old, highest, 15)
