"""/console: the files of wallet_api/console, a web page whose only source is this service's own HTTP API."""

from pathlib import Path

from starlette.responses import Response
from starlette.types import Scope

from wallet_api.http import refusals
from wallet_api.http.messages import root_path
from wallet_api.http.refusals import Refused
from wallet_api.observability.record import RECORD

_FOLDER = Path(__file__).parent.parent / "console"
PATH = f"/{_FOLDER.name}"
_METHODS = ("GET", "HEAD")
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
_FILES = {path.name: (path.read_bytes(), _TYPES[path.suffix]) for path in _FOLDER.iterdir() if path.suffix in _TYPES}
_HEADERS = {
    # The page runs its own scripts alone, talks to this service alone, and never turns a text into HTML or code.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    # After an upgrade, no page is made of files of two versions.
    "Cache-Control": "no-cache",
}


def response(scope: Scope) -> Response | None:
    """The page or one of its files; None for any other path. Raises Refused for a file that does not exist."""
    first, slash, name = scope["path"][1:].partition("/")
    if first != _FOLDER.name:
        return None
    scope[RECORD].route = PATH
    if scope["method"] not in _METHODS:
        raise Refused(refusals.METHOD_NOT_ALLOWED, headers={"Allow": ", ".join(_METHODS)})
    if slash and not name:
        # The page's links are relative to a path without the slash.
        return Response(status_code=307, headers={"Location": root_path(scope) + PATH})
    content, media_type = _FILES.get(name or "index.html", (None, ""))
    if content is None:
        raise Refused(refusals.NOT_FOUND)
    return Response(content, headers=_HEADERS, media_type=media_type)
