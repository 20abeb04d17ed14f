"""An operation, declared once: the fields of its request, the function that it calls, its response.

The declaration both handles requests and generates the OpenAPI document.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response

from wallet_api.database.pool import Database
from wallet_api.http import codec, errors, messages, refusals
from wallet_api.http.authentication import Keys, key_id
from wallet_api.http.fields import INTEGER, TEXT, Field, Getter, Schema, Shape, reader
from wallet_api.http.refusals import Refusal, Refused

_KEY_HEADER = b"idempotency-key"
# A header whose name contains this is taken for a misspelt Idempotency-Key.
_KEY_WORD = b"idempot"

KEY = Field("IdempotencyKey", TEXT, "idempotency_key", "same as the header Idempotency-Key")
HEADER_KEY = replace(KEY, about="makes the request safe to repeat; use a new key for each request")

# The ID of the request's API key, or NULL: passed to every function. No field of a request has this name.
API_KEY = Field("", INTEGER, "api_key_id", "")

# The name of the path parameter in refusals.
IN_PATH = "The ID in the URL"


class Answers(Protocol):
    """The response of an operation, and its description in the document."""

    async def respond(self, operation: "Operation", request: Request) -> Response:
        """Parses a request, calls the operation's function, and returns its rows."""

    def content(self) -> dict[str, Schema]:
        """The JSON Schema of the body, by content type."""

    def headers(self) -> dict[str, Schema]:
        """The headers that the response may have; those that it always has are `required`."""

    def shapes(self) -> tuple[Shape, ...]:
        """The objects that `content` refers to."""


