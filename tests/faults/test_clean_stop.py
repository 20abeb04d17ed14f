"""SIGTERM under full load: what was accepted is answered, and what was not answered was not done. Exit code 0."""

from pathlib import Path

import pytest

from tests.faults.contradictions import agree, stored_payments
from tests.faults.postgres import Postgres
from tests.faults.recorder import Recorder, open_accounts
from tests.faults.scene import scene
from tests.support import wait_until

LOAD = 150


@pytest.mark.parametrize(("instances", "balanced"), [(2, True), (1, False)], ids=["behind the balancer", "alone"])
def test_no_payment_is_lost_or_made_without_an_answer(
    tmp_path: Path, primary: Postgres, instances: int, balanced: bool
) -> None:
    codes = []
    with scene(tmp_path, primary.conninfo(), instances, balanced=balanced) as stage, primary.admin() as admin:
        # Each with a key of its own, by which its payment is found; and sent once, so that one that was not
        # answered is not made after all.
        with Recorder(stage.addresses, open_accounts(admin), keyed=1, repeat=False) as clients:
            for instance in (stage.instances * 3)[:3]:
                clients.wait_for_answers(LOAD)
                clients.strike("SIGTERM", lambda instance=instance: codes.append(instance.stop()))  # type: ignore[misc]
                instance.start()
                wait_until(stage.is_ready)
            clients.wait_for_answers(LOAD)
            clients.stop()
        agree(admin, stage.address, clients)
        made = {payment.idempotency_key for payment in stored_payments(admin, clients.accounts)}
    told = {order.key for order in clients.orders if order.attempts[-1].status == 200}
    assert made - told == set()
    assert codes == [0] * 3


def test_with_a_drain_time_clients_behind_the_balancer_see_no_error(tmp_path: Path, primary: Postgres) -> None:
    """HAProxy looks once a second, and lets go of an instance that was not ready twice."""
    with scene(tmp_path, primary.conninfo(), WALLET_DRAIN_TIME="3") as stage, primary.admin() as admin:
        if stage.address in [instance.address for instance in stage.instances]:
            pytest.skip("HAProxy is not installed, and a client that goes round knows nothing of readiness")
        with Recorder(stage.addresses, open_accounts(admin), repeat=False) as clients:
            for instance in stage.instances:
                clients.wait_for_answers(LOAD)
                clients.strike("SIGTERM", lambda instance=instance: instance.stop())  # type: ignore[misc]
                instance.start()
                wait_until(stage.is_ready)
            clients.stop()
        agree(admin, stage.address, clients)
    assert {attempt.status for order in clients.orders for attempt in order.attempts} <= {200, 400}


def test_what_was_under_way_is_answered(tmp_path: Path, primary: Postgres) -> None:
    with scene(tmp_path, primary.conninfo(), instances=1, balanced=False) as stage, primary.admin() as admin:
        [alone] = stage.instances
        with Recorder(stage.addresses, open_accounts(admin), keyed=1, repeat=False) as clients:
            clients.wait_for_answers(LOAD)
            with primary.account_locked(clients.accounts[0].id):
                accepted = clients.under_way()
                assert alone.status("/livez") == 200  # it reads what has come in turn, so it has read those before
                clients.strike("SIGTERM, an account locked", alone.terminate)
                wait_until(lambda: "Waiting for connections to close" in alone.log)
            assert alone.wait() == 0
            alone.start()
            clients.stop()
        agree(admin, stage.address, clients)
    assert accepted != []
    assert [order for order in accepted if not order.attempts[-1].settled] == []
