"""JSON in, JSON out: turns a request's body into typed values, and a function's rows into fields.

What a value means is not judged here. What is no number at all goes to the rulebook as NaN, which refuses
it in the words that it has for every amount of the wrong form; only what no PostgreSQL value could carry (a
fraction as an id, a NUL in a text) is refused on the way.
"""

import functools
import json
import re
from collections.abc import Iterable, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

from psycopg.types.numeric import Int8
from starlette.exceptions import HTTPException

# Leading zeros apart: Python refuses to read numbers of thousands of digits.
_INTEGER = re.compile(r"([+-]?)0*([0-9]{1,19})")
_DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_NAN = Decimal("NaN")
_INTEGER_TYPES = (20, 21, 23)  # OIDs of bigint, smallint, integer
# Far beyond any amount, far within what PostgreSQL's numeric holds.
_MOST_DIGITS = 1000


def _number(text: str) -> Decimal:
    """Reads a decimal exactly; one with more digits than PostgreSQL's numeric could hold becomes infinite."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        return _NAN
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int):
        return _NAN
    if value == 0:
        return Decimal(0)
    if exponent < -_MOST_DIGITS or value.adjusted() > _MOST_DIGITS:
        return Decimal("Infinity").copy_sign(value)
    return value


def _whole_number(text: str) -> int | Decimal:
    return int(text) if len(text) <= 20 else _number(text)


class Fields:
    """The fields of a JSON object. Their names match whatever their case; the last of two equal ones wins."""

    def __init__(self, pairs: Iterable[tuple[str, Any]]) -> None:
        self._values = {name.lower(): value for name, value in pairs}

    def integer(self, name: str) -> Int8 | None:
        """A 64-bit integer, or None where it is missing or null. Anything else is refused."""
        value = self._values.get(name.lower())
        if value is None:
            return None
        if type(value) is not int or not -(2**63) <= value < 2**63:
            raise HTTPException(400, f"{name} should be a 64-bit integer")
        return Int8(value)

    def decimal(self, name: str) -> Decimal | None:
        """A decimal number given as a JSON number or string; None where it is missing or null; else NaN."""
        value = self._values.get(name.lower())
        if isinstance(value, str):
            return _number(value) if _DECIMAL.fullmatch(value) else _NAN
        if value is None or isinstance(value, Decimal):
            return value
        return Decimal(value) if type(value) is int else _NAN

    def text(self, name: str) -> str | None:
        """A string that PostgreSQL can hold, or None where it is missing or null. Anything else is refused."""
        value = self._values.get(name.lower())
        if value is None:
            return None
        if not isinstance(value, str):
            raise HTTPException(400, f"{name} should be a string")
        if "\0" in value:
            raise HTTPException(400, f"{name} should not contain a NUL character")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise HTTPException(400, f"{name} should not contain half of a surrogate pair") from None
        return value


_DECODER = json.JSONDecoder(
    object_pairs_hook=Fields, parse_float=_number, parse_int=_whole_number, parse_constant=_number
)


def decode(body: bytes) -> Fields:
    """Reads a body that should be one JSON object. Refuses anything else, saying what is wrong and where."""
    if not body.strip():
        raise HTTPException(400, "The body is empty; it should be a JSON object")
    try:
        value = _DECODER.decode(body.decode())
    except UnicodeDecodeError as error:
        raise HTTPException(400, f"The body is not valid UTF-8: byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise HTTPException(400, f"The body is not valid JSON: {error}") from None
    except RecursionError:
        raise HTTPException(400, "The body is nested too deeply") from None
    if not isinstance(value, Fields):
        raise HTTPException(400, "The body should be a JSON object")
    return value


def path_id(text: str) -> Int8:
    """Reads an id in a URL."""
    match = _INTEGER.fullmatch(text)
    value = int(match[1] + match[2]) if match else None
    if value is None or not -(2**63) <= value < 2**63:
        raise HTTPException(400, "The ID in the URL should be a 64-bit integer")
    return Int8(value)


def encode(value: object) -> bytes:
    """Writes JSON, compact, in UTF-8."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def array(values: Iterable[int | Decimal | None]) -> str:
    """Writes numbers as a PostgreSQL array."""
    return f"{{{','.join(['NULL' if value is None else str(value) for value in values])}}}"


class Rows(NamedTuple):
    """What a function returned: columns, each a name and the OID of its type, and rows.

    Values are integers, and all else as it stands within a JSON string.
    """

    columns: tuple[tuple[str, int], ...]
    values: Sequence[tuple[Any, ...]]

    def objects(self) -> list[str]:
        """Each row as a JSON object, its fields as the contract spells them (buyer_account_id: BuyerAccountID)."""
        forms = _forms(self.columns)
        template = f"{{{','.join(forms)}}}"
        return [template % row if None not in row else _with_nulls(forms, row) for row in self.values]


@functools.cache
def _forms(columns: tuple[tuple[str, int], ...]) -> list[str]:
    """How each column is written."""
    return [f'"{_wire_name(name)}":' + ("%s" if type_oid in _INTEGER_TYPES else '"%s"') for name, type_oid in columns]


def _with_nulls(forms: list[str], row: tuple[Any, ...]) -> str:
    fields = [
        form.replace('"%s"', "%s") % "null" if value is None else form % value
        for form, value in zip(forms, row, strict=True)
    ]
    return f"{{{','.join(fields)}}}"


def _wire_name(column: str) -> str:
    return "".join("ID" if word == "id" else word.capitalize() for word in column.split("_"))
