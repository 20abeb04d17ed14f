"""GET /feed: what has happened, and the wait for what happens next.

The readers of a process that wait share one watch: it finds the end of the feed some times a second, while any waits.
"""

import asyncio
import logging
from contextvars import Context
from time import perf_counter
from typing import Self

import psycopg
from starlette.requests import Request
from starlette.responses import Response

from wallet_api.database.outage import primary_outage
from wallet_api.database.pool import ConnectionLost, Database, Rows
from wallet_api.http import codec, refusals
from wallet_api.http.authentication import KEY_ID
from wallet_api.http.messages import CLIENT, Answer, root_path
from wallet_api.http.operations import ALL, Operation, about_field
from wallet_api.http.refusals import Refused
from wallet_api.observability import metrics
from wallet_api.observability.record import record_of

logger = logging.getLogger(__name__)

# In seconds: between two looks for the end of the feed, and after a failed one; and how long a request waits at a time,
# before it checks whether its client is still there.
_INTERVAL = 0.01
_PAUSE = 0.5
_CHECK_INTERVAL = 1.0

_MOST_WAIT: int = about_field("listFeed", "wait")["maximum"]

# Its argument is what the call before has returned as `looks`.
FEED_END = "select feed_end, looks::text, waits_for from wallet.feed_end(p_looks => %s::jsonb)"
# Its arguments are a cursor, the most events, an end of the feed and an API key; each may be None.
LIST_FEED = f"""select {", ".join(ALL["listFeed"].columns)}, more
    from wallet.list_feed(p_after => %s, p_limit => %s, p_until => %s, p_api_key_id => %s)"""  # noqa: S608


class Feed:
    """Watches the end of the feed, within `async with`, while readers wait for it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: set[asyncio.Future[str]] = set()
        self._watch: asyncio.Task[None] | None = None
        self._looks: str | None = None
        self._end: str | None = None
        # The transactions that keep the end from moving, as the log has them.
        self._waits_for: str | None = None

    async def __aenter__(self) -> Self:
        """Accepts readers from now on."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stops watching."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)

    async def next_end(self, seen: str | None, seconds: float) -> str | None:
        """An end of the feed other than `seen`; None if there is none within so many seconds."""
        if self._watch is None:
            # An empty context: the watch does not belong to the request that happens to start it.
            self._watch = asyncio.create_task(self._look(), context=Context())
        if self._end not in (None, seen):
            return self._end
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            async with asyncio.timeout(seconds):
                return await future
        except TimeoutError:
            return None
        finally:
            self._waiting.discard(future)

    async def _look(self) -> None:
        """Finds the end again and again, until no reader has waited for a moment."""
        try:
            idle_for = 0.0
            while self._waiting or idle_for < _CHECK_INTERVAL:
                idle_for = 0.0 if self._waiting else idle_for + _INTERVAL
                await asyncio.sleep(await self._look_once())
        finally:
            self._watch = None

    async def _look_once(self) -> float:
        """Passes the end on to those that wait if it has moved. Returns the time until the next look."""
        began = perf_counter()
        try:
            [(end, self._looks, waits_for)] = (await self._database.call(FEED_END, [self._looks])).values
        except (psycopg.Error, ConnectionLost) as error:
            if not primary_outage.explains(began):
                logger.warning("Cannot find the end of the feed: %s", error)
            return _PAUSE
        if waits_for is not None and waits_for != self._waits_for:
            logger.warning("The feed waits for the end of a transaction: %s", waits_for)
        self._waits_for = waits_for
        metrics.feed_blocked.set(waits_for is not None)
        if end not in (None, self._end):
            self._end = end
            for future in self._waiting:
                if not future.done():
                    future.set_result(end)
        return _INTERVAL


async def list_feed(operation: Operation, request: Request) -> Response:
    """The events after a cursor. If there are none, waits for the next one, as long as the request allows."""
    after, limit, wait = (await operation.read(request)).values()
    if wait is not None and not 0 <= wait <= _MOST_WAIT:
        raise Refused(refusals.WAIT_TOO_LONG, "wait", limit=_MOST_WAIT)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + (wait or 0)
    feed: Feed = request.app.state.feed
    page = await _page(request, after, limit, None)
    end = None
    while not page.values and loop.time() < deadline and not request.scope[CLIENT].stopping:
        if await request.is_disconnected():
            break
        if moved := await feed.next_end(end, min(deadline - loop.time(), _CHECK_INTERVAL)):
            end = moved
            page = await _page(request, page.next_after, limit, end)
    parameters = {"after": page.next_after, "limit": limit, "wait": wait}
    query = "&".join(f"{name}={value}" for name, value in parameters.items() if value is not None)
    objects = codec.objects(page)
    text = f'{{"{operation.list_name}":[{",".join(objects)}]}}' if objects else "{}"
    return Answer(text, (b"link", f'<{root_path(request.scope)}{operation.path}?{query}>; rel="next"'.encode()))


async def _page(request: Request, after: str | None, limit: int | None, end: str | None) -> Rows:
    """A page of events. `next_after` is the cursor of the last one, or `after`, whether or not more follow."""
    database: Database = request.app.state.database
    rows = await database.call(LIST_FEED, [after, limit, end, request.scope.get(KEY_ID)], record_of(request))
    return rows.page()._replace(next_after=rows.values[-1][0] if rows.values else after)
