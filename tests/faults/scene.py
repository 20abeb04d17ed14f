"""The stage of the faults: instances of the service on one database, behind the load balancer that is shipped."""

import http.client
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2

from tests.faults.postgres import free_port
from tests.support import PROJECT, Server, wait_until

Address = tuple[str, int]

# Limits that make a service give up before a test does.
_SETTINGS = {"WALLET_POOL_TIMEOUT": "1", "WALLET_CONNECT_TIMEOUT": "2"}


class Instance:
    """One instance of the service, which stays at its port through stops and kills."""

    def __init__(self, database_url: str, **settings: str) -> None:
        self.address: Address = ("127.0.0.1", free_port())
        self._environment = {**_SETTINGS, **settings, "DATABASE_URL": database_url, "PORT": str(self.address[1])}
        self._server: Server | None = None
        self.start()

    def start(self) -> None:
        """Starts it, and waits until it listens."""
        assert self._server is None, "it runs already"
        self._server = Server(**self._environment)
        assert self._server.url

    def kill(self) -> None:
        """kill -9"""
        self._taken().kill()

    def stop(self) -> int:
        """SIGTERM; returns its exit code."""
        self.terminate()
        return self.wait()

    def terminate(self) -> None:
        """SIGTERM, and it is not waited for."""
        assert self._server is not None, "it does not run"
        self._server.process.terminate()

    def wait(self) -> int:
        """Waits until it has ended by itself; returns its exit code."""
        return self._taken().wait()

    def close(self) -> None:
        """Leaves nothing running."""
        if self._server is not None:
            self.kill()

    def status(self, path: str) -> int:
        """The status that it answers a GET with."""
        return status(self.address, path)

    def client(self) -> httpx2.Client:
        """A client of this instance alone."""
        assert self._server is not None, "it does not run"
        return self._server.client()

    @property
    def log(self) -> str:
        return "" if self._server is None else self._server.log

    def _taken(self) -> Server:
        server, self._server = self._server, None
        assert server is not None, "it does not run"
        return server


class Scene:
    """Instances, and the addresses where clients find them: the load balancer's, or their own without one."""

    def __init__(self, instances: list[Instance], balancer: Address | None) -> None:
        self.instances = instances
        self.addresses = [instance.address for instance in instances] if balancer is None else [balancer]

    @property
    def address(self) -> Address:
        """Where one client finds it."""
        return self.addresses[0]

    def is_ready(self) -> bool:
        """Whether every instance is, and the load balancer knows of one."""
        try:
            everywhere = [*(instance.address for instance in self.instances), *self.addresses]
            return all(status(address, "/readyz") == 200 for address in everywhere)
        except OSError:
            return False


def status(address: Address, path: str) -> int:
    """The status that a GET is answered with."""
    connection = http.client.HTTPConnection(*address, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except http.client.HTTPException as error:
        raise ConnectionError(str(error)) from error
    finally:
        connection.close()


@contextmanager
def scene(
    folder: Path, database_url: str, instances: int = 2, *, balanced: bool = True, **settings: str
) -> Iterator[Scene]:
    """A scene that is ready. `balanced` puts HAProxy before the instances where it is installed."""
    with ExitStack() as stack:
        cast = []
        for _ in range(instances):
            cast.append(Instance(database_url, **settings))
            stack.callback(cast[-1].close)
        balancer = None
        if balanced and (program := shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")):
            balancer = stack.enter_context(_haproxy(program, folder, [instance.address for instance in cast]))
        stage = Scene(cast, balancer)
        wait_until(stage.is_ready)
        yield stage


@contextmanager
def _haproxy(program: str, folder: Path, instances: list[Address]) -> Iterator[Address]:
    """HAProxy with the configuration that is shipped, before these instances."""
    host, port = address = ("127.0.0.1", free_port())
    configuration = folder / "haproxy.cfg"
    configuration.write_text(configuration_for(f"{host}:{port}", instances))
    with (folder / "haproxy.log").open("w") as log:
        process = subprocess.Popen([program, "-db", "-f", str(configuration)], stdout=log, stderr=log)
    try:
        yield address
        assert process.poll() is None, (folder / "haproxy.log").read_text()
    finally:
        process.kill()
        process.wait()


def configuration_for(bind: str, instances: list[Address]) -> str:
    """deploy/haproxy.cfg as it is, but for where it listens and how it finds the instances."""
    servers = "".join(f"    server wallet-{number} {host}:{port}\n" for number, (host, port) in enumerate(instances, 1))
    text = (PROJECT / "deploy/haproxy.cfg").read_text()
    for pattern, replacement, times in (
        (r"^resolvers docker\n(    .*\n)+", "", 1),
        (r"^    bind .*$", f"    bind {bind}", 1),
        (r" resolvers docker init-addr none$", "", 1),
        (r"^    server-template .*\n", servers, 2),
    ):
        text, replaced = re.subn(pattern, replacement, text, flags=re.MULTILINE)
        assert replaced == times, f"haproxy.cfg has {replaced} lines like {pattern}"
    return text
