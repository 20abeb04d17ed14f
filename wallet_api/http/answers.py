"""The kinds of responses: one object, a location, a list. Each sends its response, and describes it for OpenAPI."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote_plus

from starlette.requests import Request
from starlette.responses import Response

from wallet_api.database.rows import Rows
from wallet_api.http import codec, messages
from wallet_api.http.fields import AMOUNT, INTEGER, Schema, Shape
from wallet_api.http.operation import Operation, database
from wallet_api.observability.record import record_of

REPLAYED = (b"idempotency-replayed", b"true")

REPLAYED_HEADER: dict[str, Schema] = {
    "Idempotency-Replayed": {
        "description": "An earlier request with the same idempotency key took effect; this one changed nothing.",
        "schema": {"type": "string", "enum": ["true"]},
    }
}


def component(name: str) -> Schema:
    """A reference to a schema in the document's components."""
    return {"$ref": f"#/components/schemas/{name}"}


def json(schema: Schema) -> dict[str, Schema]:
    """The content of a JSON response, by content type."""
    return {"application/json": schema}


# An empty object.
NOTHING = json({"type": "object", "maxProperties": 0})


@dataclass(frozen=True)
class Special:
    """The response of a custom handler. `may_have` are its headers, `objects` the shapes that `schemas` refer to."""

    handler: Callable[[Request], Awaitable[Response]]
    schemas: dict[str, Schema]
    objects: tuple[Shape, ...] = ()
    may_have: dict[str, Schema] = field(default_factory=dict)

    async def respond(self, operation: Operation, request: Request) -> Response:
        """Calls the handler."""
        return await self.handler(request)

    def content(self) -> dict[str, Schema]:
        """The declared schemas."""
        return self.schemas

    def headers(self) -> dict[str, Schema]:
        """The declared headers."""
        return self.may_have

    def shapes(self) -> tuple[Shape, ...]:
        """The declared objects."""
        return self.objects


@dataclass(frozen=True)
class One:
    """The single row that the function returns, as an object.

    `brief` is the object without `details`, for operations with that parameter. `pays` marks a payment.
    """

    shape: Shape
    brief: Shape | None = None
    pays: bool = False

    async def respond(self, operation: Operation, request: Request) -> Response:
        """Calls the function and returns its row."""
        values = await operation.read(request)
        shape = self.shape if self.brief is None or values["details"] else self.brief
        columns = (*shape.columns, "replayed") if operation.keyed else shape.columns
        record = record_of(request)
        record.outcome = "failed" if self.pays else ""
        rows = await database(request).call(*operation.call(columns, values), record_of(request))
        replayed = operation.keyed and rows.values[0][-1]
        if self.pays:
            record.outcome, record.payment_id = "replayed" if replayed else "made", rows.values[0][0]
        [row] = codec.objects(rows.first(len(shape.columns)))
        return messages.Answer(row, *([REPLAYED] if replayed else []))

    def content(self) -> dict[str, Schema]:
        """The object."""
        return json(component(self.shape.name))

    def headers(self) -> dict[str, Schema]:
        """No headers of its own."""
        return {}

    def shapes(self) -> tuple[Shape, ...]:
        """The object."""
        return (self.shape,)


@dataclass(frozen=True)
class Place:
    """An empty object, with the new resource in Location: `path` and its id."""

    path: str

    async def respond(self, operation: Operation, request: Request) -> Response:
        """Calls the function and returns the location of the new resource."""
        values = await operation.read(request)
        rows = await database(request).call(*operation.call(["id", "replayed"], values), record_of(request))
        id_, replayed = rows.values[0]
        place = (b"location", f"{self.path}{id_}".encode())
        return messages.Answer("{}", place, *([REPLAYED] if replayed else []))

    def content(self) -> dict[str, Schema]:
        """An empty object."""
        return NOTHING

    def headers(self) -> dict[str, Schema]:
        """The location."""
        schema = {"type": "string", "pattern": f"^{self.path}[0-9]+$"}
        return {"Location": {"description": "the path of the new resource", "required": True, "schema": schema}}

    def shapes(self) -> tuple[Shape, ...]:
        """No shapes."""
        return ()


class Listed:
    """Writes a list: {"name":[…]}, or {} if it is empty."""

    def __init__(self, name: str) -> None:
        self._name = name

    def head(self, first: Rows) -> str:
        """The text before the rows."""
        return f'{{"{self._name}":['

    def objects(self, page: Rows) -> list[str]:
        """The rows of a page as JSON objects."""
        return codec.objects(page)

    def whole(self, first: Rows, objects: list[str]) -> str:
        """The whole list, from its first page and its objects."""
        return f"{self.head(first)}{','.join(objects)}]}}" if objects else "{}"


