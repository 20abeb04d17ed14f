"""Clients that capture holds in parts, each request under a key, and compare what they were told with what is stored."""

import http.client
import itertools
import json
import threading
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from decimal import Decimal
from random import Random
from typing import Any, NamedTuple, Self

import psycopg

from tests.faults.scene import Address
from tests.support import TIMEOUT, account, payment_body

# What settles a request.
_SETTLED = (200, 400, 409, 422)
_PAUSE = 0.05
_HELD = Decimal(10)


class Answer(NamedTuple):
    """What a request was answered with in the end."""

    status: int
    body: dict[str, Any]
    code: str | None


class Capturer:
    """So many clients that make holds, and capture and void those of all of them, until they are stopped.

    They have accounts of their own. A request is repeated until it is settled, and sometimes once more, for no reason.
    """

    def __init__(
        self, addresses: Sequence[Address], admin: psycopg.Connection[Any], *, clients: int = 4, seed: object = 0
    ) -> None:
        self._addresses = addresses
        self._buyer = account(admin, f"capturer {uuid.uuid4()}", 10**9)
        self._seller = account(admin, f"captured {uuid.uuid4()}")
        self._holds: list[int] = []
        self._told: defaultdict[int, dict[int, Decimal]] = defaultdict(dict)  # by hold: the amounts, by payment
        self._wrong: list[str] = []
        self.counts = Counter[str]()
        self._stopping = threading.Event()
        self._giving_up = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(Random(f"{seed} {number}"),)) for number in range(clients)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Begins nothing more, and waits until all is settled."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(TIMEOUT)
        self._giving_up.set()
        for thread in self._threads:
            thread.join()

    def contradictions(self, admin: psycopg.Connection[Any]) -> Iterator[str]:
        """What is wrong after they have stopped, a sentence each."""
        yield from self._wrong
        stored: defaultdict[int, dict[int, Decimal]] = defaultdict(dict)
        payments = "select hold_id, id, amount from ledger.payment where buyer_account_id = %s and hold_id is not null"
        for hold, payment, amount in admin.execute(payments, [self._buyer]).fetchall():
            stored[hold][payment] = amount
        if stored != self._told:
            yield f"captures are {dict(stored)}, and told were {dict(self._told)}"
        holds = "select id, captured_amount from wallet.list_holds(p_account_id => %s)"
        for hold, captured in admin.execute(holds, [self._buyer]).fetchall():
            total = sum(stored[hold].values(), Decimal(0))
            if (captured or 0) != total or total > _HELD:
                yield f"hold {hold} of {_HELD} shows {captured} as captured, and its captures are {total}"

    def _run(self, random: Random) -> None:
        addresses = itertools.cycle(random.sample(self._addresses, len(self._addresses)))
        while not self._stopping.is_set():
            key = str(uuid.uuid4())
            path, body = self._request(random)
            answer = self._ask(addresses, path, body, key)
            again = self._ask(addresses, path, body, key) if random.random() < 0.1 else answer
            if answer is None or again is None:
                self._wrong.append(f"was never answered for good: {path} {body}")
            # A refused request does not use up its key: it may be refused for another reason later.
            elif again != answer and path.endswith("capture") and None in (answer.code, again.code):
                self._wrong.append(f"{path} {body} under {key} was answered with {answer}, then {again}")
            else:
                self._note(path, body, answer)

    def _request(self, random: Random) -> tuple[str, dict[str, object]]:
        """A new hold; or a capture or, rarely, a void of a recent one."""
        recent = self._holds[-5:]
        if not recent or random.random() < 0.2:
            hold = payment_body(self._buyer, self._seller, str(_HELD), ExpiresIn=random.choice([1, 3600]))
            return "/holds", hold
        path = f"/hold/{random.choice(recent)}"
        if random.random() < 0.05:
            return f"{path}/void", {}
        amount = random.choice(["0.5", "1", "2.25"])
        return f"{path}/capture", {"Amount": amount, "Final": random.random() < 0.1, "UpTo": random.random() < 0.5}

    def _ask(self, addresses: Iterator[Address], path: str, body: dict[str, object], key: str) -> Answer | None:
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        while True:
            with suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection(*next(addresses), timeout=TIMEOUT)
                try:
                    connection.request("POST", path, json.dumps(body), headers)
                    response = connection.getresponse()
                    content = response.read()
                finally:
                    connection.close()
                if response.status in _SETTLED:
                    return Answer(response.status, json.loads(content), response.headers.get("Error-Code"))
            if self._giving_up.wait(_PAUSE):
                return None

    def _note(self, path: str, body: dict[str, object], answer: Answer) -> None:
        what = path.rpartition("/")[2]
        self.counts[f"{what}: {answer.code or 'done'}"] += 1
        if answer.code is not None and answer.code not in ("WB032", "WC031", "WC032", "WC033"):
            self._wrong.append(f"{path} {body} was refused with {answer.code}")
        elif answer.code is None and what == "holds":
            self._holds.append(answer.body["ID"])
        elif answer.code is None and what == "capture":
            self._told[answer.body["HoldID"]][answer.body["ID"]] = Decimal(answer.body["Amount"])
