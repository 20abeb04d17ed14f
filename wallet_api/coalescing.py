"""Requests that arrive while a call is under way wait, and go out together in the next one.

No timer: who comes alone goes at once, and under load one call and one commit carry what has arrived since the
last. It knows no rule, and not what a request is: it is a queue in front of a function.

Where a call fails because somebody holds what one of its requests needs, they are all put aside, to be made
without waiting for it: those that do not need it are, at once, and those that do are tried again, for so long.

Where nobody knows whether a call was made, because the connection broke before its answer, only requests that can
be told to be the same ones (a payment with an idempotency key) are put aside like that. For the others, whoever
asked has to decide.
"""

import asyncio
import enum
import random
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Generic, Self, TypeVar

Request = TypeVar("Request")
Outcome = TypeVar("Outcome")
Call = Callable[[Sequence[Request]], Awaitable[Sequence[Outcome]]]

# How often a call is made that the database rolled back for a cause that passes, and the longest pause before
# each, in seconds; it doubles every time.
_ATTEMPTS = 5
_PAUSE = 0.01


class Full(Exception):
    """As many requests are waiting as may, or this one has waited for as long as it may."""


class Verdict(enum.Enum):
    """What an exception says of the call that raised it. But for UNKNOWN, nothing at all was done."""

    PASSING = "the same call may succeed in a moment"
    BLOCKED = "somebody holds what one of the requests needs"
    PERSONAL = "one of the requests may be the cause"
    COMMON = "none of them is the cause"
    UNKNOWN = "nobody knows what was done"


Judge = Callable[[Exception], Verdict]


@dataclass(slots=True)
class _Entry(Generic[Request, Outcome]):
    request: Request
    future: asyncio.Future[Outcome]
    # The time of the event loop until which it waits for a call.
    deadline: float
    # How a call with it was lost. Whatever happens later, it may have been made.
    lost: Exception | None = None


