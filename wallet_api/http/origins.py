"""Requests from web pages: refused if no API key protects the service, allowed by origin if one does.

A browser lets any page send requests to any address, even to localhost. The page may also use a name of its own that
points at this service (DNS rebinding). Of the headers checked here, clients other than browsers send only Host.
"""

import functools
import ipaddress
from collections.abc import Collection, Sequence
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Scope

from wallet_api.http import errors, messages, refusals
from wallet_api.http.refusals import Refused
from wallet_api.observability.record import HEADERS

_OWN_PAGES = (b"same-origin", b"none")
_READ_HEADERS = ("Authorization", "Content-Type", "Idempotency-Key", "Ledger-Position", "Traceparent", "X-Request-ID")
_SENT_HEADERS = (
    "Error-Code", "Error-Field", "Idempotency-Replayed", "Ledger-Position", "Link", "Location", "Retry-After",
    "X-Request-ID",
)  # fmt: skip


class OwnPages:
    """Refuses requests from foreign web pages.

    On a loopback address, Host must be a loopback name or one of `hosts`. On other addresses, `hosts` are optional: if
    there are any, Host must be one of them, a loopback name, or an IP address, which cannot be rebound.
    """

    def __init__(self, hosts: Collection[str]) -> None:
        self._hosts = frozenset(hosts)
        self._is_ours = functools.lru_cache(1024)(self._may_be_called)

    def check(self, scope: Scope) -> None:
        """Raises Refused for a request from a foreign page."""
        headers = scope[HEADERS]
        host = headers.get(b"host")
        if host is not None and not self._is_ours(host, scope["server"][0]):
            raise Refused(refusals.FOREIGN_HOST)
        if b"origin" not in headers and b"sec-fetch-site" not in headers:
            return
        for name, value in scope["headers"]:
            if name == b"origin" and not self._is_own(value, host):
                raise Refused(refusals.FOREIGN_PAGE)
            if name == b"sec-fetch-site" and value.lower() not in _OWN_PAGES:
                raise Refused(refusals.FOREIGN_PAGE)

    def _may_be_called(self, host: bytes, server: str) -> bool:
        """Whether a Host header is allowed on this address of the service."""
        name = _host_name(host)
        if _is_loopback(name) or name in self._hosts:
            return True
        return not _is_loopback(server) and (not self._hosts or _address(name) is not None)

    def _is_own(self, origin: bytes, host: bytes | None) -> bool:
        """Whether an origin belongs to this service: its Host, or one of `hosts`."""
        _, _, place = origin.partition(b"://")
        return place != b"" and (place.lower() == (host or b"").lower() or _host_name(place) in self._hosts)


def _host_name(host: bytes) -> str:
    """The name or address in a Host header, without the port; "" if the header is malformed."""
    try:
        return urlsplit(f"//{host.decode('latin-1')}").hostname or ""
    except ValueError:
        return ""


def _address(name: str) -> IPv4Address | IPv6Address | None:
    """The address that a name is, if any; the IPv4 address in an IPv6 one, as on a socket for both."""
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_loopback(name: str) -> bool:
    address = _address(name)
    return name == "localhost" or name.endswith(".localhost") or (address is not None and address.is_loopback)


class AllowedOrigins:
    """Lets pages of these origins, such as https://shop.example, use the service (CORS)."""

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        self._cors = CORSMiddleware(app, origins, ("GET", "POST"), _READ_HEADERS, expose_headers=_SENT_HEADERS)

    def preflight(self, scope: Scope) -> Response | None:
        """The response to a preflight request, in the contract's form; None for any other request."""
        headers = Headers(scope=scope)
        if scope["method"] != "OPTIONS" or "origin" not in headers or "access-control-request-method" not in headers:
            return None
        found = self._cors.preflight_response(headers)
        refused = Refused(refusals.NOT_ALLOWED_BY_CORS)
        response = messages.Answer("{}") if found.status_code == 200 else errors.refused(None, refused)
        response.headers.update({name: value for name, value in found.headers.items() if name not in response.headers})
        return response

    def admit(self, scope: Scope, response: Response) -> None:
        """Lets the page read the response, if its origin is allowed."""
        if "vary" in response.headers:
            return  # complete: a preflight response
        origin = Headers(scope=scope).get("origin")
        if origin is not None:
            response.headers.update(self._cors.simple_headers)
        if origin is not None and self._cors.is_allowed_origin(origin):
            self._cors.allow_explicit_origin(response.headers, origin)
        else:
            response.headers.add_vary_header("Origin")
