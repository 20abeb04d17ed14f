"""The entry of the HTTP layer: what each request passes before its operation, and each answer after it."""

import asyncio
import re
from collections.abc import Collection

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Lifespan, Receive, Scope, Send

from wallet_api.database.positions import Positions
from wallet_api.http import answers, console, documents, errors, feed, payments, probes, refusals
from wallet_api.http.authentication import KEY_ID, Keys
from wallet_api.http.messages import CLIENT, root_path
from wallet_api.http.operations import POSITION, ROUTES, Operation, asked_position
from wallet_api.http.origins import AllowedOrigins, OwnPages
from wallet_api.http.probes import ALWAYS
from wallet_api.http.refusals import Refused
from wallet_api.observability.record import GONE, HEADERS, RECORD, begin, end
from wallet_api.settings import Settings

# The operations that are more than one call of their function.
_HANDLERS = {
    "makePayment": payments.make_payment,
    "makePayments": payments.make_payments,
    "listFeed": feed.list_feed,
    "live": probes.live,
    "ready": probes.ready,
    "getOpenAPI": documents.openapi,
    "getDocs": documents.docs,
}


# The paths without an ID; and how the others contain theirs.
_FIXED = {path for path in ROUTES if "{id}" not in path}
_WITH_ID = re.compile("(/[^/]+/)([^/]+)(.*)")


class Entry:
    """ASGI application: records each request, passes it to its operation, and answers errors."""

    def __init__(self, settings: Settings, lifespan: Lifespan[Starlette]) -> None:
        self._app = Starlette(lifespan=lifespan)
        has_keys = settings.auth == "required"
        self._own_pages = None if has_keys else OwnPages(settings.hosts)
        self._origins = AllowedOrigins(self._app, settings.cors_origins) if has_keys and settings.cors_origins else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles a request, or starts and ends the application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = begin(scope)
        try:
            try:
                response = await self._respond(scope, receive)
            except (Exception, asyncio.CancelledError) as error:
                response = errors.respond(scope, error)
            if self._origins is not None:
                self._origins.admit(scope, response)
            response.raw_headers.append((b"x-request-id", record.id.encode()))
            # serving.protocol may have answered already: it refuses a body that is not HTTP.
            record.status = record.status or (GONE if scope[CLIENT].transport.is_closing() else response.status_code)
            await response(scope, receive, send)
        finally:
            end(record)

    async def _respond(self, scope: Scope, receive: Receive) -> Response:
        """The response of the request's operation. If it calls a function, the request may need an API key."""
        if scope[CLIENT].is_late() and scope["path"].removesuffix("/") not in ALWAYS:
            raise errors.come_back_later(scope, refusals.TOO_MANY_CLIENTS)
        headers = scope[HEADERS]
        if _host_is_wrong(scope, headers):
            raise Refused(refusals.HOST_NOT_ONCE, "Host")
        if self._own_pages is not None:
            self._own_pages.check(scope)
        if self._origins is not None and (preflight := self._origins.preflight(scope)) is not None:
            return preflight
        if scope["path"] == "/" and scope["method"] in ("GET", "HEAD") and errors.prefers(scope, "text/html"):
            return Response(status_code=307, headers={"Location": root_path(scope) + console.PATH})
        if (file := console.response(scope)) is not None:
            return file
        operation = _operation(scope)
        scope[RECORD].route = operation.path
        scope[errors.FIELD_NAMES] = operation.argument_names
        scope["app"] = self._app
        keys: Keys = self._app.state.keys
        if operation.function and (keys.required or b"authorization" in headers):
            scope[KEY_ID], scope[RECORD].key = await keys.identify(scope)
        if scope["query_string"]:
            operation.refuse_unknown_parameters(scope["query_string"])
        if POSITION in headers:
            scope[RECORD].position = asked_position(scope)
        response = await _HANDLERS.get(operation.name, answers.respond)(operation, Request(scope, receive))
        positions: Positions | None = self._app.state.positions
        if operation.keyed and positions is not None and response.status_code == 200:
            response.raw_headers.append((POSITION, b"%d" % positions.changed))
        return response


def _host_is_wrong(scope: Scope, headers: Collection[bytes]) -> bool:
    """Whether Host is repeated, or is missing where HTTP/1.1 requires it."""
    if b"host" not in headers:
        return bool(scope["http_version"] == "1.1")
    has_repeated = len(headers) < len(scope["headers"])
    return has_repeated and [name for name, _ in scope["headers"]].count(b"host") > 1


def _operation(scope: Scope) -> Operation:
    """Finds the operation of a request, whose scope has the ID in its path from now on. Raises a 404 or a 405.

    Ignores a slash at the end of the path.
    """
    path = scope["path"]
    if path not in _FIXED and (match := _WITH_ID.fullmatch(path)):
        path = f"{match[1]}{{id}}{match[3]}"
        scope["path_params"] = {"id": match[2]}
    by_method = ROUTES.get(path)
    if by_method is None:
        if not scope["path"].endswith("/") or scope["path"].endswith("//"):
            raise Refused(refusals.NOT_FOUND)
        scope["path"] = scope["path"][:-1]
        return _operation(scope)
    operation = by_method.get(scope["method"])
    if operation is None:
        raise Refused(refusals.METHOD_NOT_ALLOWED, headers={"Allow": ", ".join(by_method)})
    return operation
