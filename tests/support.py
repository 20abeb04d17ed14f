"""Helpers that run the service as users do: as a process, over a socket."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import psycopg

from tests import forks
from tests.forks import PYTHON, Fork
from tools import errors

PROJECT = Path(__file__).parent.parent
TIMEOUT = 20.0
DEFAULTS = {"PORT": "0", "WALLET_ACCESS_LOG": "off", **PYTHON}

# Those that run, for reports of what they have logged.
servers: "weakref.WeakSet[Server]" = weakref.WeakSet()


class Server:
    """Runs server.py with its own environment on a free port.

    By `python server.py` in `folder`, which holds the version to run; or without one, by a fork of this version
    (tests/forks.py), which takes less time. `files` limits its open files.
    """

    def __init__(self, folder: Path | None = None, files: int | None = None, /, **environment: str) -> None:
        kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "WALLET_POSTGRES_BIN")}
        environment = kept | DEFAULTS | environment
        output, end = os.pipe()
        try:
            self.process = _fork(environment, end) if folder is None else _start(folder, files, environment, end)
        finally:
            os.close(end)
        self._output = open(output)  # noqa: SIM115, PTH123 - _read closes it
        self.lines: list[str] = []
        self._serving = threading.Event()
        # A worker that outlives its parent would keep the log open.
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        servers.add(self)

    def _read(self) -> None:
        with self._output as stream:
            for line in stream:
                self.lines.append(line.rstrip("\n"))
                if "Serving on" in line:
                    self._serving.set()
        self._serving.set()

    @property
    def log(self) -> str:
        return "\n".join(self.lines)

    @property
    def url(self) -> str:
        assert self._serving.wait(TIMEOUT), self.log
        match = re.search(r"Serving on (http://\S+)", self.log)
        assert match is not None, self.log
        return match[1]

    def client(self) -> httpx2.Client:
        return httpx2.Client(base_url=self.url, timeout=TIMEOUT)

    def wait(self) -> int:
        try:
            code = self.process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)  # makes Python print its stack
            self._reader.join(TIMEOUT)
            raise AssertionError(f"the server does not exit:\n{self.log}") from None
        self._reader.join(TIMEOUT)
        return code

    def stop(self, signum: int = signal.SIGTERM) -> int:
        self.process.send_signal(signum)
        return self.wait()

    def kill(self) -> None:
        self.process.kill()
        self.wait()


def _start(folder: Path, files: int | None, environment: dict[str, str], output: int) -> subprocess.Popen[bytes] | Fork:
    limited = [] if files is None else ["sh", "-c", f'ulimit -n {files} && exec "$@"', "sh"]
    return subprocess.Popen(
        [*limited, sys.executable, "server.py"],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
    )


def _fork(environment: dict[str, str], output: int) -> Fork:
    assert {name: environment[name] for name in environment if name.startswith("PYTHON")} == PYTHON
    with Path(os.devnull).open() as stdin:
        return Fork([], environment, (stdin.fileno(), output, output))


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs `python server.py` with these arguments and environment variables, by a fork, until it ends."""
    return forks.run([*arguments], {"PATH": os.environ["PATH"]} | environment, timeout=60)


@contextlib.contextmanager
def serving(folder: Path | None = None, files: int | None = None, /, **environment: str) -> Iterator[Server]:
    """A server that is ready, and must stop gracefully at the end of the block, unless killed there."""
    server = Server(folder, files, **environment)
    try:
        assert server.url
        yield server
        if server.process.poll() != -signal.SIGKILL:
            assert server.stop() == 0, server.log
    finally:
        if server.process.poll() is None:
            server.kill()


def account(connection: psycopg.Connection[Any], name: str, amount: object = 0, currency_id: int = 1) -> int:
    """Creates an account by SQL. Returns its id."""
    row = connection.execute("select id from wallet.create_account(%s, %s, %s)", [name, amount, currency_id]).fetchone()
    assert row is not None
    return int(row[0])


