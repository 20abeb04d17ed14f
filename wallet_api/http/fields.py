"""What is asked and what is answered, a field at a time: each is read, and described, by one declaration.

A kind of value knows how it is read from JSON and from a URL, and how JSON Schema says the same. What a value means
is not judged here. What is no number at all goes to the rulebook as NaN, which refuses it in the words that it has
for every amount of the wrong form; only what no PostgreSQL value could carry (a fraction as an id, a NUL in a text) is
refused on the way.
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

# JSON Schema, or a part of it.
Schema = dict[str, Any]

# Leading zeros apart: Python refuses to read numbers of thousands of digits.
_INTEGER = re.compile(r"([+-]?)0*([0-9]{1,19})")
# No two parts of it can match the same digits: else it would try every way to divide them.
_DECIMAL = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
# RFC 3339. In a URL, a plus sign that nobody escaped is a blank.
_MOMENT = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2}):([0-9]{2})(\.[0-9]+)?([Zz]|[ +-][0-9]{2}:[0-9]{2})"
)
_NAN = Decimal("NaN")


@dataclass(frozen=True)
class Kind:
    """A kind of value. Each of `wrong` is how its readers refuse a field that holds something else."""

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
    """A decimal number given as a JSON number or string; else NaN."""
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
    """A moment as PostgreSQL reads it too: a day that there is, and an offset of less than 16 hours."""
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
    """An array of at most so many elements, which whoever asks for it reads by itself."""

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
    """A field of a request. `argument` is that of the SQL function, without its p_; "" where it has none.

    That it is `required` is for the reader of the document: it is the rulebook that refuses NULL. One that is missing
    is NULL, or, with `defaults`, not passed at all, so that the function's default holds.
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
        """The name, as Fields know it."""
        return self.name.lower()


# What gives the value of a field, by its name in lower case: Fields.get.
Getter = Callable[[str], Any]


def reader(fields: Sequence[Field]) -> Callable[[Getter], tuple[Any, ...]]:
    """A function that reads these fields of a JSON object; None stands for one that is missing or null.

    Compiled, as namedtuple's methods are: every payment goes this way. The names are ours.
    """
    scope: dict[str, Any] = {f"read{n}": asked.kind.from_json for n, asked in enumerate(fields)}
    values = [
        f"None if (value := get({asked.key!r})) is None else read{n}(value, {asked.name!r}),"
        for n, asked in enumerate(fields)
    ]
    read: Callable[[Getter], tuple[Any, ...]] = eval(f"lambda get: ({' '.join(values)})", scope)  # noqa: S307
    return read


# What the columns of the functions are, wherever they are answered.
_COLUMNS: Mapping[str, tuple[Kind, str]] = {
    "id": (INTEGER, "its number, by which it is asked for"),
    "name": (TEXT, "its name"),
    "scale": (INTEGER, "how many decimals its amounts may have"),
    "currency_id": (INTEGER, "the number of its currency"),
    "currency_name": (TEXT, "the name of its currency"),
    "amount": (AMOUNT, "how much"),
    "balance": (AMOUNT, "what was on the account after it"),
    "buyer_account_id": (INTEGER, "the account that pays"),
    "seller_account_id": (INTEGER, "the account that is paid"),
    "counterparty_account_id": (INTEGER, "the account on the other side"),
    "counterparty_name": (TEXT, "the name of the account on the other side"),
    "operation_timestamp": (MOMENT, "when it was made, in UTC"),
    "expires_at": (MOMENT, "when it ends by itself, in UTC"),
    "status": (TEXT, "active; frozen, which can be paid but pays nothing; or closed"),
    "held": (AMOUNT, "how much of the balance is held for payments to come"),
    "available": (AMOUNT, "how much it could pay now: balance and credit limit, without what is held"),
    "credit_limit": (AMOUNT, "how far below zero the balance may go"),
    "payment_id": (INTEGER, "the number of the payment"),
    "captured_amount": (AMOUNT, "how much of it was paid"),
    "description": (TEXT, "what it is for, as its maker said"),
    "reference": (TEXT, "what its maker knows it by"),
    "refunded_payment_id": (INTEGER, "the payment that this one gives back"),
    "refunded_amount": (AMOUNT, "how much of it has been given back"),
    "hold_id": (INTEGER, "the hold that it was made from"),
}


@dataclass(frozen=True)
class Shape:
    """An object that is answered: columns that are never NULL, then those that may be, and are left out if they are.

    `about` says of a column what it means here, where that is more than it means elsewhere.
    """

    name: str
    always: tuple[str, ...]
    sometimes: tuple[str, ...] = ()
    about: Mapping[str, str] = field(default_factory=dict)

    @property
    def columns(self) -> tuple[str, ...]:
        """All of them, in order."""
        return self.always + self.sometimes

    def schema(self) -> Schema:
        """The same in JSON Schema."""
        return {
            "type": "object",
            "properties": {
                wire_name(column): _COLUMNS[column][0].shown
                | {"description": self.about.get(column, _COLUMNS[column][1])}
                for column in self.columns
            },
            "required": [wire_name(column) for column in self.always],
        }
