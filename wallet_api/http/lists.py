"""Lists as JSON: whole, or streamed page by page."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator
from dataclasses import dataclass

import psycopg
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from wallet_api.database.pool import ConnectionLost, Rows
from wallet_api.http import codec
from wallet_api.http.messages import CLIENT, JSON, Answer
from wallet_api.settings import Settings

logger = logging.getLogger(__name__)

# Why a list is cut off, for exceptions without a message.
_REASONS = {TimeoutError: "its reader is too slow", asyncio.CancelledError: "the service stops"}


@dataclass
class List:
    """Writes a list: {"name":[…]}, or {} if it is empty.

    With `account_id`, it is a statement, which is never {}. Then the first row of each page is not a line: it has the
    opening balance of the page. If the statement begins with the `newest` line, it ends with that of its last page.
    """

    name: str
    account_id: int | None = None
    newest: bool = False

    def head(self, first: Rows) -> str:
        """The text before the rows, from the first page."""
        if self.account_id is None:
            return f'{{"{self.name}":['
        opening = "" if self.newest else f"{_opening(first)},"
        return f'{{"AccountID":{self.account_id},{opening}"{self.name}":['

    def tail(self, last: Rows) -> str:
        """The text after the rows, from the last page."""
        return f"],{_opening(last)}}}" if self.newest and self.account_id is not None else "]}"

    def lines(self, page: Rows) -> Rows:
        """The rows of a page that the list shows."""
        return page if self.account_id is None else page._replace(values=page.values[1:])

    def objects(self, page: Rows) -> list[str]:
        """The rows of a page as JSON objects."""
        return codec.objects(self.lines(page))

    def whole(self, objects: list[str], first: Rows, last: Rows) -> str:
        """The whole list, from its objects, its first page and its last one."""
        is_empty = self.account_id is None and not objects
        return "{}" if is_empty else f"{self.head(first)}{','.join(objects)}{self.tail(last)}"


def _opening(page: Rows) -> str:
    """The opening balance of a statement's page, as a member of an object."""
    return f'"OpeningAmount":"{page.values[0][[name for name, _ in page.columns].index("balance")]}"'


async def listed(form: List, pages: AsyncGenerator[Rows], request: Request) -> Response:
    """A list of the rows of all pages, streamed if there is more than one."""
    first = await anext(pages)
    # HTTP/1.0 has no chunks, so a client could not tell a complete list from a broken connection.
    if first.next_after is not None and request.scope["http_version"] != "1.0":
        settings: Settings = request.app.state.settings
        return _Stream(form, first, pages, settings.list_timeout)
    page = first
    objects = form.objects(first)
    async for page in pages:
        objects += form.objects(page)
    return Answer(form.whole(objects, first, page))


@dataclass(eq=False)
class _Stream(Response):
    """A list that is streamed page by page.

    If the database fails, or the client takes longer than `limit` seconds to read the list, the connection ends, so
    that the list does not look complete. wallet_api.serving.protocol limits the time to read each page.
    """

    form: List
    first: Rows
    pages: AsyncGenerator[Rows]
    limit: float

    def __post_init__(self) -> None:
        self.status_code = 200
        self.raw_headers = [JSON]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the list, until it ends or the client disconnects."""
        gone: asyncio.Future[Message] | None = None
        try:
            async with contextlib.aclosing(self.pages), asyncio.timeout(self.limit):
                while (await receive()).get("more_body"):
                    pass  # discards the body of a GET request
                gone = asyncio.ensure_future(receive())
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                if scope["method"] != "HEAD":
                    await self._send_pages(send, gone)
                await send({"type": "http.response.body"})
        except (psycopg.Error, ConnectionLost, TimeoutError, asyncio.CancelledError) as error:
            reason = _REASONS.get(type(error), error)
            logger.warning("%s %s was cut off: %s", scope["method"], scope["path"], reason)
            scope[CLIENT].transport.abort()
            await receive()  # until the connection is closed
        finally:
            if gone is not None:
                gone.cancel()

    async def _send_pages(self, send: Send, gone: asyncio.Future[Message]) -> None:
        """Sends pages as they arrive. A filtered list may have slow or empty pages."""
        start, page = self.form.head(self.first), self.first
        following: Rows | None = self.first
        while following is not None and not gone.done():
            page = following
            if objects := self.form.objects(page):
                await _send_text(send, start + ",".join(objects))
                start = ","
            following = await anext(self.pages, None)
        await _send_text(send, self.form.tail(page) if start == "," else self.form.whole([], self.first, page))


async def _send_text(send: Send, text: str) -> None:
    await send({"type": "http.response.body", "body": text.encode(), "more_body": True})
