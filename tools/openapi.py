"""The OpenAPI document, from the table of operations, the catalogue of functions, and the rules in db/functions/."""

import json
from typing import Any

from tools import rules
from wallet_api import __version__
from wallet_api.http import codec, errors, probes, refusals
from wallet_api.http.fields import DECIMAL, MOST_PAYMENTS, Field
from wallet_api.http.operations import ALL, FUNCTIONS, IN_PATH, TABLE, Operation, about_field
from wallet_api.http.refusals import Refusal

# A JSON Schema, or a part of one.
Schema = dict[str, Any]

_ABOUT = """Keeps the balances of accounts and makes payments between them.

- Amounts are exact decimals with up to 15 digits before and 15 after the point. They are strings, so that no program
  calculates with binary fractions. Requests may also use JSON numbers, which are read exactly.
- Field and parameter names are case-insensitive. If a name occurs twice, the last value wins. Unknown names are
  refused. An optional field may be null. The content type of a request is ignored.
- Responses omit fields without a value. Later versions may add fields.
- Every error is `{"Error":"…"}`. The header `Error-Code` has the code of the error, which never changes. `Error-Field`
  names the field that caused it, if a single one did. With `Accept: application/problem+json`, the body follows
  RFC 9457.
- An unknown path is 404 `Not found`; a slash at the end of a path does not count. Another method is 405 `Method not
  allowed`, with the header `Allow`. HEAD is GET without a body. After a 503, wait for the seconds in `Retry-After`
  before you retry.
- If the service requires API keys, send `Authorization: Bearer` and the secret of a key with every request except those
  for probes and documents. A missing or invalid key is 401; a key without the permission is 403. A key that is sent is
  checked even if none is required.
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
    415: "The body is compressed.",
    422: "The idempotency key belongs to another request.",
    500: "An internal error. The log has the details.",
    503: "The request is valid. Retry it after the seconds in `Retry-After`.",
}
_CHALLENGE = {"description": "the authentication scheme", "required": True, "schema": {"type": "string"}}
_ERROR_HEADERS = {
    "Error-Code": {"description": "the code of the error", "required": True, "schema": {"type": "string"}},
    "Error-Field": {"description": "the field or parameter that caused it", "schema": {"type": "string"}},
}
_ACCEPTED_CODING = {
    "description": "how the service reads bodies",
    "required": True,
    "schema": {"type": "string", "enum": ["identity"]},
}
_RETRY_AFTER = {"description": "seconds to wait", "required": True, "schema": {"type": "integer", "minimum": 1}}

_POSITION: Schema = {"type": "integer", "format": "int64", "minimum": 0, "maximum": 2**63 - 1}
# The headers of responses to requests that change something.
_OF_CHANGES = {
    "Idempotency-Replayed": {
        "description": "An earlier request with the same idempotency key took effect; this one changed nothing.",
        "schema": {"type": "string", "enum": ["true"]},
    },
    "Ledger-Position": {
        "description": "A GET that sends this back shows the change. Only if the service reads from standbys.",
        "schema": _POSITION,
    },
}
_LISTS = (
    "With `limit`, the response is one page, and the header `Link` has the URLs of the next and the previous one. "
    "Without `limit`, the whole list is streamed from one snapshot. If it cannot be completed, the connection is "
    "broken off."
)

# Example values for the placeholders in the sentences of refusals.
_EXAMPLES = {
    "name": '"Ammount"',
    "known": "Amount",
    "byte": 9,
    "coding": '"gzip"',
    "reason": "Expecting value: line 1 column 1 (char 0)",
    "seconds": 10,
}


def _component(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


_ID = {"type": "integer", "format": "int64"}
_DATE_TIME = {"type": "string", "format": "date-time"}
# For programs that are generated from the document. The service also accepts a JSON number as an amount, but a program
# should not have one: most languages read 0.1 as a binary fraction.
_DECIMAL = {"type": "string", "format": "decimal"}
_NULL = {"type": "null"}
# What requests may send, by type.
_SENT: dict[str, Schema] = {
    "bigint": _ID | {"minimum": -(2**63), "maximum": 2**63 - 1},
    "numeric": _DECIMAL | {"pattern": f"^({DECIMAL.pattern})$"},
    "text": {"type": "string", "pattern": "^[^\\u0000]*$"},
    "boolean": {"type": "boolean"},
    "timestamp with time zone": _DATE_TIME,
    "jsonb": _component("Metadata"),
    "text[]": {"type": "array", "items": {"type": "string", "pattern": "^[^\\u0000]*$"}},
    "bigint[]": {"type": "array", "items": _ID | {"minimum": -(2**63), "maximum": 2**63 - 1}},
    "payments": {"type": "array", "items": _component("MakePaymentRequest"), "maxItems": MOST_PAYMENTS},
}
# What responses have, by type.
_SHOWN: dict[str, Schema] = {
    "bigint": _ID,
    "numeric": _DECIMAL | {"pattern": r"^-?(0|[1-9][0-9]*)(\.[0-9]*[1-9])?$"},
    "text": {"type": "string"},
    "boolean": {"type": "boolean"},
    "jsonb": _component("Metadata"),
    "text[]": {"type": "array", "items": {"type": "string"}},
    "bigint[]": {"type": "array", "items": _ID},
    "timestamp with time zone": _DATE_TIME
    | {"pattern": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z$"},
}
# An object in a URL. Generators ignore a parameter with `content`.
_JSON_TEXT = {"type": "string", "contentMediaType": "application/json", "contentSchema": _component("Metadata")}
# The refusals of malformed values, by type.
_MALFORMED: dict[str, list[Refusal]] = {
    "bigint": [refusals.NOT_AN_INTEGER],
    "numeric": [],
    "text": [refusals.NOT_A_STRING, refusals.HAS_NUL, refusals.HAS_HALF_SURROGATE],
    "boolean": [refusals.NOT_A_BOOLEAN],
    "timestamp with time zone": [refusals.NOT_A_MOMENT],
    "jsonb": [refusals.HAS_NUL, refusals.HAS_HALF_SURROGATE, refusals.NOT_FINITE],
    "text[]": [refusals.NOT_AN_ARRAY, refusals.NOT_A_STRING, refusals.HAS_NUL, refusals.HAS_HALF_SURROGATE],
    "bigint[]": [refusals.NOT_AN_ARRAY, refusals.NOT_AN_INTEGER],
    "payments": [refusals.NOT_AN_ARRAY, refusals.TOO_MANY_ELEMENTS],
}


def document() -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    paths: dict[str, Any] = {}
    for declared in ALL.values():
        paths.setdefault(declared.path, {})[declared.method.lower()] = _operation(declared)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Wallet", "version": __version__, "description": _ABOUT},
        "servers": [{"url": "/"}],
        "tags": [{"name": group, "description": about} for group, about in TABLE["groups"].items()],
        "security": [{"APIKey": []}, {}],
        "paths": paths,
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {"APIKey": {"type": "http", "scheme": "bearer"}},
        },
    }


def written(found: dict[str, Any]) -> str:
    """The text of the document."""
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


def _entry(declared: Operation) -> dict[str, Any]:
    entry: dict[str, Any] = TABLE["operations"][declared.name]
    return entry


def _about(declared: Operation, field: Field) -> dict[str, Any]:
    """The description and the example of a field."""
    if field.name == "id":
        return {"about": f"the ID of the {field.argument.removesuffix('_id')}", "example": 1}
    about = about_field(declared.name, field.name)
    if field.type == "payments":
        payment = ALL["makePayment"]
        required = {asked.name: _about(payment, asked)["example"] for asked in payment.body or () if asked.required}
        about["example"] = [required]
    return about


def _schemas() -> dict[str, Schema]:
    error = {"type": "string", "description": "the message, for people"}
    code = {"type": "string", "description": "the code of the error, see Errors"}
    field = {"type": "string", "description": "the field or parameter that caused it"}
    index = _ID | {"description": "the position of the refused payment in the batch, from 0"}
    problem = {
        "type": {"type": "string", "format": "uri-reference", "description": "the URL that explains the code"},
        "title": {"type": "string", "description": "the name of the status"},
        "status": {"type": "integer", "description": "the HTTP status"},
        "detail": error,
        "code": code,
    }
    schemas: dict[str, Schema] = {
        "Metadata": {"type": "object", "additionalProperties": True},
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
    for declared in ALL.values():
        if returns := _entry(declared).get("returns"):
            schemas.setdefault(returns, _object(returns, declared))
        if declared.body is not None:
            schemas[_name(declared, "Request")] = _request(declared)
        if response := _own_response(declared):
            schemas[_name(declared, "Response")] = response
        for asked in (*declared.query, *(declared.body or ())):
            if choices := about_field(declared.name, asked.name).get("choices"):
                schemas[choices] = {key: value for key, value in _asked(asked, declared).items() if key != "pattern"}
    return schemas


def _object(name: str, declared: Operation) -> Schema:
    """The schema of an object in responses."""
    about = TABLE["objects"][name]
    descriptions = TABLE["columns"] | about.get("columns", {})
    types = FUNCTIONS[declared.function]["columns"]
    return {
        "type": "object",
        "properties": {
            codec.wire_name(column): _SHOWN[types[column]] | {"description": descriptions[column]}
            for column in declared.columns
        },
        "required": [codec.wire_name(column) for column in declared.columns if column not in about.get("optional", ())],
    }


def _name(declared: Operation, kind: str) -> str:
    """The name of the schema of an operation's request or response."""
    return f"{declared.name[0].upper()}{declared.name[1:]}{kind}"


