"""/openapi.json and /docs: two files that `make generate` writes."""

import base64
import hashlib
import re
from pathlib import Path

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from wallet_api.http import messages
from wallet_api.http.operations import Operation

_FOLDER = Path(__file__).parent
_OPENAPI = (_FOLDER / "openapi.json").read_text()
_PAGE = (_FOLDER / "docs.html").read_text()
_STYLE = "".join(re.findall("<style>(.*?)</style>", _PAGE, re.DOTALL))
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}


async def openapi(operation: Operation, request: Request) -> Response:
    """The OpenAPI document."""
    root_path = messages.root_path(request.scope)
    return messages.Answer(_OPENAPI.replace('"url": "/"', f'"url": "{root_path or "/"}"'))


async def docs(operation: Operation, request: Request) -> Response:
    """The same as an HTML page without scripts or external resources."""
    # Not a relative link: it would lead elsewhere from /docs/.
    link = f'href="{messages.root_path(request.scope)}/openapi.json"'
    return HTMLResponse(_PAGE.replace('href="openapi.json"', link), headers=_HEADERS)