class _Lines(Listed):
    """Writes a statement. The first row of each page is not a line: it has the opening balance of the page."""

    def __init__(self, account_id: int) -> None:
        super().__init__("Lines")
        self._account_id = account_id

    def head(self, first: Rows) -> str:
        """The text before the lines."""
        opening = first.values[0][[name for name, _ in first.columns].index("balance")]
        return f'{{"AccountID":{self._account_id},"OpeningAmount":"{opening}",{super().head(first)[1:]}'

    def objects(self, page: Rows) -> list[str]:
        """The lines of a page as JSON objects."""
        return codec.objects(page._replace(values=page.values[1:]))

    def whole(self, first: Rows, objects: list[str]) -> str:
        """The whole statement, from its first page and its lines."""
        return f"{self.head(first)}{','.join(objects)}]}}"


@dataclass(frozen=True)
class Listing:
    """All rows of a paged function; with a limit, one page."""

    name: str
    shape: Shape
    brief: Shape | None = None

    async def respond(self, operation: Operation, request: Request) -> Response:
        """Returns the whole list, streamed if it is long; with a limit, one page and the link to the next."""
        values = await operation.read(request)
        shape = self.shape if self.brief is None or values["details"] else self.brief
        query, arguments = operation.call((*shape.columns, "more"), values)
        form = self._form(values)
        if values["limit"] is None:
            return await messages.listed(
                form, request.app.state.lists.pages(query, arguments, record_of(request)), request
            )
        page = (await database(request).call(query, arguments, record_of(request))).page()
        return messages.Answer(form.whole(page, form.objects(page)), *_next(operation, request, values, page))

    def _form(self, values: dict[str, Any]) -> messages.Form:
        return Listed(self.name)

    def content(self) -> dict[str, Schema]:
        """The list."""
        rows = {"type": "array", "items": component(self.shape.name), "minItems": 1}
        return json({"type": "object", "properties": {self.name: rows}})

    def headers(self) -> dict[str, Schema]:
        """The link to the next page."""
        schema = {"type": "string", "pattern": '^</[^>]+>; rel="next"$'}
        return {"Link": {"description": "the next page, unless this is the last one", "schema": schema}}

    def shapes(self) -> tuple[Shape, ...]:
        """The shape of a row."""
        return (self.shape,)


@dataclass(frozen=True)
class Statement(Listing):
    """An account's statement: a list with the account and the opening balance at its head."""

    def _form(self, values: dict[str, Any]) -> messages.Form:
        return _Lines(values["id"])

    def content(self) -> dict[str, Schema]:
        """The statement."""
        account = INTEGER.shown | {"description": "the ID of the account"}
        opening = AMOUNT.shown | {"description": "the balance before the first line"}
        lines = {"type": "array", "items": component(self.shape.name)}
        properties = {"AccountID": account, "OpeningAmount": opening, self.name: lines}
        return json({"type": "object", "properties": properties, "required": list(properties)})


@dataclass(frozen=True)
class Few:
    """All rows of an unpaged function."""

    name: str
    shape: Shape

    async def respond(self, operation: Operation, request: Request) -> Response:
        """Calls the function and returns its rows."""
        query, arguments = operation.call(self.shape.columns, await operation.read(request))
        rows = await database(request).call(query, arguments, record_of(request))
        return messages.Answer(Listed(self.name).whole(rows, codec.objects(rows)))

    def content(self) -> dict[str, Schema]:
        """The list."""
        return Listing(self.name, self.shape).content()

    def headers(self) -> dict[str, Schema]:
        """No headers."""
        return {}

    def shapes(self) -> tuple[Shape, ...]:
        """The shape of a row."""
        return (self.shape,)


def _next(operation: Operation, request: Request, values: dict[str, Any], page: Rows) -> list[tuple[bytes, bytes]]:
    """The Link header of the next page, if any: the same URL with another `after`."""
    if page.goes_on is None:
        return []
    parts = request.scope["query_string"].decode().split("&")
    kept = [quote(part, "%=+:,/-._~") for part in parts if unquote_plus(part.partition("=")[0]).lower() != "after"]
    address = f"{operation.address(values)}?{'&'.join([*kept, f'after={page.goes_on}'])}"
    return [(b"link", f'<{address}>; rel="next"'.encode())]
