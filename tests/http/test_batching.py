"""Payments that arrive during a call share the next call, and a payment that fails or is blocked harms no other."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import httpx2
import psycopg
import pytest

from tests.conftest import Connection
from tests.support import (
    account,
    assert_refused,
    balance,
    ledger_problems,
    pay,
    payment_body,
    serving,
    wait_until,
    waiting_for_locks,
)
from wallet_api.database import batching
from wallet_api.database.batching import Batcher, Full, Verdict
from wallet_api.observability.record import Record


class Failed(Exception):
    """An exception with a given verdict."""

    def __init__(self, verdict: Verdict) -> None:
        self.verdict = verdict


def judge(error: Exception) -> Verdict:
    return error.verdict if isinstance(error, Failed) else Verdict.COMMON


# Numbers from here on are repeatable: they may be retried after a lost call.
REPEATABLE = 1000
# The outcome of this number is a refusal.
UNSUCCESSFUL = 1013
# The outcome of a number that is blocked.
BLOCKED = -1


class Database:
    """Doubles numbers once `go_on` is set, and keeps the arguments of its calls. Some numbers make calls fail.

    A call that does not wait sees numbers that are `blocked`, but not those that are `hidden`: for these, it fails.
    """

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.retries: list[list[int]] = []
        self.made: list[int] = []
        self.go_on = asyncio.Event()
        self.errors: list[Exception] = []
        self.blocked: set[int] = set()
        self.unlucky: set[int] = set()
        self.hidden: set[int] = set()
        self.lost_retries = 0
        self.retry_error: Exception | None = None
        self.repeated: list[Exception] = []

    async def make_batch(self, numbers: Sequence[int]) -> list[int]:
        self.calls.append(list(numbers))
        await self.go_on.wait()
        if self.errors:
            raise self.errors.pop()
        return self.doubled(numbers)

    async def make_unblocked(self, numbers: Sequence[int]) -> list[int]:
        self.retries.append(list(numbers))
        if self.lost_retries > 0:
            self.lost_retries -= 1
            raise Failed(Verdict.UNKNOWN)
        if self.retry_error is not None:
            raise self.retry_error
        await asyncio.sleep(0.001 if self.hidden else 0)
        self.doubled(set(numbers) - self.blocked)
        return [BLOCKED if number in self.blocked else number * 2 for number in numbers]

    async def make_blocked(self, numbers: Sequence[int]) -> list[int]:
        await asyncio.sleep(0.001)
        if self.retry_error is not None:
            raise self.retry_error
        return self.doubled(numbers)

    def doubled(self, numbers: Iterable[int]) -> list[int]:
        if (self.blocked | self.hidden) & set(numbers):
            raise Failed(Verdict.BLOCKED)
        if self.unlucky & set(numbers):
            raise Failed(Verdict.PERSONAL)
        self.made += numbers
        return [number * 2 for number in numbers]

    def batcher(
        self,
        max_batch: int = 100,
        max_waiting: int = 100,
        wait_timeout: float = 20,
        lock_timeout: float = 20,
    ) -> Batcher[int, int]:
        return Batcher(
            make_batch=self.make_batch,
            make_unblocked=self.make_unblocked,
            is_blocked=lambda doubled: doubled == BLOCKED,
            make_blocked=self.make_blocked,
            judge=judge,
            repeatable=lambda number: number >= REPEATABLE,
            is_success=lambda doubled: doubled != 2 * UNSUCCESSFUL,
            tell=self.repeated.append,
            max_batch=max_batch,
            max_waiting=max_waiting,
            wait_timeout=wait_timeout,
            lock_timeout=lock_timeout,
            retry_pause=0.01,
        )


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(20):
            await test()

    asyncio.run(limited())


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_a_lone_payment_is_called_at_once_and_later_ones_share_a_call() -> None:
    async def test() -> None:
        database = Database()
        async with database.batcher() as batcher:
            requests = [asyncio.create_task(batcher.submit(number)) for number in range(10)]
            await settle()
            assert database.calls == [[0]]
            database.go_on.set()
            assert await asyncio.gather(*requests) == [number * 2 for number in range(10)]
            assert database.calls[0] == [0]
            assert [number for call in database.calls for number in call] == list(range(10))
            assert len(database.calls) <= 4

    run(test)


def test_a_stuck_call_does_not_hold_up_requests_that_arrive_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "_STUCK", 0.01)

    async def test() -> None:
        database = Database()
        async with database.batcher() as batcher:
            stuck = asyncio.create_task(batcher.submit(0))
            early = asyncio.create_task(batcher.submit(1))
            await settle()
            assert database.calls == [[0]]
            await asyncio.sleep(0.02)
            late = asyncio.create_task(batcher.submit(2))
            later = asyncio.create_task(batcher.submit(3))
            await settle()
            assert [len(call) for call in database.calls] == [1, len(database.calls[1])]
            database.go_on.set()
            assert list(await asyncio.gather(stuck, early, late, later)) == [0, 2, 4, 6]
            assert sorted(number for call in database.calls for number in call) == [0, 1, 2, 3]

    run(test)


def test_a_call_carries_no_more_than_it_may() -> None:
    async def test() -> None:
        database = Database()
        async with database.batcher(max_batch=3) as batcher:
            requests = [asyncio.create_task(batcher.submit(number)) for number in range(20)]
            await settle()
            database.go_on.set()
            assert await asyncio.gather(*requests) == [number * 2 for number in range(20)]
            assert max(len(call) for call in database.calls) == 3

    run(test)


def test_one_too_many_is_refused_at_once() -> None:
    async def test() -> None:
        database = Database()
        async with database.batcher(max_waiting=2) as batcher:
            requests = [asyncio.create_task(batcher.submit(number)) for number in range(3)]
            await settle()
            with pytest.raises(Full):
                await batcher.submit(3)
            database.go_on.set()
            assert await asyncio.gather(*requests) == [0, 2, 4]
            assert await batcher.submit(5) == 10

    run(test)


def test_a_cause_that_one_may_have_brought_is_looked_for_one_by_one() -> None:
    async def test() -> None:
        database = Database()
        database.unlucky = {13}
        async with database.batcher() as batcher:
            requests = [asyncio.create_task(batcher.submit(number)) for number in (1, 12, 13, 14)]
            await settle()
            database.go_on.set()
            outcomes = await asyncio.gather(*requests, return_exceptions=True)
            assert [outcomes[0], outcomes[1], outcomes[3]] == [2, 24, 28]
            assert isinstance(outcomes[2], Failed)

    run(test)


def test_what_is_blocked_keeps_no_neighbour_waiting_and_is_made_when_it_can_be() -> None:
    async def test() -> None:
        database = Database()
        database.blocked = {5, 6}
        database.go_on.set()
        async with database.batcher(max_batch=3) as batcher:
            requests = [asyncio.create_task(batcher.submit(number)) for number in range(10)]
            free = [request for number, request in enumerate(requests) if number not in database.blocked]
            assert await asyncio.gather(*free) == [0, 2, 4, 6, 8, 14, 16, 18]
            assert await batcher.submit(20) == 40
            assert not requests[5].done()
            database.blocked = {6}
            assert await requests[5] == 10
            assert not requests[6].done()
            database.blocked = set()
            assert await requests[6] == 12
            assert await batcher.submit(6) == 12
            assert max(map(len, database.retries)) <= 3

    run(test)


def test_a_payment_blocked_for_an_unknown_reason_delays_no_other() -> None:
    """For example an idempotency key of another transaction's payment that is not committed."""

    async def test() -> None:
        database = Database()
        database.hidden = {5}
        async with database.batcher(lock_timeout=0.2) as batcher:
            requests = [asyncio.create_task(batcher.submit(number)) for number in range(10)]
            await settle()  # the first request is in a call, and the others wait for the next one
            database.go_on.set()
            free = [request for number, request in enumerate(requests) if number not in database.hidden]
            assert await asyncio.gather(*free) == [0, 2, 4, 6, 8, 12, 14, 16, 18]
            assert not requests[5].done()
            with pytest.raises(Failed):
                await requests[5]

    run(test)


