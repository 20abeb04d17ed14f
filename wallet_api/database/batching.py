"""Batches requests: those that arrive during a call wait, and the next call carries them together.

There is no timer. A lone request is sent immediately; under load, one call and one commit carry everything that
arrived during the previous call. The batcher knows no rules and nothing about a request: it is a queue in front of a
function.

Clients are served round-robin: a client that sends many requests delays only itself.

If another transaction holds a lock that one request of a batch needs, the call fails. Its requests are then retried
separately from new ones: first without waiting, which makes those that are not blocked, then with waiting, up to a
timeout.

If the connection breaks before the answer, the outcome is unknown. Only requests that are safe to repeat (payments with
an idempotency key) are retried in this way. The others fail, and the client has to decide.
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

# Attempts at a call that the database rolls back for a transient cause, and the base of the longest pause between
# them, in seconds: it doubles with each attempt.
_ATTEMPTS = 5
_PAUSE = 0.01
# Seconds after which a call counts as stuck, on a connection that went silent perhaps. Then requests that arrive have
# another call made beside it.
_STUCK = 5.0


class Full(Exception):
    """Too many requests are waiting, or this one has waited too long."""


class Verdict(enum.Enum):
    """What an exception says about the call that raised it. Except for UNKNOWN, the call changed nothing."""

    PASSING = "transient: the same call may succeed in a moment"
    BLOCKED = "another transaction holds what one of the requests needs"
    PERSONAL = "one of the requests may be the cause"
    COMMON = "none of the requests is the cause"
    UNKNOWN = "the call may or may not have taken effect"


Judge = Callable[[Exception], Verdict]
# Receives the error for which requests are sent again.
Tell = Callable[[Exception], None]
# Receives the start and the end of a call and, for each of its requests, its times and since when it has waited.
Watch = Callable[[float, float, Sequence[tuple[Any, float]]], None]


class Times(Protocol):
    """How long a request took, in seconds: before its last call and in it; and the size of that call's batch."""

    waited: float
    database: float
    batch: int
    # For how long it was blocked.
    locked: float


@dataclass(slots=True)
class _CallRecord:
    """The times and the size of a call."""

    began: float
    size: int
    ended: float = 0


@dataclass(slots=True)
class _Entry(Generic[Request, Outcome]):
    request: Request
    client: Hashable
    future: asyncio.Future[Outcome]
    # Until when it waits, first for a call, then for a lock, on the clock of the event loop.
    deadline: float
    times: Times | None
    arrived: float
    last_call: _CallRecord | None = None
    # The start of the call that failed, and whether a later call has found that this request is blocked.
    blocked_since: float = 0
    blocked: bool = False
    # The error by which a call with it was lost. Whatever happens later, that call may have taken effect.
    lost: Exception | None = None

    def note_times(self) -> None:
        times = self.times
        if times is None:
            return
        if self.last_call is None or not self.last_call.ended:
            times.waited = perf_counter() - self.arrived
            return
        times.database = self.last_call.ended - self.last_call.began
        times.waited = self.last_call.ended - self.arrived - times.database
        times.batch = self.last_call.size
        if self.blocked:
            times.locked = self.last_call.ended - self.blocked_since


