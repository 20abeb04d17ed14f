"""Fields of requests and responses. One declaration both parses a field and describes it.

A kind of value knows how to parse it from JSON and from a URL, and its JSON Schema. The rulebook decides whether the
value is allowed. An amount that is not a number is passed on as NaN, so that the rulebook refuses it like any other
malformed amount. Only values that PostgreSQL cannot represent (a fraction as an ID, a NUL in a text) are refused here.
"""

import datetime
import functools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NoReturn

from psycopg.types.numeric import Int8

from wallet_api.http import refusals
from wallet_api.http.codec import number, wire_name
from wallet_api.http.refusals import Refusal, Refused

# A JSON Schema, or a part of one.
Schema = dict[str, Any]

# Leading zeros are skipped, because Python does not parse numbers with thousands of digits.
_INTEGER = re.compile(r"([+-]?)0*([0-9]{1,19})")
# No two parts can match the same digits, which would backtrack exponentially.
_DECIMAL = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
# RFC 3339. In a URL, an unescaped plus sign arrives as a space.
_MOMENT = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2}):([0-9]{2})(\.[0-9]+)?([Zz]|[ +-][0-9]{2}:[0-9]{2})"
)
_NAN = Decimal("NaN")


@dataclass(frozen=True)
class Kind:
    """A kind of value: its parsers, its schemas in requests and responses, and the refusals its parsers may raise."""

    from_json: Callable[[Any, str], Any]
    from_text: Callable[[str, str], Any]
    sent: Schema
    shown: Schema
    wrong: tuple[Refusal, ...] = ()


def _refuse(name: str, wrong: Refusal) -> NoReturn:
    raise Refused(wrong, name)


def _integer(value: Any, name: str) -> Int8:
    if type(value) is not int or not -(2**63) <= value < 2**63:
        _refuse(name, refusals.NOT_AN_INTEGER)
    return Int8(value)


def _integer_in_url(text: str, name: str) -> Int8:
    match = _INTEGER.fullmatch(text)
    return _integer(int(match[1] + match[2]) if match else None, name)


def _amount(value: Any, name: str) -> Decimal:
    """The decimal in a JSON number or string; NaN for anything else."""
    if isinstance(value, str):
        return number(value) if _DECIMAL.fullmatch(value) else _NAN
    if isinstance(value, Decimal):
        return value
    return Decimal(value) if type(value) is int else _NAN


def _text(value: Any, name: str) -> str:
    """A string that PostgreSQL can hold."""
    if not isinstance(value, str):
        _refuse(name, refusals.NOT_A_STRING)
    if "\0" in value:
        _refuse(name, refusals.HAS_NUL)
    try:
        value.encode()
    except UnicodeEncodeError:
        _refuse(name, refusals.HAS_HALF_SURROGATE)
    return value


def _boolean(value: Any, name: str) -> bool:
    if not isinstance(value, bool):
        _refuse(name, refusals.NOT_A_BOOLEAN)
    return value


def _boolean_in_url(text: str, name: str) -> bool:
    return _boolean({"true": True, "false": False}.get(text), name)


def _moment(text: Any, name: str) -> str:
    """A timestamp that PostgreSQL accepts: an existing day, and an offset of less than 16 hours."""
    match = _MOMENT.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        _refuse(name, refusals.NOT_A_MOMENT)
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    fraction, offset = (match[7] or "")[:10], match[8].replace(" ", "+").upper()
    try:
        datetime.datetime(year, month, day, hour, minute, 59 if second == 60 else second)
    except ValueError:
        _refuse(name, refusals.NOT_A_MOMENT)
    if offset != "Z" and (offset[1:3] > "15" or offset[4:] > "59"):
        _refuse(name, refusals.NOT_A_MOMENT)
    return f"{text[:10]}T{text[11:19]}{fraction}{offset}"


def array_of(items: Schema, most: int) -> Kind:
    """An array of at most `most` elements. The caller parses the elements."""

    def array(value: Any, name: str) -> list[Any]:
        if not isinstance(value, list):
            _refuse(name, refusals.NOT_AN_ARRAY)
        if len(value) > most:
            raise Refused(refusals.TOO_MANY_ELEMENTS, name, limit=most)
        return value

    schema = {"type": "array", "items": items, "maxItems": most}
    return Kind(array, array, schema, schema, (refusals.NOT_AN_ARRAY, refusals.TOO_MANY_ELEMENTS))


