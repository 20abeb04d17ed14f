"""A primary with a synchronous standby: no acknowledged payment is lost, and nothing else is taken for one."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx2
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.faults.contradictions import agree
from tests.faults.postgres import Postgres
from tests.faults.recorder import Recorder, open_accounts
from tests.faults.scene import Instance, scene
from tests.support import account, balance, pay, wait_until

LOAD = 400


def both(one: Postgres, other: Postgres) -> str:
    """A connection string with both hosts: the one that takes changes is the one to use."""
    hosts = {"host": "127.0.0.1,127.0.0.1", "port": f"{one.port},{other.port}"}
    return make_conninfo(one.conninfo(), **hosts, target_session_attrs="read-write")


@pytest.fixture
def start() -> Iterator[ExitStack]:
    """Ends, after the test, what was started within it."""
    with ExitStack() as stack:
        yield stack


def instance(start: ExitStack, database_url: str, **settings: str) -> tuple[Instance, httpx2.Client]:
    """A lone instance and its client."""
    started = Instance(database_url, **settings)
    start.callback(started.close)
    return started, start.enter_context(started.client())


def is_unavailable(response: httpx2.Response) -> bool:
    return response.status_code == 503 and "retry-after" in response.headers


def lives_and_is_not_ready(one: Instance) -> bool:
    with one.client() as api:
        refused = [pay(api, 1, 2), api.get("/readyz")]
        return api.get("/livez").status_code == 200 and all(map(is_unavailable, refused))


def test_no_acknowledged_payment_is_lost_when_the_standby_takes_over(
    tmp_path: Path, primary: Postgres, standby: Postgres
) -> None:
    with scene(tmp_path, both(primary, standby)) as stage:
        with primary.admin() as admin:
            accounts = open_accounts(admin)
        with Recorder(stage.addresses, accounts) as clients:
            clients.wait_for_answers(LOAD)
            clients.strike("kill -9 of the primary", primary.kill, lambda: primary.calls() > 0)
            with ThreadPoolExecutor() as threads:
                assert list(threads.map(lives_and_is_not_ready, stage.instances)) == [True, True]
            standby.promote()
            wait_until(stage.is_ready)
            clients.wait_for_answers(LOAD)
            clients.stop()
        with standby.admin() as admin:
            agree(admin, stage.address, clients)


@pytest.mark.parametrize("hosts", ["one host", "two hosts"])
def test_a_primary_that_has_become_read_only_takes_no_payment(
    request: pytest.FixtureRequest, start: ExitStack, primary: Postgres, hosts: str
) -> None:
    url = primary.conninfo() if hosts == "one host" else both(primary, request.getfixturevalue("standby"))
    service, api = instance(start, url)
    admin = start.enter_context(primary.admin())
    buyer, seller = account(admin, "buyer", 10), account(admin, "seller")
    assert pay(api, buyer, seller).status_code == 200
    admin.execute("alter system set default_transaction_read_only = on")
    admin.execute("select pg_reload_conf()")
    wait_until(lambda: service.status("/readyz") == 503)
    for _ in range(5):
        assert is_unavailable(pay(api, buyer, seller))
    assert is_unavailable(api.get("/readyz"))
    assert api.get("/livez").status_code == 200
    assert balance(admin, seller) == 1
    admin.execute("alter system reset default_transaction_read_only")
    admin.execute("select pg_reload_conf()")
    wait_until(lambda: service.status("/readyz") == 200)
    assert pay(api, buyer, seller).status_code == 200


def test_a_standby_that_was_dialled_takes_no_payment(start: ExitStack, primary: Postgres, standby: Postgres) -> None:
    with primary.admin() as admin:
        buyer, seller = account(admin, "buyer", 10), account(admin, "seller")
    _, api = instance(start, standby.conninfo())
    wait_until(lambda: api.get("/accounts").status_code == 200)  # it answers what changes nothing
    for _ in range(5):
        assert is_unavailable(pay(api, buyer, seller))
        assert is_unavailable(api.get("/readyz"))
    assert api.get("/livez").status_code == 200
    with primary.admin() as admin:
        assert balance(admin, seller) == 0


@pytest.mark.parametrize("ended_by", ["pg_cancel_backend", "pg_terminate_backend"])
def test_a_commit_that_no_standby_has_is_no_success(
    start: ExitStack, primary: Postgres, standby: Postgres, ended_by: str
) -> None:
    """PostgreSQL reports success, and a warning, where the wait for the standby is cancelled."""
    with primary.admin() as admin:
        buyer, seller = account(admin, "buyer", 10), account(admin, "seller")
    _, api = instance(start, both(primary, standby), WALLET_LOCK_TIMEOUT="0.5")
    clients = start.enter_context(ThreadPoolExecutor())
    admin = start.enter_context(psycopg.connect(primary.conninfo(), autocommit=True))

    def ends(payment: Future[httpx2.Response]) -> bool:
        """Ends waits for the standby, which the service begins again where it may, until the payment is answered."""
        waiting = "from pg_stat_activity where wait_event = 'SyncRep' and application_name = 'wallet'"
        ended.extend(admin.execute(f"select {ended_by}(pid) {waiting}").fetchall())
        return payment.done()

    standby.kill()
    for key in ("the one", "the one", "another one", None):
        ended: list[object] = []
        payment = clients.submit(pay, api, buyer, seller, key=key)
        wait_until(lambda: ends(payment))  # noqa: B023
        assert is_unavailable(payment.result())
        assert ended != [], "nothing waited for the standby"
    standby.start()
    wait_until(lambda: pay(api, buyer, seller, key="the one").status_code == 200)
    assert pay(api, buyer, seller, key="another one").status_code == 200
    assert balance(admin, seller) == 3  # each once: the one without a key too, which is not repeated
