"""Requests that arrive while a call is under way wait, and go out together in the next one.

No timer: who comes alone goes at once, and under load one call and one commit carry what has arrived since the
last. It knows no rule, and not what a request is: it is a queue in front of a function.

Requests are of clients, and calls take from the clients in turn: who asks for much keeps nobody waiting but himself.

Where a call fails because somebody holds what one of its requests needs, they are all put aside, to be made
without waiting for it: those that do not need it are, at once, and those that do are tried again, for so long.

Where nobody knows whether a call was made, because the connection broke before its answer, only requests that can
be told to be the same ones (a payment with an idempotency key) are put aside like that. For the others, whoever
asked has to decide.
"""

import asyncio
import enum
import random
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Iterable, Sequence
from contextvars import Context
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Generic, Protocol, Self, TypeVar

Request = TypeVar("Request")
Outcome = TypeVar("Outcome")
Result = TypeVar("Result")
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
# Is told why a call is made again.
Tell = Callable[[Exception], None]
# Is told when a call began and ended, and of its requests the times, and since when each had been waiting for it.
Watch = Callable[[float, float, Sequence[tuple[Any, float]]], None]


class Times(Protocol):
    """What became of a request, in seconds: in the last call that it was in, and before; and how many were in that."""

    waited: float
    database: float
    batch: int
    # How long it was blocked, if it was.
    locked: float


@dataclass(slots=True)
class _Trip:
    """A call with some requests."""

    began: float
    size: int
    ended: float = 0


@dataclass(slots=True)
class _Entry(Generic[Request, Outcome]):
    request: Request
    client: Hashable
    future: asyncio.Future[Outcome]
    # The time of the event loop until which it waits for a call.
    deadline: float
    times: Times | None
    arrived: float
    trip: _Trip | None = None
    # When the call began after which it was put aside, and whether it has been found to be blocked since.
    aside: float = 0
    blocked: bool = False
    # How a call with it was lost. Whatever happens later, it may have been made.
    lost: Exception | None = None

    def note_times(self) -> None:
        """Notes what became of it."""
        times = self.times
        if times is None:
            return
        if self.trip is None or not self.trip.ended:
            times.waited = perf_counter() - self.arrived
            return
        times.database = self.trip.ended - self.trip.began
        times.waited = self.trip.ended - self.arrived - times.database
        times.batch = self.trip.size
        if self.blocked:
            times.locked = self.trip.ended - self.aside