def _request(declared: Operation) -> Schema:
    """The schema of an operation's body. An optional field may be null."""
    properties = {}
    for field in declared.body or ():
        schema = _referred(field, declared)
        if not field.required:
            plain = "type" in schema
            schema = schema | {"type": [schema["type"], "null"]} if plain else {"anyOf": [schema, _NULL]}
        properties[field.name] = schema | {"description": _about(declared, field)["about"]}
    for name in declared.ignored:
        properties[name] = {"description": "ignored", "deprecated": True}
    required = [field.name for field in declared.body or () if field.required]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _asked(field: Field, declared: Operation) -> Schema:
    """The schema of a field: its type's, narrowed by the operation's rules."""
    about = about_field(declared.name, field.name)
    schema = _SENT[field.type] | {name: about[name] for name in ("minimum", "maximum") if name in about}
    for code in _codes(declared):
        schema = schema | rules.allowed(code, field.argument)
    return schema


def _referred(field: Field, declared: Operation) -> Schema:
    """The schema of a field, or a reference to it if it has a name."""
    name = about_field(declared.name, field.name).get("choices")
    return _component(name) if name else _asked(field, declared)


def _operation(declared: Operation) -> dict[str, Any]:
    entry = _entry(declared)
    described: dict[str, Any] = {
        "operationId": declared.name,
        "tags": [entry["group"]],
        "summary": entry["summary"],
        "description": " ".join(filter(None, [_LISTS if _is_list(declared) else "", entry.get("about", "")])),
        "parameters": _parameters(declared),
    }
    if declared.body is not None:
        about = {field.name: _about(declared, field) for field in declared.body}
        example = {name: field["example"] for name, field in about.items() if "example" in field}
        described["requestBody"] = {
            "required": declared.needs_body,
            "content": {"application/json": {"schema": _component(_name(declared, "Request")), "example": example}},
        }
    described["responses"] = _responses(declared)
    described = {key: value for key, value in described.items() if value not in ("", [])}
    if not declared.function:
        described["security"] = []
    elif "caller" in entry:
        described["security"] = [{"APIKey": []}]
    return described


