"""The cluster of deploy/ha on free ports of loopback: three nodes, each with etcd, Patroni and PostgreSQL."""

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
from psycopg.conninfo import make_conninfo

from tests.conftest import postgres_programs
from tests.faults.postgres import Postgres, free_port
from tests.faults.scene import Address, Instance, Scene, configuration_for
from tests.support import PROJECT

SHIPPED = PROJECT / "deploy/ha"
PROGRAMS = postgres_programs() or Path("/usr/lib/postgresql/15/bin")
_PASSWORD = "secret"
# In seconds: longer than any outage, with a new leader of etcd before and a recovery after it.
_PATIENCE = 90.0
# Patroni is the one of pyproject.toml.
_PATH = f"{PROGRAMS}:{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin:/usr/sbin"


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Waits until `condition` returns True. Fails after 90 seconds."""
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"not within {_PATIENCE:g} s: {what}"
        time.sleep(0.1)


def missing() -> str:
    """The first program of a cluster that this machine does not have, or the empty string."""
    programs = ("patroni", "etcd", "haproxy", "createdb")
    return next((name for name in programs if shutil.which(name, path=_PATH) is None), "")


class Ports(NamedTuple):
    """The ports of a node."""

    etcd: int
    etcd_peer: int
    patroni: int
    postgres: int


class Node:
    """One machine. What it runs stays dead when it is killed, until it is started again."""

    def __init__(self, number: int, folder: Path) -> None:
        self.name = f"db{number}"
        self.ports = Ports(*(free_port() for _ in Ports._fields))
        # Has found out which account can run PostgreSQL here, and where its data may be.
        self._postgres = Postgres(folder, self.ports.postgres)
        self._postgres.give(folder)
        self._folder = folder
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, nodes: "Sequence[Node]") -> None:
        """Starts what does not run, with the shipped configuration."""
        self.start_etcd(nodes)
        self._run("patroni", ["patroni", str(SHIPPED / "patroni.yml")], self.environment(nodes))

    def start_etcd(self, nodes: "Sequence[Node]") -> None:
        """Starts its member of etcd."""
        lines = (SHIPPED / "etcd.env").read_text().splitlines()
        shared = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
        client, peer = (f"http://127.0.0.1:{port}" for port in self.ports[:2])
        own = {
            "ETCD_NAME": self.name,
            "ETCD_DATA_DIR": str(self._folder / "etcd"),
            "ETCD_LISTEN_CLIENT_URLS": client,
            "ETCD_ADVERTISE_CLIENT_URLS": client,
            "ETCD_LISTEN_PEER_URLS": peer,
            "ETCD_INITIAL_ADVERTISE_PEER_URLS": peer,
            "ETCD_INITIAL_CLUSTER": ",".join(f"{node.name}=http://127.0.0.1:{node.ports.etcd_peer}" for node in nodes),
        }
        self._run("etcd", ["etcd"], shared | own)

    def environment(self, nodes: "Sequence[Node]") -> dict[str, str]:
        """What deploy/ha sets for Patroni and patronictl, with the ports and folders of this node."""
        api, postgres = (f"127.0.0.1:{port}" for port in self.ports[2:])
        return {
            "PATRONICTL_CONFIG_FILE": str(SHIPPED / "patroni.yml"),
            "PATRONI_NAME": self.name,
            "PATRONI_ETCD3_HOSTS": ",".join(f"127.0.0.1:{node.ports.etcd}" for node in nodes),
            "PATRONI_RESTAPI_LISTEN": api,
            "PATRONI_RESTAPI_CONNECT_ADDRESS": api,
            "PATRONI_RESTAPI_PASSWORD": _PASSWORD,
            "PATRONI_POSTGRESQL_LISTEN": postgres,
            "PATRONI_POSTGRESQL_CONNECT_ADDRESS": postgres,
            "PATRONI_POSTGRESQL_DATA_DIR": str(self._postgres.data),
            "PATRONI_POSTGRESQL_BIN_DIR": str(PROGRAMS),
            "PATRONI_POSTGRESQL_PGPASS": str(self._folder / "pgpass"),
            "PATRONI_SUPERUSER_PASSWORD": _PASSWORD,
            "PATRONI_REPLICATION_PASSWORD": _PASSWORD,
        }

    def kill(self) -> None:
        """Ends it as a failing machine does: all of its processes at once, none of which can do anything about it."""
        for process in self._processes.values():
            process.send_signal(signal.SIGSTOP)
        self._kill_postgres()
        for process in self._processes.values():
            process.kill()
            process.wait()
        self._processes.clear()

    def kill_postgres(self) -> None:
        """kill -9 of all processes of PostgreSQL, under Patroni's eyes."""
        self.hang()
        self._kill_postgres()
        self.wake()

    def kill_etcd(self) -> None:
        """kill -9 of its member of etcd."""
        etcd = self._processes.pop("etcd")
        etcd.kill()
        etcd.wait()

    def hang(self) -> None:
        """Stops Patroni in its tracks; PostgreSQL goes on."""
        self._processes["patroni"].send_signal(signal.SIGSTOP)

    def wake(self) -> None:
        """Lets Patroni go on."""
        self._processes["patroni"].send_signal(signal.SIGCONT)

    def terminate(self) -> None:
        """SIGTERM to Patroni, which stops PostgreSQL; it is not waited for."""
        if "patroni" in self._processes:
            self.wake()
            self._processes["patroni"].terminate()

    def close(self) -> None:
        """Leaves nothing running."""
        self.terminate()
        with suppress(subprocess.TimeoutExpired, KeyError):
            self._processes["patroni"].wait(20)
        self.kill()

    def answers(self, path: str) -> bool:
        """Whether Patroni answers a GET with 200, soon."""
        with suppress(OSError, http.client.HTTPException):
            return self._get(path)[0] == 200
        return False

    def is_in_failsafe_mode(self) -> bool:
        """Whether it is a primary that goes on without etcd."""
        with suppress(OSError, http.client.HTTPException):
            return self._get("/patroni")[1].get("failsafe_mode_is_active") is True
        return False

    def conninfo(self) -> str:
        """How the superuser connects to this node, whatever its role."""
        return conninfo(("127.0.0.1", self.ports.postgres))

    def log(self) -> str:
        """The last lines of Patroni and PostgreSQL."""
        return "\n".join((self._folder / "patroni.log").read_text().splitlines()[-20:])

    def _get(self, path: str) -> tuple[int, dict[str, Any]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.ports.patroni, timeout=2)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def _run(self, name: str, command: list[str], environment: dict[str, str]) -> None:
        if name in self._processes:
            return
        with (self._folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [*self._postgres.unprivileged(), *command],
                cwd=self._folder,
                env={"PATH": _PATH, "LANG": "C.UTF-8"} | environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _kill_postgres(self) -> None:
        if (postmaster := self._postmaster()) is None:
            return
        os.kill(postmaster, signal.SIGSTOP)  # so that it makes no more processes
        family = [int(pid) for pid in Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()]
        for pid in (*family, postmaster):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not any(map(_runs, (*family, postmaster))), "PostgreSQL ends")
        # It may name a process that is something else by now. PostgreSQL finds its old shared memory without it.
        (self._postgres.data / "postmaster.pid").unlink()

    def _postmaster(self) -> int | None:
        with suppress(OSError, ValueError):
            pid = int((self._postgres.data / "postmaster.pid").read_text().split("\n")[0])
            return pid if _runs(pid) else None
        return None


