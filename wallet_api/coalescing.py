"""Requests that arrive while a call is under way wait, and go out together in the next one.

No timer: who comes alone goes at once, and under load one call and one commit carry what has arrived since the
last. It knows no rule, and not what a request is: it is a queue in front of a function.
"""

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Generic, Self, TypeVar

Request = TypeVar("Request")
Outcome = TypeVar("Outcome")
Call = Callable[[Sequence[Request]], Awaitable[Sequence[Outcome]]]
_Entry = tuple[Request, asyncio.Future[Outcome]]

# How often a call is made that the database rolled back for a cause that passes, and the longest pause before
# each, in seconds; it doubles every time.
_ATTEMPTS = 5
_PAUSE = 0.01


class Full(Exception):
    """As many requests are waiting as may."""


class Coalescer(Generic[Request, Outcome]):
    """Within `async with`, it makes requests, and tells the outcome of each.

    Each of `together` is called with up to `most_together` requests, one call at a time, and returns their outcomes
    in order. Of what it raises, `passing` and `personal` say, if nothing at all was done: whether the same call may
    succeed in a moment, and whether one of its requests may be the cause. For the latter, each request is repeated
    by a call of `alone`, of which `most_alone` are made at a time, after at most `patience` seconds. `most_waiting`
    requests may wait for either.
    """

    def __init__(
        self,
        together: Sequence[Call[Request, Outcome]],
        alone: Call[Request, Outcome],
        *,
        passing: Callable[[Exception], bool],
        personal: Callable[[Exception], bool],
        most_together: int,
        most_alone: int,
        most_waiting: int,
        patience: float,
    ) -> None:
        self._idle = list(together)
        self._shares = len(together) + 1
        self._alone = alone
        self._passing = passing
        self._personal = personal
        self._most_together = most_together
        self._most_waiting = most_waiting
        self._lone_calls = asyncio.Semaphore(most_alone)
        self._patience = patience
        self._apart = 0
        self._waiting: deque[_Entry[Request, Outcome]] = deque()
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
        if len(self._waiting) + self._apart >= self._most_waiting:
            raise Full
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        if self._idle:
            # the one that became idle last, so that who comes alone finds a line that is warm
            call = self._idle.pop()
            try:
                await self._call_together(call, [(request, future)])
            finally:
                self._start(self._call_while_any_wait(call)) if self._waiting else self._idle.append(call)
        else:
            self._waiting.append((request, future))
        return await future

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
            if not entry[1].done():  # one that has been cancelled asks for nothing any more
                entries.append(entry)
        return entries

    async def _call_together(self, call: Call[Request, Outcome], entries: list[_Entry[Request, Outcome]]) -> None:
        self._under_way += len(entries)
        try:
            outcomes = await repeated(call, [request for request, _ in entries], self._passing)
            answered = list(zip(entries, outcomes, strict=True))
        except Exception as error:
            if self._personal(error):
                # Nobody pays for a neighbour. The others need not wait until these are done.
                for entry in entries:
                    self._apart += 1
                    self._start(self._call_alone(entry))
            else:
                _fail(entries, error)
        else:
            for (_, future), outcome in answered:
                if not future.done():
                    future.set_result(outcome)
        finally:
            self._around = self._under_way + len(self._waiting)
            self._under_way -= len(entries)

    async def _call_alone(self, entry: _Entry[Request, Outcome]) -> None:
        request, future = entry
        try:
            async with asyncio.timeout(self._patience):
                await self._lone_calls.acquire()
        except TimeoutError:
            self._apart -= 1
            return _fail([entry], Full())
        try:
            if not future.done():
                [outcome] = await repeated(self._alone, [request], self._passing)
                future.set_result(outcome)
        except Exception as error:
            _fail([entry], error)
        finally:
            self._lone_calls.release()
            self._apart -= 1


async def repeated(
    call: Call[Request, Outcome], requests: Sequence[Request], passing: Callable[[Exception], bool]
) -> Sequence[Outcome]:
    """Makes a call, and makes it again for as long as it fails for a cause that passes; a few times at most."""
    for attempt in range(1, _ATTEMPTS):
        try:
            return await call(requests)
        except Exception as error:
            if not passing(error):
                raise
        await asyncio.sleep(random.uniform(0, _PAUSE * 2**attempt))  # noqa: S311
    return await call(requests)


def _fail(entries: list[_Entry[Request, Outcome]], error: Exception) -> None:
    for _, future in entries:
        if not future.done():
            future.set_exception(error)