@dataclass(frozen=True, kw_only=True)
class Operation:
    """A method of a path.

    `body` is None if the body is not read. A request may omit the body if no field is required. `ignored` names fields
    that clients may send without effect. An operation with a body accepts an idempotency key, and its function returns
    `replayed`. `refusals` are those in addition to the function's rules and the fields' kinds. `impossible` are codes
    that the function's helpers raise, but never for this operation. `error` names the schema of its 4xx responses.
    """

    name: str
    group: str
    method: str
    path: str
    summary: str
    about: str = ""
    in_path: tuple[Field, ...] = ()
    query: tuple[Field, ...] = ()
    body: tuple[Field, ...] | None = None
    ignored: tuple[str, ...] = ()
    body_limit: int = messages.BODY_LIMIT
    function: str = ""
    impossible: frozenset[str] = frozenset()
    refusals: tuple[tuple[Refusal, str], ...] = ()
    error: str = "Error"
    answers: Answers

    async def handle(self, request: Request) -> Response:
        """Handles a request. If API keys are required, an operation that calls a function needs one."""
        request.scope[errors.FIELD_NAMES] = self._field_names
        keys: Keys = request.app.state.keys
        if self.function and keys.required:
            await keys.identify(request.scope)
        if request.scope["query_string"]:
            codec.decode_query(request.scope["query_string"]).refuse_unknown(
                self._parameters, refusals.UNKNOWN_PARAMETER, [asked.name for asked in self.query]
            )
        return await self.answers.respond(self, request)

    @functools.cached_property
    def body_fields(self) -> tuple[Field, ...]:
        """The fields of the body, including the idempotency key."""
        return () if self.body is None else (*self.body, KEY)

    @property
    def keyed(self) -> bool:
        """Whether the operation accepts an idempotency key."""
        return self.body is not None

    @property
    def needs_body(self) -> bool:
        """Whether a request must have a body."""
        return any(asked.required for asked in self.body_fields)

    def call(self, columns: Sequence[str], values: dict[str, Any]) -> tuple[str, list[Any]]:
        """The query that calls the function with a request's values, and its arguments. Uses named parameters."""
        passed = [asked for asked in self._arguments if not (asked.defaults and values[asked.name] is None)]
        query = _query(self.function, tuple(columns), tuple(asked.argument for asked in passed))
        return query, [values[asked.name] for asked in passed]

    def address(self, values: dict[str, Any]) -> str:
        """The path, with its parameters filled in."""
        return self.path.format_map(values)

    @functools.cached_property
    def _arguments(self) -> tuple[Field, ...]:
        fields = (*self.query, *self.in_path, *self.body_fields, API_KEY)
        return tuple(asked for asked in fields if asked.argument)

    @functools.cached_property
    def _reader(self) -> Callable[[Getter], tuple[Any, ...]]:
        return reader(self.body_fields)

    async def read(self, request: Request) -> dict[str, Any]:
        """The values of all fields, by name; a missing or null field is None."""
        values = self._read_url(request)
        if self.body is not None:
            body = await messages.body(request, self.body_limit)
            fields = codec.decode(body if self.needs_body or body.strip() else b"{}")
            values.update(zip(self._shown_fields, self.read_fields(fields), strict=True))
        if self.keyed:
            values[KEY.name] = one_key(header_key(request), values[KEY.name])
        values[API_KEY.name] = key_id(request.scope)
        return values

    def _read_url(self, request: Request) -> dict[str, Any]:
        """The values of the path and query parameters."""
        values: dict[str, Any] = {}
        for asked in self.in_path:
            try:
                values[asked.name] = asked.kind.from_text(request.path_params[asked.name], IN_PATH)
            except Refused as refused:
                refused.field = asked.name
                raise
        if self.query:
            query = codec.decode_query(request.scope["query_string"])
            for asked in self.query:
                text = query.get(asked.key)
                values[asked.name] = None if text is None else asked.kind.from_text(text, asked.name)
        return values

    def read_fields(self, fields: codec.Fields) -> tuple[Any, ...]:
        """The values of the body's fields, in order. Refuses unknown fields."""
        fields.refuse_unknown(self._known_fields, refusals.UNKNOWN_FIELD, self._shown_fields)
        return self._reader(fields.get)

    @functools.cached_property
    def _parameters(self) -> frozenset[str]:
        return frozenset(asked.key for asked in self.query)

    @functools.cached_property
    def _known_fields(self) -> frozenset[str]:
        return frozenset([asked.key for asked in self.body_fields] + [name.lower() for name in self.ignored])

    @functools.cached_property
    def _shown_fields(self) -> list[str]:
        return [asked.name for asked in self.body_fields]

    @functools.cached_property
    def _field_names(self) -> dict[str, str]:
        """The names of the fields, by function argument."""
        return {asked.argument: asked.name for asked in self._arguments if asked.name}


@functools.cache
def _query(function: str, columns: tuple[str, ...], arguments: tuple[str, ...]) -> str:
    named = ", ".join([f"p_{argument} => %s" for argument in arguments])
    return f"select {', '.join(columns)} from wallet.{function}({named})"  # noqa: S608


def header_key(request: Request) -> str | None:
    """The idempotency key in the request's headers, if any.

    Refuses several keys, one that is not UTF-8, and a misspelt header name.
    """
    found = [header for header in request.scope["headers"] if _KEY_WORD in header[0]]
    if not found:
        return None
    values: list[bytes] = [value for name, value in found if name == _KEY_HEADER]
    if len(values) < len(found):
        other = next(name for name, _ in found if name != _KEY_HEADER).decode("latin-1")
        raise Refused(refusals.KEY_MISNAMED, other)
    if len(values) > 1:
        raise Refused(refusals.KEY_TWICE, "Idempotency-Key")
    try:
        return values[0].strip(b" \t").decode()
    except UnicodeDecodeError:
        raise Refused(refusals.KEY_NOT_UTF8, "Idempotency-Key") from None


def one_key(header: str | None, field: str | None) -> str | None:
    """The idempotency key of a request, from its header or its field. Refuses two different ones."""
    if header is None:
        return field
    if field not in (None, header):
        raise Refused(refusals.KEYS_DIFFER, KEY.name)
    return header


def database(request: Request) -> Database:
    """The connection pool for all operations except lists without a limit and single payments."""
    found: Database = request.app.state.database
    return found