class Coalescer(Generic[Request, Outcome]):
    """Within `async with`, it makes requests, and tells the outcome of each.

    Calls take requests, and return their outcomes in order: each of `together`, one call at a time, with up to
    `most_together`; for those that were put aside, first `without_waiting`, which returns None for those that are
    blocked, and then `waiting`. A request is put aside for some `patience` seconds, and then gets the exception;
    `most_waiting` may wait for whatever it is, and nobody longer than `longest_wait` seconds for the first call.
    After a lost one, those that are `repeatable`, and have not waited for so long yet, are put aside when `pause`
    seconds have gone: as long as what was lost may take to end by itself. Then only an outcome that `is_success`
    counts: who is refused now may still be granted what was lost, by a server that was slow.
    """

    def __init__(
        self,
        together: Sequence[Call[Request, Outcome]],
        without_waiting: Call[Request, Outcome | None],
        waiting: Call[Request, Outcome],
        judge: Judge,
        repeatable: Callable[[Request], bool],
        is_success: Callable[[Outcome], bool],
        *,
        most_together: int,
        most_waiting: int,
        longest_wait: float,
        patience: float,
        pause: float,
    ) -> None:
        self._idle = list(together)
        self._shares = len(together) + 1
        self._without_waiting = without_waiting
        self._with_waiting = waiting
        self._judge = judge
        self._repeatable = repeatable
        self._is_success = is_success
        self._most_together = most_together
        self._most_waiting = most_waiting
        self._longest_wait = longest_wait
        self._patience = patience
        self._pause = pause
        self._waiting: deque[_Entry[Request, Outcome]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._aside: list[_Entry[Request, Outcome]] = []
        # How many wait to be put aside.
        self._lost = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._under_way = 0
        self._around = 0

    async def __aenter__(self) -> Self:
        """Takes requests from here on."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Ends what is still under way. Nobody waits for it any more: requests end before the application does."""
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def is_full(self) -> bool:
        """Whether a request would be refused at once."""
        return len(self._waiting) + len(self._aside) + self._lost >= self._most_waiting

    async def outcome(self, request: Request) -> Outcome:
        """Makes a request, and returns its outcome, or raises what the call raised. Raises Full."""
        if self.is_full:
            raise Full
        loop = asyncio.get_running_loop()
        entry = _Entry[Request, Outcome](request, loop.create_future(), loop.time() + self._longest_wait)
        if self._idle:
            # the one that became idle last, so that who comes alone finds a line that is warm
            call = self._idle.pop()
            try:
                await self._call_together(call, [entry])
            finally:
                self._start(self._call_while_any_wait(call)) if self._waiting else self._idle.append(call)
        else:
            self._waiting.append(entry)
            if self._timer is None:
                self._timer = loop.call_at(entry.deadline, self._give_up)
        return await entry.future

    def _give_up(self) -> None:
        """Refuses those who have waited for as long as they may, which is the first ones; and looks again in time."""
        loop = asyncio.get_running_loop()
        late: list[_Entry[Request, Outcome]] = []
        while self._waiting and self._waiting[0].deadline <= loop.time():
            late.append(self._waiting.popleft())
        _fail(late, Full())
        self._timer = loop.call_at(self._waiting[0].deadline, self._give_up) if self._waiting else None

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
            self._settle(entries, await repeated(call, [entry.request for entry in entries], self._judge))
        except Exception as error:
            verdict = self._judge(error)
            if verdict in (Verdict.BLOCKED, Verdict.PERSONAL):
                self._put_aside(entries)
            elif verdict is Verdict.UNKNOWN:
                if again := self._lose(entries, error):
                    self._start(self._put_aside_later(again))
            else:
                _fail(entries, error)
        finally:
            self._around = self._under_way + len(self._waiting)
            self._under_way -= len(entries)

    def _put_aside(self, entries: list[_Entry[Request, Outcome]]) -> None:
        if not self._aside:
            self._start(self._call_for_those_aside())
        deadline = asyncio.get_running_loop().time() + self._patience
        for entry in entries:
            entry.deadline = deadline
        self._aside += entries

    def _lose(self, entries: list[_Entry[Request, Outcome]], error: Exception) -> list[_Entry[Request, Outcome]]:
        """Fails those that cannot be asked for again, or have waited for too long already, and returns the others."""
        now = asyncio.get_running_loop().time()
        for entry in entries:
            entry.lost = entry.lost or error
        _fail([entry for entry in entries if not self._repeatable(entry.request) or entry.deadline <= now], error)
        return [entry for entry in entries if not entry.future.done()]

    async def _put_aside_later(self, entries: list[_Entry[Request, Outcome]]) -> None:
        self._lost += len(entries)
        try:
            await asyncio.sleep(self._pause)
        finally:
            self._lost -= len(entries)
        self._put_aside(entries)

    def _settle(self, entries: list[_Entry[Request, Outcome]], outcomes: Sequence[Outcome | None]) -> None:
        """Tells the outcomes; there is none, yet, for those that are blocked."""
        for entry, outcome in list(zip(entries, outcomes, strict=True)):
            if outcome is None or entry.future.done():
                continue
            if entry.lost is None or self._is_success(outcome):
                entry.future.set_result(outcome)
            else:
                entry.future.set_exception(entry.lost)

    async def _call_for_those_aside(self) -> None:
        """Nobody pays for a neighbour: makes what can be made, and then waits a little for what cannot."""
        while self._aside:
            blocked: Exception | None = None
            for call in (self._without_waiting, self._with_waiting):
                blocked = await self._call_in_parts(call, list(self._aside))
                self._let_go()
            now = asyncio.get_running_loop().time()
            if blocked is not None:
                _fail([entry for entry in self._aside if entry.deadline <= now], blocked)
                self._let_go()

    def _let_go(self) -> None:
        """Forgets those aside that have been told what became of them."""
        self._aside = [entry for entry in self._aside if not entry.future.done()]

    async def _call_in_parts(
        self, call: Call[Request, Outcome | None], entries: list[_Entry[Request, Outcome]]
    ) -> Exception | None:
        """Makes what can be made, and returns what the rest is blocked by."""
        blocked = None
        for start in range(0, len(entries), self._most_together):
            part = entries[start : start + self._most_together]
            try:
                self._settle(part, await repeated(call, [entry.request for entry in part], self._judge))
            except Exception as error:
                verdict = self._judge(error)
                # A call that should not wait for anything, and is blocked all the same, is so by one of its requests.
                by_one = verdict is Verdict.PERSONAL or (verdict is Verdict.BLOCKED and call is self._without_waiting)
                if by_one and len(part) > 1:
                    blocked = await self._call_one_by_one(call, part, error) or blocked
                elif verdict is Verdict.BLOCKED:
                    blocked = error
                elif verdict is Verdict.UNKNOWN:
                    self._lose(part, error)
                    blocked = error
                    await asyncio.sleep(self._pause)
                else:
                    _fail(part, error)
        return blocked

    async def _call_one_by_one(
        self, call: Call[Request, Outcome | None], entries: list[_Entry[Request, Outcome]], error: Exception
    ) -> Exception | None:
        blocked = None
        for entry in entries:
            if entry.deadline <= asyncio.get_running_loop().time():
                _fail([entry], error)
            else:
                blocked = await self._call_in_parts(call, [entry]) or blocked
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


def _fail(entries: list[_Entry[Request, Outcome]], error: Exception) -> None:
    for entry in entries:
        if not entry.future.done():
            entry.future.set_exception(entry.lost or error)
