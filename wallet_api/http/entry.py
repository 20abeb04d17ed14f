"""The entry of the HTTP layer: what each request passes before its operation, and each answer after it."""

import asyncio
from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wallet_api.http import errors, refusals
from wallet_api.http.client import CLIENT, Client
from wallet_api.http.operations import Operation
from wallet_api.http.origins import AllowedOrigins, OwnPages
from wallet_api.http.probes import ALWAYS
from wallet_api.observability.record import GONE, RECORD, begin, end
from wallet_api.settings import Settings

Handler = Callable[[Operation, Request], Awaitable[Response]]


class Entry:
    """ASGI application: records each request, and answers what its operation refuses or cannot answer.

    Requests for `operation` reach `handle` without the router of `app`, which costs about 30 us of CPU time.
    """

    def __init__(self, app: Starlette, settings: Settings, operation: Operation, handle: Handler) -> None:
        self._app = app
        self._operation = operation
        self._handle = handle
        self._own_pages: OwnPages | None = None
        self._answer: ASGIApp = self._answer_errors
        if settings.auth != "required":
            self._own_pages = OwnPages(settings.hosts)
        elif settings.cors_origins:
            self._answer = AllowedOrigins(self._answer, settings.cors_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles a request, or starts and ends the application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = begin(scope)
        client: Client = scope[CLIENT]
        request_id = (b"x-request-id", record.id.encode())

        def send_with_id(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                record.is_answered = True
                message["headers"] = [*message["headers"], request_id]
                # serving.protocol may have answered already: it refuses a body that is not HTTP.
                record.status = record.status or (GONE if client.is_gone() else message["status"])
            return send(message)

        try:
            await self._answer(scope, receive, send_with_id)
        finally:
            end(record)

    async def _answer_errors(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._pass_on(scope, receive, send)
        except (Exception, asyncio.CancelledError) as error:
            if scope[RECORD].is_answered:
                raise
            await errors.respond(scope, error)(scope, receive, send)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        client: Client = scope[CLIENT]
        if client.is_late() and scope["raw_path"] not in ALWAYS:
            await errors.crowded(scope, client.come_back_later(), refusals.TOO_MANY_CLIENTS)(scope, receive, send)
            return
        if self._own_pages is not None:
            self._own_pages.check(scope)
        scope["app"] = self._app
        if scope["path"] == self._operation.path and scope["method"] == self._operation.method:
            scope[RECORD].route = self._operation.path
            response = await self._handle(self._operation, Request(scope, receive))
            await response(scope, receive, send)
        else:
            await self._app.router(scope, receive, send)
