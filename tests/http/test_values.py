"""The contract's table of values: what may be sent, in which forms, and how it comes back."""

from itertools import count

import httpx2
import pytest

from tests.support import assert_refused

_names = (f"values {number}" for number in count())


def opened_with(api: httpx2.Client, amount: str) -> str:
    """Creates an account with an amount as it stands in the body, and reads it back."""
    response = api.post("/accounts", content=f'{{"Name":"{next(_names)}","Amount":{amount},"CurrencyID":1}}')
    assert response.status_code == 200, response.text
    return str(api.get(response.headers["location"]).json()["Amount"])


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("500.1", "500.1"),
        ('"500.1"', "500.1"),
        ("1e3", "1000"),
        ('"1E-3"', "0.001"),
        ("1000.0", "1000"),
        ("0", "0"),
        ("-0", "0"),
        ("-0.0", "0"),
        ("0e-9999999", "0"),
        ('"0.00000001"', "0.00000001"),
        ("0.1", "0.1"),
        ("0.000000000000001", "0.000000000000001"),
        ("999999999999999.999999999999999", "999999999999999.999999999999999"),
        ('"999999999999999.999999999999999"', "999999999999999.999999999999999"),
        ("123456789012345.123456789012345", "123456789012345.123456789012345"),
        ("9007199254740.993", "9007199254740.993"),
        ('"1.50000000000000000000000"', "1.5"),
        ('"00012"', "12"),
        ('"+5"', "5"),
        ('".5"', "0.5"),
        ('"5."', "5"),
        ('"1e+2"', "100"),
    ],
)
def test_amounts_are_read_exactly_and_written_plainly(api: httpx2.Client, sent: str, shown: str) -> None:
    assert opened_with(api, sent) == shown


WRONG_AMOUNTS = [
    "1e15", "1000000000000000", "0.0000000000000001", "1.0000000000000001", "1e400", "1e-400", "1e5000", "1e-5000",
    "1e99999999999999999999", "1e-99999999999999999999", "9" * 100, "9" * 5000, "0." + "1" * 20000,
    "NaN", "Infinity", "-Infinity", '"NaN"', '"nan"', '"sNaN"', '"Infinity"', '"inf"', '"abc"', '""', '" 1"', '"1 "', '"1_000"', '"1,5"', '"0x10"',
    '"\\u0661"', '"1\\u0000"', '"\\ud800"', "true", "false", "{}", "[]", "[1]", '{"a":1}',
]  # fmt: skip


@pytest.mark.parametrize("amount", WRONG_AMOUNTS, ids=lambda amount: amount[:24])
def test_what_is_no_amount_is_refused_naming_field_and_limit(api: httpx2.Client, amount: str) -> None:
    for path, others in (
        ("/accounts", '"Name":"x","CurrencyID":1'),
        ("/payments", '"BuyerAccountID":1,"SellerAccountID":2'),
    ):
        assert_refused(api.post(path, content=f'{{{others},"Amount":{amount}}}'), "WB003")


@pytest.mark.parametrize("amount", ["-1e5000", "-1e-5000", "-" + "9" * 5000, "-1e15"])
def test_what_is_negative_is_refused_for_that_first(api: httpx2.Client, amount: str) -> None:
    payment = f'{{"BuyerAccountID":1,"SellerAccountID":2,"Amount":{amount}}}'
    assert_refused(api.post("/payments", content=payment), "WB002")
    account = f'{{"Name":"x","CurrencyID":1,"Amount":{amount}}}'
    assert_refused(api.post("/accounts", content=account), "WB012")


@pytest.mark.parametrize("wrong", ["1.0", "1.5", "1e0", '"1"', "true", "{}", "[1]", "9223372036854775808", "9" * 5000])
@pytest.mark.parametrize("field", ["BuyerAccountID", "SellerAccountID"])
def test_an_id_is_a_64_bit_integer_and_nothing_else(api: httpx2.Client, field: str, wrong: str) -> None:
    other = {"BuyerAccountID": "SellerAccountID", "SellerAccountID": "BuyerAccountID"}[field]
    body = f'{{"{field}":{wrong},"{other}":1,"Amount":1}}'
    assert_refused(api.post("/payments", content=body), "WH031", field=field)


@pytest.mark.parametrize("currency", ["1.0", '"1"', "true"])
def test_a_currency_s_id_too(api: httpx2.Client, currency: str) -> None:
    response = api.post("/accounts", content=f'{{"Name":"x","CurrencyID":{currency}}}')
    assert_refused(response, "WH031", field="CurrencyID")


@pytest.mark.parametrize("edge", ["9223372036854775807", "-9223372036854775808", "0", "-1"])
def test_ids_at_the_edges_are_ids_of_nothing(api: httpx2.Client, edge: str) -> None:
    payment = f'{{"BuyerAccountID":{edge},"SellerAccountID":1,"Amount":1}}'
    assert_refused(api.post("/payments", content=payment), "WB004")
    assert_refused(api.get(f"/account/{edge}"), "WN001")


def test_names_of_fields_match_whatever_their_case(api: httpx2.Client) -> None:
    response = api.post("/accounts", content='{"nAME":"cased","AMOUNT":"7","CurrencyId":2}')
    assert response.status_code == 200
    account = api.get(response.headers["location"]).json()
    assert (account["Name"], account["Amount"], account["CurrencyName"]) == ("cased", "7", "RUB")


@pytest.mark.parametrize(
    ("body", "amount"),
    [
        ('"Amount":1,"Amount":2', "2"),
        ('"Amount":1,"amount":2', "2"),
        ('"Amount":1,"amount":2,"Amount":3', "3"),
        ('"amount":5,"AMOUNT":null', "0"),
    ],
)
def test_the_last_of_two_equal_fields_wins(api: httpx2.Client, body: str, amount: str) -> None:
    response = api.post("/accounts", content=f'{{"Name":"{next(_names)}","CurrencyID":1,{body}}}')
    assert api.get(response.headers["location"]).json()["Amount"] == amount


@pytest.mark.parametrize("name", ["ä", "Ω 漢字", "\U0001f4b0", 'quote " backslash \\', "<b>&amp;</b>", "a  b"])
def test_names_come_back_as_they_were_sent(api: httpx2.Client, name: str) -> None:
    response = api.post("/accounts", json={"Name": name, "CurrencyID": 1})
    assert api.get(response.headers["location"]).json()["Name"] == name


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "", "application/json; charset=latin1"]
)
def test_the_request_s_content_type_is_not_looked_at(api: httpx2.Client, content_type: str) -> None:
    body = f'{{"Name":"{next(_names)}","CurrencyID":1}}'
    assert api.post("/accounts", content=body, headers={"Content-Type": content_type}).status_code == 200
