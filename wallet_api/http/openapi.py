"""Generates the OpenAPI document from the declared operations and from the rules in db/functions/."""

from collections.abc import Sequence
from typing import Any

from wallet_api.http import errors, operation, probes, refusals, rules
from wallet_api.http.answers import REPLAYED_HEADER, component
from wallet_api.http.fields import INTEGER, Field, Schema
from wallet_api.http.operation import Operation
from wallet_api.http.refusals import Refusal

_ABOUT = """Keeps the balances of accounts and makes payments between them.

- Amounts are exact decimals with up to 15 digits before and 15 after the point. Requests may use JSON numbers or
  strings; responses use strings.
- Field and parameter names are case-insensitive. If a name occurs twice, the last value wins. Unknown names are
  refused. An optional field may be null. The content type of a request is ignored.
- Responses omit fields without a value. Later versions may add fields.
- Every error is `{"Error":"…"}`. The header `Error-Code` has the code of the error, which never changes. `Error-Field`
  names the field that caused it, if a single one did. With `Accept: application/problem+json`, the body follows
  RFC 9457.
- An unknown path is 404 `Not found`. Another method is 405 `Method not allowed`, with the header `Allow`. HEAD is GET
  without a body. After a 503, wait for the seconds in `Retry-After` before you retry.
- If the service requires API keys, send `Authorization: Bearer` and the secret of a key with every request except those
  for probes and documents. A missing or invalid key is 401; a key without the permission is 403.
- `Idempotency-Key`, 1 to 255 characters of your choice, makes a request safe to repeat. It takes effect once; a
  repetition returns the same response with `Idempotency-Replayed: true`. A refused request does not use up its key."""

_REASONS = {
    400: "The request is malformed or refused.",
    401: "The API key is missing or invalid.",
    403: "The API key does not permit the request.",
    404: "The resource does not exist.",
    408: "The body did not arrive in time.",
    409: "The name is taken, or the state of the resource does not allow the request.",
    413: "The body is too large.",
    422: "The idempotency key belongs to another request.",
    500: "An internal error. The log has the details.",
    503: "The request is valid. Retry it after the seconds in `Retry-After`.",
}
_CHALLENGE = {"description": "the authentication scheme", "required": True, "schema": {"type": "string"}}
_ERROR_HEADERS = {
    "Error-Code": {"description": "the code of the error", "required": True, "schema": {"type": "string"}},
    "Error-Field": {"description": "the field or parameter that caused it", "schema": {"type": "string"}},
}
_RETRY_AFTER = {"description": "seconds to wait", "required": True, "schema": {"type": "integer", "minimum": 1}}

# Example values for the placeholders in the sentences of refusals.
_EXAMPLES = {
    "name": '"Ammount"',
    "known": "Amount",
    "byte": 9,
    "reason": "Expecting value: line 1 column 1 (char 0)",
    "seconds": 10,
}


def document(operations: Sequence[Operation]) -> dict[str, Any]:
    """The OpenAPI 3.1 document of these operations."""
    paths: dict[str, Any] = {}
    for declared in operations:
        paths.setdefault(declared.path, {})[declared.method.lower()] = _operation(declared)
    groups = dict.fromkeys(declared.group for declared in operations)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Wallet", "version": "1", "description": _ABOUT},
        "servers": [{"url": "/"}],
        "tags": [{"name": group} for group in groups],
        "paths": paths,
        "components": {
            "schemas": _schemas(operations),
            "securitySchemes": {"APIKey": {"type": "http", "scheme": "bearer"}},
        },
    }


def _schemas(operations: Sequence[Operation]) -> dict[str, Schema]:
    error = {"type": "string", "description": "the message, for people"}
    code = {"type": "string", "description": "the code of the error, see Errors"}
    field = {"type": "string", "description": "the field or parameter that caused it"}
    index = INTEGER.shown | {"description": "the position of the refused payment in the batch, from 0"}
    problem = {
        "type": {"type": "string", "format": "uri-reference", "description": "the URL that explains the code"},
        "title": {"type": "string", "description": "the name of the status"},
        "status": {"type": "integer", "description": "the HTTP status"},
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
            schemas[_request_name(declared)] = _request(declared)
    return schemas


def _request_name(declared: Operation) -> str:
    return f"{declared.name[0].upper()}{declared.name[1:]}Request"


def _request(declared: Operation) -> Schema:
    """The schema of an operation's body. An optional field may be null."""
    properties = {}
    for field in declared.body_fields:
        schema = _asked(field, declared) | {"description": field.about}
        types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        properties[field.name] = schema if field.required else schema | {"type": [*types, "null"]}
    for name in declared.ignored:
        properties[name] = {"description": "ignored"}
    required = [field.name for field in declared.body_fields if field.required]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _asked(field: Field, declared: Operation) -> Schema:
    """The schema of a field: its kind's, narrowed by the operation's rules."""
    schema = field.kind.sent
    for code in _codes(declared):
        schema = schema | rules.allowed(code, field.argument)
    return schema


def _operation(declared: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": declared.name,
        "tags": [declared.group],
        "summary": declared.summary,
        "description": declared.about,
        "parameters": _parameters(declared),
    }
    if declared.body is not None:
        example = {field.name: field.example for field in declared.body if field.example is not None}
        described["requestBody"] = {
            "required": declared.needs_body,
            "content": {"application/json": {"schema": component(_request_name(declared)), "example": example}},
        }
    described["responses"] = _responses(declared)
    if declared.function:
        described["security"] = [{"APIKey": []}, {}]
    return {key: value for key, value in described.items() if value not in ("", [])}


def _parameters(declared: Operation) -> list[dict[str, Any]]:
    found = [(field.name, "path", field) for field in declared.in_path]
    found += [(field.name, "query", field) for field in declared.query]
    found += [("Idempotency-Key", "header", operation.HEADER_KEY)] if declared.keyed else []
    return [
        {
            "name": name,
            "in": place,
            "description": field.about,
            "required": field.required,
            "schema": _asked(field, declared),
        }
        | ({} if field.example is None else {"example": field.example})
        for name, place, field in found
    ]


def _responses(declared: Operation) -> dict[str, Any]:
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
    """The limit to fill in, for the refusals whose sentence has one."""
    if refusal is refusals.TOO_MANY_ELEMENTS:
        return next(int(asked.kind.sent["maxItems"]) for asked in declared.body_fields if asked.name == field)
    return declared.body_limit


def _refused(status: int, sentences: dict[str, str], error: str) -> dict[str, Any]:
    """An error response, with each refusal of this status as an example under its code."""
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
    """The codes that the operation's function may raise."""
    codes = rules.refusals_of(declared.function) if declared.function else []
    return [code for code in codes if code not in declared.impossible]


def _forms(declared: Operation) -> list[tuple[Refusal, str]]:
    """The refusals of malformed requests, each with the field that caused it."""
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
    """The refusals that neither the request's form nor the rules cause."""
    found = list(declared.refusals)
    if declared.body is not None:
        found += [(refusals.BODY_TOO_LARGE, ""), (refusals.BODY_LATE, "")]
    if declared.function:
        found += [(refusals.NO_API_KEY, ""), (refusals.INTERNAL, "")]
        found += [(refusal, "") for refusal in errors.UNAVAILABLE]
    if declared.path.encode() not in probes.ALWAYS:
        found.append((refusals.TOO_MANY_CLIENTS, ""))
    return found
