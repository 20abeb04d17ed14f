"""A reader of the feed that goes on through all faults, as the program that delivers webhooks would."""

import http.client
import itertools
import json
import threading
from collections import Counter
from collections.abc import Iterator, Sequence

from tests.faults.scene import Address
from tests.support import TIMEOUT

# Pause after a request without an answer.
_PAUSE = 0.05


class Follower:
    """Follows the feed, from its beginning, with one request at a time, each to the next address."""

    def __init__(self, addresses: Sequence[Address]) -> None:
        self._addresses = itertools.cycle(addresses)
        self._cursor = ""
        self._payments: list[int] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        """Starts to follow."""
        self._thread.start()

    def stop(self) -> None:
        """Stops after the request that is under way."""
        self._stopping.set()
        self._thread.join()

    def contradictions(self, address: Address, made: Sequence[int]) -> Iterator[str]:
        """What was wrong with its payments, a sentence each. Reads the rest first. `made` are ids, in order."""
        self.stop()
        while self._read(address, "limit=1000"):
            pass
        known = set(made)
        shown = [id_ for id_ in self._payments if id_ in known]
        for id_, times in Counter(shown).items():
            if times > 1:
                yield f"the feed has shown payment {id_} {times} times"
        for id_ in known - set(shown):
            yield f"the feed has never shown payment {id_}"
        if shown != sorted(shown):
            yield "the feed has shown payments in another order"

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._read(next(self._addresses), "wait=1")
            except (OSError, http.client.HTTPException, ValueError):
                self._stopping.wait(_PAUSE)

    def _read(self, address: Address, parameters: str) -> bool:
        """Reads a page, and returns whether it had events. Raises ValueError for an answer that is none."""
        connection = http.client.HTTPConnection(*address, timeout=TIMEOUT)
        try:
            connection.request("GET", f"/feed?{parameters}" + (f"&after={self._cursor}" if self._cursor else ""))
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        if response.status != 200:
            raise ValueError(response.status)
        events = json.loads(content).get("Events", [])
        self._payments += [event["PaymentID"] for event in events if event["Event"] == "payment_made"]
        self._cursor = events[-1]["Cursor"] if events else self._cursor
        return bool(events)
