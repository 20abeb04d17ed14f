"""Whatever bytes arrive, the decoder returns fields or says what is wrong, and never changes a number."""

import json
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from wallet_api.database.pool import Rows
from wallet_api.http import codec
from wallet_api.http.fields import Field, Reader
from wallet_api.http.refusals import Refused

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.decimals().map(str),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=10,
)
# digits and an exponent, as a client may write them
numbers = st.builds(
    "{}{}.{}e{}".format,
    st.sampled_from(["", "-"]),
    st.integers(0, 10**20),
    st.text("0123456789", min_size=1, max_size=20),
    st.integers(-40, 40),
)


_reader = Reader(
    [
        Field("ID", "bigint", ""),
        Field("Amount", "numeric", ""),
        Field("Name", "text", ""),
        Field("Metadata", "jsonb", ""),
    ]
)


def read(body: bytes) -> list[Any] | Refused:
    """What an operation would read of a body: a value of each type, or the refusal."""
    try:
        return _reader.read(codec.decode(body))
    except Refused as refusal:
        return refusal


@given(st.binary(max_size=200))
def test_any_bytes_are_fields_or_a_refusal(body: bytes) -> None:
    outcome = read(body)
    if isinstance(outcome, Refused):
        assert outcome.error.status == 400
        assert outcome.error.sentence


@given(st.dictionaries(st.sampled_from(["ID", "Amount", "Name", "name", "AMOUNT", "Metadata", "Other"]), json_values))
def test_any_values_are_fields_or_a_refusal_that_names_the_field(body: dict[str, Any]) -> None:
    outcome = read(json.dumps(body).encode())
    if isinstance(outcome, Refused):
        assert outcome.error.status == 400
        right = '"Other"' if outcome.error.field == "Other" else f"{outcome.error.field} should"
        assert right in outcome.error.sentence
    assert isinstance(outcome, Refused) or "Other" not in body


@given(numbers)
def test_a_number_is_read_exactly_as_a_number_and_as_a_string(number: str) -> None:
    for form in (number, f'"{number}"'):
        outcome = read(f'{{"Amount":{form}}}'.encode())
        assert isinstance(outcome, list)
        assert outcome[1].as_tuple() == Decimal(number).as_tuple() or (outcome[1] == 0 and Decimal(number) == 0)


@given(st.integers())
def test_an_integer_is_an_id_exactly_if_it_has_64_bits(number: int) -> None:
    outcome = read(f'{{"ID":{number}}}'.encode())
    if -(2**63) <= number < 2**63:
        assert isinstance(outcome, list)
        assert outcome[0] == number
    else:
        assert isinstance(outcome, Refused)


@given(json_values)
def test_what_is_written_is_read_back(value: Any) -> None:
    text = json.dumps(value)
    if "\\ud" not in text:
        assert json.dumps(json.loads(codec.encode(value))) == text


@given(st.dictionaries(st.text(), json_values | numbers.map(Decimal)))
def test_json_is_passed_on_as_it_is_or_refused(value: dict[str, Any]) -> None:
    sent = json.dumps(value, default=lambda number: f"decimal {number}")
    sent = re.sub('"decimal ([^"]*)"', r"\1", sent)
    outcome = read(f'{{"Metadata":{sent}}}'.encode())
    if isinstance(outcome, Refused):
        assert outcome.error.field == "Metadata"
        assert re.search(r"NaN|Infinity|\\u0000|\\ud[89a-f]", sent)
    else:
        assert exactly(outcome[3]) == exactly(sent)


def exactly(text: str) -> Any:
    """JSON with its numbers as decimals."""
    return json.loads(text, parse_float=Decimal, parse_int=Decimal)


def test_json_that_is_nested_too_deeply_is_refused() -> None:
    outcomes = [read(f'{{"Metadata":{"[" * depth}{"]" * depth}}}'.encode()) for depth in range(100, 1100, 10)]
    assert {outcome.error.code for outcome in outcomes if isinstance(outcome, Refused)} == {"WH017"}
    assert isinstance(outcomes[0], list)


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


column = st.none() | texts


@given(
    st.lists(st.tuples(st.none() | st.integers(0, 2**63 - 1).map(str), column, column))
    | st.lists(st.tuples(st.just("7"), st.none(), texts))
)
def test_rows_are_written_as_json_without_what_is_null(rows: list[tuple[str | None, ...]]) -> None:
    columns = (("account_id", 20), ("name", 25), ("currency_name", 25), ("metadata", 3802))
    rows = [(*row, row[0] and f'{{"number": {row[0]}}}') for row in rows]
    shown: list[tuple[str, Callable[[str], Any]]] = [
        ("AccountID", int),
        ("Name", str),
        ("CurrencyName", str),
        ("Metadata", json.loads),
    ]
    expected = [
        {name: read(value) for (name, read), value in zip(shown, row, strict=True) if value is not None} for row in rows
    ]
    assert [json.loads(row) for row in codec.objects(Rows(columns, rows))] == expected
