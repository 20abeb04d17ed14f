"""The forms of answers: one object, a place, a list. Each gives it, and describes it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import Response

from wallet_api import messages
from wallet_api.fields import Schema, Shape
from wallet_api.operation import Operation, database

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

    Where details can be asked for, `detailed` is the object with them. Where a request is `repeatable`, the function's
    column `replayed` says that it was repeated.
    """

    shape: Shape
    detailed: Shape | None = None
    repeatable: bool = False

    async def respond(self, operation: Operation, request: Request) -> Response:
        """Calls the function, and answers its row."""
        values = await operation.read(request)
        shape = self.detailed if self.detailed is not None and values["details"] else self.shape
        columns = (*shape.columns, "replayed") if self.repeatable else shape.columns
        rows = await database(request).call(operation.call(columns), operation.arguments(values))
        [row] = rows.first(len(shape.columns)).objects()
        answer = messages.Answer(row)
        if self.repeatable and rows.values[0][-1]:
            answer.raw_headers.append(REPLAYED)
        return answer

    def content(self) -> dict[str, Schema]:
        """The object."""
        return json(component((self.detailed or self.shape).name))

    def headers(self) -> dict[str, Schema]:
        """That it was made before."""
        return REPLAYED_HEADER if self.repeatable else {}

    def shapes(self) -> tuple[Shape, ...]:
        """The object."""
        return (self.detailed or self.shape,)


@dataclass(frozen=True)
class Place:
    """An empty object, and where the new thing is: `path` and its id."""

    path: str

    async def respond(self, operation: Operation, request: Request) -> Response:
        """Calls the function, and answers where to find what it made."""
        values = await operation.read(request)
        rows = await database(request).call(operation.call(["id"]), operation.arguments(values))
        return messages.Answer("{}", (b"location", f"{self.path}{rows.values[0][0]}".encode()))

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


@dataclass(frozen=True)
class Listing:
    """{"name":[…]} of all rows, or {} where there are none, page by page."""

    name: str
    shape: Shape

    async def respond(self, operation: Operation, request: Request) -> Response:
        """Begins the list."""
        pages = request.app.state.lists.pages(operation.call(self.shape.columns, "after_id", "limit"))
        return await messages.listed(self.name, pages, request)

    def content(self) -> dict[str, Schema]:
        """The list."""
        rows = {"type": "array", "items": component(self.shape.name), "minItems": 1}
        return json({"type": "object", "properties": {self.name: rows}})

    def headers(self) -> dict[str, Schema]:
        """None."""
        return {}

    def shapes(self) -> tuple[Shape, ...]:
        """That of a row."""
        return (self.shape,)
