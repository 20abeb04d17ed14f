"""Requests of web pages: refused where no API key protects the service, answered where their origins are allowed.

A browser sends requests of any page to any address, this machine's own included, and to a foreign name that its owner
has pointed here (DNS rebinding). Programs send none of the headers that are looked at, but for Host.
"""

import functools
import ipaddress
from collections.abc import Awaitable, Collection, Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from wallet_api.http import errors, messages, refusals
from wallet_api.http.refusals import Refusal, Refused

_OWN_PAGES = (b"same-origin", b"none")


class OwnPagesOnly:
    """ASGI application: passes requests on to `app`, but for those of foreign web pages.

    On a loopback address, Host has to be a loopback name, or one of `hosts`. If there are any `hosts`, so it has
    elsewhere; or an address, which nobody else can have pointed here.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str]) -> None:
        self._app = app
        self._hosts = frozenset(hosts)
        self._is_ours = functools.lru_cache(1024)(self._may_be_called)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Answers a request."""
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        app = self._app if refusal is None else errors.refused(scope, Refused(refusal))
        return app(scope, receive, send)

    def _refusal(self, scope: Scope) -> Refusal | None:
        headers = dict(scope["headers"])
        host = headers.get(b"host")
        if host is not None and not self._is_ours(host, scope["server"][0]):
            return refusals.FOREIGN_HOST
        if b"origin" not in headers and b"sec-fetch-site" not in headers:
            return None
        for name, value in scope["headers"]:
            if name == b"origin" and not self._is_own(value, host):
                return refusals.FOREIGN_PAGE
            if name == b"sec-fetch-site" and value.lower() not in _OWN_PAGES:
                return refusals.FOREIGN_PAGE
        return None

    def _may_be_called(self, host: bytes, server: str) -> bool:
        """Whether the service may be reached under a Host, a name or an address, at this address of its own."""
        name = _host_name(host)
        if _is_loopback(name) or name in self._hosts:
            return True
        return not _is_loopback(server) and (not self._hosts or _is_address(name))

    def _is_own(self, origin: bytes, host: bytes | None) -> bool:
        """Whether an origin is that of a page of this service."""
        _, _, place = origin.partition(b"://")
        return place != b"" and (place.lower() == (host or b"").lower() or _host_name(place) in self._hosts)


@functools.lru_cache(1024)
def _host_name(host: bytes) -> str:
    """The name or address in a Host header, without its port; "" for what is none."""
    try:
        return urlsplit(f"//{host.decode('latin-1')}").hostname or ""
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


@functools.lru_cache(1024)
def _is_loopback(name: str) -> bool:
    """Whether a name or an address is always that of this machine."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    if not _is_address(name):
        return False
    address = ipaddress.ip_address(name)
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


class AllowedOrigins(CORSMiddleware):
    """ASGI application: lets pages of these origins, such as https://shop.example, read the answers of `app` (CORS)."""

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=("GET", "POST"),
            allow_headers=("Authorization", "Content-Type", "Idempotency-Key", "Traceparent", "X-Request-ID"),
            expose_headers=(
                "Error-Code",
                "Error-Field",
                "Idempotency-Replayed",
                "Link",
                "Location",
                "Retry-After",
                "X-Request-ID",
            ),
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        """Answers what a browser asks before a request, in the contract's form."""
        found = super().preflight_response(request_headers)
        headers = {name: value for name, value in found.headers.items() if not name.startswith("content-")}
        if found.status_code == 200:
            answer: Response = messages.Answer("{}")
            answer.headers.update(headers)
            return answer
        return errors.refused(None, Refused(refusals.NOT_ALLOWED_BY_CORS, headers=headers))
