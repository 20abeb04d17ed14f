"""The OpenAPI document: made from the operations as they are declared, and from the rules in db/functions/."""

import re
from collections.abc import Sequence
from typing import Any

from wallet_api.database.migrations import DB
from wallet_api.http import errors, operation, probes, refusals
from wallet_api.http.answers import REPLAYED_HEADER, component
from wallet_api.http.fields import INTEGER, Field, Schema
from wallet_api.http.operation import Operation
from wallet_api.http.refusals import Refusal

_CODE = re.compile(r"W[A-Z]\d{3}")

# What a function's helpers may refuse, but never do for it.
_CANNOT_BE = re.compile(r"(W[A-Z]\d{3}, )*W[A-Z]\d{3} \(which cannot be\)")

# What rules say that JSON Schema can say too: "Name should have 1 to 255 characters", "Scale should be 0 to 15",
# "Status should be active, frozen or closed".
_RANGE = re.compile(r"([\w ]+) should (have|be) (\d+) to (\d+)( \w+)?")
_CHOICE = re.compile(r"([\w ]+) should be ((?:\w+, )*\w+ or \w+)")

_ABOUT = """Stores accounts' balances and makes payments between them.

- Amounts have up to 15 digits before and 15 after the point, and are exact: send a JSON number or a string, get a
  string.
- Names of fields and of parameters match whatever their case; the last of two equal ones wins. Unknown ones are
  refused. What may be left out may also be null. The content type of a request is not looked at.
- What has no value is left out of an answer. Later versions may answer more fields than this one.
- Whatever goes wrong is `{"Error":"…"}`. The header `Error-Code` has the code of the refusal, which stays the same, and
  `Error-Field` names the field to blame, where one is. With `Accept: application/problem+json` it is as RFC 9457 says.
- An unknown path is 404 `Not found`, another method 405 `Method not allowed`
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
_ERROR_HEADERS = {
    "Error-Code": {"description": "the code of the refusal", "required": True, "schema": {"type": "string"}},
    "Error-Field": {"description": "the field or parameter to blame", "schema": {"type": "string"}},
}
_RETRY_AFTER = {"description": "after how many seconds", "required": True, "schema": {"type": "integer", "minimum": 1}}

# How the sentences of refusals are filled in for the document.
_EXAMPLES = {
    "name": '"Ammount"',
    "known": "Amount",
    "byte": 9,
    "reason": "Expecting value: line 1 column 1 (char 0)",
    "seconds": 10,
}


def document(operations: Sequence[Operation]) -> dict[str, Any]:
    """The OpenAPI 3.1 document of these operations."""
    words = {code: refusal.sentence for code, refusal in refusals.of_rulebook().items()}
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
    code = {"type": "string", "description": "the code of the refusal: see Errors"}
    field = {"type": "string", "description": "the field or parameter to blame"}
    index = INTEGER.shown | {"description": "of an atomic batch: which payment was refused, counted from 0"}
    problem = {
        "type": {"type": "string", "format": "uri-reference", "description": "where the code is explained"},
        "title": {"type": "string", "description": "the status in words"},
        "status": {"type": "integer", "description": "the status"},
        "detail": error,
        "code": code,
    }
    schemas = {
        "Error": {"type": "object", "properties": {"Error": error}, "required": ["Error"]},
        "BatchError": {"type": "object", "properties": {"Error": error, "Index": index}, "required": ["Error"]},
        "Refused": {
            "type": "object",
            "properties": {"Error": error, "Code": code, "Field": field},
            "required": ["Error", "Code"],
        },
        "Problem": {
            "type": "object",
            "properties": problem | {"field": field, "index": index},
            "required": list(problem),
        },
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
    for name in declared.ignored:
        properties[name] = {"description": "ignored"}
    required = [field.name for field in declared.body_fields if field.required]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


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
            "headers": declared.answers.headers() | (REPLAYED_HEADER if declared.keyed else {}),
            "content": {
                content_type: {"schema": schema} for content_type, schema in declared.answers.content().items()
            },
        }
    }
    if not answered["200"]["headers"]:
        del answered["200"]["headers"]
    by_status: dict[int, dict[str, str]] = {}
    found = [(refusals.of_rulebook()[code], "") for code in _codes(declared)]
    for refusal, field in [*found, *_forms(declared), *_circumstances(declared)]:
        sentence = refusal.sentence.format(field=field, limit=_limit(refusal, declared, field), **_EXAMPLES)
        by_status.setdefault(refusal.status, {}).setdefault(sentence, refusal.code)
    for status, sentences in sorted(by_status.items()):
        answered[str(status)] = _refused(status, sentences, declared.error if status < 500 else "Error")
    return answered


def _limit(refusal: Refusal, declared: Operation, field: str) -> int:
    """The limit that the sentence of a refusal tells, if it tells one."""
    if refusal is refusals.TOO_MANY_ELEMENTS:
        return next(int(asked.kind.sent["maxItems"]) for asked in declared.body_fields if asked.name == field)
    return declared.body_limit


def _refused(status: int, sentences: dict[str, str], error: str) -> dict[str, Any]:
    """A response of a status: each refusal is an example, by its code."""
    examples: dict[str, Any] = {}
    for sentence, code in sentences.items():
        number = sum(key.split()[0] == code for key in examples)
        key = f"{code} {number + 1}" if number else code
        examples[key] = {"summary": sentence, "value": {"Error": sentence}}
    others = {401: {"WWW-Authenticate": _CHALLENGE}, 503: {"Retry-After": _RETRY_AFTER}}.get(status, {})
    return {
        "description": _REASONS[status],
        "headers": _ERROR_HEADERS | others,
        "content": {
            "application/json": {"schema": component(error), "examples": examples},
            "application/problem+json": {"schema": component("Problem")},
        },
    }


def _codes(declared: Operation) -> list[str]:
    """What the function may raise: its file's header says so, and a test holds the header to it."""
    if not declared.function:
        return []
    header = re.match(r"(--.*\n)+", (DB / f"functions/{declared.function}.sql").read_text())
    text = re.sub(r"\s*\n--\s*", " ", header[0] if header else "")
    return list(dict.fromkeys(_CODE.findall(_CANNOT_BE.sub("", text))))


