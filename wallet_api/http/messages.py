"""Reads request bodies, and writes JSON responses."""

import asyncio

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from wallet_api.http import refusals
from wallet_api.http.refusals import Refused
from wallet_api.settings import Settings

BODY_LIMIT = 64 * 1024
# The key of the client's connection, a wallet_api.serving.protocol.Protocol, in a request's scope.
CLIENT = "wallet.client"

JSON = (b"content-type", b"application/json")


async def body(request: Request, limit: int = BODY_LIMIT) -> bytes:
    """Reads a body of at most `limit` bytes. Raises Refused if it is larger, or does not arrive in time."""
    if request.scope[CLIENT].in_head:  # it is here already
        return await _read(request, limit)
    for name, value in request.scope["headers"]:
        if name == b"content-length" and int(value) > limit:
            raise _too_large(limit)
    settings: Settings = request.app.state.settings
    try:
        async with asyncio.timeout(settings.body_timeout):
            return await _read(request, limit)
    except TimeoutError:
        raise Refused(refusals.BODY_LATE, headers={"Connection": "close"}, seconds=settings.body_timeout) from None


async def _read(request: Request, limit: int) -> bytes:
    # Not request.stream(): that takes three times as long.
    content = b""
    more = True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        content += message.get("body", b"")
        more = message.get("more_body", False)
        if len(content) > limit:
            raise _too_large(limit)
    return content


def _too_large(limit: int) -> Refused:
    # Closes the connection instead of reading the rest of the body.
    return Refused(refusals.BODY_TOO_LARGE, headers={"Connection": "close"}, limit=limit)


class Answer(Response):
    """A JSON response with status 200."""

    def __init__(self, json: str, *headers: tuple[bytes, bytes]) -> None:
        self.status_code = 200
        self.background = None
        self.body = json.encode()
        self.raw_headers = [(b"content-length", b"%d" % len(self.body)), JSON, *headers]
