"""Batches requests: those that arrive during a call wait, and the next call carries them together.

There is no timer. A lone request is sent immediately; under load, one call and one commit carry everything that
arrived during the previous call. The batcher knows no rules and nothing about a request: it is a queue in front of a
function.

Clients are served round-robin: a client that sends many requests delays only itself.

If another transaction holds a lock that one request of a batch needs, the call fails. Its requests are then retried
separately from new ones: first without waiting, which makes those that are not blocked, then with waiting, up to a
timeout.

If the connection breaks before the answer, the outcome is unknown. Requests that are safe to repeat (payments with an
idempotency key) are retried in this way, too. The others fail, and the client has to decide.
"""

import asyncio
import enum
import random
from collections import Counter, OrderedDict, deque
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Sequence
from contextvars import Context
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Generic, Self, TypeVar

from wallet_api.observability.record import Record

Request = TypeVar("Request")
Outcome = TypeVar("Outcome")
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
# Receives the start and the end of a call, for each of its requests its record and since when it has waited, and the
# error of the call.
Watch = Callable[[float, float, Sequence[tuple[Any, float]], Exception | None], None]


@dataclass(slots=True)
class _Entry(Generic[Request, Outcome]):
    request: Request
    client: Hashable
    future: asyncio.Future[Outcome]
    # Until when it waits, first for a call, then for a lock, on the clock of the event loop.
    deadline: float
    record: Record | None
    arrived: float
    # Since when it waits: its arrival, then the end of its last call.
    waits_since: float
    # The start of its first call, or 0 before it; and whether a later call has found that this request is blocked.
    first_call: float = 0
    blocked: bool = False
    # The error by which a call with it was lost. Whatever happens later, that call may have taken effect.
    lost: Exception | None = None


