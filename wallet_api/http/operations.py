"""The table of operations, and how a request becomes a function call.

operations.toml describes each operation. functions.json, from the database's catalogue, describes the function that it
calls. The OpenAPI document is generated from the same two files.
"""

import functools
import json
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.types import Scope

from wallet_api.http import codec, messages, refusals
from wallet_api.http.authentication import KEY_ID
from wallet_api.http.fields import KINDS, Field, Reader, json_in_query
from wallet_api.http.refusals import Refused

_FOLDER = Path(__file__).parent
TABLE = tomllib.loads((_FOLDER / "operations.toml").read_text())
# By name: the types of a function's arguments and result columns, and the defaults of its arguments, in SQL.
FUNCTIONS: dict[str, Any] = json.loads((_FOLDER / "functions.json").read_text())

# The name of the path parameter in refusals.
IN_PATH = "The ID in the URL"
_KEY_HEADER = b"idempotency-key"
# The header with a position of the ledger: see wallet_api.database.standbys.
POSITION = b"ledger-position"
# A header whose name contains this is taken for a misspelt Idempotency-Key.
_KEY_WORD = b"idempot"


class Operation:
    """A method of a path: operations.toml explains what its entry consists of.

    `body` is None if the body is not read. A request may omit the body if no field is required. An operation with a
    body is `keyed`: it accepts an idempotency key, which is the last field, and its function returns `replayed`.
    `columns` are those of the response; `asked`, by query parameter, are those that have to be asked for. If it
    `is_paged`, the function returns pages, with the column `more`. `argument_names` are the names of the fields, by
    function argument.
    """

    def __init__(self, name: str, entry: dict[str, Any]) -> None:
        def fields(names: Sequence[str]) -> tuple[Field, ...]:
            return tuple(_field(name, entry, field) for field in names)

        self.name = name
        self.method, _, self.path = entry["route"].partition(" ")
        self.function: str = entry.get("function", "")
        self.in_path = fields(["id"] if "id" in entry else [])
        self.query = fields(entry.get("query", []))
        self.keyed = "body" in entry
        self.body = fields([*entry["body"], "IdempotencyKey"]) if self.keyed else None
        self.ignored: list[str] = entry.get("ignored", [])
        self.reader = Reader(self.body or (), self.ignored)
        self.needs_body = any(field.required for field in self.body or ())
        self.body_limit: int = entry.get("body_limit", messages.BODY_LIMIT)
        self._caller: str = entry.get("caller", "api_key_id")
        self._passed = [field for field in (*self.query, *self.in_path, *(self.body or ())) if field.argument]
        self.argument_names = {field.argument: field.name for field in self._passed}
        returned = FUNCTIONS[self.function]["columns"] if "returns" in entry else ()
        self.is_paged = "more" in returned
        self.asked: dict[str, list[str]] = TABLE["objects"][entry["returns"]].get("asked", {}) if returned else {}
        hidden = set(TABLE["hidden"]).difference(*self.asked.values())
        self.columns = tuple(column for column in returned if column not in hidden)
        self.list_name: str = entry.get("list", "")
        self.past: bool = entry.get("past", False)
        self.location: str = entry.get("location", "")
        self.pays: bool = entry.get("pays", False)

    def refuse_unknown_parameters(self, query_string: bytes) -> None:
        """Refuses a query string with an unknown parameter."""
        names = {field.key: field.name for field in self.query}
        objects = {field.key for field in self.query if field.type == "jsonb"}
        query = codec.decode_query(query_string)
        members = {name.lower() for name, _ in query.pairs if name.partition(".")[0].lower() in objects}
        query.refuse_unknown(names.keys() | members, refusals.UNKNOWN_PARAMETER, [*names.values()])

    async def read(self, request: Request) -> dict[str, Any]:
        """The values of all fields, by name; a missing or null field is None."""
        values = self._read_url(request)
        if self.body is not None:
            body = await messages.body(request, self.body_limit)
            fields = codec.decode(b"{}" if codec.is_empty(body) and not self.needs_body else body)
            values.update(zip(self.reader.names, self.reader.read(fields), strict=True))
            key = self.body[-1].name
            values[key] = idempotency_key(request, values[key])
        return values

    def _read_url(self, request: Request) -> dict[str, Any]:
        """The values of the path and query parameters."""
        values: dict[str, Any] = {}
        for field in self.in_path:
            try:
                values[field.name] = KINDS[field.type].from_text(request.path_params[field.name], IN_PATH)
            except Refused as refused:
                refused.error = replace(refused.error, field=field.name)
                raise
        if self.query:
            query = codec.decode_query(request.scope["query_string"])
            for field in self.query:
                if field.type == "jsonb":
                    values[field.name] = json_in_query(query, field.key)
                    continue
                text = query.get(field.key)
                values[field.name] = None if text is None else KINDS[field.type].from_text(text, field.name)
        return values

    def call(self, columns: Sequence[str], request: Request, values: dict[str, Any]) -> tuple[str, list[Any]]:
        """The query that calls the function with a request's values, and its arguments."""
        passed = [field for field in self._passed if not (field.defaults and values[field.name] is None)]
        query = _query(self.function, tuple(columns), (*[field.argument for field in passed], self._caller))
        return query, [*[values[field.name] for field in passed], request.scope.get(KEY_ID)]