def test_of_very_many_that_are_blocked_each_is_given_up_in_time() -> None:
    async def test() -> None:
        database = Database()
        database.hidden = set(range(1000))
        database.go_on.set()
        async with database.batcher(max_waiting=2000, lock_timeout=0.05) as batcher:
            outcomes = await asyncio.gather(*map(batcher.submit, range(1000)), return_exceptions=True)
            assert {type(outcome) for outcome in outcomes} == {Failed}
            assert max(map(len, database.retries)) > 1
            assert sum(len(call) == 1 for call in database.retries) < 1000

    run(test)


def test_what_is_blocked_is_given_up_in_the_end() -> None:
    async def test() -> None:
        database = Database()
        database.blocked = {5}
        database.go_on.set()
        async with database.batcher(lock_timeout=0.05) as batcher:
            with pytest.raises(Failed) as failed:
                await batcher.submit(5)
            assert failed.value.verdict is Verdict.BLOCKED
            assert await batcher.submit(7) == 14

    run(test)


def test_what_was_given_up_is_not_made_after_all() -> None:
    async def test() -> None:
        database = Database()
        database.blocked = {5}
        database.go_on.set()
        async with database.batcher(lock_timeout=0.05) as batcher:
            with pytest.raises(Failed):
                await batcher.submit(5)
            database.blocked = set()
            await settle()
            assert database.made == []

    run(test)


