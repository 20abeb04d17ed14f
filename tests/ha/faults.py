"""The faults, each with what ends it; and the load under which they strike, with the proof that follows."""

import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.faults import recorder
from tests.faults.contradictions import verdict
from tests.faults.recorder import Recorder, open_accounts
from tests.faults.scene import Scene
from tests.ha.cluster import Cluster, wait_until
from tests.ha.reader import Reader

Fault = Callable[[Cluster, Recorder], None]

# Payments before a fault, during or after it, and after everything is whole again.
LOAD = 100


@contextmanager
def under_load(cluster: Cluster, stage: Scene) -> Iterator[Recorder]:
    """Clients pay, and a reader reads, while faults are caused. Then everything has to agree, or it raises."""
    cluster.wait_until_whole()
    with cluster.admin() as admin:
        accounts = open_accounts(admin)
    with Recorder(stage.addresses, accounts, clients=8) as clients, Reader(cluster.routers, accounts) as reader:
        wait_for_payments(clients)
        yield clients
        cluster.wait_until_whole()
        wait_for_payments(clients)
        clients.stop()
    print(clients.report())
    missed = [fault.kind for fault in clients.faults if fault.in_flight == 0]
    assert missed == [], f"no payment was in flight at: {missed}"
    with cluster.admin() as admin:
        found = [*verdict(admin, stage.address, clients), *reader.contradictions(admin)]
    assert found == [], "\n".join([f"{len(found)} contradictions:", *found[:20]])


def wait_for_payments(clients: Recorder) -> None:
    """Waits until so many more payments are acknowledged."""
    enough = clients.counts()["made"] + LOAD
    wait_until(lambda: clients.counts()["made"] >= enough, f"{LOAD} payments")


def gap(clients: Recorder, fault: recorder.Fault) -> float:
    """The longest time in seconds, from a fault on, without a payment that is acknowledged."""
    attempts = [attempt for order in clients.orders for attempt in order.attempts if attempt.status == 200]
    acknowledged = sorted(attempt.ended or 0.0 for attempt in attempts)
    return max(after - before for before, after in itertools.pairwise(acknowledged) if after > fault.at)


def machine_lost(cluster: Cluster, clients: Recorder) -> None:
    """The primary's machine: first its network, then, by kill -9, all that it runs. It comes back later."""
    lost = cluster.with_role("primary")
    with cluster.admin() as admin:
        senders = [pid for (pid,) in admin.execute("select pid from pg_stat_replication").fetchall()]
    for pid in senders:
        os.kill(pid, signal.SIGSTOP)
    # Whatever is acknowledged from here on is on this machine alone. Longer than loop_wait: etcd knows that there is more
    # than the standbys have.
    time.sleep(3)
    clients.strike("machine of the primary lost", lost.kill)
    wait_for_payments(clients)
    lost.start(cluster.nodes)


def standby_lost(cluster: Cluster, clients: Recorder) -> None:
    """The same, of the standby for which payments wait."""
    lost = cluster.with_role("sync")
    clients.strike("machine of the synchronous standby lost", lost.kill)
    wait_for_payments(clients)
    lost.start(cluster.nodes)


def postgresql_killed(cluster: Cluster, clients: Recorder) -> None:
    """kill -9 of the primary's PostgreSQL alone."""
    before = cluster.with_role("primary")
    clients.strike("PostgreSQL of the primary killed", before.kill_postgres)
    wait_for_payments(clients)


def switchover(cluster: Cluster, clients: Recorder) -> None:
    """As an operator asks for it."""
    before = cluster.with_role("primary")
    clients.strike("switchover", lambda: cluster.patronictl("switchover", "wallet", "--force"))
    assert cluster.with_role("primary") is not before
    wait_for_payments(clients)


def quorum_lost(cluster: Cluster, clients: Recorder) -> None:
    """Two of three members of etcd are killed, and come back later. The primary stays what it is."""
    before = cluster.with_role("primary")

    def lose_quorum() -> None:
        for node in cluster.nodes[:2]:
            node.kill_etcd()

    clients.strike("etcd's quorum lost", lose_quorum)
    wait_until(before.is_in_failsafe_mode, "the primary does without etcd")
    wait_for_payments(clients)
    assert cluster.with_role("primary") is before
    for node in cluster.nodes[:2]:
        node.start_etcd(cluster.nodes)


def patroni_hung(cluster: Cluster, clients: Recorder) -> None:
    """SIGSTOP of the primary's Patroni, whose PostgreSQL goes on, until another node is the primary."""
    before = cluster.with_role("primary")
    clients.strike("Patroni of the primary hung", before.hang)
    wait_until(lambda: any(node.answers("/primary") for node in cluster.nodes), "another primary")
    wait_for_payments(clients)
    before.wake()


FAULTS: list[Fault] = [
    machine_lost,
    standby_lost,
    postgresql_killed,
    switchover,
    quorum_lost,
    patroni_hung,
]
