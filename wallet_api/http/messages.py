"""Reads request bodies, and writes JSON responses."""

import asyncio
from codecs import BOM_UTF8

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Scope

from wallet_api.http import codec, refusals
from wallet_api.http.refusals import Refused
from wallet_api.observability.record import HEADERS
from wallet_api.settings import Settings

BODY_LIMIT = 64 * 1024
# The key of the client's connection, a wallet_api.serving.protocol.Protocol, in a request's scope.
CLIENT = "wallet.client"

# The key of WALLET_ROOT_PATH in the state of a request's scope.
ROOT_PATH = "root_path"

JSON = (b"content-type", b"application/json")
# Values of Content-Encoding that change nothing. UTF-8 is none, but what some clients confuse it with.
_UNCHANGED = (b"", b"identity", b"utf-8")


def root_path(scope: Scope) -> str:
    """WALLET_ROOT_PATH, with which the paths in answers begin."""
    found: str = scope["state"][ROOT_PATH]
    return found


async def body(request: Request, limit: int = BODY_LIMIT) -> bytes:
    """Reads a body of at most `limit` bytes, and removes a byte order mark.

    Raises Refused if it is larger, does not arrive in time, or is compressed.
    """
    is_here = request.scope[CLIENT].in_head
    content = await (_read(request, limit) if is_here else _arriving(request, limit))
    coding: bytes | None = request.scope[HEADERS].get(b"content-encoding")
    if coding is not None and content and coding.strip().lower() not in _UNCHANGED:
        headers = {"Accept-Encoding": "identity"}
        shown = codec.printable(coding.decode("latin-1"))
        raise Refused(refusals.BODY_ENCODED, "Content-Encoding", headers, coding=shown)
    return content.removeprefix(BOM_UTF8)


async def _arriving(request: Request, limit: int) -> bytes:
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
