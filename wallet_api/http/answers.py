"""Calls an operation's function, and turns its rows into the response: an object, a location or a list."""

from typing import Any
from urllib.parse import quote, unquote_plus

from starlette.requests import Request
from starlette.responses import Response

from wallet_api.database.pool import Database, Rows
from wallet_api.database.standbys import Reads
from wallet_api.http import codec, messages
from wallet_api.http.fields import MOMENT
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
        return messages.Answer(List(operation.list_name).whole(codec.objects(rows), rows, rows))
    return await _one(operation, request, values)


async def _call(operation: Operation, request: Request, values: dict[str, Any], columns: tuple[str, ...]) -> Rows:
    query, arguments = operation.call(columns, request, values)
    record, state = record_of(request), request.app.state
    if operation.keyed:
        rows: Rows = await state.database.call(query, arguments, record, changes=True)
        return rows
    reads: Reads | Database = state.database if _is_about_the_past(operation, values) else state.reads
    return await reads.call(query, arguments, record)


def _is_about_the_past(operation: Operation, values: dict[str, Any]) -> bool:
    """Whether the answer is about a moment: then it comes from the primary, which keeps later payments out of it."""
    return operation.past or any(values[field.name] is not None for field in operation.query if field.type == MOMENT)


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
        location = f"{messages.root_path(request.scope)}{operation.location}{row[0]}"
        return messages.Answer("{}", (b"location", location.encode()), *headers)
    [text] = codec.objects(rows._replace(columns=rows.columns[: len(columns)]))
    return messages.Answer(text, *headers)


def _shown(operation: Operation, values: dict[str, Any]) -> tuple[str, ...]:
    hidden = {column for name, asked in operation.asked.items() if not values.get(name, True) for column in asked}
    return tuple(column for column in operation.columns if column not in hidden) if hidden else operation.columns


async def _list(operation: Operation, request: Request, values: dict[str, Any]) -> Response:
    """The whole list, streamed if it is long; with a limit, one page and the links to those beside it."""
    is_statement = operation.name == "getStatement"
    form = List(operation.list_name, values["id"] if is_statement else None, values["order"] == "desc")
    columns = (*_shown(operation, values), "more")
    backward = values["before"] is not None and values["after"] is None
    # Without a limit, the rulebook refuses to read backwards.
    if values["limit"] is None and not backward:
        state = request.app.state
        reads: Reads | Database = state.lists if _is_about_the_past(operation, values) else state.list_reads
        pages = reads.pages(*operation.call(columns, request, values), record_of(request))
        return await listed(form, pages, request)
    page = (await _call(operation, request, values, columns)).page(backward=backward)
    links = _links(operation, request, values, form.lines(page), backward=backward)
    return messages.Answer(form.whole(form.objects(page), page, page), *links)


def _links(
    operation: Operation, request: Request, values: dict[str, Any], page: Rows, *, backward: bool
) -> list[tuple[bytes, bytes]]:
    """The Link header of the next and the previous page, if any: the same URL with another `after` or `before`.

    A page that was read from one side has others on that side: it was reached from there. On the other side, the
    function tells.
    """
    onward, edges = page.next_after, [row[0] for row in page.values] or [page.next_after]
    cursors: dict[str, str] = {}
    if backward:
        # Before a row that nothing precedes, there is nothing. That row begins the list: the next page has no cursor.
        cursors["next"] = f"after={edges[-1]}" if edges[-1] is not None else ""
        if onward is not None:
            cursors["prev"] = f"before={onward}"
    else:
        if onward is not None:
            cursors["next"] = f"after={onward}"
        if values["after"] is not None and values["before"] is None and edges[0] is not None:
            cursors["prev"] = f"before={edges[0]}"
    replaced = {"after"} if values["after"] is not None and values["before"] is not None else {"after", "before"}
    parts = request.scope["query_string"].decode().split("&")
    kept = [quote(part, "%=+:,/-._~") for part in parts if unquote_plus(part.partition("=")[0]).lower() not in replaced]
    path = messages.root_path(request.scope) + operation.path.format_map(values)
    links = [f'<{path}?{"&".join(filter(None, [*kept, cursor]))}>; rel="{to}"' for to, cursor in cursors.items()]
    return [(b"link", ", ".join(links).encode())] if links else []
