"""A cluster, and instances of the service on it, for all tests: each fault leaves it whole."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from tests.faults.recorder import Recorder
from tests.faults.scene import Scene
from tests.ha import cluster as clusters
from tests.ha.cluster import Cluster
from tests.ha.faults import gap, under_load

Load = Callable[[], AbstractContextManager[Recorder]]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if missing := clusters.missing():
        pytest.skip(f"needs {missing}: apt-get install etcd-server haproxy postgresql-15")
    with clusters.running(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, cluster: Cluster) -> Iterator[Scene]:
    with clusters.scene(tmp_path_factory.mktemp("stage"), cluster) as stage:
        yield stage


@pytest.fixture
def load(cluster: Cluster, stage: Scene, record_property: Callable[[str, object], None]) -> Load:
    """The load of a test. The report of the run shows how long the outage was, which no test limits."""

    @contextmanager
    def load() -> Iterator[Recorder]:
        with under_load(cluster, stage) as clients:
            yield clients
        struck = [
            (f"{fault.kind}, no payment for {gap(clients, fault):.1f} s", fault.in_flight) for fault in clients.faults
        ]
        record_property("faults", struck)

    return load
