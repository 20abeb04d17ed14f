"""JSON in, JSON out: parses a request's body into fields, and turns a function's rows into objects."""

import functools
import json
import re
from collections.abc import Callable, Iterable, Sequence, Set
from decimal import Decimal, InvalidOperation
from json.encoder import encode_basestring
from typing import Any
from urllib.parse import parse_qsl

from wallet_api.database.pool import Rows
from wallet_api.http import refusals
from wallet_api.http.refusals import Refusal, Refused

NAN = Decimal("NaN")
# OIDs of types
_BOOLEAN, _BIGINT, _NUMERIC, _TIMESTAMPTZ, _JSONB = 16, 20, 1700, 1184, 3802
_TEXTS, _BIGINTS = 1009, 1016  # arrays
_MOMENT = len("2019-06-13 03:21:29.933672+00")
# characters to be escaped within a JSON string
_SPECIAL = re.compile(r'["\\\x00-\x1f]')
# Characters of an unknown name that a refusal shows.
_MOST_SHOWN = 64
# Far more than any amount has, far fewer than PostgreSQL's numeric holds.
_MOST_DIGITS = 1000


def number(text: str) -> Decimal:
    """Parses a decimal exactly. One with too many digits becomes infinite; a text that is no number, NaN."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        return NAN
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int):
        return NAN
    if value == 0:
        return Decimal(0)
    if exponent < -_MOST_DIGITS or value.adjusted() > _MOST_DIGITS:
        return Decimal("Infinity").copy_sign(value)
    return value


def _whole_number(text: str) -> int | Decimal:
    return int(text) if len(text) <= 20 else number(text)


class Fields:
    """The fields of a JSON object or of a query string. Names are case-insensitive; the last of two equal ones wins.

    `get` and `refuse_unknown` take names in lower case. wallet_api.http.fields validates the values.
    """

    __slots__ = ("_values", "get", "pairs")

    def __init__(self, pairs: Sequence[tuple[str, Any]]) -> None:
        self.pairs = pairs
        self._values = {name.lower(): value for name, value in pairs}
        self.get: Callable[[str], Any] = self._values.get

    def refuse_unknown(self, known: Set[str], refusal: Refusal, shown: Sequence[str]) -> None:
        """Raises the refusal for the first unknown field. `shown` are the names that the refusal lists."""
        if self._values.keys() <= known:
            return
        name = next(name for name, _ in self.pairs if name.lower() not in known)
        raise Refused(refusal, name, name=printable(name), known=", ".join(shown) or "none")


_DECODER = json.JSONDecoder(
    object_pairs_hook=Fields, parse_float=number, parse_int=_whole_number, parse_constant=number
)


def is_empty(body: bytes) -> bool:
    """Whether a body has nothing but JSON's blanks. strip() without them would remove others, too."""
    return not body.strip(b" \t\r\n")


def decode(body: bytes) -> Fields:
    """Parses a body. Refuses anything but one JSON object, and says what is wrong and where."""
    if is_empty(body):
        raise Refused(refusals.BODY_EMPTY)
    try:
        value = _DECODER.decode(body.decode())
    except UnicodeDecodeError as error:
        raise Refused(refusals.BODY_NOT_UTF8, byte=error.start) from None
    except json.JSONDecodeError as error:
        raise Refused(refusals.BODY_NOT_JSON, reason=error) from None
    except RecursionError:
        raise Refused(refusals.BODY_TOO_DEEP) from None
    if not isinstance(value, Fields):
        raise Refused(refusals.BODY_NOT_OBJECT)
    return value


def json_value(text: str) -> Any:
    """Parses a JSON text. Raises ValueError if it is none, RecursionError if it is nested too deeply."""
    return _DECODER.decode(text)


def decode_query(query: bytes) -> Fields:
    """Parses the query string of a URL. Refuses one that is not UTF-8."""
    try:
        pairs = parse_qsl(query.decode(), keep_blank_values=True, errors="strict")
    except UnicodeDecodeError:
        raise Refused(refusals.QUERY_NOT_UTF8) from None
    return Fields(pairs)


