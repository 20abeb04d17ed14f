"""The OpenAPI document: made from the operations as they are declared, and from the rules in db/functions/."""

import re
from collections.abc import Sequence
from typing import Any

from wallet_api import authentication, errors, messages, operation, protocol, wire
from wallet_api.answers import component
from wallet_api.fields import INTEGER, Field, Schema
from wallet_api.migrations import DB
from wallet_api.operation import Operation

_CODE = re.compile(r"W[A-Z]\d{3}")
_WORDS = re.compile(r"when '(W[A-Z]\d{3})' then '((?:[^']|'')*)'")

# What a function's helpers may refuse, but never do for it.
_CANNOT_BE = re.compile(r"(W[A-Z]\d{3}, )*W[A-Z]\d{3} \(which cannot be\)")

# What rules say that JSON Schema can say too: "Name should have 1 to 255 characters", "Scale should be 0 to 15",
# "Status should be active, frozen or closed".
_RANGE = re.compile(r"([\w ]+) should (have|be) (\d+) to (\d+)( \w+)?")
_CHOICE = re.compile(r"([\w ]+) should be ((?:\w+, )*\w+ or \w+)")

_ABOUT = """Stores accounts' balances and makes payments between them.

- Amounts have up to 15 digits before and 15 after the point, and are exact: send a JSON number or a string, get a
  string.
- Names of fields and of parameters match whatever their case; unknown ones are ignored; the last of two equal ones
  wins. What may be left out may also be null. The content type of a request is not looked at.
- What has no value is left out of an answer. Later versions may answer more fields than this one.
- Whatever goes wrong is `{"Error":"…"}`. An unknown path is 404 `Not found`, another method 405 `Method not allowed`
  with the header `Allow`; HEAD is GET without a body. After a 503, ask again after as many seconds as its `Retry-After`
  says.
- Where the service requires it, each request but those for probes and documents has an API key: `Authorization: Bearer`
  and its secret. Without a valid one it is 401, and 403 for what the key may not do.
- `Idempotency-Key`, 1 to 255 characters of your choice, makes a request safe to repeat: it takes effect once, and is
  answered as before, with `Idempotency-Replayed: true`. A request that was refused does not use up its key."""

_REASONS = {
    400: "The request cannot be granted, or cannot be read.",
    401: "There is no API key that is valid.",
    403: "The API key does not allow it.",
    404: "There is no such thing.",
    408: "The body did not arrive in time.",
    409: "It is taken, or in a state that does not allow it.",
    413: "The body is too large.",
    422: "The idempotency key stands for another request.",
    500: "What nobody foresaw. The detail is in the log.",
    503: "The request was right, and may be sent again after some seconds.",
}
_CHALLENGE = {"description": "how to say who asks", "required": True, "schema": {"type": "string"}}
_RETRY_AFTER = {"description": "after how many seconds", "required": True, "schema": {"type": "integer", "minimum": 1}}

# A refusal: by what it is known, and its words.
Refusal = tuple[str, str]


def refusals() -> dict[str, str]:
    """The words of all rules, by their codes: see db/functions/_refuse.sql."""
    text = (DB / "functions/_refuse.sql").read_text()
    return {code: words.replace("''", "'") for code, words in _WORDS.findall(text)}


def document(operations: Sequence[Operation]) -> dict[str, Any]:
    """The OpenAPI 3.1 document of these operations."""
    words = refusals()
    paths: dict[str, Any] = {}
    for declared in operations:
        paths.setdefault(declared.path, {})[declared.method.lower()] = _operation(declared, words)
    groups = dict.fromkeys(declared.group for declared in operations)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Wallet", "version": "1", "description": _ABOUT},
        "servers": [{"url": "/"}],
        "tags": [{"name": group} for group in groups],
        "paths": paths,
        "components": {
            "schemas": _schemas(operations, words),
            "securitySchemes": {"APIKey": {"type": "http", "scheme": "bearer"}},
        },
    }


def _schemas(operations: Sequence[Operation], words: dict[str, str]) -> dict[str, Schema]:
    error = {"type": "string", "description": "what is wrong, in words meant for people"}
    index = INTEGER.shown | {"description": "of an atomic batch: which payment was refused, counted from 0"}
    schemas = {
        "Error": {"type": "object", "properties": {"Error": error}, "required": ["Error"]},
        "BatchError": {"type": "object", "properties": {"Error": error, "Index": index}, "required": ["Error"]},
    }
    for declared in operations:
        schemas |= {shape.name: shape.schema() for shape in declared.answers.shapes()}
        if declared.body is not None:
            schemas[_request_name(declared)] = _request(declared, words)
    return schemas


def _request_name(declared: Operation) -> str:
    return f"{declared.name[0].upper()}{declared.name[1:]}Request"


def _request(declared: Operation, words: dict[str, str]) -> Schema:
    """The object that is asked for. A field that may be left out may be null as well."""
    properties = {}
    for field in declared.body_fields:
        schema = _asked(field, declared, words) | {"description": field.about}
        types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        properties[field.name] = schema if field.required else schema | {"type": [*types, "null"]}
    required = [field.name for field in declared.body_fields if field.required]
    return {"type": "object", "properties": properties, "required": required}


def _asked(field: Field, declared: Operation, words: dict[str, str]) -> Schema:
    """What a field may hold: what its kind allows, and the ranges that the operation's rules tell in their words."""
    schema = field.kind.sent
    for code in _codes(declared):
        if (match := _RANGE.fullmatch(words[code])) and _is(field, match[1]):
            least, most = ("minLength", "maxLength") if match[2] == "have" else ("minimum", "maximum")
            schema = schema | {least: int(match[3]), most: int(match[4])}
        elif (match := _CHOICE.fullmatch(words[code])) and _is(field, match[1]):
            schema = schema | {"enum": re.split(", | or ", match[2])}
    return schema


