"""The fields of requests: parses each value from JSON or from a URL. The rulebook decides whether the value is allowed.

An amount that is not a number is passed on as NaN, so that the rulebook refuses it like any other malformed amount.
Only values that PostgreSQL cannot represent (a fraction as an ID, a NUL in a text) are refused here.
"""

import datetime
import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple, NoReturn

from psycopg.types.numeric import Int8

from wallet_api.http import codec, refusals
from wallet_api.http.codec import NAN, number
from wallet_api.http.refusals import Refusal, Refused

# Leading zeros are skipped, because Python does not parse numbers with thousands of digits.
_INTEGER = re.compile(r"([+-]?)0*([0-9]{1,19})")
# No two parts can match the same digits, which would backtrack exponentially.
DECIMAL = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
# RFC 3339. In a URL, an unescaped plus sign arrives as a space.
_MOMENT = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2}):([0-9]{2})(\.[0-9]+)?([Zz]|[ +-][0-9]{2}:[0-9]{2})"
)
# JSON that is not an object or an array.
_SCALAR = re.compile(r'true|false|null|".*"|-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?', re.DOTALL)
MOMENT = "timestamp with time zone"
# The most payments that a batch may have.
MOST_PAYMENTS = 10_000


class Kind(NamedTuple):
    """How a type is parsed: from a JSON value, and from a text in a URL. Both take the field's name for refusals."""

    from_json: Callable[[Any, str], Any]
    from_text: Callable[[str, str], Any]


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
        return number(value) if DECIMAL.fullmatch(value) else NAN
    if isinstance(value, Decimal):
        return value
    return Decimal(value) if type(value) is int else NAN


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


def _json(value: Any, name: str) -> str:
    """The JSON text of a value, with its numbers as they were sent."""
    try:
        return _json_text(value, name)
    except RecursionError:
        raise Refused(refusals.BODY_TOO_DEEP) from None


def _json_text(value: Any, name: str) -> str:
    if isinstance(value, dict):
        value = codec.Fields([*value.items()])
    if isinstance(value, codec.Fields):
        members = [f"{_json_text(key, name)}:{_json_text(item, name)}" for key, item in value.pairs]
        return f"{{{','.join(members)}}}"
    if isinstance(value, list):
        return f"[{','.join([_json_text(item, name) for item in value])}]"
    if isinstance(value, str):
        return codec.encode(_text(value, name))
    if isinstance(value, Decimal):
        return str(value) if value.is_finite() else _refuse(name, refusals.NOT_FINITE)
    return codec.encode(value)


def json_in_query(query: codec.Fields, name: str) -> str | None:
    """The JSON text of an object in a query, whole (name={"a":{"b":17}}) or by members (name.a.b=17); None for none."""
    text = query.get(name)
    members = [(path.split(".")[1:], member) for path, member in query.pairs if path.lower().startswith(f"{name}.")]
    if text is None and not members:
        return None
    try:
        whole = codec.json_value(text) if text is not None else {}
        for path, member in members:
            _put(whole, path, _member(member))
        return _json_text(whole, name)
    except (ValueError, RecursionError):
        raise Refused(refusals.NOT_JSON_IN_QUERY, name) from None


def _put(whole: Any, path: Sequence[str], member: Any) -> None:
    """Puts a member into an object; raises ValueError if another member is in its way, or its path has an empty key."""
    for key in path[:-1]:
        whole = whole.setdefault(key, {}) if isinstance(whole, dict) else None
    if not isinstance(whole, dict) or isinstance(whole.get(path[-1]), dict) or "" in path:
        raise ValueError(path)
    whole[path[-1]] = member


def _member(text: str) -> Any:
    """The value of a member: the JSON of a number, a quoted string, true, false or null; else the text as it is."""
    try:
        return codec.json_value(text) if _SCALAR.fullmatch(text) else text
    except ValueError:
        return text


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


def _texts(value: Any, name: str) -> list[str]:
    return [_text(element, name) for element in _array(value, name)]


def _integers(value: Any, name: str) -> list[Int8]:
    return [_integer(element, name) for element in _array(value, name)]


def _array(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        _refuse(name, refusals.NOT_AN_ARRAY)
    return value


def _payments(value: Any, name: str) -> list[Any]:
    payments = _array(value, name)
    if len(payments) > MOST_PAYMENTS:
        raise Refused(refusals.TOO_MANY_ELEMENTS, name, limit=MOST_PAYMENTS)
    return payments


# By type, as the database's catalogue names it; payments are the elements of a batch.
KINDS = {
    "bigint": Kind(_integer, _integer_in_url),
    "numeric": Kind(_amount, _amount),
    "text": Kind(_text, _text),
    "boolean": Kind(_boolean, _boolean_in_url),
    MOMENT: Kind(_moment, _moment),
    "jsonb": Kind(_json, _json),
    "text[]": Kind(_texts, _texts),
    "bigint[]": Kind(_integers, _integers),
    "payments": Kind(_payments, _payments),
}


@dataclass(frozen=True)
class Field:
    """A field of a request. `argument` is the SQL function's, without p_; "" if there is none.

    `required` only says whether a request may have no body: the rulebook refuses NULL. A missing field is passed as
    NULL; with `defaults`, it is not passed, so that the function's default applies.
    """

    name: str
    type: str
    argument: str
    required: bool = False
    defaults: bool = False

    @functools.cached_property
    def key(self) -> str:
        """The name in lower case, as Fields.get takes it."""
        return self.name.lower()


class Reader:
    """Reads the fields of a JSON object. Refuses any others, but those `ignored`."""

    def __init__(self, fields: Sequence[Field], ignored: Sequence[str] = ()) -> None:
        self.names = [field.name for field in fields]
        self._known = frozenset(name.lower() for name in (*self.names, *ignored))
        self._fields = [(field.key, field.name, KINDS[field.type].from_json) for field in fields]

    def read(self, given: codec.Fields) -> list[Any]:
        """The values of the fields, in order; a missing or null field is None."""
        given.refuse_unknown(self._known, refusals.UNKNOWN_FIELD, self.names)
        get = given.get
        return [None if (value := get(key)) is None else read(value, name) for key, name, read in self._fields]
