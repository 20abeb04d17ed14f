"""The table of operations, and how a request becomes a function call.

operations.toml describes each operation. functions.json, from the database's catalogue, describes the function that it
calls. The OpenAPI document is generated from the same two files.
"""

import functools
import json
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from starlette.requests import Request

from wallet_api.http import codec, messages, refusals
from wallet_api.http.authentication import key_id
from wallet_api.http.fields import Field, Reader
from wallet_api.http.refusals import Refused

_FOLDER = Path(__file__).parent
TABLE = tomllib.loads((_FOLDER / "operations.toml").read_text())
# By name: the types of a function's arguments and result columns, and the defaults of its arguments, in SQL.
FUNCTIONS: dict[str, Any] = json.loads((_FOLDER / "functions.json").read_text())

# The name of the path parameter in refusals.
IN_PATH = "The ID in the URL"
_KEY_HEADER = b"idempotency-key"
# A header whose name contains this is taken for a misspelt Idempotency-Key.
_KEY_WORD = b"idempot"


@dataclass(frozen=True, kw_only=True)
class Operation:
    """A method of a path: operations.toml explains what it consists of.

    `body` is None if the body is not read. A request may omit the body if no field is required. An operation with a
    body accepts an idempotency key, which is the last field, and its function returns `replayed`. `columns` are those
    of the response, of which a request has to ask for `details`.
    """

    name: str
    method: str
    path: str
    function: str
    in_path: tuple[Field, ...]
    query: tuple[Field, ...]
    body: tuple[Field, ...] | None
    ignored: tuple[str, ...]
    body_limit: int
    columns: tuple[str, ...]
    details: tuple[str, ...]
    list_name: str
    location: str
    pays: bool

    @property
    def keyed(self) -> bool:
        """Whether the operation accepts an idempotency key."""
        return self.body is not None

    @property
    def is_paged(self) -> bool:
        """Whether the function returns pages, each with a column that says whether there is `more`."""
        return "more" in FUNCTIONS.get(self.function, {"columns": ()})["columns"]

    @functools.cached_property
    def needs_body(self) -> bool:
        """Whether a request must have a body."""
        return any(field.required for field in self.body or ())

    @functools.cached_property
    def argument_names(self) -> dict[str, str]:
        """The names of the fields, by function argument."""
        return {field.argument: field.name for field in self._passed}

    @functools.cached_property
    def _passed(self) -> list[Field]:
        return [field for field in (*self.query, *self.in_path, *(self.body or ())) if field.argument]

    @functools.cached_property
    def _parameters(self) -> frozenset[str]:
        return frozenset(field.key for field in self.query)

    @functools.cached_property
    def reader(self) -> Reader:
        """Reads the body's fields."""
        return Reader(self.body or (), self.ignored)

    def refuse_unknown_parameters(self, query_string: bytes) -> None:
        """Refuses a query string with an unknown parameter."""
        names = [field.name for field in self.query]
        codec.decode_query(query_string).refuse_unknown(self._parameters, refusals.UNKNOWN_PARAMETER, names)

    async def read(self, request: Request) -> dict[str, Any]:
        """The values of all fields, by name; a missing or null field is None."""
        values = self._read_url(request)
        if self.body is not None:
            body = await messages.body(request, self.body_limit)
            fields = codec.decode(body if self.needs_body or body.strip() else b"{}")
            values.update(zip(self.reader.names, self.reader.read(fields), strict=True))
            key = self.body[-1].name
            values[key] = one_key(header_key(request), values[key])
        return values

    def _read_url(self, request: Request) -> dict[str, Any]:
        """The values of the path and query parameters."""
        values: dict[str, Any] = {}
        for field in self.in_path:
            try:
                values[field.name] = field.kind.from_text(request.path_params[field.name], IN_PATH)
            except Refused as refused:
                refused.error = replace(refused.error, field=field.name)
                raise
        if self.query:
            query = codec.decode_query(request.scope["query_string"])
            for field in self.query:
                text = query.get(field.key)
                values[field.name] = None if text is None else field.kind.from_text(text, field.name)
        return values

    def call(self, columns: Sequence[str], request: Request, values: dict[str, Any]) -> tuple[str, list[Any]]:
        """The query that calls the function with a request's values, and its arguments."""
        passed = [field for field in self._passed if not (field.defaults and values[field.name] is None)]
        query = _query(self.function, tuple(columns), (*[field.argument for field in passed], "api_key_id"))
        return query, [*[values[field.name] for field in passed], key_id(request.scope)]


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
        raise Refused(refusals.KEYS_DIFFER, "IdempotencyKey")
    return header


def about_field(operation: str, field: str) -> dict[str, Any]:
    """What operations.toml says of a field: the entry of all operations, with what this one overrides."""
    own = TABLE["operations"][operation].get("fields", {}).get(field, {})
    found: dict[str, Any] = TABLE["fields"].get(field, {}) | own
    return found


def _operation(name: str, entry: dict[str, Any]) -> Operation:
    method, _, path = entry["route"].partition(" ")
    body = [*entry["body"], "IdempotencyKey"] if "body" in entry else None
    returns = entry.get("returns")
    columns = FUNCTIONS[entry["function"]]["columns"] if returns else ()
    return Operation(
        name=name,
        method=method,
        path=path,
        function=entry.get("function", ""),
        in_path=(_field(name, entry, "id"),) if "id" in entry else (),
        query=tuple(_field(name, entry, field) for field in entry.get("query", ())),
        body=None if body is None else tuple(_field(name, entry, field) for field in body),
        ignored=tuple(entry.get("ignored", ())),
        body_limit=entry.get("body_limit", messages.BODY_LIMIT),
        columns=tuple(column for column in columns if column not in TABLE["hidden"]),
        details=tuple(TABLE["objects"][returns].get("details", ())) if returns else (),
        list_name=entry.get("list", ""),
        location=entry.get("location", ""),
        pays=entry.get("pays", False),
    )


def _field(operation: str, entry: dict[str, Any], name: str) -> Field:
    about = about_field(operation, name)
    if "type" in about:
        return Field(name, about["type"], "", required=not about.get("optional", name in entry.get("query", ())))
    argument = entry["id"] if name == "id" else about.get("argument", codec.column_name(name))
    known = FUNCTIONS[entry["function"]]["arguments"].get(argument)
    if known is None:
        raise ValueError(f"operations.toml: {operation}: {name} is no argument of wallet.{entry['function']}")
    default = known.get("default")
    return Field(
        name,
        known["type"],
        argument,
        required=default is None and not about.get("optional", False),
        defaults=default is not None and not default.startswith("NULL"),
    )


ALL = {name: _operation(name, entry) for name, entry in TABLE["operations"].items()}

# By path and method.
ROUTES: dict[str, dict[str, Operation]] = {}
for _each in ALL.values():
    _by_method = ROUTES.setdefault(_each.path, {})
    _by_method[_each.method] = _each
    if _each.method == "GET":
        _by_method["HEAD"] = _each