def printable(name: str) -> str:
    """A name as an ASCII JSON string, truncated if it is long."""
    return json.dumps(name if len(name) <= _MOST_SHOWN else f"{name[:_MOST_SHOWN]}…")


def encode(value: object) -> str:
    """Writes compact JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def array(values: Iterable[int | Decimal | None]) -> str:
    """Writes numbers as a PostgreSQL array."""
    return f"{{{','.join(['NULL' if value is None else str(value) for value in values])}}}"


def text_array(values: Iterable[str | None]) -> str:
    """Writes texts as a PostgreSQL array."""
    return f"{{{','.join(['NULL' if value is None else _quoted(value) for value in values])}}}"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def objects(rows: Rows) -> list[str]:
    """Each row as a JSON object, with the contract's field names (buyer_account_id: BuyerAccountID).

    NULLs are left out. Works by column, because lists may have a million rows.
    """
    columns: list[Sequence[str]] = []
    members: list[str] = []
    for about, column in zip(rows.columns, zip(*rows.values, strict=True), strict=False):
        convert, member = _encoding(about)
        missing = column.count(None) if None in column else 0
        if not missing:
            columns.append(convert(column))
            members.append(member)
        elif missing < len(column):
            columns.append(["" if value is None else member % convert([value])[0] for value in column])
            members.append("%s")
    if not columns:
        return ["{}"] * len(rows.values)
    template = "".join(members)
    if template.startswith(","):
        template = f"{{{template[1:]}}}"
        return [template % values for values in zip(*columns, strict=True)]
    # The first member is not in every row: where it is missing, the comma is that of the second one.
    return [f"{{{(template % values)[1:]}}}" for values in zip(*columns, strict=True)]


@functools.cache
def _encoding(column: tuple[str, int]) -> tuple[Callable[[Sequence[str]], Sequence[str]], str]:
    """The converter of a column's values, and the template of its member in an object, which begins with a comma."""
    name, type_oid = column
    quote = "" if type_oid in (_BOOLEAN, _BIGINT, _JSONB, _TEXTS, _BIGINTS) else '"'
    return _CONVERT.get(type_oid, _texts), f',"{wire_name(name)}":{quote}%s{quote}'


def _as_they_are(values: Sequence[str]) -> Sequence[str]:
    return values


def _booleans(values: Sequence[Any]) -> Sequence[str]:
    return ["true" if value else "false" for value in values]


def _texts(values: Sequence[str]) -> Sequence[str]:
    """Texts, escaped for JSON strings; few need it."""
    if _SPECIAL.search("".join(values)) is None:
        return values
    return [encode_basestring(value)[1:-1] for value in values]


def _moments(values: Sequence[str]) -> Sequence[str]:
    """Timestamps in RFC 3339, with all six decimals of the seconds; PostgreSQL omits trailing zeros."""
    return [
        f"{value[:10]}T{value[11:26]}Z" if len(value) == _MOMENT else f"{value[:10]}T{value[11:19]}.{value[20:-3]:0<6}Z"
        for value in values
    ]


def _arrays_of_texts(values: Sequence[list[str]]) -> Sequence[str]:
    return [encode(value) for value in values]


def _arrays_of_integers(values: Sequence[list[str]]) -> Sequence[str]:
    return [f"[{','.join(value)}]" for value in values]


# by type OID; all other types are text
_CONVERT: dict[int, Callable[[Sequence[Any]], Sequence[str]]] = {
    _BOOLEAN: _booleans,
    _BIGINT: _as_they_are,
    _NUMERIC: _as_they_are,
    _JSONB: _as_they_are,
    _TIMESTAMPTZ: _moments,
    _TEXTS: _arrays_of_texts,
    _BIGINTS: _arrays_of_integers,
}


_ABBREVIATIONS = {"id": "ID", "ids": "IDs"}


@functools.cache
def wire_name(column: str) -> str:
    """The contract's field name for a column."""
    return "".join(_ABBREVIATIONS.get(word) or word.capitalize() for word in column.split("_"))


def column_name(name: str) -> str:
    """The column or argument for a field name of the contract (BuyerAccountID: buyer_account_id)."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
