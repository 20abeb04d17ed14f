"""Captures in parts, while what serves them is killed: each was made once, and together they never exceed their hold."""

from tests.faults.captures import Capturer
from tests.faults.postgres import Postgres
from tests.faults.scene import Scene
from tests.support import ledger_problems, wait_until

# Captures before a fault, and after it.
LOAD = 30


def test_captures_in_parts_while_an_instance_and_postgresql_are_killed(primary: Postgres, stage: Scene) -> None:
    with primary.admin() as admin:
        clients = Capturer(stage.addresses, admin)

    def go_on() -> None:
        enough = clients.counts["capture: done"] + LOAD
        wait_until(lambda: clients.counts["capture: done"] >= enough)

    with clients:
        go_on()
        stage.instances[0].kill()
        go_on()
        primary.kill()
        primary.start()
        stage.instances[0].start()
        wait_until(stage.is_ready)
        go_on()
    with primary.admin() as admin:
        assert list(clients.contradictions(admin)) == []
        assert ledger_problems(admin) == []