def open_account(api: httpx2.Client, name: str, amount: object = 0, currency_id: int = 1) -> int:
    """Creates an account over HTTP. Returns its id."""
    response = api.post("/accounts", json={"Name": name, "Amount": amount, "CurrencyID": currency_id})
    assert response.status_code == 200, response.text
    return int(response.headers["location"].rpartition("/")[2])


def payment_body(buyer: object, seller: object, amount: object = 1, **fields: object) -> dict[str, object]:
    """The JSON of a payment, as clients ask for it."""
    return {"BuyerAccountID": buyer, "SellerAccountID": seller, "Amount": amount, **fields}


def pay(
    api: httpx2.Client, buyer: object, seller: object, amount: object = 1, key: str | None = None, **fields: object
) -> httpx2.Response:
    """Asks for a payment over HTTP, under an idempotency key if one is given. Returns the response, also a refusal."""
    headers = {} if key is None else {b"Idempotency-Key": key.encode()}
    return api.post("/payments", json=payment_body(buyer, seller, amount, **fields), headers=headers)


_REFUSALS = {refusal.code: refusal for refusal in errors.registry()}


def sentence(code: str, **details: object) -> str:
    """The sentence that the registry has for a code. `details` fill in its placeholders."""
    return _REFUSALS[code].sentence.format(**details)


def refusal_body(code: str, **details: object) -> bytes:
    """The body of a refusal, byte for byte."""
    return b'{"Error":"%b"}' % sentence(code, **details).encode()


def assert_refused(response: httpx2.Response, code: str, *, index: int | None = None, **details: object) -> None:
    """Fails unless a response is this refusal, with its status, its headers and its sentence, and nothing else.

    `details` fill in the placeholders of the sentence (Error-Field is not checked). `index` is that of the refused payment in an atomic batch.
    docs/errors.md has the sentences byte for byte; tests/http/test_refusals.py proves those of the contract.
    """
    status = _REFUSALS[code].status
    body = {"Error": sentence(code, **details)} | ({} if index is None else {"Index": index})
    headers = {
        "error-code": code,
        "content-type": "application/json",
        "retry-after": "1" if status == 503 else None,
        "idempotency-replayed": None,
    }
    found = (response.status_code, {name: response.headers.get(name) for name in headers}, response.json())
    assert found == (status, headers, body), f"{found} instead of {(status, headers, body)}"


def balance(connection: psycopg.Connection[Any], account_id: int) -> Decimal:
    row = connection.execute("select amount from wallet.get_account(%s)", [account_id]).fetchone()
    assert row is not None
    return Decimal(row[0])


def wait_until(condition: Callable[[], bool]) -> None:
    """Waits until `condition` returns True. Fails after TIMEOUT seconds."""
    begin = time.monotonic()
    while not condition():
        waited = time.monotonic() - begin
        assert waited < TIMEOUT, "the condition did not become true"
        time.sleep(min(0.01 + waited / 20, 0.1))  # looking takes CPU time from what is waited for


def waiting_for_locks(admin: psycopg.Connection[Any], number: int) -> list[int]:
    """Waits until at least `number` connections to this database wait for locks. Returns their process ids."""
    query = "select pid from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    wait_until(lambda: len(admin.execute(query).fetchall()) >= number)
    return [pid for (pid,) in admin.execute(query).fetchall()]


def ledger_problems(admin: psycopg.Connection[Any]) -> list[tuple[Any, ...]]:
    """The problems that check_ledger() finds: none if no money was created or lost (tests/sql/test_check_ledger.py)."""
    return admin.execute("select account_id, payment_id, problem from wallet.check_ledger()").fetchall()


def totals(admin: psycopg.Connection[Any]) -> dict[str, Decimal]:
    """The sum of all balances by currency name."""
    rows = admin.execute("select currency_name, sum(amount) from wallet.list_accounts() group by 1").fetchall()
    return dict(rows)
