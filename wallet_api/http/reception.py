"""The first step of a request and the last step of its answer, for all paths."""

from collections.abc import Awaitable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wallet_api.http import errors, refusals
from wallet_api.http.client import CLIENT, Client
from wallet_api.http.probes import ALWAYS
from wallet_api.observability.record import GONE, RECORD, Record


class Reception:
    """ASGI application: passes requests on to `app`, except those of more clients than the process serves.

    It adds X-Request-ID to each answer, and records the status.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Handles a request."""
        if scope["type"] != "http":
            return self._app(scope, receive, send)
        record: Record = scope[RECORD]
        client: Client = scope[CLIENT]

        def send_with_id(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-request-id", record.id.encode())]
                # serving.protocol may have answered already: it refuses a body that is not HTTP.
                record.status = record.status or (GONE if client.is_gone() else message["status"])
            return send(message)

        app = self._app
        if client.is_late() and scope["raw_path"] not in ALWAYS:
            app = errors.crowded(scope, client.come_back_later(), refusals.TOO_MANY_CLIENTS)
        return app(scope, receive, send_with_id)