def _is(field: Field, subject: str) -> bool:
    """Whether a rule is about this field: "Idempotency key" is IdempotencyKey."""
    return field.key == subject.replace(" ", "").lower()


def _operation(declared: Operation, words: dict[str, str]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": declared.name,
        "tags": [declared.group],
        "summary": declared.summary,
        "description": declared.about,
        "parameters": _parameters(declared, words),
    }
    if declared.body is not None:
        example = {field.name: field.example for field in declared.body if field.example is not None}
        described["requestBody"] = {
            "required": declared.needs_body,
            "content": {"application/json": {"schema": component(_request_name(declared)), "example": example}},
        }
    described["responses"] = _responses(declared, words)
    if declared.function:
        described["security"] = [{"APIKey": []}, {}]
    return {key: value for key, value in described.items() if value not in ("", [])}


def _parameters(declared: Operation, words: dict[str, str]) -> list[dict[str, Any]]:
    found = [(field.name, "path", field) for field in declared.in_path]
    found += [(field.name, "query", field) for field in declared.query]
    found += [("Idempotency-Key", "header", operation.HEADER_KEY)] if declared.keyed else []
    return [
        {
            "name": name,
            "in": place,
            "description": field.about,
            "required": field.required,
            "schema": _asked(field, declared, words),
        }
        | ({} if field.example is None else {"example": field.example})
        for name, place, field in found
    ]


def _responses(declared: Operation, words: dict[str, str]) -> dict[str, Any]:
    answered: dict[str, Any] = {
        "200": {
            "description": declared.summary,
            "headers": declared.answers.headers(),
            "content": {
                content_type: {"schema": schema} for content_type, schema in declared.answers.content().items()
            },
        }
    }
    if not answered["200"]["headers"]:
        del answered["200"]["headers"]
    by_status: dict[int, list[Refusal]] = {}
    for status, refusal in [
        *((errors.status_of(code), (code, words[code])) for code in _codes(declared)),
        *_forms(declared),
        *_circumstances(declared),
    ]:
        by_status.setdefault(status, []).append(refusal)
    for status, found in sorted(by_status.items()):
        answered[str(status)] = _refused(status, found, declared.error if status < 500 else "Error")
    return answered


def _refused(status: int, found: list[Refusal], error: str) -> dict[str, Any]:
    """A response of a status: each refusal is an example, by its code where it has one."""
    examples: dict[str, Any] = {}
    for name, sentence in dict.fromkeys(found):
        key = name if name not in examples else f"{name} {sum(key.split()[0] == name for key in examples) + 1}"
        examples[key] = {"summary": sentence, "value": {"Error": sentence}}
    response = {
        "description": _REASONS[status],
        "content": {"application/json": {"schema": component(error), "examples": examples}},
    }
    headers = {401: {"WWW-Authenticate": _CHALLENGE}, 503: {"Retry-After": _RETRY_AFTER}}.get(status)
    return response | ({"headers": headers} if headers else {})


def _codes(declared: Operation) -> list[str]:
    """What the function may raise: its file's header says so, and a test holds the header to it."""
    if not declared.function:
        return []
    header = re.match(r"(--.*\n)+", (DB / f"functions/{declared.function}.sql").read_text())
    text = re.sub(r"\s*\n--\s*", " ", header[0] if header else "")
    return list(dict.fromkeys(_CODE.findall(_CANNOT_BE.sub("", text))))


def _forms(declared: Operation) -> list[tuple[int, Refusal]]:
    """What is refused before the function is called, because it cannot be read."""
    found = [(operation.IN_PATH, field) for field in declared.in_path]
    found += [
        (field.name, field) for field in (*declared.query, *(declared.body_fields if declared.body is not None else ()))
    ]
    sentences = [(field.name, f"{name} {wrong}") for name, field in found for wrong in field.kind.wrong]
    if declared.query:
        sentences.append(("query", wire.QUERY_NO_UTF8))
    if declared.body is not None:
        sentences += [("body", wire.EMPTY)] if declared.needs_body else []
        sentences += [
            ("body", f"{wire.NO_UTF8}9"),
            ("body", f"{wire.NO_JSON}Expecting value: line 1 column 1 (char 0)"),
        ]
        sentences += [("body", wire.TOO_DEEP), ("body", wire.NO_OBJECT)]
    if declared.keyed:
        sentences += [
            ("Idempotency-Key", said) for said in (operation.KEY_ONCE, operation.KEY_UTF8, operation.KEYS_DIFFER)
        ]
    return [(400, refusal) for refusal in sentences]


def _circumstances(declared: Operation) -> list[tuple[int, Refusal]]:
    """What may be wrong beside the request's own form and the rules."""
    found = [(status, ("request", said)) for status, all_said in declared.refusals.items() for said in all_said]
    if declared.body is not None:
        found.append((413, ("body", messages.too_large(declared.body_limit))))
        found.append((408, ("body", "The body did not arrive within 10 seconds")))
    if declared.function:
        found.append((401, ("API key", authentication.MISSING)))
        found.append((500, ("unforeseen", errors.INTERNAL)))
        found += [(503, ("database", said)) for said in errors.UNAVAILABLE]
    if declared.path.encode() not in protocol.ALWAYS:
        found.append((503, ("clients", protocol.CROWDED)))
    return found
