"""The entry of the HTTP layer: what each request passes before its operation, and each answer after it."""

import asyncio
from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Lifespan, Message, Receive, Scope, Send

from wallet_api.http import answers, documents, errors, payments, probes, refusals
from wallet_api.http.authentication import Keys
from wallet_api.http.messages import CLIENT
from wallet_api.http.operations import ALL, Operation
from wallet_api.http.origins import AllowedOrigins, OwnPages
from wallet_api.http.payments import MAKE_PAYMENT
from wallet_api.http.probes import ALWAYS
from wallet_api.observability.record import GONE, RECORD, begin, end
from wallet_api.settings import Settings

# The operations that are more than one call of their function.
_HANDLERS = {
    "makePayment": payments.make_payment,
    "makePayments": payments.make_payments,
    "live": probes.live,
    "ready": probes.ready,
    "getOpenAPI": documents.openapi,
    "getDocs": documents.docs,
}


class Entry:
    """ASGI application: records each request, passes it to its operation, and answers errors."""

    def __init__(self, settings: Settings, lifespan: Lifespan[Starlette]) -> None:
        self._app = Starlette(routes=_routes(), lifespan=lifespan)
        self._app.router.redirect_slashes = False
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
        client = scope[CLIENT]
        request_id = (b"x-request-id", record.id.encode())

        def send_with_id(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                record.is_answered = True
                message["headers"] = [*message["headers"], request_id]
                # serving.protocol may have answered already: it refuses a body that is not HTTP.
                record.status = record.status or (GONE if client.transport.is_closing() else message["status"])
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
        client = scope[CLIENT]
        if client.is_late() and scope["raw_path"] not in ALWAYS:
            await errors.crowded(scope, client.come_back_later(), refusals.TOO_MANY_CLIENTS)(scope, receive, send)
            return
        if self._own_pages is not None:
            self._own_pages.check(scope)
        scope["app"] = self._app
        if scope["path"] == MAKE_PAYMENT.path and scope["method"] == MAKE_PAYMENT.method:
            # Bypasses the router, which costs about 30 us of CPU time.
            response = await _handle(MAKE_PAYMENT, Request(scope, receive))
            await response(scope, receive, send)
        else:
            await self._app.router(scope, receive, send)


def _routes() -> list[Route]:
    """One route per path with all its methods, so that a 405 lists all of them in Allow."""
    by_path: dict[str, dict[str, Operation]] = {}
    for operation in ALL.values():
        by_path.setdefault(operation.path, {})[operation.method] = operation
    return [Route(path, _endpoint(by_method), methods=list(by_method)) for path, by_method in by_path.items()]


def _endpoint(by_method: dict[str, Operation]) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        return await _handle(by_method["GET" if request.method == "HEAD" else request.method], request)

    return endpoint


async def _handle(operation: Operation, request: Request) -> Response:
    """Handles a request. If API keys are required, an operation that calls a function needs one."""
    scope = request.scope
    scope[RECORD].route = operation.path
    scope[errors.FIELD_NAMES] = operation.argument_names
    keys: Keys = request.app.state.keys
    if operation.function and keys.required:
        scope[RECORD].key = (await keys.identify(scope)).name
    if scope["query_string"]:
        operation.refuse_unknown_parameters(scope["query_string"])
    return await _HANDLERS.get(operation.name, answers.respond)(operation, request)