class Batcher(Generic[Request, Outcome]):
    """Makes requests in batches, within `async with`.

    Each call takes requests and returns their outcomes in order:

    - `make_batch` makes up to `max_batch` requests, one call at a time.
    - `make_unblocked` retries those of a failed call without waiting, and returns None for those that are blocked.
    - `make_blocked` then retries the rest, and waits for locks. After about `lock_timeout` seconds of this, a request
      gets the exception.

    A request waits at most `wait_timeout` seconds for its first call. When `max_waiting` requests wait, for a call or
    for a lock, clients that have an equal share of them are refused; at twice as many, all clients.

    Requests of a lost call are retried after `retry_pause` seconds, in which the lost call ends by itself, if they are
    `repeatable` and have not reached `wait_timeout`. Then only an outcome that `is_success` counts: after a refusal, a
    slow server may still make what was lost.
    """

    def __init__(
        self,
        make_batch: Call[Request, Outcome],
        make_batch_beside: Call[Request, Outcome],
        make_unblocked: Call[Request, Outcome | None],
        make_blocked: Call[Request, Outcome],
        judge: Judge,
        repeatable: Callable[[Request], bool],
        is_success: Callable[[Outcome], bool],
        tell: Tell,
        watch: Watch | None = None,
        *,
        max_batch: int,
        max_waiting: int,
        wait_timeout: float,
        lock_timeout: float,
        retry_pause: float,
    ) -> None:
        self._make_batch = make_batch
        self._make_batch_beside = make_batch_beside
        # When the call under way began, by the time of the event loop; and whether there is one beside it.
        self._busy_since: float | None = None
        self._is_beside = False
        self._make_unblocked = make_unblocked
        self._make_blocked = make_blocked
        self._judge = judge
        self._repeatable = repeatable
        self._is_success = is_success
        self._tell = tell
        self._watch = watch
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._wait_timeout = wait_timeout
        self._lock_timeout = lock_timeout
        self._retry_pause = retry_pause
        # Requests that wait for their first call, by client; and the same queues in round-robin order.
        self._queues: dict[Hashable, deque[_Entry[Request, Outcome]]] = {}
        self._turns: deque[deque[_Entry[Request, Outcome]]] = deque()
        self._queued = 0
        self._timer: asyncio.TimerHandle | None = None
        self._blocked: list[_Entry[Request, Outcome]] = []
        # The number of blocked and lost requests, by client and in all.
        self._held_up: Counter[Hashable] = Counter()
        self._held_up_in_all = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._under_way = 0
        self._around = 0

    async def __aenter__(self) -> Self:
        """Accepts requests from now on."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Cancels what is still under way. No client waits for it: requests end before the application does."""
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def waiting(self) -> int:
        """The number of requests that wait, for a call or for a lock."""
        return self._queued + self._held_up_in_all

    def is_full(self, client: Hashable = None) -> bool:
        """Whether a new request of this client would be refused immediately."""
        waiting = self.waiting
        if waiting < self._max_waiting:
            return False
        its_own = len(self._queues.get(client, ())) + self._held_up[client]
        clients = self._queues.keys() | self._held_up.keys() | {client}
        return its_own * len(clients) >= self._max_waiting or waiting >= 2 * self._max_waiting

    async def submit(self, request: Request, client: Hashable = None, times: Times | None = None) -> Outcome:
        """Makes a request and returns its outcome. Raises Full, or what the call raised.

        Stores in `times` how long it took, unless it refuses the request immediately.
        """
        if self.is_full(client):
            raise Full
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._wait_timeout
        # Not _Entry[Request, Outcome](…): that is six times slower.
        entry: _Entry[Request, Outcome] = _Entry(request, client, loop.create_future(), deadline, times, perf_counter())
        try:
            if self._busy_since is not None:
                self._queue(entry)
                if self._timer is None:
                    self._timer = loop.call_at(deadline, self._give_up)
                if self._is_stuck() and not self._is_beside:
                    self._is_beside = True
                    self._start(self._call_beside())
            else:
                self._busy_since = loop.time()
                try:
                    await self._call_batch(self._make_batch, [entry])
                finally:
                    if self._queued:
                        self._start(self._call_while_any_wait())
                    else:
                        self._busy_since = None
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
        """Refuses the requests whose deadline has passed, and sets the timer for the next deadline."""
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
        # An empty context: the work does not belong to the request that happens to start it.
        task = asyncio.create_task(work, context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _call_while_any_wait(self) -> None:
        loop = asyncio.get_running_loop()
        while entries := self._take():
            self._busy_since = loop.time()
            await self._call_batch(self._make_batch, entries)
        self._busy_since = None

    def _is_stuck(self) -> bool:
        return self._busy_since is not None and asyncio.get_running_loop().time() - self._busy_since > _STUCK

    async def _call_beside(self) -> None:
        while self._is_stuck() and (entries := self._take()):
            await self._call_batch(self._make_batch_beside, entries)
        self._is_beside = False

    def _take(self) -> list[_Entry[Request, Outcome]]:
        """Takes the next batch, from the clients in turn: at most half of the requests that were here a moment ago.

        The service reads new requests while the database makes the batch. If a batch took them all, the first one to
        arrive afterwards would be sent alone, all others in the next call, and so on forever.
        """
        share = min(self._max_batch, -(-self._around // 2) or self._max_batch)
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
            if not entry.future.done():  # not cancelled
                entries.append(entry)
        return entries

    async def _call_batch(self, call: Call[Request, Outcome], entries: list[_Entry[Request, Outcome]]) -> None:
        self._under_way += len(entries)
        try:
            self._settle(entries, await self._call(call, entries))
        except Exception as error:
            verdict = self._judge(error)
            if verdict in (Verdict.BLOCKED, Verdict.PERSONAL):
                self._add_blocked(entries)
            elif verdict is Verdict.UNKNOWN:
                if again := self._lose(entries, error):
                    self._tell(error)
                    self._start(self._add_lost(again))
            else:
                _fail(entries, error)
        finally:
            self._around = self._under_way + self._queued
            self._under_way -= len(entries)

    async def _call(self, call: Call[Request, Result], entries: Sequence[_Entry[Request, Outcome]]) -> Sequence[Result]:
        record = _CallRecord(perf_counter(), len(entries))
        since = (
            [entry.last_call.ended if entry.last_call else entry.arrived for entry in entries] if self._watch else []
        )
        for entry in entries:
            entry.last_call = record
        try:
            return await repeated(call, [entry.request for entry in entries], self._judge, self._tell)
        finally:
            record.ended = perf_counter()
            if self._watch is not None:
                self._watch(
                    record.began, record.ended, list(zip([entry.times for entry in entries], since, strict=True))
                )

    def _add_blocked(self, entries: list[_Entry[Request, Outcome]]) -> None:
        if not self._blocked:
            self._start(self._retry_blocked())
        deadline = asyncio.get_running_loop().time() + self._lock_timeout
        for entry in entries:
            entry.deadline = deadline
            entry.blocked_since = entry.last_call.began if entry.last_call else 0
        self._blocked += entries
        self._hold_up(entries)

    def _hold_up(self, entries: Iterable[_Entry[Request, Outcome]], *, no_more: bool = False) -> None:
        """Counts requests as blocked or lost, or with `no_more` stops counting them."""
        change = Counter(entry.client for entry in entries)
        self._held_up = self._held_up - change if no_more else self._held_up + change
        self._held_up_in_all = self._held_up.total()

    def _lose(self, entries: list[_Entry[Request, Outcome]], error: Exception) -> list[_Entry[Request, Outcome]]:
        """Fails those that are not repeatable or have reached their deadline, and returns the others."""
        now = asyncio.get_running_loop().time()
        for entry in entries:
            entry.lost = entry.lost or error
        _fail([entry for entry in entries if not self._repeatable(entry.request) or entry.deadline <= now], error)
        return [entry for entry in entries if not entry.future.done()]

    async def _add_lost(self, entries: list[_Entry[Request, Outcome]]) -> None:
        self._hold_up(entries)
        try:
            await asyncio.sleep(self._retry_pause)
        finally:
            self._hold_up(entries, no_more=True)
        self._add_blocked(entries)

    def _settle(self, entries: list[_Entry[Request, Outcome]], outcomes: Sequence[Outcome | None]) -> None:
        """Returns the outcomes to the clients. None means that the request is blocked and stays."""
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

    async def _retry_blocked(self) -> None:
        """Makes the requests that are not blocked, then waits a little for the rest, until none is left."""
        while self._blocked:
            blocked: Exception | None = None
            for call in (self._make_unblocked, self._make_blocked):
                blocked = await self._call_in_parts(call, list(self._blocked))
                self._let_go()
            now = asyncio.get_running_loop().time()
            if blocked is not None:
                _fail([entry for entry in self._blocked if entry.deadline <= now], blocked)
                self._let_go()

    def _let_go(self) -> None:
        """Removes the blocked requests that are done."""
        self._hold_up([entry for entry in self._blocked if entry.future.done()], no_more=True)
        self._blocked = [entry for entry in self._blocked if not entry.future.done()]

    async def _call_in_parts(
        self, call: Call[Request, Outcome | None], entries: list[_Entry[Request, Outcome]]
    ) -> Exception | None:
        """Makes what can be made. Returns the error of the requests that are left to retry, or None."""
        blocked = None
        for start in range(0, len(entries), self._max_batch):
            part = entries[start : start + self._max_batch]
            try:
                self._settle(part, await self._call(call, part))
            except Exception as error:
                verdict = self._judge(error)
                # make_unblocked does not wait for account locks. If it is blocked, one of its requests is the cause.
                by_one = verdict is Verdict.PERSONAL or (verdict is Verdict.BLOCKED and call is self._make_unblocked)
                if by_one and len(part) > 1:
                    blocked = await self._call_one_by_one(call, part, error) or blocked
                elif verdict is Verdict.BLOCKED:
                    blocked = error
                    for entry in part:
                        entry.blocked = True
                elif verdict is Verdict.UNKNOWN:
                    self._lose(part, error)
                    blocked = error
                    await asyncio.sleep(self._retry_pause)
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
    """Makes a call and returns its outcomes. Repeats it a few times while it fails for a transient cause."""
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