def test_what_is_blocked_counts_as_waiting() -> None:
    async def test() -> None:
        database = Database()
        database.blocked = {5, 6}
        database.go_on.set()
        async with database.batcher(max_waiting=2) as batcher:
            blocked = [asyncio.create_task(batcher.submit(number)) for number in (5, 6)]
            await settle()
            with pytest.raises(Full):
                await batcher.submit(7)
            database.blocked = set()
            assert await asyncio.gather(*blocked) == [10, 12]
            assert await batcher.submit(7) == 14

    run(test)


def test_a_cause_that_passes_is_tried_again_and_not_for_ever() -> None:
    async def test() -> None:
        database = Database()
        database.go_on.set()
        async with database.batcher() as batcher:
            database.errors = [Failed(Verdict.PASSING)] * 4
            assert await batcher.submit(1) == 2
            assert len(database.calls) == 5
            database.errors = [Failed(Verdict.PASSING)] * 100
            with pytest.raises(Failed):
                await batcher.submit(1)
            assert len(database.calls) == 10

    run(test)


def test_any_other_cause_is_told_to_all_and_nothing_is_repeated() -> None:
    async def test() -> None:
        database = Database()
        async with database.batcher() as batcher:
            requests = [asyncio.create_task(batcher.submit(number)) for number in range(4)]
            await settle()
            database.errors = [ValueError("broken")] * 4
            database.go_on.set()
            outcomes = await asyncio.gather(*requests, return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [ValueError] * 4
            assert sorted(number for call in database.calls for number in call) == [0, 1, 2, 3]
            assert database.retries == []
            database.errors = []
            assert await batcher.submit(7) == 14

    run(test)


def test_after_a_lost_call_only_what_is_repeatable_is_asked_for_again() -> None:
    async def test() -> None:
        database = Database()
        async with database.batcher() as batcher:
            numbers = [0, 1, REPEATABLE, 2, REPEATABLE + 1]
            requests = [asyncio.create_task(batcher.submit(number)) for number in numbers]
            await settle()
            database.errors = [Failed(Verdict.UNKNOWN)] * 5
            database.lost_retries = 2
            database.go_on.set()
            outcomes = await asyncio.gather(*requests, return_exceptions=True)
            assert [outcomes[2], outcomes[4]] == [2 * REPEATABLE, 2 * REPEATABLE + 2]
            assert all(isinstance(outcomes[place], Failed) for place in (0, 1, 3))
            assert sorted(number for call in database.calls for number in call) == sorted(numbers)
            assert {number for call in database.retries for number in call} == {REPEATABLE, REPEATABLE + 1}
            database.errors = []
            assert await batcher.submit(7) == 14

    run(test)


def test_what_was_lost_after_a_long_time_is_not_asked_for_again() -> None:
    async def test() -> None:
        database = Database()
        database.errors = [Failed(Verdict.UNKNOWN)]
        async with database.batcher(wait_timeout=0.05) as batcher:
            request = asyncio.create_task(batcher.submit(REPEATABLE))
            await asyncio.sleep(0.1)
            database.go_on.set()
            with pytest.raises(Failed):
                await request
            assert database.retries == []

    run(test)


def test_what_was_lost_and_then_refused_is_lost() -> None:
    """The lost call may still be running, and succeed after the client has received the refusal."""

    async def test() -> None:
        database = Database()
        database.go_on.set()
        async with database.batcher() as batcher:
            assert await batcher.submit(UNSUCCESSFUL) == 2 * UNSUCCESSFUL
            lost = Failed(Verdict.UNKNOWN)
            database.errors = [lost]
            with pytest.raises(Failed) as failed:
                await batcher.submit(UNSUCCESSFUL)
            assert failed.value is lost
            assert database.retries == [[UNSUCCESSFUL]]

    run(test)


@pytest.mark.parametrize("later", [Verdict.UNKNOWN, Verdict.BLOCKED, Verdict.PERSONAL, Verdict.COMMON])
def test_what_was_lost_stays_lost_whatever_happens_later(later: Verdict) -> None:
    """Otherwise the client would learn that nothing was done."""

    async def test() -> None:
        database = Database()
        database.go_on.set()
        lost = Failed(Verdict.UNKNOWN)
        database.errors = [lost]
        database.retry_error = Failed(later)
        async with database.batcher(lock_timeout=0.1) as batcher:
            with pytest.raises(Failed) as failed:
                await batcher.submit(REPEATABLE)
            assert failed.value is lost
            assert len(database.calls) == 1
            assert database.retries

    run(test)


def test_no_payment_waits_longer_than_the_limit() -> None:
    async def test() -> None:
        database = Database()
        async with database.batcher(wait_timeout=0.05) as batcher:
            first = asyncio.create_task(batcher.submit(1))
            await settle()
            for _ in range(2):  # the second time, the queue has been empty for a while
                waiting = [asyncio.create_task(batcher.submit(number)) for number in (2, 3)]
                outcomes = await asyncio.gather(*waiting, return_exceptions=True)
                assert [type(outcome) for outcome in outcomes] == [Full, Full]
            assert not first.done()
            last = asyncio.create_task(batcher.submit(4))
            await settle()
            database.go_on.set()
            assert [await first, await last] == [2, 8]
            assert database.calls == [[1], [4]]

    run(test)


def test_what_is_cancelled_while_it_waits_is_not_sent() -> None:
    async def test() -> None:
        database = Database()
        async with database.batcher() as batcher:
            requests = [asyncio.create_task(batcher.submit(number)) for number in range(4)]
            await settle()
            requests[2].cancel()
            await settle()
            database.go_on.set()
            assert [await requests[n] for n in (0, 1, 3)] == [0, 2, 6]
            assert sorted(number for call in database.calls for number in call) == [0, 1, 3]

    run(test)


def test_a_line_whose_request_is_cancelled_goes_on_with_the_others() -> None:
    async def test() -> None:
        database = Database()
        async with database.batcher() as batcher:
            requests = [asyncio.create_task(batcher.submit(number)) for number in range(3)]
            await settle()
            requests[0].cancel()
            await settle()
            database.go_on.set()
            assert [await request for request in requests[1:]] == [2, 4]

    run(test)


def test_a_flood_from_one_client_delays_no_other() -> None:
    async def test() -> None:
        database = Database()
        async with database.batcher(max_batch=10, max_waiting=20_000) as batcher:
            flood = [asyncio.create_task(batcher.submit(1, "flood")) for _ in range(10_000)]
            await settle()
            other = asyncio.create_task(batcher.submit(2, "other"))
            await settle()
            database.go_on.set()
            assert await other == 4
            assert 2 in database.calls[1]
            assert set(await asyncio.gather(*flood)) == {2}
            assert sum(map(len, database.calls)) == 10_001

    run(test)


def test_calls_take_from_clients_in_turn() -> None:
    async def test() -> None:
        database = Database()
        async with database.batcher(max_batch=4) as batcher:
            numbers = [(0, "a"), (1, "a"), (2, "a"), (3, "a"), (4, "b"), (5, "b"), (6, "c"), (7, "a")]
            requests = [asyncio.create_task(batcher.submit(*number)) for number in numbers]
            await settle()
            database.go_on.set()
            assert await asyncio.gather(*requests) == [2 * number for number, _ in numbers]
            assert [number for call in database.calls for number in call] == [0, 1, 4, 6, 2, 5, 3, 7]

    run(test)


def test_a_client_below_its_share_is_accepted_when_the_queue_is_full() -> None:
    async def test() -> None:
        database = Database()
        async with database.batcher(max_waiting=6) as batcher:

            async def come(client: str, number: int) -> list[asyncio.Task[int]]:
                requests = [asyncio.create_task(batcher.submit(1, client)) for _ in range(number)]
                await settle()
                return [request for request in requests if not request.done() or request.exception() is None]

            assert len(await come("flood", 100)) == 7  # one of them is in a call
            assert batcher.is_full("flood")
            assert not batcher.is_full("other")
            assert len(await come("other", 100)) == 3
            assert len(await come("third", 100)) == 2
            assert len(await come("fourth", 100)) == 1  # now twice as many wait
            assert batcher.is_full("fifth")
            database.go_on.set()
            await settle()
            assert not batcher.is_full("flood")

    run(test)


def test_what_is_blocked_is_a_part_of_the_client_s_share() -> None:
    async def test() -> None:
        database = Database()
        database.blocked = {5, 6}
        database.go_on.set()
        async with database.batcher(max_waiting=2) as batcher:
            blocked = [asyncio.create_task(batcher.submit(number, "flood")) for number in (5, 6)]
            await settle()
            assert batcher.is_full("flood")
            assert await batcher.submit(7, "other") == 14
            database.blocked = set()
            assert await asyncio.gather(*blocked) == [10, 12]
            assert await batcher.submit(7, "flood") == 14
            assert batcher.waiting == 0
            database.go_on.clear()
            others = [asyncio.create_task(batcher.submit(8, "other")) for _ in range(3)]  # two of them wait
            await settle()
            assert batcher.is_full("other")
            assert not batcher.is_full("flood")
            database.go_on.set()
            assert await asyncio.gather(*others) == [16, 16, 16]

    run(test)


def test_no_payment_of_any_client_waits_longer_than_the_limit() -> None:
    async def test() -> None:
        database = Database()
        async with database.batcher(wait_timeout=0.05) as batcher:
            first = asyncio.create_task(batcher.submit(1))
            await settle()
            late = [batcher.submit(number, client) for number, client in ((2, "a"), (3, "a"), (4, "b"))]
            outcomes = await asyncio.gather(*late, return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [Full] * 3
            last = asyncio.create_task(batcher.submit(5, "a"))
            await settle()
            database.go_on.set()
            assert [await first, await last] == [2, 10]

    run(test)


def test_a_call_that_is_made_again_is_told() -> None:
    async def test() -> None:
        database = Database()
        database.go_on.set()
        conflict, lost = Failed(Verdict.PASSING), Failed(Verdict.UNKNOWN)
        async with database.batcher() as batcher:
            database.errors = [conflict]
            await batcher.submit(1)
            database.errors = [lost]
            await batcher.submit(REPEATABLE)
            database.errors = [ValueError("broken")]
            with pytest.raises(ValueError):
                await batcher.submit(1)
        assert database.repeated == [conflict, lost]

    run(test)


def test_it_is_told_how_long_a_request_waited_and_with_how_many_it_went() -> None:
    async def test() -> None:
        database = Database()
        async with database.batcher() as batcher:
            told = [Record("", "") for _ in range(6)]
            requests = [asyncio.create_task(batcher.submit(n, None, times)) for n, times in enumerate(told)]
            await settle()
            database.go_on.set()
            await asyncio.gather(*requests)
            assert [times.batch for times in told] == [len(call) for call in database.calls for _ in call]
            assert all(times.database > 0 for times in told)
            # later requests waited while the first call ran
            assert all(times.waited > told[0].waited for times in told[1:])
            assert all(times.locked == 0 for times in told)

    run(test)


@pytest.mark.parametrize("is_seen", [True, False])
def test_it_is_told_how_long_a_request_was_blocked(is_seen: bool) -> None:
    async def test() -> None:
        database = Database()
        told = {number: Record("", "") for number in range(4)}
        async with database.batcher(lock_timeout=0.05) as batcher:
            first = asyncio.create_task(batcher.submit(0, None, told[0]))
            await settle()
            others = [asyncio.create_task(batcher.submit(n, None, told[n])) for n in (1, 2, 3)]
            await settle()
            (database.blocked if is_seen else database.hidden).add(2)
            database.go_on.set()
            outcomes = await asyncio.gather(first, *others, return_exceptions=True)
            assert isinstance(outcomes[2], Failed)
            assert [number for number, times in told.items() if times.locked] == [2]
            assert told[2].waited + told[2].database >= told[2].locked > 0.04

    run(test)


def test_it_is_told_how_long_a_request_waited_that_was_never_made() -> None:
    async def test() -> None:
        database = Database()
        told = Record("", "")
        async with database.batcher(wait_timeout=0.05) as batcher:
            first = asyncio.create_task(batcher.submit(1))
            await settle()
            with pytest.raises(Full):
                await batcher.submit(2, None, told)
            assert told.waited > 0.04
            assert (told.database, told.batch) == (0, 0)
            database.go_on.set()
            await first

    run(test)


# With a database: a payment blocks its call until `holder` releases the lock.


@contextlib.contextmanager
def busy_call(
    admin: Connection, database: str, **settings: str
) -> Iterator[tuple[httpx2.Client, ThreadPoolExecutor, Connection]]:
    buyer, seller = account(admin, "held buyer", 10), account(admin, "held seller")
    with (
        ThreadPoolExecutor(64) as clients,
        serving(DATABASE_URL=database, **settings) as server,
        httpx2.Client(base_url=server.url, timeout=20, limits=httpx2.Limits(max_connections=64)) as api,
        psycopg.connect(database) as holder,
    ):
        holder.execute("select from ledger.account where id = %s for update", [buyer])
        held = clients.submit(pay, api, buyer, seller, 1)
        waiting_for_locks(admin, 1)
        yield api, clients, holder
        holder.rollback()
        assert held.result().status_code == 200


PATIENT = {"WALLET_COALESCE_LOCK_TIMEOUT": "20", "WALLET_LOCK_TIMEOUT": "20"}


def test_payments_that_wait_for_a_call_share_the_next_ones(admin: Connection, database: str) -> None:
    ids = [account(admin, f"account {number}", 10) for number in range(30)]
    with busy_call(admin, database, WALLET_COALESCE_WAITING="31", **PATIENT) as (api, clients, holder):
        poor = clients.submit(pay, api, ids[0], ids[1], 1000)
        payments = [clients.submit(pay, api, ids[n % 30], ids[(n + 1) % 30], "0.5") for n in range(31)]
        # One of them is one too many and is refused immediately: by then, all others have arrived.
        wait_until(lambda: any(request.done() for request in (poor, *payments)))
        holder.rollback()
        answers = [(request.result(), 400 if request is poor else 200) for request in (poor, *payments)]
        kept = [(answer.status_code, expected) for answer, expected in answers if answer.status_code != 503]
        assert len(kept) == 31
        assert all(status == expected for status, expected in kept)
    [(transactions,)] = admin.execute("select count(distinct xmin::text) from ledger.payment").fetchall()
    assert transactions < 10
    assert ledger_problems(admin) == []


def test_a_locked_account_delays_only_its_own_payments(admin: Connection, database: str) -> None:
    ids = [account(admin, f"account {number}", 10) for number in range(2)]
    with busy_call(admin, database, WALLET_COALESCE_LOCK_TIMEOUT="0.1", WALLET_LOCK_TIMEOUT="20") as (
        api,
        clients,
        holder,
    ):
        blocked = [clients.submit(pay, api, ids[0], 3, 1) for _ in range(20)]  # 3 is the locked account
        for _ in range(30):
            assert pay(api, ids[1], ids[0], "0.1").status_code == 200
        assert not any(payment.done() for payment in blocked)
        holder.rollback()
        assert sorted(payment.result().status_code for payment in blocked) == [200] * 13 + [400] * 7
    assert balance(admin, ids[0]) == 0
    assert ledger_problems(admin) == []


def test_a_payment_waits_for_a_locked_account_up_to_the_limit(admin: Connection, database: str) -> None:
    with busy_call(admin, database, WALLET_COALESCE_LOCK_TIMEOUT="0.1", WALLET_LOCK_TIMEOUT="20") as (api, _, _):
        with serving(DATABASE_URL=database, WALLET_LOCK_TIMEOUT="0.3") as impatient, impatient.client() as other:
            assert_refused(pay(other, 1, 2), "55P03")
        assert api.get("/livez").status_code == 200


REPLACED = """alter function wallet.make_payments rename to _make_payments;
    create function wallet.make_payments(
        p_buyer_account_ids bigint[], p_seller_account_ids bigint[], p_amounts numeric[], p_idempotency_keys text[],
        p_descriptions text[], p_references text[], p_api_key_ids bigint[], p_atomic boolean, p_wait boolean,
        p_api_key_id bigint, p_idempotency_key text, p_up_to boolean[], p_metadata jsonb[], p_balances boolean[]
    )
        returns table (id bigint, currency_id bigint, amount numeric, buyer_account_id bigint, seller_account_id bigint,
                       operation_timestamp timestamptz, description text, reference text,
                       replayed boolean, error_code text, error text, error_field text, metadata jsonb,
                       buyer_balance numeric, seller_balance numeric)
        language plpgsql security definer as $$
        begin
            {body}
            return query select * from wallet._make_payments(
                p_buyer_account_ids, p_seller_account_ids, p_amounts, p_atomic, p_wait, p_idempotency_keys,
                p_descriptions, p_references, p_api_key_ids, p_api_key_id, p_idempotency_key, p_up_to, p_metadata,
                p_balances
            );
        end $$;
    grant execute on function wallet.make_payments to wallet_app"""


def test_a_payment_that_makes_a_call_fail_harms_no_neighbour(admin: Connection, database: str) -> None:
    ids = [account(admin, f"account {number}", 100) for number in range(10)]
    admin.execute(REPLACED.format(body="if 13 = any (p_amounts) then raise 'bad luck'; end if;"))
    with busy_call(admin, database, **PATIENT) as (api, clients, holder):
        payments = [clients.submit(pay, api, ids[n], ids[(n + 1) % 10], 13 if n == 5 else 1) for n in range(10)]
        wait_until(lambda: all(payment.running() for payment in payments))
        holder.rollback()
        assert [payment.result().status_code for payment in payments] == [200] * 5 + [500] + [200] * 4
    assert ledger_problems(admin) == []


def test_an_unexpected_error_is_500_and_a_line_in_the_log(admin: Connection, database: str) -> None:
    admin.execute(REPLACED.format(body="raise 'bad luck';"))
    with serving(DATABASE_URL=database) as server, server.client() as api:
        assert_refused(pay(api, 1, 2), "XX000")
        assert api.get("/livez").status_code == 200
    assert "RaiseException: bad luck" in server.log


@pytest.mark.parametrize("state", ["40001", "40P01"])
def test_a_conflict_is_tried_again(admin: Connection, database: str, state: str) -> None:
    ids = [account(admin, f"account {number}", 100) for number in range(2)]
    admin.execute("create sequence public.attempt")
    conflict = f"if nextval('public.attempt') %% 4 <> 0 then raise exception using errcode = '{state}'; end if;"
    admin.execute(REPLACED.format(body=conflict.replace("%%", "%")))
    with serving(DATABASE_URL=database) as server, server.client() as api:
        assert [pay(api, ids[0], ids[1], 1).status_code for _ in range(3)] == [200] * 3
    assert balance(admin, ids[1]) == Decimal(103)


def test_a_conflict_that_does_not_pass_is_told(admin: Connection, database: str) -> None:
    ids = [account(admin, f"account {number}", 100) for number in range(2)]
    admin.execute(REPLACED.format(body="raise exception using errcode = '40P01';"))
    with serving(DATABASE_URL=database) as server, server.client() as api:
        assert_refused(pay(api, ids[0], ids[1]), "40P01")


@pytest.mark.parametrize("state", ["53100", "57014", "25006", "0A000", "3F000"])
def test_what_the_database_cannot_do_now_is_not_repeated_one_by_one(
    admin: Connection, database: str, state: str
) -> None:
    admin.execute("create sequence public.attempt")
    body = f"perform nextval('public.attempt'); raise exception using errcode = '{state}';"
    admin.execute(REPLACED.format(body=body))
    with serving(DATABASE_URL=database) as server, server.client() as api:
        assert pay(api, 1, 2, 1).status_code == 503
    attempts = 2 if state == "0A000" else 1  # retried once, on a new connection
    assert admin.execute("select last_value from public.attempt").fetchall() == [(attempts,)]


def test_clients_that_hang_up_while_they_wait_do_not_affect_others(admin: Connection, database: str) -> None:
    ids = [account(admin, f"account {number}", 100) for number in range(2)]
    with busy_call(admin, database, **PATIENT) as (api, clients, holder):
        for _ in range(5):
            with pytest.raises(httpx2.ReadTimeout):
                api.post(
                    "/payments",
                    json=payment_body(ids[0], ids[1]),
                    timeout=httpx2.Timeout(20, read=0.05),
                )
        last = clients.submit(pay, api, ids[1], ids[0], 1)
        holder.rollback()
        assert last.result().status_code == 200
    assert ledger_problems(admin) == []