def _is_list(declared: Operation) -> bool:
    """Whether the operation lists what there is, whole or page by page. The feed has no end."""
    return declared.is_paged and declared.name != "listFeed"


def _parameters(declared: Operation) -> list[dict[str, Any]]:
    found = [("path", field) for field in declared.in_path] + [("query", field) for field in declared.query]
    described = [_parameter(field.name, place, field, declared, _about(declared, field)) for place, field in found]
    if declared.body is not None:
        about = {"about": "makes the request safe to repeat; use a new key for each request"}
        described.append(_parameter("Idempotency-Key", "header", declared.body[-1], declared, about))
    if _carries_position(declared):
        meaning = "a position that a change returned: the response shows that change, even if a standby answers"
        described.append({"name": "Ledger-Position", "in": "header", "description": meaning, "schema": _POSITION})
    return described


def _carries_position(declared: Operation) -> bool:
    """Whether a request may say which position it must see. The feed always comes from the primary."""
    return bool(declared.function) and not declared.keyed and declared.name != "listFeed"


def _parameter(name: str, place: str, field: Field, declared: Operation, about: dict[str, Any]) -> dict[str, Any]:
    is_json = field.type == "jsonb"
    described = {
        "name": name,
        "in": place,
        "description": about["about"],
        "required": place == "path",
        "schema": _JSON_TEXT if is_json else _referred(field, declared),
    }
    if "example" in about:
        described["example"] = codec.encode(about["example"]) if is_json else about["example"]
    return described


