"""Acknowledged means durable, and not acknowledged means that one may ask again: through every kill -9."""

from tests.faults.model import agree
from tests.faults.postgres import Postgres
from tests.faults.recorder import Recorder, open_accounts
from tests.faults.scene import Scene
from tests.support import wait_until

# Requests answered before a fault, and after it.
LOAD = 400


def recorder(primary: Postgres, stage: Scene) -> Recorder:
    with primary.admin() as admin:
        return Recorder(stage.addresses, open_accounts(admin))


def test_an_instance_that_is_killed(primary: Postgres, stage: Scene) -> None:
    with recorder(primary, stage) as clients:
        for instance in stage.instances * 2:
            clients.wait_for_answers(LOAD)
            clients.strike("kill -9 of an instance", instance.kill)
            clients.wait_for_answers(LOAD)  # the other one goes on alone
            instance.start()
            wait_until(stage.is_ready)
        clients.wait_for_answers(LOAD)
        clients.stop()
    with primary.admin() as admin:
        agree(admin, stage.address, clients)
    assert sum(clients.unanswered(fault) for fault in clients.faults) > 0, "no kill cut off a payment"


def test_postgresql_that_is_killed(primary: Postgres, stage: Scene) -> None:
    with recorder(primary, stage) as clients:
        for _ in range(2):
            clients.wait_for_answers(LOAD)
            clients.strike("kill -9 of PostgreSQL", primary.kill)
            primary.start()
            wait_until(stage.is_ready)
        clients.wait_for_answers(LOAD)
        clients.stop()
    with primary.admin() as admin:
        agree(admin, stage.address, clients)
    assert sum(clients.unanswered(fault) for fault in clients.faults) > 0, "no kill cut off a payment"


def test_postgresql_and_all_instances_that_are_killed(primary: Postgres, stage: Scene) -> None:
    def kill_all() -> None:
        for victim in (stage.instances[0], primary, stage.instances[1]):
            victim.kill()

    with recorder(primary, stage) as clients:
        clients.wait_for_answers(LOAD)
        clients.strike("kill -9 of PostgreSQL and all instances", kill_all)
        primary.start()
        for instance in stage.instances:
            instance.start()
        wait_until(stage.is_ready)
        clients.wait_for_answers(LOAD)
        clients.stop()
    with primary.admin() as admin:
        agree(admin, stage.address, clients)
    assert sum(clients.unanswered(fault) for fault in clients.faults) > 0, "no kill cut off a payment"