def _terminate(nodes: list[Node]) -> None:
    for node in nodes:
        node.terminate()


def _runs(pid: int) -> bool:
    """Whether a process is alive: where init does not look after it, it stays as a zombie."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def conninfo(address: Address, user: str = "postgres") -> str:
    """How a user connects to the database of the wallet at this address."""
    host, port = address
    return make_conninfo(host=host, port=port, dbname="wallet", user=user, password=_PASSWORD, connect_timeout=2)


class Router(NamedTuple):
    """The HAProxy of one instance: where it finds the primary and the synchronous standby."""

    primary: Address
    standby: Address


class Cluster:
    """Three nodes, and a router for each of two instances."""

    def __init__(self, nodes: list[Node], routers: list[Router]) -> None:
        self.nodes = nodes
        self.routers = routers

    @contextmanager
    def admin(self) -> Iterator[psycopg.Connection[Any]]:
        """A superuser's connection to the primary, through a router; every statement commits."""
        with psycopg.connect(conninfo(self.routers[0].primary), autocommit=True) as connection:
            yield connection

    def with_role(self, role: str) -> Node:
        """The node that has a role of Patroni's: primary, sync or async. Waits until there is one."""
        found: list[Node] = []

        def is_found() -> bool:
            found[:] = [node for node in self.nodes if node.answers(f"/{role}")]
            return len(found) == 1

        wait_until(is_found, f"one node is {role}")
        return found[0]

    def wait_until_whole(self) -> None:
        """Waits until the primary has two standbys that have everything, so that it may be lost."""
        streaming = """select array_agg(sync_state order by sync_state) = '{async,sync}' and bool_and(state = 'streaming')
                       and bool_and(flush_lsn >= pg_current_wal_lsn() - 65536) from pg_stat_replication"""

        def is_whole() -> bool:
            with suppress(psycopg.Error), self.admin() as admin:
                row = admin.execute(streaming).fetchone()
                return row is not None and row[0] is True
            return False

        def has_roles() -> bool:
            return all(sum(node.answers(f"/{role}") for node in self.nodes) == 1 for role in ("primary", "sync"))

        try:
            wait_until(lambda: has_roles() and is_whole(), "a primary with two standbys")
        except AssertionError as error:
            raise AssertionError(
                "\n".join([str(error), *(f"{node.name}: {node.log()}" for node in self.nodes)])
            ) from None

    def patronictl(self, *words: str) -> str:
        """Runs patronictl on a node, as docs/high-availability.md says. Returns what it prints."""
        done = subprocess.run(
            ["timeout", "60", "patronictl", *words],
            env={"PATH": _PATH, "LANG": "C.UTF-8"} | self.nodes[0].environment(self.nodes),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        return done.stdout


@contextmanager
def running(folder: Path) -> Iterator[Cluster]:
    """A migrated cluster."""
    with ExitStack() as stack:
        nodes = []
        for number in (1, 2, 3):
            nodes.append(Node(number, folder / f"node {number}"))
            stack.callback(nodes[-1].close)
        # All at once, before each is waited for.
        stack.callback(_terminate, nodes)
        for node in nodes:
            node.start(nodes)
        routers = [stack.enter_context(_router(folder / f"router {number}", nodes)) for number in (1, 2)]
        cluster = Cluster(nodes, routers)
        cluster.wait_until_whole()
        migrate = {"DATABASE_URL": conninfo(routers[0].primary), "WALLET_APP_PASSWORD": _PASSWORD}
        subprocess.run([sys.executable, "server.py", "migrate"], cwd=PROJECT, env=migrate, check=True)
        yield cluster


@contextmanager
def scene(folder: Path, cluster: Cluster) -> Iterator[Scene]:
    """Two instances, each with its router, behind the load balancer that is shipped."""
    with ExitStack() as stack:
        instances = []
        for router in cluster.routers:
            primary, standby = (conninfo(address, "wallet_app") for address in router)
            instances.append(Instance(primary, DATABASE_READ_URL=standby))
            stack.callback(instances[-1].close)
        balancer = ("127.0.0.1", free_port())
        text = configuration_for(f"127.0.0.1:{balancer[1]}", [instance.address for instance in instances])
        stack.enter_context(_haproxy(folder / "balancer", text))
        stage = Scene(instances, balancer)
        wait_until(stage.is_ready, "the instances are ready")
        yield stage


@contextmanager
def _router(folder: Path, nodes: list[Node]) -> Iterator[Router]:
    health, primary, standby = (("127.0.0.1", free_port()) for _ in range(3))
    text = (SHIPPED / "haproxy.cfg").read_text()
    replacements = [
        (r"^resolvers docker\n(    .*\n)+", "", 1),
        (r" port 8008( .*) resolvers docker init-addr libc,none$", r"\1", 1),
        *(
            (rf"^    bind :{shipped}$", f"    bind 127.0.0.1:{port}", 1)
            for shipped, (_, port) in ((8000, health), (5432, primary), (5433, standby))
        ),
        *(
            (
                rf'server {node.name} "\${{DB{number}}}"$',
                f"server {node.name} 127.0.0.1:{node.ports.postgres} check port {node.ports.patroni}",
                2,
            )
            for number, node in enumerate(nodes, 1)
        ),
    ]
    for pattern, replacement, times in replacements:
        text, replaced = re.subn(pattern, replacement, text, flags=re.MULTILINE)
        assert replaced == times, f"haproxy.cfg has {replaced} lines like {pattern}"
    with _haproxy(folder, text):
        yield Router(primary, standby)


@contextmanager
def _haproxy(folder: Path, configuration: str) -> Iterator[None]:
    program = shutil.which("haproxy", path=_PATH)
    assert program is not None, "tests/ha need apt-get install haproxy"
    folder.mkdir()
    (folder / "haproxy.cfg").write_text(configuration)
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([program, "-db", "-f", str(folder / "haproxy.cfg")], stdout=log, stderr=log)
    try:
        yield
        assert process.poll() is None, (folder / "log").read_text()
    finally:
        process.kill()
        process.wait()
