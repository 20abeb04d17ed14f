"""An operation, declared once: what is asked, which function is called, what is answered.

The declaration is what handles a request, and what wallet_api.http.openapi makes the document from.
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
# What the names of all headers have in common that somebody might take for it.
_KEY_WORD = b"idempot"

KEY = Field("IdempotencyKey", TEXT, "idempotency_key", "the same as the header Idempotency-Key")
HEADER_KEY = replace(KEY, about="makes the request safe to repeat: of your choice, another one for each request")

# Which API key asks, or NULL: every function that is called for a request is told. No field of a request has this name.
API_KEY = Field("", INTEGER, "api_key_id", "")

# How the one field that a path has is called, when something is wrong with it.
IN_PATH = "The ID in the URL"


class Answers(Protocol):
    """How an operation answers, and how the document says so."""

    async def respond(self, operation: "Operation", request: Request) -> Response:
        """Reads a request, calls the operation's function, and answers its rows."""

    def content(self) -> dict[str, Schema]:
        """What is answered: JSON Schema, by the content type."""

    def headers(self) -> dict[str, Schema]:
        """What headers the answer may have; those that it always has say `required`."""

    def shapes(self) -> tuple[Shape, ...]:
        """The objects that `content` refers to."""


@dataclass(frozen=True, kw_only=True)
class Operation:
    """What a method of a path does.

    `body` is None where none is read. It may be empty where none of its fields is required. `ignored` names fields of
    the body that clients may send, and that nothing is done with. A request with a body may have an idempotency key,
    and its function says whether the request was `replayed`. `refusals` are those that neither the function's rules
    nor the fields' kinds tell; `error` names the schema of all.
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
    refusals: tuple[tuple[Refusal, str], ...] = ()
    error: str = "Error"
    answers: Answers

    async def handle(self, request: Request) -> Response:
        """Answers a request: one that calls a function needs an API key, where keys are required."""
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
        """The fields of the body, the key included."""
        return () if self.body is None else (*self.body, KEY)

    @property
    def keyed(self) -> bool:
        """Whether a request may have an idempotency key."""
        return self.body is not None

    @property
    def needs_body(self) -> bool:
        """Whether the body may not be empty."""
        return any(asked.required for asked in self.body_fields)

    def call(self, columns: Sequence[str], values: dict[str, Any]) -> tuple[str, list[Any]]:
        """The query that calls the function with a request's values. It names all that it gives and takes."""
        passed = [asked for asked in self._arguments if not (asked.defaults and values[asked.name] is None)]
        query = _query(self.function, tuple(columns), tuple(asked.argument for asked in passed))
        return query, [values[asked.name] for asked in passed]

    def address(self, values: dict[str, Any]) -> str:
        """The path of a request with these values."""
        return self.path.format_map(values)

    @functools.cached_property
    def _arguments(self) -> tuple[Field, ...]:
        fields = (*self.query, *self.in_path, *self.body_fields, API_KEY)
        return tuple(asked for asked in fields if asked.argument)

    @functools.cached_property
    def _reader(self) -> Callable[[Getter], tuple[Any, ...]]:
        return reader(self.body_fields)

    async def read(self, request: Request) -> dict[str, Any]:
        """The values of all fields, by their names; None stands for one that is missing or null."""
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
        """The values of the fields in the path and in the query."""
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
        """The values of the body's fields, in order. Refuses a body that has others."""
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
        """The names of fields, by the arguments that they are passed as."""
        return {asked.argument: asked.name for asked in self._arguments if asked.name}


@functools.cache
def _query(function: str, columns: tuple[str, ...], arguments: tuple[str, ...]) -> str:
    named = ", ".join([f"p_{argument} => %s" for argument in arguments])
    return f"select {', '.join(columns)} from wallet.{function}({named})"  # noqa: S608


def header_key(request: Request) -> str | None:
    """The key in the request's head, if any.

    Refuses more than one, one that is not UTF-8, and a header that looks like one, and is none.
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
    """The key of a request that may have it in its head and as a field. Refuses two that differ."""
    if header is None:
        return field
    if field not in (None, header):
        raise Refused(refusals.KEYS_DIFFER, KEY.name)
    return header


def database(request: Request) -> Database:
    """The connections for what is answered at once."""
    found: Database = request.app.state.database
    return found
