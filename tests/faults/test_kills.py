"""Acknowledged means durable, and not acknowledged means that one may ask again: through every kill -9."""

import pytest

from tests.faults.contradictions import agree
from tests.faults.postgres import Postgres
from tests.faults.recorder import Recorder, open_accounts
from tests.faults.scene import Scene
from tests.support import wait_until

# Requests answered before a fault, and after it.
LOAD = 150

pytestmark = pytest.mark.parametrize("stage", ["direct", "transaction", "session"], indirect=True)


def recorder(primary: Postgres, stage: Scene) -> Recorder:
    with primary.admin() as admin:
        return Recorder(stage.addresses, open_accounts(admin))


def test_an_instance_that_is_killed(primary: Postgres, stage: Scene) -> None:
    one, other = stage.instances
    with recorder(primary, stage) as clients:
        for instance in (one, other):
            clients.wait_for_answers(LOAD)
            clients.strike("kill -9 of an instance", instance.kill, lambda: primary.calls() > 0)
            clients.wait_for_answers(LOAD)  # the other one goes on alone
            instance.start()
            wait_until(stage.is_ready)
        clients.wait_for_answers(LOAD)
        clients.stop()
    with primary.admin() as admin:
        agree(admin, stage.address, clients)


def test_an_instance_that_is_killed_while_its_payments_wait(primary: Postgres, stage: Scene) -> None:
    """PostgreSQL goes on with what a client that is gone has asked for: it makes them when it can."""
    with recorder(primary, stage) as clients:
        for instance in stage.instances:
            clients.wait_for_answers(LOAD)
            with primary.account_locked(clients.accounts[0].id):
                clients.strike("kill -9 of an instance, an account locked", instance.kill)
            instance.start()
            wait_until(stage.is_ready)
        clients.wait_for_answers(LOAD)
        clients.stop()
    with primary.admin() as admin:
        agree(admin, stage.address, clients)
    assert sum(map(clients.unanswered, clients.faults)) > 0, "no kill cut off a payment"


def test_postgresql_that_is_killed(primary: Postgres, stage: Scene) -> None:
    with recorder(primary, stage) as clients:
        for _ in range(2):
            clients.wait_for_answers(LOAD)
            clients.strike("kill -9 of PostgreSQL", primary.kill, lambda: primary.calls() > 0)
            primary.start()
            wait_until(stage.is_ready)
        clients.wait_for_answers(LOAD)
        with primary.account_locked(clients.accounts[0].id):
            clients.strike("kill -9 of PostgreSQL, an account locked", primary.kill)
        primary.start()
        wait_until(stage.is_ready)
        clients.wait_for_answers(LOAD)
        clients.stop()
    with primary.admin() as admin:
        agree(admin, stage.address, clients)


def test_postgresql_and_all_instances_that_are_killed(primary: Postgres, stage: Scene) -> None:
    def kill_all() -> None:
        for victim in (stage.instances[0], primary, stage.instances[1]):
            victim.kill()

    with recorder(primary, stage) as clients:
        clients.wait_for_answers(LOAD)
        clients.strike("kill -9 of PostgreSQL and all instances", kill_all, lambda: primary.calls() > 0)
        primary.start()
        for instance in stage.instances:
            instance.start()
        wait_until(stage.is_ready)
        clients.wait_for_answers(LOAD)
        clients.stop()
    with primary.admin() as admin:
        agree(admin, stage.address, clients)
