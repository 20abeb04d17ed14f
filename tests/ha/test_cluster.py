"""The cluster of deploy/ha: through each fault, nothing acknowledged is lost, nothing is made twice, no reader is misled."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import psycopg

from tests.faults.scene import Scene
from tests.ha import faults
from tests.ha.cluster import Cluster, conninfo, wait_until
from tests.ha.conftest import Load
from tests.support import account, balance, pay


def test_the_machine_of_the_primary_is_lost(cluster: Cluster, load: Load) -> None:
    with load() as clients:
        faults.machine_lost(cluster, clients)


def test_an_operator_switches_over(cluster: Cluster, load: Load) -> None:
    with load() as clients:
        faults.switchover(cluster, clients)


def test_etcd_loses_its_quorum(cluster: Cluster, load: Load) -> None:
    with load() as clients:
        faults.quorum_lost(cluster, clients)


def test_the_patroni_of_the_primary_hangs(cluster: Cluster, load: Load) -> None:
    with load() as clients:
        faults.patroni_hung(cluster, clients)


def test_the_port_of_the_standby_shows_no_payment_that_may_be_lost(cluster: Cluster, stage: Scene) -> None:
    """The other standby may be ahead of the synchronous one, and is not what becomes the primary."""
    cluster.wait_until_whole()
    sync, other = cluster.with_role("sync"), cluster.with_role("async")
    with cluster.admin() as admin:
        buyer, seller = account(admin, "early buyer", 10), account(admin, "early seller")
    with psycopg.connect(sync.conninfo(), autocommit=True) as standby:
        [(receiver,)] = standby.execute("select pid from pg_stat_wal_receiver").fetchall()
    with (
        ThreadPoolExecutor() as threads,
        stage.instances[0].client() as api,
        psycopg.connect(other.conninfo(), autocommit=True) as ahead,
    ):
        os.kill(receiver, signal.SIGSTOP)
        try:
            payment = threads.submit(pay, api, buyer, seller, 1, "early")
            wait_until(lambda: balance(ahead, seller) == 1, "the other standby has the payment")
            for _ in range(3):  # as many as there are nodes
                with psycopg.connect(conninfo(cluster.routers[0].standby)) as reader:
                    assert balance(reader, seller) == 0
            assert not payment.done()
        finally:
            os.kill(receiver, signal.SIGCONT)
        assert payment.result().status_code == 200
