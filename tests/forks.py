"""Runs server.py in a fork of a process that has imported the libraries: a start takes a fifth of the CPU time.

The wallet's own modules are imported by each fork. tests/faults/test_command.py starts programs as users do.
"""

import atexit
import contextlib
import functools
import gc
import json
import logging
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

_PROJECT = Path(__file__).parent.parent
# What Python reads when it starts: the same for all forks.
PYTHON = {"PYTHONFAULTHANDLER": "1", "PYTHONWARNINGS": "error"}

_NUMBER = struct.Struct("i")


class Fork:
    """A process of server.py, with the methods of subprocess.Popen. A file of `files` is its stdin, stdout or stderr."""

    def __init__(self, arguments: list[str], environment: Mapping[str, str], files: tuple[int, int, int]) -> None:
        self._report, end = os.pipe()
        request = json.dumps([arguments, dict(environment)]).encode()
        socket.send_fds(_nursery(), [request], [*files, end])
        os.close(end)
        self.returncode: int | None = None
        self.pid = self._next_number()

    def wait(self, timeout: float | None = None) -> int:
        """Waits for its end, and returns its exit code, or -N if signal N ended it. Raises TimeoutExpired."""
        if self.returncode is None:
            poll = select.poll()
            poll.register(self._report, select.POLLIN)
            if not poll.poll(None if timeout is None else timeout * 1000):
                raise subprocess.TimeoutExpired("server.py", timeout or 0)
            self.returncode = self._next_number()
            os.close(self._report)
        return self.returncode

    def poll(self) -> int | None:
        """Its exit code, or None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def send_signal(self, signum: int) -> None:
        """Sends it a signal, unless it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signum)

    def terminate(self) -> None:
        """SIGTERM"""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL"""
        self.send_signal(signal.SIGKILL)

    def _next_number(self) -> int:
        [number] = _NUMBER.unpack(os.read(self._report, _NUMBER.size))
        return int(number)


def run(arguments: list[str], environment: Mapping[str, str], timeout: float) -> subprocess.CompletedProcess[str]:
    """Runs server.py with these arguments and nothing to read, and returns what it has written."""
    with (
        tempfile.TemporaryFile("w+") as stdout,
        tempfile.TemporaryFile("w+") as stderr,
        Path(os.devnull).open() as stdin,
    ):
        fork = Fork(arguments, environment, (stdin.fileno(), stdout.fileno(), stderr.fileno()))
        try:
            code = fork.wait(timeout)
        except subprocess.TimeoutExpired:
            fork.kill()
            raise
        written = []
        for file in (stdout, stderr):
            file.seek(0)
            written.append(file.read())
        return subprocess.CompletedProcess(["server.py", *arguments], code, *written)


@functools.cache
def _nursery() -> socket.socket:
    """A connection to the process that forks. It ends when this one does."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME")}
    with theirs:
        program = [sys.executable, "-m", "tests.forks"]
        process = subprocess.Popen(
            program, cwd=_PROJECT, env=kept | PYTHON, stdin=theirs.fileno(), stdout=subprocess.DEVNULL
        )

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def _import_libraries() -> None:
    """Imports what server.py does, and forgets the wallet's own modules."""
    import uvicorn.lifespan.on
    import uvicorn.middleware.proxy_headers  # noqa: F401

    import wallet_api.command_line
    import wallet_api.serving.event_loop  # noqa: F401

    for name in [name for name in sys.modules if name.partition(".")[0] == "wallet_api"]:
        del sys.modules[name]
    logging.getLogger("psycopg.pool").filters.clear()  # each fork adds its own
    gc.collect()
    gc.freeze()  # a collection in a fork would copy them all


def _wait_for_requests() -> list[str]:
    """Forks for each request on stdin, and exits after the last one. In a fork, returns the arguments of server.py."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the tests, which end this process
    with socket.socket(fileno=os.dup(0)) as requests:
        while True:
            request, files, _, _ = socket.recv_fds(requests, 1 << 20, 4)
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG) != (0, 0):
                    pass
            if not request:
                os._exit(0)
            if os.fork() == 0:
                break
            for file in files:
                os.close(file)
    report = files.pop()
    _fork_and_report(report, files)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.close(report)
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    arguments, environment = json.loads(request)
    os.environ.clear()
    os.environ.update(environment)
    return list(arguments)


def _fork_and_report(report: int, files: list[int]) -> None:
    """Returns in a fork. Its parent reports its process id, then its exit code, and exits."""
    pid = os.fork()
    if pid == 0:
        return
    for file in files:
        os.close(file)
    os.write(report, _NUMBER.pack(pid))
    _, status = os.waitpid(pid, 0)
    os.write(report, _NUMBER.pack(os.waitstatus_to_exitcode(status)))
    os._exit(0)


if __name__ == "__main__":
    import runpy

    _import_libraries()
    sys.argv = ["server.py", *_wait_for_requests()]
    runpy.run_path("server.py", run_name="__main__")
