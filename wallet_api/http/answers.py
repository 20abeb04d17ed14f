"""Calls an operation's function, and turns its rows into the response: an object, a location or a list."""

from typing import Any
from urllib.parse import quote, unquote_plus

from starlette.requests import Request
from starlette.responses import Response

from wallet_api.database.pool import Rows
from wallet_api.http import codec, messages
from wallet_api.http.lists import List, listed
from wallet_api.http.operations import Operation
from wallet_api.observability.record import record_of

REPLAYED = (b"idempotency-replayed", b"true")


async def respond(operation: Operation, request: Request) -> Response:
    """Handles a request whose operation has no handler of its own."""
    values = await operation.read(request)
    if operation.is_paged:
        return await _list(operation, request, values)
    if operation.list_name:
        rows = await _call(operation, request, values, operation.columns)
        return messages.Answer(List(operation.list_name).whole(rows, codec.objects(rows)))
    return await _one(operation, request, values)


async def _call(operation: Operation, request: Request, values: dict[str, Any], columns: tuple[str, ...]) -> Rows:
    rows: Rows = await request.app.state.database.call(*operation.call(columns, request, values), record_of(request))
    return rows


async def _one(operation: Operation, request: Request, values: dict[str, Any]) -> Response:
    """The single row that the function returns, as an object; or its location."""
    columns = ("id",) if operation.location else _shown(operation, values)
    record = record_of(request)
    record.outcome = "failed" if operation.pays else ""
    rows = await _call(operation, request, values, (*columns, "replayed") if operation.keyed else columns)
    [row] = rows.values
    replayed = operation.keyed and row[-1]
    if operation.pays:
        record.outcome, record.payment_id = "replayed" if replayed else "made", row[0]
    headers = [REPLAYED] if replayed else []
    if operation.location:
        return messages.Answer("{}", (b"location", f"{operation.location}{row[0]}".encode()), *headers)
    [text] = codec.objects(rows._replace(columns=rows.columns[: len(columns)]))
    return messages.Answer(text, *headers)


def _shown(operation: Operation, values: dict[str, Any]) -> tuple[str, ...]:
    hidden = {column for name, asked in operation.asked.items() if not values.get(name, True) for column in asked}
    return tuple(column for column in operation.columns if column not in hidden) if hidden else operation.columns


async def _list(operation: Operation, request: Request, values: dict[str, Any]) -> Response:
    """The whole list, streamed if it is long; with a limit, one page and the link to the next."""
    form = List(operation.list_name, values["id"] if operation.name == "getStatement" else None)
    columns = (*_shown(operation, values), "more")
    if values["limit"] is None:
        pages = request.app.state.lists.pages(*operation.call(columns, request, values), record_of(request))
        return await listed(form, pages, request)
    page = (await _call(operation, request, values, columns)).page()
    return messages.Answer(form.whole(page, form.objects(page)), *_next(operation, request, values, page))


def _next(operation: Operation, request: Request, values: dict[str, Any], page: Rows) -> list[tuple[bytes, bytes]]:
    """The Link header of the next page, if any: the same URL with another `after`."""
    if page.next_after is None:
        return []
    parts = request.scope["query_string"].decode().split("&")
    kept = [quote(part, "%=+:,/-._~") for part in parts if unquote_plus(part.partition("=")[0]).lower() != "after"]
    address = f"{operation.path.format_map(values)}?{'&'.join([*kept, f'after={page.next_after}'])}"
    return [(b"link", f'<{address}>; rel="next"'.encode())]