class Coalescer(Generic[Request, Outcome]):
    """Within `async with`, it makes requests, and tells the outcome of each.

    Calls take requests, and return their outcomes in order: `together`, one call at a time, with up to
    `most_together`; for those that were put aside, first `without_waiting`, which returns None for those that are
    blocked, and then `waiting`. A request is put aside for some `patience` seconds, and then gets the exception;
    nobody waits longer than `longest_wait` seconds for the first call, and `most_waiting` may wait for whatever it is.
    When so many do, clients are refused of whom an equal share of them waits, and the others when it is twice as many.
    After a lost one, those that are `repeatable`, and have not waited for so long yet, are put aside when `pause`
    seconds have gone: as long as what was lost may take to end by itself. Then only an outcome that `is_success`
    counts: who is refused now may still be granted what was lost, by a server that was slow.
    """

    def __init__(
        self,
        together: Call[Request, Outcome],
        without_waiting: Call[Request, Outcome | None],
        waiting: Call[Request, Outcome],
        judge: Judge,
        repeatable: Callable[[Request], bool],
        is_success: Callable[[Outcome], bool],
        tell: Tell,
        watch: Watch | None = None,
        *,
        most_together: int,
        most_waiting: int,
        longest_wait: float,
        patience: float,
        pause: float,
    ) -> None:
        self._together = together
        self._is_busy = False
        self._without_waiting = without_waiting
        self._with_waiting = waiting
        self._judge = judge
        self._repeatable = repeatable
        self._is_success = is_success
        self._tell = tell
        self._watch = watch
        self._most_together = most_together
        self._most_waiting = most_waiting
        self._longest_wait = longest_wait
        self._patience = patience
        self._pause = pause
        # Those that wait for a call, by client; and the same queues in the order of their turns.
        self._queues: dict[Hashable, deque[_Entry[Request, Outcome]]] = {}
        self._turns: deque[deque[_Entry[Request, Outcome]]] = deque()
        self._queued = 0
        self._timer: asyncio.TimerHandle | None = None
        self._aside: list[_Entry[Request, Outcome]] = []
        # How many are put aside, or were lost and are about to be, by client and in all.
        self._held_up: Counter[Hashable] = Counter()
        self._held_up_in_all = 0
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
    def waiting(self) -> int:
        """How many wait, for whatever it is."""
        return self._queued + self._held_up_in_all

    def is_full(self, client: Hashable = None) -> bool:
        """Whether a request of this client would be refused at once."""
        waiting = self.waiting
        if waiting < self._most_waiting:
            return False
        its_own = len(self._queues.get(client, ())) + self._held_up[client]
        clients = self._queues.keys() | self._held_up.keys() | {client}
        return its_own * len(clients) >= self._most_waiting or waiting >= 2 * self._most_waiting

    async def outcome(self, request: Request, client: Hashable = None, times: Times | None = None) -> Outcome:
        """Makes a request, and returns its outcome, or raises what the call raised. Raises Full.

        Either way, it notes in `times` what became of it.
        """
        if self.is_full(client):
            raise Full
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._longest_wait
        # not _Entry[Request, Outcome](…), which takes six times as long
        entry: _Entry[Request, Outcome] = _Entry(request, client, loop.create_future(), deadline, times, perf_counter())
        try:
            if self._is_busy:
                self._queue(entry)
                if self._timer is None:
                    self._timer = loop.call_at(deadline, self._give_up)
            else:
                self._is_busy = True
                try:
                    await self._call_together([entry])
                finally:
                    if self._queued:
                        self._start(self._call_while_any_wait())
                    else:
                        self._is_busy = False
            return await entry.future
        finally:
            entry.note_times()

    def _queue(self, entry: _Entry[Request, Outcome]) -> None:
        queue = self._queues.get(entry.client)
        if queue is None:
            queue = self._queues[entry.client] = deque()
            self._turns.append(queue)
        queue.append(entry)
        self._queued += 1

    def _give_up(self) -> None:
        """Refuses those who have waited for as long as they may, the first of each client; and looks again in time."""
        loop = asyncio.get_running_loop()
        late: list[_Entry[Request, Outcome]] = []
        for client, queue in list(self._queues.items()):
            while queue and queue[0].deadline <= loop.time():
                late.append(queue.popleft())
            if not queue:
                del self._queues[client]
        self._turns = deque(filter(None, self._turns))
        self._queued -= len(late)
        _fail(late, Full())
        first = min((queue[0].deadline for queue in self._turns), default=None)
        self._timer = None if first is None else loop.call_at(first, self._give_up)

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work, context=Context())  # it is not for whoever happens to start it
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _call_while_any_wait(self) -> None:
        while entries := self._take():
            await self._call_together(entries)
        self._is_busy = False

    def _take(self) -> list[_Entry[Request, Outcome]]:
        """Takes the next requests, of each client in turn: half of those around, so that the others are read meanwhile.

        Otherwise the first request after a large call would be sent alone, and all others after it, forever.
        """
        share = min(self._most_together, -(-self._around // 2) or self._most_together)
        entries: list[_Entry[Request, Outcome]] = []
        while self._turns and len(entries) < share:
            queue = self._turns[0]
            entry = queue.popleft()
            self._queued -= 1
            if queue:
                self._turns.rotate(-1)
            else:
                self._turns.popleft()
                del self._queues[entry.client]
            if not entry.future.done():  # one that has been cancelled asks for nothing any more
                entries.append(entry)
        return entries

    async def _call_together(self, entries: list[_Entry[Request, Outcome]]) -> None:
        self._under_way += len(entries)
        try:
            self._settle(entries, await self._call(self._together, entries))
        except Exception as error:
            verdict = self._judge(error)
            if verdict in (Verdict.BLOCKED, Verdict.PERSONAL):
                self._put_aside(entries)
            elif verdict is Verdict.UNKNOWN:
                if again := self._lose(entries, error):
                    self._tell(error)
                    self._start(self._put_aside_later(again))
            else:
                _fail(entries, error)
        finally:
            self._around = self._under_way + self._queued
            self._under_way -= len(entries)

    async def _call(self, call: Call[Request, Result], entries: Sequence[_Entry[Request, Outcome]]) -> Sequence[Result]:
        trip = _Trip(perf_counter(), len(entries))
        since = [entry.trip.ended if entry.trip else entry.arrived for entry in entries] if self._watch else []
        for entry in entries:
            entry.trip = trip
        try:
            return await repeated(call, [entry.request for entry in entries], self._judge, self._tell)
        finally:
            trip.ended = perf_counter()
            if self._watch is not None:
                self._watch(trip.began, trip.ended, list(zip([entry.times for entry in entries], since, strict=True)))

    def _put_aside(self, entries: list[_Entry[Request, Outcome]]) -> None:
        if not self._aside:
            self._start(self._call_for_those_aside())
        deadline = asyncio.get_running_loop().time() + self._patience
        for entry in entries:
            entry.deadline = deadline
            entry.aside = entry.trip.began if entry.trip else 0
        self._aside += entries
        self._hold_up(entries)

    def _hold_up(self, entries: Iterable[_Entry[Request, Outcome]], *, no_more: bool = False) -> None:
        """Counts those that wait for something else than a call; or no more."""
        change = Counter(entry.client for entry in entries)
        self._held_up = self._held_up - change if no_more else self._held_up + change
        self._held_up_in_all = self._held_up.total()

    def _lose(self, entries: list[_Entry[Request, Outcome]], error: Exception) -> list[_Entry[Request, Outcome]]:
        """Fails those that cannot be asked for again, or have waited for too long already, and returns the others."""
        now = asyncio.get_running_loop().time()
        for entry in entries:
            entry.lost = entry.lost or error
        _fail([entry for entry in entries if not self._repeatable(entry.request) or entry.deadline <= now], error)
        return [entry for entry in entries if not entry.future.done()]

    async def _put_aside_later(self, entries: list[_Entry[Request, Outcome]]) -> None:
        self._hold_up(entries)
        try:
            await asyncio.sleep(self._pause)
        finally:
            self._hold_up(entries, no_more=True)
        self._put_aside(entries)

    def _settle(self, entries: list[_Entry[Request, Outcome]], outcomes: Sequence[Outcome | None]) -> None:
        """Tells the outcomes; there is none, yet, for those that are blocked."""
        for entry, outcome in list(zip(entries, outcomes, strict=True)):
            if outcome is None:
                entry.blocked = True
                continue
            if entry.future.done():
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
        self._hold_up([entry for entry in self._aside if entry.future.done()], no_more=True)
        self._aside = [entry for entry in self._aside if not entry.future.done()]

    async def _call_in_parts(
        self, call: Call[Request, Outcome | None], entries: list[_Entry[Request, Outcome]]
    ) -> Exception | None:
        """Makes what can be made, and returns what the rest is blocked by."""
        blocked = None
        for start in range(0, len(entries), self._most_together):
            part = entries[start : start + self._most_together]
            try:
                self._settle(part, await self._call(call, part))
            except Exception as error:
                verdict = self._judge(error)
                # A call that should not wait for anything, and is blocked all the same, is so by one of its requests.
                by_one = verdict is Verdict.PERSONAL or (verdict is Verdict.BLOCKED and call is self._without_waiting)
                if by_one and len(part) > 1:
                    blocked = await self._call_one_by_one(call, part, error) or blocked
                elif verdict is Verdict.BLOCKED:
                    blocked = error
                    for entry in part:
                        entry.blocked = True
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


async def repeated(
    call: Call[Request, Outcome], requests: Sequence[Request], judge: Judge, tell: Tell
) -> Sequence[Outcome]:
    """Makes a call, and makes it again for as long as it fails for a cause that passes; a few times at most."""
    for attempt in range(1, _ATTEMPTS):
        try:
            return await call(requests)
        except Exception as error:
            if judge(error) is not Verdict.PASSING:
                raise
            tell(error)
        await asyncio.sleep(random.uniform(0, _PAUSE * 2**attempt))  # noqa: S311
    return await call(requests)


def _fail(entries: list[_Entry[Request, Outcome]], error: Exception) -> None:
    for entry in entries:
        if not entry.future.done():
            entry.future.set_exception(entry.lost or error)