def _responses(declared: Operation) -> dict[str, Any]:
    content_type, schema, headers = _answer(declared)
    answered: dict[str, Any] = {
        "200": {
            "description": _entry(declared)["summary"],
            "headers": headers | (_OF_CHANGES if declared.keyed else {}),
            "content": {content_type: {"schema": schema}},
        }
    }
    if not answered["200"]["headers"]:
        del answered["200"]["headers"]
    by_status: dict[int, dict[str, str]] = {}
    found = [(rules.refusals()[code], "") for code in _codes(declared)]
    for refusal, field in [*found, *_forms(declared), *_circumstances(declared)]:
        sentence = refusal.sentence.format(field=field, limit=_limit(refusal, declared), **_EXAMPLES)
        by_status.setdefault(refusal.status, {}).setdefault(sentence, refusal.code)
    for status, sentences in sorted(by_status.items()):
        of_batch = declared.name == "makePayments" and status < 500
        answered[str(status)] = _refused(status, sentences, "BatchError" if of_batch else "Error")
    return answered


def _answer(declared: Operation) -> tuple[str, Schema, dict[str, Schema]]:
    """The content type, the schema and the own headers of a successful response."""
    if declared.name == "getDocs":
        return "text/html", {"type": "string"}, {}
    own = _own_response(declared) is not None
    schema = _component(_name(declared, "Response") if own else _entry(declared)["returns"])
    headers: dict[str, Schema] = {}
    if declared.is_paged:
        relations = "(next|prev)" if _is_list(declared) else "next"
        link = {"type": "string", "pattern": f'^</[^>]+>; rel="{relations}"(, </[^>]+>; rel="prev")?$'}
        about = "the next and the previous page, if there are any" if _is_list(declared) else "the events after these"
        headers["Link"] = {"description": about, "schema": link}
    if declared.location:
        place = {"type": "string", "pattern": f"{declared.location}[0-9]+$"}
        headers["Location"] = {"description": "the path of the new resource", "required": True, "schema": place}
    return "application/json", schema, headers


def _own_response(declared: Operation) -> Schema | None:
    """The schema of a successful response that only this operation has; None if it is one of `objects`, or a page."""
    returns = _component(_entry(declared).get("returns", ""))
    if declared.name == "getDocs":
        return None
    if declared.name == "getOpenAPI":
        return {"type": "object", "additionalProperties": True}
    if declared.name == "makePayments":
        results = {"type": "array", "items": {"anyOf": [_component("Payment"), _component("Refused")]}}
        return {"type": "object", "properties": {"Results": results}, "required": ["Results"]}
    if declared.name == "getStatement":
        properties = {
            "AccountID": _ID | {"description": "the ID of the account"},
            "OpeningAmount": _SHOWN["numeric"] | {"description": "the balance before the oldest line"},
            declared.list_name: {"type": "array", "items": returns},
        }
        return {"type": "object", "properties": properties, "required": list(properties)}
    if declared.list_name:
        rows = {"type": "array", "items": returns, "minItems": 1}
        return {"type": "object", "properties": {declared.list_name: rows}}
    return None if declared.columns else {"type": "object", "maxProperties": 0}