@functools.cache
def _query(function: str, columns: tuple[str, ...], arguments: tuple[str, ...]) -> str:
    named = ", ".join([f"p_{argument} => %s" for argument in arguments])
    return f"select {', '.join(columns)} from wallet.{function}({named})"  # noqa: S608


def idempotency_key(request: Request, field: str | None) -> str | None:
    """The idempotency key of a request, from its headers or from its field in the body.

    Refuses two different ones, several headers, one that is not UTF-8, and a misspelt name of the header.
    """
    found = [header for header in request.scope["headers"] if _KEY_WORD in header[0]]
    if not found:
        return field
    values: list[bytes] = [value for name, value in found if name == _KEY_HEADER]
    if len(values) < len(found):
        other = next(name for name, _ in found if name != _KEY_HEADER).decode("latin-1")
        raise Refused(refusals.KEY_MISNAMED, other)
    if len(values) > 1:
        raise Refused(refusals.KEY_TWICE, "Idempotency-Key")
    try:
        key = values[0].strip(b" \t").decode()
    except UnicodeDecodeError:
        raise Refused(refusals.KEY_NOT_UTF8, "Idempotency-Key") from None
    if field not in (None, key):
        raise Refused(refusals.KEYS_DIFFER, "IdempotencyKey")
    return key


def asked_position(scope: Scope) -> int:
    """The position that a read must see: the highest in the headers Ledger-Position. Refuses malformed ones."""
    values = b",".join([value for name, value in scope["headers"] if name == POSITION]).split(b",")
    found = [int(text) if (text := value.strip(b" \t")).isdigit() and len(text) < 20 else -1 for value in values]
    if not 0 <= min(found) <= max(found) < 2**63:
        raise Refused(refusals.NOT_A_POSITION, "Ledger-Position")
    return max(found)


def about_field(operation: str, field: str) -> dict[str, Any]:
    """What operations.toml says of a field: the entry of all operations, with what this one overrides."""
    own = TABLE["operations"][operation].get("fields", {}).get(field, {})
    found: dict[str, Any] = TABLE["fields"].get(field, {}) | own
    return found


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


ALL = {name: Operation(name, entry) for name, entry in TABLE["operations"].items()}

# By path and method.
ROUTES: dict[str, dict[str, Operation]] = {}
for _each in ALL.values():
    _by_method = ROUTES.setdefault(_each.path, {})
    _by_method[_each.method] = _each
    if _each.method == "GET":
        _by_method["HEAD"] = _each