@dataclass(kw_only=True, eq=False)
class Batcher(Generic[Request, Outcome]):
    """Makes requests in batches, within `async with`. Each call takes requests and returns their outcomes in order."""

    # Makes up to `max_batch` requests: one call at a time, and one beside it while that is stuck.
    make_batch: Call[Request, Outcome]
    # Retries the requests of a failed call without waiting. The outcomes of those that are blocked are `is_blocked`.
    make_unblocked: Call[Request, Outcome]
    is_blocked: Callable[[Outcome], bool]
    # Then retries the rest, and waits for locks. After about `lock_timeout` seconds, a request gets the exception.
    make_blocked: Call[Request, Outcome]
    judge: Judge
    # Whether a request of a lost call may be retried, until `wait_timeout`. Then only an outcome that `is_success`
    # counts: after a refusal, a slow server may still make what was lost.
    repeatable: Callable[[Request], bool]
    is_success: Callable[[Outcome], bool]
    tell: Tell
    watch: Watch | None = None
    max_batch: int
    # When so many requests wait, for a call or for a lock, clients that have an equal share of them are refused; at
    # twice as many, all clients.
    max_waiting: int
    # Seconds that a request waits for its first call, and for a lock.
    wait_timeout: float
    lock_timeout: float
    # Seconds in which a lost call ends by itself.
    retry_pause: float

    def __post_init__(self) -> None:
        # When the calls under way began, by the clock of the event loop, except those of retries.
        self._calls: list[float] = []
        # Requests that wait for their first call, by client, in round-robin order.
        self._queues: OrderedDict[Hashable, deque[_Entry[Request, Outcome]]] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None
        self._blocked: list[_Entry[Request, Outcome]] = []
        # The number of blocked and lost requests, by client; and of these and the queued ones in all.
        self._held: Counter[Hashable] = Counter()
        self.waiting = 0
        self._tasks: set[asyncio.Task[None]] = set()
        # The number of requests in the last call.
        self._last_size = 0

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

    def is_full(self, client: Hashable = None) -> bool:
        """Whether a new request of this client would be refused immediately."""
        if self.waiting < self.max_waiting:
            return False
        its_own = len(self._queues.get(client, ())) + self._held[client]
        clients = self._queues.keys() | self._held.keys() | {client}
        return its_own * len(clients) >= self.max_waiting or self.waiting >= 2 * self.max_waiting

    async def submit(self, request: Request, client: Hashable = None, record: Record | None = None) -> Outcome:
        """Makes a request and returns its outcome. Raises Full, or what the call raised.

        Stores in `record` how long it took, unless it refuses the request immediately.
        """
        if self.is_full(client):
            raise Full
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.wait_timeout
        arrived = perf_counter()
        # Not _Entry[Request, Outcome](…): that is six times slower.
        entry: _Entry[Request, Outcome] = _Entry(
            request, client, loop.create_future(), deadline, record, arrived, arrived
        )
        try:
            if self._calls or self._queues:
                self._queue(entry)
            else:
                await self._call_alone(entry)
            return await entry.future
        finally:
            if record is not None and not entry.first_call:
                record.waited = perf_counter() - arrived

    async def _call_alone(self, entry: _Entry[Request, Outcome]) -> None:
        try:
            await self._call_batch([entry])
        finally:
            if self._queues:
                self._start(self._call_queued())

    def _queue(self, entry: _Entry[Request, Outcome]) -> None:
        self._queues.setdefault(entry.client, deque()).append(entry)
        self.waiting += 1
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_at(entry.deadline, self._give_up)
        if self._may_call():
            self._start(self._call_queued())

    def _give_up(self) -> None:
        """Refuses the requests whose deadline has passed, and sets the timer for the next deadline."""
        loop = asyncio.get_running_loop()
        late: list[_Entry[Request, Outcome]] = []
        for client, queue in list(self._queues.items()):
            while queue and queue[0].deadline <= loop.time():
                late.append(queue.popleft())
            if not queue:
                del self._queues[client]
        self.waiting -= len(late)
        _fail(late, Full())
        first = min((queue[0].deadline for queue in self._queues.values()), default=None)
        self._timer = None if first is None else loop.call_at(first, self._give_up)

    def _start(self, work: Coroutine[None, None, None]) -> None:
        # An empty context: the work does not belong to the request that happens to start it.
        task = asyncio.create_task(work, context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _may_call(self) -> bool:
        """Whether no call is under way, or only one that is stuck."""
        if len(self._calls) == 1:
            return asyncio.get_running_loop().time() - self._calls[0] > _STUCK
        return not self._calls

    async def _call_queued(self) -> None:
        while self._may_call() and (entries := self._take()):
            await self._call_batch(entries)

    def _take(self) -> list[_Entry[Request, Outcome]]:
        """Takes the next batch, from the clients in turn: at most half of the requests that were here a moment ago.

        The service reads new requests while the database makes the batch. If a batch took them all, the first one to
        arrive afterwards would be sent alone, all others in the next call, and so on forever.
        """
        around = self._last_size + sum(map(len, self._queues.values()))
        share = min(self.max_batch, -(-around // 2))
        taken: list[_Entry[Request, Outcome]] = []
        while self._queues and len(taken) < share:
            client, queue = next(iter(self._queues.items()))
            entry = queue.popleft()
            self.waiting -= 1
            if queue:
                self._queues.move_to_end(client)
            else:
                del self._queues[client]
            if not entry.future.done():  # not cancelled
                taken.append(entry)
        return taken

    async def _call_batch(self, entries: list[_Entry[Request, Outcome]]) -> None:
        self._last_size = len(entries)
        began = asyncio.get_running_loop().time()
        self._calls.append(began)
        try:
            self._settle(entries, await self._call(self.make_batch, entries))
        except Exception as error:
            verdict = self.judge(error)
            if verdict in (Verdict.BLOCKED, Verdict.PERSONAL):
                self._retry(entries)
            elif verdict is Verdict.UNKNOWN:
                if again := self._lose(entries, error):
                    self.tell(error)
                    self._retry(again, self.retry_pause)
            else:
                _fail(entries, error)
        finally:
            self._calls.remove(began)

    async def _call(
        self, call: Call[Request, Outcome], entries: Sequence[_Entry[Request, Outcome]]
    ) -> Sequence[Outcome]:
        began, failure = perf_counter(), None
        try:
            return await repeated(call, [entry.request for entry in entries], self.judge, self.tell)
        except Exception as error:
            failure = error
            raise
        finally:
            ended = perf_counter()
            if self.watch is not None:
                self.watch(began, ended, [(entry.record, entry.waits_since) for entry in entries], failure)
            failure = None  # or the error's traceback, which has this frame, would refer to itself
            for entry in entries:
                entry.first_call = entry.first_call or began
                entry.waits_since = ended
                if (record := entry.record) is not None:
                    record.waited = began - entry.arrived
                    record.database = ended - began
                    record.batch = len(entries)
                    if entry.blocked:
                        record.locked = ended - entry.first_call

    def _settle(self, entries: list[_Entry[Request, Outcome]], outcomes: Sequence[Outcome]) -> None:
        """Returns the outcomes to the clients. A request that is blocked stays."""
        for entry, outcome in list(zip(entries, outcomes, strict=True)):
            if self.is_blocked(outcome):
                entry.blocked = True
            elif entry.future.done():
                pass  # cancelled
            elif entry.lost is None or self.is_success(outcome):
                entry.future.set_result(outcome)
            else:
                entry.future.set_exception(entry.lost)

    def _lose(self, entries: list[_Entry[Request, Outcome]], error: Exception) -> list[_Entry[Request, Outcome]]:
        """Fails those that are not repeatable or have reached their deadline, and returns the others."""
        for entry in entries:
            entry.lost = entry.lost or error
        _fail([entry for entry in entries if not self.repeatable(entry.request)], error)
        _fail(_late(entries), error)
        return [entry for entry in entries if not entry.future.done()]

    def _retry(self, entries: list[_Entry[Request, Outcome]], pause: float = 0) -> None:
        """Adds the requests of a failed call to those that are retried, after `pause` seconds."""
        self.waiting += len(entries)
        self._held += Counter(entry.client for entry in entries)
        self._start(self._retry_blocked(entries, pause))

    async def _retry_blocked(self, entries: list[_Entry[Request, Outcome]], pause: float) -> None:
        """Makes the requests that are not blocked, then waits a little for the rest, until none is left.

        If there are blocked requests already, the task that retries those takes care of these too.
        """
        await asyncio.sleep(pause)
        loop = asyncio.get_running_loop()
        for entry in entries:
            entry.deadline = loop.time() + self.lock_timeout
        is_first = not self._blocked
        self._blocked += entries
        while is_first and self._blocked:
            entries = self._blocked.copy()  # those that are added meanwhile begin with the next round
            for call in (self.make_unblocked, self.make_blocked):
                await self._call_in_parts(call, [entry for entry in entries if not entry.future.done()])
                self._remove_done()

    def _remove_done(self) -> None:
        """Removes the blocked requests that are done."""
        done = [entry for entry in self._blocked if entry.future.done()]
        self.waiting -= len(done)
        self._held -= Counter(entry.client for entry in done)
        self._blocked = [entry for entry in self._blocked if not entry.future.done()]

    async def _call_in_parts(self, call: Call[Request, Outcome], entries: list[_Entry[Request, Outcome]]) -> None:
        """Makes what can be made. Requests that are blocked or lost are left to retry, until their deadlines."""
        for start in range(0, len(entries), self.max_batch):
            part = entries[start : start + self.max_batch]
            try:
                self._settle(part, await self._call(call, part))
            except Exception as error:
                verdict = self.judge(error)
                # make_unblocked does not wait for account locks. If it is blocked, one of its requests is the cause.
                by_one = verdict is Verdict.PERSONAL or (verdict is Verdict.BLOCKED and call is self.make_unblocked)
                if by_one and len(part) > 1:
                    for entry in part:
                        _fail(_late([entry]), error)
                        if not entry.future.done():
                            await self._call_in_parts(call, [entry])
                elif verdict is Verdict.BLOCKED:
                    for entry in part:
                        entry.blocked = True
                    _fail(_late(part), error)
                elif verdict is Verdict.UNKNOWN:
                    self._lose(part, error)
                    await asyncio.sleep(self.retry_pause)
                else:
                    _fail(part, error)


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


def _late(entries: list[_Entry[Request, Outcome]]) -> list[_Entry[Request, Outcome]]:
    """Those that have reached their deadline."""
    now = asyncio.get_running_loop().time()
    return [entry for entry in entries if entry.deadline <= now]


def _fail(entries: list[_Entry[Request, Outcome]], error: Exception) -> None:
    for entry in entries:
        if not entry.future.done():
            entry.future.set_exception(entry.lost or error)
