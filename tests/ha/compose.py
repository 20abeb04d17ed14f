"""Kills the container of the primary of deploy/ha/docker-compose.yml, which is up, while clients pay.

python -m tests.ha.compose [URL]   in the environment in which `docker compose` reaches it
"""

import itertools
import subprocess
import sys
import threading
import time
import uuid

import httpx2

from tests.ha.cluster import SHIPPED
from tests.support import open_account, pay

_IS_PRIMARY = "from urllib.request import *; urlopen('http://127.0.0.1:8008/primary')"
_PAYERS = 4


def compose(*words: str, check: bool = True) -> int:
    """Runs docker compose on the shipped file."""
    command = ["docker", "compose", "--file", str(SHIPPED / "docker-compose.yml"), *words]
    return subprocess.run(command, check=check, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode


def primary() -> str:
    """The service of the primary. Waits until there is one."""
    for name in itertools.cycle(("db1", "db2", "db3")):
        if compose("exec", "-T", name, "python3", "-c", _IS_PRIMARY, check=False) == 0:
            return name
    raise AssertionError


def main() -> None:
    """Fails if a payment that was acknowledged is lost, or one is made twice."""
    url = sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8080"
    stopping = threading.Event()
    acknowledged: list[float] = []
    with httpx2.Client(base_url=url, timeout=30) as api:
        name = uuid.uuid4()
        buyer, seller = open_account(api, f"buyer {name}", 10**9), open_account(api, f"seller {name}")

        def payer() -> None:
            """Repeats each payment under its key until it is acknowledged."""
            with httpx2.Client(base_url=url, timeout=30) as client:
                while not stopping.is_set():
                    key = str(uuid.uuid4())
                    while not _is_made(client, buyer, seller, key):
                        time.sleep(0.1)
                    acknowledged.append(time.monotonic())

        payers = [threading.Thread(target=payer) for _ in range(_PAYERS)]
        for thread in payers:
            thread.start()
        time.sleep(3)
        lost = primary()
        killed = time.monotonic()
        compose("kill", lost)
        now = primary()
        time.sleep(5)
        compose("start", lost)
        stopping.set()
        for thread in payers:
            thread.join()
        gap = max(after - before for before, after in itertools.pairwise(sorted(acknowledged)) if after > killed)
        received = api.get(f"/account/{seller}").json()["Amount"]
        assert int(received) == len(acknowledged), f"{len(acknowledged)} acknowledged, {received} received"
    compose("run", "--rm", "-T", "migrate", "python", "server.py", "check")
    print(
        f"{lost} was killed, {now} is the primary. No payment for {gap:.1f} s; all {received} were made once; books proved"
    )


def _is_made(client: httpx2.Client, buyer: int, seller: int, key: str) -> bool:
    try:
        return pay(client, buyer, seller, 1, key).status_code == 200
    except httpx2.HTTPError:
        return False


if __name__ == "__main__":
    main()
