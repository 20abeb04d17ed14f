"""The load balancer that is shipped: to whom it passes requests on, and which."""

from pathlib import Path

import pytest

from tests.faults.postgres import Postgres
from tests.faults.recorder import Recorder, open_accounts
from tests.faults.scene import Scene
from tests.support import wait_until

LOAD = 200


@pytest.fixture
def stage(stage: Scene) -> Scene:
    if stage.address in [instance.address for instance in stage.instances]:
        pytest.skip("HAProxy is not installed")
    return stage


def test_payments_go_on_when_the_database_is_migrated_and_no_instance_is_replaced_yet(
    tmp_path: Path, primary: Postgres, stage: Scene
) -> None:
    with primary.admin() as admin, Recorder(stage.addresses, open_accounts(admin), repeat=False) as clients:
        clients.wait_for_answers(LOAD)
        [(version,)] = admin.execute("select wallet.schema_version()").fetchall()
        admin.execute("insert into ledger.rulebook (version) values ('of tomorrow')")
        log = tmp_path / "haproxy.log"
        wait_until(lambda: all(f"Server wallet/wallet-{number} is DOWN" in log.read_text() for number in (1, 2)))
        clients.wait_for_answers(LOAD)
        admin.execute("insert into ledger.rulebook (version) values (%s)", [version])
        wait_until(stage.is_ready)
        clients.wait_for_answers(LOAD)
        clients.stop()
    assert {attempt.status for order in clients.orders for attempt in order.attempts} <= {200, 400}