_ID = {"type": "integer", "format": "int64"}
INTEGER = Kind(
    _integer,
    _integer_in_url,
    _ID | {"minimum": -(2**63), "maximum": 2**63 - 1},
    _ID,
    (refusals.NOT_AN_INTEGER,),
)
AMOUNT = Kind(
    _amount,
    _amount,
    {"type": ["number", "string"], "pattern": f"^({_DECIMAL.pattern})$"},
    {"type": "string", "pattern": r"^-?(0|[1-9][0-9]*)(\.[0-9]*[1-9])?$"},
)
TEXT = Kind(
    _text,
    _text,
    {"type": "string", "pattern": "^[^\\u0000]*$"},
    {"type": "string"},
    (refusals.NOT_A_STRING, refusals.HAS_NUL, refusals.HAS_HALF_SURROGATE),
)
BOOLEAN = Kind(_boolean, _boolean_in_url, {"type": "boolean"}, {"type": "boolean"}, (refusals.NOT_A_BOOLEAN,))
_DATE_TIME = {"type": "string", "format": "date-time"}
MOMENT = Kind(
    _moment,
    _moment,
    _DATE_TIME,
    _DATE_TIME | {"pattern": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z$"},
    (refusals.NOT_A_MOMENT,),
)


@dataclass(frozen=True)
class Field:
    """A field of a request. `argument` is the SQL function's, without p_; "" if there is none.

    `required` only documents: the rulebook refuses NULL. A missing field is passed as NULL; with `defaults`, it is not
    passed, so that the function's default applies.
    """

    name: str
    kind: Kind
    argument: str
    about: str
    example: Any = None
    required: bool = False
    defaults: bool = False

    @functools.cached_property
    def key(self) -> str:
        """The name in lower case, as Fields.get takes it."""
        return self.name.lower()


# Fields.get: returns a field's value, by its name in lower case.
Getter = Callable[[str], Any]


def reader(fields: Sequence[Field]) -> Callable[[Getter], tuple[Any, ...]]:
    """A function that parses these fields of a JSON object; a missing or null field is None.

    Compiled, like namedtuple's methods, because every payment passes here. Safe: the names are our own.
    """
    scope: dict[str, Any] = {f"read{n}": asked.kind.from_json for n, asked in enumerate(fields)}
    values = [
        f"None if (value := get({asked.key!r})) is None else read{n}(value, {asked.name!r}),"
        for n, asked in enumerate(fields)
    ]
    read: Callable[[Getter], tuple[Any, ...]] = eval(f"lambda get: ({' '.join(values)})", scope)  # noqa: S307
    return read


# The kind and the description of each column that responses contain.
_COLUMNS: Mapping[str, tuple[Kind, str]] = {
    "id": (INTEGER, "the ID, unique among objects of this kind"),
    "name": (TEXT, "the name"),
    "scale": (INTEGER, "the number of decimals that amounts may have"),
    "currency_id": (INTEGER, "the ID of the currency"),
    "currency_name": (TEXT, "the name of the currency"),
    "amount": (AMOUNT, "the amount"),
    "balance": (AMOUNT, "the balance of the account after the payment"),
    "buyer_account_id": (INTEGER, "the account that pays"),
    "seller_account_id": (INTEGER, "the account that is paid"),
    "counterparty_account_id": (INTEGER, "the other account of the payment"),
    "counterparty_name": (TEXT, "the name of the other account"),
    "operation_timestamp": (MOMENT, "when the payment was made, in UTC"),
    "expires_at": (MOMENT, "when the hold expires, in UTC"),
    "status": (TEXT, "active; frozen: receives payments, but makes none; or closed"),
    "held": (AMOUNT, "the total of open holds"),
    "available": (AMOUNT, "the amount that the account can pay now: balance plus credit limit minus holds"),
    "credit_limit": (AMOUNT, "how far below zero the balance may go"),
    "payment_id": (INTEGER, "the ID of the payment"),
    "captured_amount": (AMOUNT, "the amount that was captured"),
    "description": (TEXT, "the purpose, as given by the client"),
    "reference": (TEXT, "the client's own reference"),
    "refunded_payment_id": (INTEGER, "the payment that this one refunds"),
    "refunded_amount": (AMOUNT, "the amount that has been refunded"),
    "hold_id": (INTEGER, "the hold that this payment captured"),
}


@dataclass(frozen=True)
class Shape:
    """An object in a response: columns that are never NULL, then those that may be NULL, and are then left out.

    `about` overrides the descriptions of columns.
    """

    name: str
    always: tuple[str, ...]
    sometimes: tuple[str, ...] = ()
    about: Mapping[str, str] = field(default_factory=dict)

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns, in order."""
        return self.always + self.sometimes

    def schema(self) -> Schema:
        """The JSON Schema of the object."""
        return {
            "type": "object",
            "properties": {
                wire_name(column): _COLUMNS[column][0].shown
                | {"description": self.about.get(column, _COLUMNS[column][1])}
                for column in self.columns
            },
            "required": [wire_name(column) for column in self.always],
        }
