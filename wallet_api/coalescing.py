"""Requests that arrive while a call is under way wait, and go out together in the next one.

No timer: who comes alone goes at once, and under load one call and one commit carry what has arrived since the
last. It knows no rule, and not what a request is: it is a queue in front of a function.

Where a call fails because somebody holds what one of its requests needs, they are all put aside, to be made
without waiting for it: those that do not need it are, at once, and those that do are tried again, for so long.
"""

import asyncio
import enum
import random
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Generic, NamedTuple, Self, TypeVar

Request = TypeVar("Request")
Outcome = TypeVar("Outcome")
Call = Callable[[Sequence[Request]], Awaitable[Sequence[Outcome]]]

# How often a call is made that the database rolled back for a cause that passes, and the longest pause before
# each, in seconds; it doubles every time.
_ATTEMPTS = 5
_PAUSE = 0.01


class Full(Exception):
    """As many requests are waiting as may."""


class Verdict(enum.Enum):
    """What an exception says of the call that raised it. But for COMMON, nothing at all was done."""

    PASSING = "the same call may succeed in a moment"
    BLOCKED = "somebody holds what one of the requests needs"
    PERSONAL = "one of the requests may be the cause"
    COMMON = "none of them is the cause, or nobody knows what was done"


Judge = Callable[[Exception], Verdict]


class _Entry(NamedTuple, Generic[Request, Outcome]):
    request: Request
    future: asyncio.Future[Outcome]


class Coalescer(Generic[Request, Outcome]):
    """Within `async with`, it makes requests, and tells the outcome of each.

    Calls take requests, and return their outcomes in order: each of `together`, one call at a time, with up to
    `most_together`; for those that were put aside, first `without_waiting`, which returns None for those that are
    blocked, and then `waiting`. A request is put aside for some `patience` seconds, and then gets the exception;
    `most_waiting` may wait for whatever it is.
    """

    def __init__(
        self,
        together: Sequence[Call[Request, Outcome]],
        without_waiting: Call[Request, Outcome | None],
        waiting: Call[Request, Outcome],
        judge: Judge,
        *,
        most_together: int,
        most_waiting: int,
        patience: float,
    ) -> None:
        self._idle = list(together)
        self._shares = len(together) + 1
        self._without_waiting = without_waiting
        self._with_waiting = waiting
        self._judge = judge
        self._most_together = most_together
        self._most_waiting = most_waiting
        self._patience = patience
        self._waiting: deque[_Entry[Request, Outcome]] = deque()
        # Each with the time of the event loop at which it is given up.
        self._aside: list[tuple[_Entry[Request, Outcome], float]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._under_way = 0
        self._around = 0

    async def __aenter__(self) -> Self:
        """Takes requests from here on."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Ends what is still under way. Nobody waits for it any more: requests end before the application does."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def outcome(self, request: Request) -> Outcome:
        """Makes a request, and returns its outcome, or raises what the call raised. Raises Full."""
        if len(self._waiting) + len(self._aside) >= self._most_waiting:
            raise Full
        entry = _Entry[Request, Outcome](request, asyncio.get_running_loop().create_future())
        if self._idle:
            # the one that became idle last, so that who comes alone finds a line that is warm
            call = self._idle.pop()
            try:
                await self._call_together(call, [entry])
            finally:
                self._start(self._call_while_any_wait(call)) if self._waiting else self._idle.append(call)
        else:
            self._waiting.append(entry)
        return await entry.future

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _call_while_any_wait(self, call: Call[Request, Outcome]) -> None:
        while entries := self._take():
            await self._call_together(call, entries)
        self._idle.append(call)

    def _take(self) -> list[_Entry[Request, Outcome]]:
        """Takes who is next: a fair share of those around, so that all calls are busy, and so are the clients.

        Else, whoever comes first after a large call goes alone, and all others together after that, forever.
        """
        share = min(self._most_together, -(-self._around // self._shares) or self._most_together)
        entries: list[_Entry[Request, Outcome]] = []
        while self._waiting and len(entries) < share:
            entry = self._waiting.popleft()
            if not entry.future.done():  # one that has been cancelled asks for nothing any more
                entries.append(entry)
        return entries

    async def _call_together(self, call: Call[Request, Outcome], entries: list[_Entry[Request, Outcome]]) -> None:
        self._under_way += len(entries)
        try:
            _settle(entries, await repeated(call, [entry.request for entry in entries], self._judge))
        except Exception as error:
            if self._judge(error) in (Verdict.BLOCKED, Verdict.PERSONAL):
                self._put_aside(entries)
            else:
                _fail(entries, error)
        finally:
            self._around = self._under_way + len(self._waiting)
            self._under_way -= len(entries)

    def _put_aside(self, entries: list[_Entry[Request, Outcome]]) -> None:
        if not self._aside:
            self._start(self._call_for_those_aside())
        deadline = asyncio.get_running_loop().time() + self._patience
        self._aside += [(entry, deadline) for entry in entries]

    async def _call_for_those_aside(self) -> None:
        """Nobody pays for a neighbour: makes what can be made, and then waits a little for what cannot."""
        while self._aside:
            blocked: Exception | None = None
            for call in (self._without_waiting, self._with_waiting):
                blocked = await self._call_in_parts(call, [entry for entry, _ in self._aside])
                self._aside = [(entry, deadline) for entry, deadline in self._aside if not entry.future.done()]
            now = asyncio.get_running_loop().time()
            if blocked is not None:
                _fail([entry for entry, deadline in self._aside if deadline <= now], blocked)

    async def _call_in_parts(
        self, call: Call[Request, Outcome | None], entries: list[_Entry[Request, Outcome]]
    ) -> Exception | None:
        """Makes what can be made, and returns what the rest is blocked by."""
        blocked = None
        for start in range(0, len(entries), self._most_together):
            part = entries[start : start + self._most_together]
            try:
                _settle(part, await repeated(call, [entry.request for entry in part], self._judge))
            except Exception as error:
                verdict = self._judge(error)
                if verdict is Verdict.BLOCKED:
                    blocked = error
                elif verdict is Verdict.PERSONAL and len(part) > 1:
                    for entry in part:
                        blocked = await self._call_in_parts(call, [entry]) or blocked
                else:
                    _fail(part, error)
        return blocked


async def repeated(call: Call[Request, Outcome], requests: Sequence[Request], judge: Judge) -> Sequence[Outcome]:
    """Makes a call, and makes it again for as long as it fails for a cause that passes; a few times at most."""
    for attempt in range(1, _ATTEMPTS):
        try:
            return await call(requests)
        except Exception as error:
            if judge(error) is not Verdict.PASSING:
                raise
        await asyncio.sleep(random.uniform(0, _PAUSE * 2**attempt))  # noqa: S311
    return await call(requests)


def _settle(entries: list[_Entry[Request, Outcome]], outcomes: Sequence[Outcome | None]) -> None:
    """Tells the outcomes; there is none, yet, for those that are blocked."""
    for (_, future), outcome in list(zip(entries, outcomes, strict=True)):
        if outcome is not None and not future.done():
            future.set_result(outcome)


def _fail(entries: list[_Entry[Request, Outcome]], error: Exception) -> None:
    for _, future in entries:
        if not future.done():
            future.set_exception(error)
