"""The loads: wrk, pgbench, psql and one plain reader, each started, waited for, and its own report read."""

import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from wallet_api.database.embedded import wheel_programs

FOLDER = Path(__file__).parent
_TIMEOUT = 120


class BenchError(Exception):
    """The benchmark cannot go on, or money was not conserved; its text says which."""


class Answers(NamedTuple):
    """What wrk or pgbench saw. Latencies in milliseconds; pgbench tells the average alone."""

    requests: int
    refused: int
    failed: int
    seconds: float
    p50: float | None = None
    p99: float | None = None
    average: float | None = None
    statuses: dict[str, int] = {}  # noqa: RUF012 - never changed


def require_wrk() -> None:
    """Raises BenchError, which says how to install wrk, where it is missing."""
    if shutil.which("wrk") is None:
        raise BenchError("wrk is missing: apt-get install wrk, or brew install wrk")


def wrk(url: str, script: str, connections: int, seconds: int, *arguments: int, secret: str | None = None) -> Answers:
    """Sends requests for so many seconds, over so many connections, one at a time on each; with an API key's secret."""
    options = ["-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", f"{script}.lua"]
    options += [word for name, value in authorization(secret).items() for word in ("-H", f"{name}: {value}")]
    output = _output(["wrk", *options, url, "--", *map(str, arguments)], seconds)
    line = output.rstrip().rpartition("\n")[2]
    try:
        answers = Answers(**json.loads(line))
    except (json.JSONDecodeError, TypeError):
        raise BenchError(f"wrk did not end as it should:\n{output}") from None
    if answers.requests == 0:
        raise BenchError(f"{url} answered nothing in {seconds} s:\n{output}")
    return answers


def pgbench(conninfo: str, script: str, clients: int, seconds: int, first: int, number: int) -> Answers:
    """Runs a transaction over and over for so many seconds, on so many connections."""
    options = ["-n", "-M", "prepared", "-j", "1", "-c", str(clients), "-T", str(seconds), "-f", f"{script}.sql"]
    options += ["-D", f"first={first}", "-D", f"last={first + number - 1}"]
    database, environment = _as_wallet_app(conninfo)
    output = _output([str(wheel_programs() / "pgbench"), *options, database], seconds, environment)
    found = [
        re.search(pattern, output)
        for pattern in (
            r"number of transactions actually processed: (\d+)",
            r"number of failed transactions: (\d+)",
            r"latency average = ([\d.]+) ms",
            r"tps = ([\d.]+)",
        )
    ]
    made, failed, latency, speed = (float(match[1]) if match else 0.0 for match in found)
    if made == 0 or speed == 0:
        raise BenchError(f"pgbench made no payment:\n{output}")
    # its speed leaves out the time that it took to connect, and so do its seconds here
    return Answers(int(made), 0, int(failed), made / speed, average=latency)


def psql_copy(conninfo: str) -> float:
    """Seconds in which psql writes all payments to nowhere, its start and its connecting included."""
    database, environment = _as_wallet_app(conninfo)
    command = [str(wheel_programs() / "psql"), "-X", "-c", "copy (select * from wallet.list_payments()) to stdout"]
    begin = time.monotonic()
    subprocess.run([*command, database], env=environment, stdout=subprocess.DEVNULL, check=True)
    return time.monotonic() - begin


def authorization(secret: str | None) -> dict[str, str]:
    """The header with which a client says which API key it has, if any."""
    return {} if secret is None else {"Authorization": f"Bearer {secret}"}


def read_payments(url: str, secret: str | None = None) -> tuple[float, int]:
    """Seconds in which GET /payments is read to its end, and how many payments there were."""
    address = urlsplit(url)
    head = "".join([f"{name}: {value}\r\n" for name, value in authorization(secret).items()])
    parts = []
    with socket.create_connection((str(address.hostname), int(address.port or 80)), _TIMEOUT) as connection:
        begin = time.monotonic()
        connection.sendall(f"GET /payments HTTP/1.1\r\n{head}Host: localhost\r\nConnection: close\r\n\r\n".encode())
        while part := connection.recv(1 << 20):
            parts.append(part)
        seconds = time.monotonic() - begin
    # Looked at when the clock has stopped: what the client does with it is not what is measured.
    answered, _, body = b"".join(parts).partition(b"\r\n\r\n")
    if not answered.startswith(b"HTTP/1.1 200 ") or b"chunked" not in answered:
        raise BenchError(f"GET /payments answered {answered.decode()}")
    return seconds, len(json.loads(b"".join(_chunks(body))).get("Payments", []))


def _chunks(body: bytes) -> Iterator[bytes]:
    """The contents of a body in chunks, up to the empty one that ends it."""
    start = 0
    while True:
        end = body.index(b"\r\n", start)
        size = int(body[start:end], 16)
        if size == 0:
            return
        yield body[end + 2 : end + 2 + size]
        start = end + 2 + size + 2


def post_status(url: str, path: str, body: str, secret: str | None = None) -> int:
    """The status that one request is answered with."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=_TIMEOUT)
    connection.request("POST", path, body, authorization(secret))
    status = connection.getresponse().status
    connection.close()
    return status


class Memory:
    """The memory of the service's worker processes, from /proc; where there is none, nothing is known."""

    def __init__(self, server: int) -> None:
        self._workers = _workers(server)

    def forget_peak(self) -> None:
        """Makes "at most" begin now. Where the kernel cannot, it has begun when the process did, and is no less."""
        for worker in self._workers:
            try:
                Path(f"/proc/{worker}/clear_refs").write_text("5")
            except OSError:
                return

    def now(self) -> list[float]:
        """MiB of each worker."""
        return [_status(worker, "VmRSS") for worker in self._workers]

    def at_most(self) -> list[float]:
        """MiB of each worker, when it had the most."""
        return [_status(worker, "VmHWM") for worker in self._workers]


def _workers(server: int) -> list[int]:
    """The processes that answer requests: the server itself, or its children where there are several."""
    try:
        children = [int(pid) for pid in Path(f"/proc/{server}/task/{server}/children").read_text().split()]
        spawned = [pid for pid in children if b"multiprocessing.spawn" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    except OSError:
        return [server] if Path(f"/proc/{server}/status").exists() else []
    return spawned or [server]


def _status(pid: int, field: str) -> float:
    match = re.search(rf"^{field}:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(match[1]) / 1024 if match else 0.0


def _as_wallet_app(conninfo: str) -> tuple[str, dict[str, str]]:
    """A connection string and an environment for a program that then is wallet_app, as the service is.

    The password goes into the environment: every user of the machine can read arguments.
    """
    parameters = {name: str(value) for name, value in conninfo_to_dict(conninfo).items() if value is not None}
    environment = os.environ | {"PGOPTIONS": "-c role=wallet_app"}
    if "password" in parameters:
        environment["PGPASSWORD"] = parameters.pop("password")
    return make_conninfo(**parameters), environment


def _output(command: list[str], seconds: int, environment: dict[str, str] | None = None) -> str:
    try:
        result = subprocess.run(
            command,
            cwd=FOLDER,
            env=environment,
            capture_output=True,
            text=True,
            timeout=seconds + _TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise BenchError(f"{command[0]} does not end") from None
    if result.returncode != 0:
        raise BenchError(f"{command[0]} failed:\n{result.stdout}\n{result.stderr}")
    return result.stdout