def _limit(refusal: Refusal, declared: Operation) -> int:
    """The limit to fill in, for the refusals whose sentence has one."""
    if refusal is refusals.WAIT_TOO_LONG:
        limit: int = about_field(declared.name, "wait")["maximum"]
        return limit
    return MOST_PAYMENTS if refusal is refusals.TOO_MANY_ELEMENTS else declared.body_limit


def _refused(status: int, sentences: dict[str, str], error: str) -> dict[str, Any]:
    """An error response, with each refusal of this status as an example under its code."""
    examples: dict[str, Any] = {}
    for sentence, code in sentences.items():
        number = sum(key.split()[0] == code for key in examples)
        key = f"{code} {number + 1}" if number else code
        examples[key] = {"summary": sentence, "value": {"Error": sentence}}
    others = {
        401: {"WWW-Authenticate": _CHALLENGE},
        415: {"Accept-Encoding": _ACCEPTED_CODING},
        503: {"Retry-After": _RETRY_AFTER},
    }.get(status, {})
    return {
        "description": _REASONS[status],
        "headers": _ERROR_HEADERS | others,
        "content": {
            "application/json": {"schema": _component(error), "examples": examples},
            "application/problem+json": {"schema": _component("Problem")},
        },
    }


def _codes(declared: Operation) -> list[str]:
    """The codes that the operation's function may raise."""
    codes = rules.refusals_of(declared.function) if declared.function else []
    impossible = [*_entry(declared).get("impossible", ())]
    if "tenant" not in declared.argument_names:
        impossible += TABLE["impossible"]
    return [code for code in codes if code not in impossible]


def _forms(declared: Operation) -> list[tuple[Refusal, str]]:
    """The refusals of malformed requests, each with the field that caused it."""
    found = [(IN_PATH, field) for field in declared.in_path]
    found += [(field.name, field) for field in (*declared.query, *(declared.body or ()))]
    refused = [(wrong, name) for name, field in found for wrong in _MALFORMED[field.type]]
    refused += [(refusals.UNKNOWN_PARAMETER, "")]
    if _carries_position(declared):
        refused += [(refusals.NOT_A_POSITION, "")]
    if declared.query:
        refused += [(refusals.QUERY_NOT_UTF8, "")]
        refused += [(refusals.NOT_JSON_IN_QUERY, field.name) for field in declared.query if field.type == "jsonb"]
    if declared.body is not None:
        refused += [(refusals.BODY_EMPTY, "")] if declared.needs_body else []
        refused += [
            (refusals.BODY_NOT_UTF8, ""),
            (refusals.BODY_NOT_JSON, ""),
            (refusals.BODY_TOO_DEEP, ""),
            (refusals.BODY_NOT_OBJECT, ""),
            (refusals.UNKNOWN_FIELD, ""),
            (refusals.KEY_MISNAMED, "X-Idempotency-Key"),
            (refusals.KEY_TWICE, ""),
            (refusals.KEY_NOT_UTF8, ""),
            (refusals.KEYS_DIFFER, ""),
        ]
    return refused


def _circumstances(declared: Operation) -> list[tuple[Refusal, str]]:
    """The refusals that neither the request's form nor the rules cause."""
    found = [(refusals.OWN[name], "") for name in _entry(declared).get("refusals", ())]
    if declared.name == "makePayments":
        payment = ALL["makePayment"].body or ()
        found += [(refusals.NOT_A_PAYMENT, "")]
        found += [(wrong, field.name) for field in payment for wrong in _MALFORMED[field.type]]
    if declared.body is not None:
        found += [(refusals.BODY_TOO_LARGE, ""), (refusals.BODY_LATE, ""), (refusals.BODY_ENCODED, "")]
    if declared.function:
        found += [(refusals.NO_API_KEY, ""), (refusals.INTERNAL, "")]
        found += [(refusal, "") for refusal in errors.UNAVAILABLE]
    if declared.path not in probes.ALWAYS:
        found.append((refusals.TOO_MANY_CLIENTS, ""))
    return found