def _forms(declared: Operation) -> list[tuple[Refusal, str]]:
    """How a request is refused that cannot be read, and the field to blame."""
    found = [(operation.IN_PATH, field) for field in declared.in_path]
    found += [
        (field.name, field) for field in (*declared.query, *(declared.body_fields if declared.body is not None else ()))
    ]
    refused = [(wrong, name) for name, field in found for wrong in field.kind.wrong]
    refused += [(refusals.UNKNOWN_PARAMETER, "")]
    if declared.query:
        refused += [(refusals.QUERY_NOT_UTF8, "")]
    if declared.body is not None:
        refused += [(refusals.BODY_EMPTY, "")] if declared.needs_body else []
        refused += [
            (refusals.BODY_NOT_UTF8, ""),
            (refusals.BODY_NOT_JSON, ""),
            (refusals.BODY_TOO_DEEP, ""),
            (refusals.BODY_NOT_OBJECT, ""),
            (refusals.UNKNOWN_FIELD, ""),
            (refusals.KEY_MISNAMED, "X-Idempotency-Key"),
        ]
    if declared.keyed:
        refused += [(refusals.KEY_TWICE, ""), (refusals.KEY_NOT_UTF8, ""), (refusals.KEYS_DIFFER, "")]
    return refused


def _circumstances(declared: Operation) -> list[tuple[Refusal, str]]:
    """What may be wrong beside the request's own form and the rules."""
    found = list(declared.refusals)
    if declared.body is not None:
        found += [(refusals.BODY_TOO_LARGE, ""), (refusals.BODY_LATE, "")]
    if declared.function:
        found += [(refusals.NO_API_KEY, ""), (refusals.INTERNAL, "")]
        found += [(refusal, "") for refusal in errors.UNAVAILABLE]
    if declared.path.encode() not in probes.ALWAYS:
        found.append((refusals.TOO_MANY_CLIENTS, ""))
    return found
