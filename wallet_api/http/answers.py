"""The forms of answers: one object, a place, a list. Each gives it, and describes it."""

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
        "description": "It was made before, under the same idempotency key, and nothing moved now.",
        "schema": {"type": "string", "enum": ["true"]},
    }
}


def component(name: str) -> Schema:
    """A reference to the schema of that name, which the document has in one place."""
    return {"$ref": f"#/components/schemas/{name}"}


def json(schema: Schema) -> dict[str, Schema]:
    """The content of an answer in JSON."""
    return {"application/json": schema}


# An empty object.
NOTHING = json({"type": "object", "maxProperties": 0})


@dataclass(frozen=True)
class Special:
    """What a handler of its own answers."""

    handler: Callable[[Request], Awaitable[Response]]
    schemas: dict[str, Schema]
    objects: tuple[Shape, ...] = ()
    may_have: dict[str, Schema] = field(default_factory=dict)

    async def respond(self, operation: Operation, request: Request) -> Response:
        """Has it answered."""
        return await self.handler(request)

    def content(self) -> dict[str, Schema]:
        """As it says."""
        return self.schemas

    def headers(self) -> dict[str, Schema]:
        """As it says."""
        return self.may_have

    def shapes(self) -> tuple[Shape, ...]:
        """As it says."""
        return self.objects


@dataclass(frozen=True)
class One:
    """The object that the function returns, of its one row.

    Where details can be asked for, `brief` is the object without them. If it `pays`, then the object is a payment.
    """

    shape: Shape
    brief: Shape | None = None
    pays: bool = False

    async def respond(self, operation: Operation, request: Request) -> Response:
        """Calls the function, and answers its row."""
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
        """None of its own."""
        return {}

    def shapes(self) -> tuple[Shape, ...]:
        """The object."""
        return (self.shape,)


@dataclass(frozen=True)
class Place:
    """An empty object, and where the new thing is: `path` and its id."""

    path: str

    async def respond(self, operation: Operation, request: Request) -> Response:
        """Calls the function, and answers where to find what it made."""
        values = await operation.read(request)
        rows = await database(request).call(*operation.call(["id", "replayed"], values), record_of(request))
        id_, replayed = rows.values[0]
        place = (b"location", f"{self.path}{id_}".encode())
        return messages.Answer("{}", place, *([REPLAYED] if replayed else []))

    def content(self) -> dict[str, Schema]:
        """Nothing."""
        return NOTHING

    def headers(self) -> dict[str, Schema]:
        """The place."""
        schema = {"type": "string", "pattern": f"^{self.path}[0-9]+$"}
        return {"Location": {"description": "where it is", "required": True, "schema": schema}}

    def shapes(self) -> tuple[Shape, ...]:
        """None."""
        return ()


class Listed:
    """How a list is written: {"name":[…]}, or {} where there is nothing in it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def head(self, first: Rows) -> str:
        """What stands before the rows."""
        return f'{{"{self._name}":['

    def objects(self, page: Rows) -> list[str]:
        """The rows of a page."""
        return codec.objects(page)

    def whole(self, first: Rows, objects: list[str]) -> str:
        """All of it."""
        return f"{self.head(first)}{','.join(objects)}]}}" if objects else "{}"


class _Lines(Listed):
    """How a statement is written. The first row of each page is no line: it has the balance before the others."""

    def __init__(self, account_id: int) -> None:
        super().__init__("Lines")
        self._account_id = account_id

    def head(self, first: Rows) -> str:
        """What stands before the lines."""
        opening = first.values[0][[name for name, _ in first.columns].index("balance")]
        return f'{{"AccountID":{self._account_id},"OpeningAmount":"{opening}",{super().head(first)[1:]}'

    def objects(self, page: Rows) -> list[str]:
        """The lines of a page."""
        return codec.objects(page._replace(values=page.values[1:]))

    def whole(self, first: Rows, objects: list[str]) -> str:
        """All of it."""
        return f"{self.head(first)}{','.join(objects)}]}}"


@dataclass(frozen=True)
class Listing:
    """All rows of a function that gives them page by page; or one page, where a limit is asked for."""

    name: str
    shape: Shape
    brief: Shape | None = None

    async def respond(self, operation: Operation, request: Request) -> Response:
        """Begins the list, or gives a page of it, and says where the next one is."""
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
        """Where the next page is."""
        schema = {"type": "string", "pattern": '^</[^>]+>; rel="next"$'}
        return {"Link": {"description": "of a page that is not the last one: where the next one is", "schema": schema}}

    def shapes(self) -> tuple[Shape, ...]:
        """That of a row."""
        return (self.shape,)


@dataclass(frozen=True)
class Statement(Listing):
    """The same of an account's statement, which has a head."""

    def _form(self, values: dict[str, Any]) -> messages.Form:
        return _Lines(values["id"])

    def content(self) -> dict[str, Schema]:
        """The statement."""
        account = INTEGER.shown | {"description": "the number of the account"}
        opening = AMOUNT.shown | {"description": "the balance before the first line"}
        lines = {"type": "array", "items": component(self.shape.name)}
        properties = {"AccountID": account, "OpeningAmount": opening, self.name: lines}
        return json({"type": "object", "properties": properties, "required": list(properties)})


@dataclass(frozen=True)
class Few:
    """All rows of a function that gives them at once."""

    name: str
    shape: Shape

    async def respond(self, operation: Operation, request: Request) -> Response:
        """Calls the function, and answers its rows."""
        query, arguments = operation.call(self.shape.columns, await operation.read(request))
        rows = await database(request).call(query, arguments, record_of(request))
        return messages.Answer(Listed(self.name).whole(rows, codec.objects(rows)))

    def content(self) -> dict[str, Schema]:
        """The list."""
        return Listing(self.name, self.shape).content()

    def headers(self) -> dict[str, Schema]:
        """None."""
        return {}

    def shapes(self) -> tuple[Shape, ...]:
        """That of a row."""
        return (self.shape,)


def _next(operation: Operation, request: Request, values: dict[str, Any], page: Rows) -> list[tuple[bytes, bytes]]:
    """The header that says where the next page is, if there is one: at the same URL, but for `after`."""
    if page.goes_on is None:
        return []
    parts = request.scope["query_string"].decode().split("&")
    kept = [quote(part, "%=+:,/-._~") for part in parts if unquote_plus(part.partition("=")[0]).lower() != "after"]
    address = f"{operation.address(values)}?{'&'.join([*kept, f'after={page.goes_on}'])}"
    return [(b"link", f'<{address}>; rel="next"'.encode())]
