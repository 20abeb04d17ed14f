"""A request that holds something unknown is refused by name, and nothing is done: a misspelt field never means "all"."""

import itertools
import json
from typing import Any

import httpx2
import pytest

from tests.http.examples import example
from tests.support import assert_refused, open_account, payment_body
from wallet_api.http.operations import ALL, Operation

_names = (f"strict {number}" for number in itertools.count())


def refusal(response: httpx2.Response) -> tuple[int, str, str | None]:
    """Status, code and field of a refusal in the contract's form."""
    assert list(response.json()) == ["Error"]
    return response.status_code, response.headers["error-code"], response.headers.get("error-field")


@pytest.fixture(scope="module")
def pair(api: httpx2.Client) -> dict[str, object]:
    return payment_body(*(open_account(api, next(_names), 1000) for _ in range(2)))


@pytest.fixture
def payment(api: httpx2.Client, pair: dict[str, object]) -> str:
    return f"/payment/{api.post('/payments', json=pair).json()['ID']}"


@pytest.fixture
def hold(api: httpx2.Client, pair: dict[str, object]) -> str:
    return f"/hold/{api.post('/holds', json=pair).json()['ID']}"


@pytest.mark.parametrize("field", ["Ammount", "Amount ", "RefundAmount", "amount_", "Ämount", ""])
def test_a_misspelt_amount_refunds_nothing(api: httpx2.Client, payment: str, field: str) -> None:
    response = api.post(f"{payment}/refund", json={field: "0.1"})
    assert refusal(response)[:2] == (400, "WH021")
    assert json.dumps(field) in response.json()["Error"]
    assert "RefundedAmount" not in api.get(payment).json()


def test_a_misspelt_amount_captures_nothing(api: httpx2.Client, hold: str) -> None:
    response = api.post(f"{hold}/capture", json={"CaptureAmount": "0.1"})
    assert refusal(response) == (400, "WH021", "CaptureAmount")
    assert api.get(hold).json()["Status"] == "open"


def test_a_misspelt_time_holds_nothing(api: httpx2.Client, pair: dict[str, object]) -> None:
    before = api.get(f"/account/{pair['BuyerAccountID']}?details=true").json()
    response = api.post("/holds", json=pair | {"expires_in": 60})
    assert refusal(response) == (400, "WH021", "expires_in")
    assert api.get(f"/account/{pair['BuyerAccountID']}?details=true").json() == before


def test_a_misspelt_opening_balance_opens_no_account(api: httpx2.Client) -> None:
    name = next(_names)
    response = api.post("/accounts", json={"Name": name, "CurrencyID": 1, "Balance": 5})
    assert refusal(response) == (400, "WH021", "Balance")
    assert api.get("/accounts", params={"name": name}).json() == {}


def test_a_misspelt_atomic_makes_no_payment(api: httpx2.Client, pair: dict[str, object]) -> None:
    before = api.get(f"/account/{pair['BuyerAccountID']}").json()
    response = api.post("/payments/batch", json={"Payments": [pair], "Atomci": True})
    assert refusal(response) == (400, "WH021", "Atomci")
    assert api.get(f"/account/{pair['BuyerAccountID']}").json() == before


@pytest.mark.parametrize("field", ["idempotency_key", "Idempotency-Key", "Key"])
def test_a_misspelt_idempotency_key_pays_nothing(api: httpx2.Client, pair: dict[str, object], field: str) -> None:
    before = api.get(f"/account/{pair['BuyerAccountID']}").json()
    asked = pair | {field: "once"}
    assert refusal(api.post("/payments", json=asked)) == (400, "WH021", field)
    [result] = api.post("/payments/batch", json={"Payments": [asked]}).json()["Results"]
    assert (result["Code"], result["Field"]) == ("WH021", field)
    together = api.post("/payments/batch", json={"Payments": [pair, asked], "Atomic": True})
    assert (together.status_code, together.json()["Index"]) == (400, 1)
    assert api.get(f"/account/{pair['BuyerAccountID']}").json() == before


@pytest.mark.parametrize(
    "header", ["X-Idempotency-Key", "IdempotencyKey", "Idempotency_Key", "Idempotency-Token", "x-idempotent"]
)
def test_a_header_that_looks_like_the_idempotency_key_is_refused_by_name(
    api: httpx2.Client, pair: dict[str, object], header: str
) -> None:
    before = api.get(f"/account/{pair['BuyerAccountID']}").json()
    for others in ({}, {"Idempotency-Key": "once"}):
        response = api.post("/payments", json=pair, headers={header: "once", **others})
        assert refusal(response) == (400, "WH044", header.lower())
    assert api.get(f"/account/{pair['BuyerAccountID']}").json() == before


@pytest.mark.parametrize("parameter", ["acount=1", "since=2020-01-01T00:00:00Z", "sort=desc", "Limit%20=1", "=1", "x"])
def test_a_misspelt_parameter_lists_nothing(api: httpx2.Client, parameter: str) -> None:
    response = api.get(f"/payments?{parameter}")
    assert refusal(response)[:2] == (400, "WH022")


def asked(operation: Operation) -> dict[str, Any]:
    required = {field.name: example(operation)[field.name] for field in operation.body or () if field.required}
    return {"json": required} if operation.body is not None else {}


@pytest.mark.parametrize("operation", ALL.values(), ids=lambda operation: operation.name)
def test_every_operation_refuses_an_unknown_parameter(api: httpx2.Client, operation: Operation) -> None:
    path = operation.path.replace("{id}", "1")
    response = api.request(operation.method, f"{path}?Unknown=1", **asked(operation))
    assert refusal(response) == (400, "WH022", "Unknown")
    assert '"Unknown"' in response.json()["Error"]


@pytest.mark.parametrize(
    "operation", [found for found in ALL.values() if found.body is not None], ids=lambda found: found.name
)
def test_every_operation_refuses_an_unknown_field(api: httpx2.Client, operation: Operation) -> None:
    path = operation.path.replace("{id}", "1")
    for content in ({"Unknown": 1}, asked(operation)["json"] | {"Unknown": None}):
        assert refusal(api.request(operation.method, path, json=content)) == (400, "WH021", "Unknown")


# Clients of the original service may send the whole object that they want to create.


def test_the_other_fields_of_a_payment_are_ignored(api: httpx2.Client, pair: dict[str, object]) -> None:
    others = {"ID": "x", "CurrencyID": {}, "CurrencyName": 7, "operationtimestamp": None}
    made = api.post("/payments", json=pair | others)
    assert made.status_code == 200
    assert made.json()["CurrencyID"] == 1
    [result] = api.post("/payments/batch", json={"Payments": [pair | {"ID": 0}]}).json()["Results"]
    assert (result["Code"], result["Field"]) == ("WH021", "ID")


def test_the_other_fields_of_an_account_are_ignored(api: httpx2.Client) -> None:
    asked = {"ID": 0, "Name": next(_names), "CurrencyID": 1, "CurrencyName": "RUB", "Amount": "5"}
    made = api.post("/accounts", json=asked)
    assert made.status_code == 200
    found = api.get(made.headers["location"]).json()
    assert (found["Name"], found["CurrencyName"], found["Amount"]) == (asked["Name"], "USD", "5")


# How an unknown name is told.


def test_a_name_is_told_in_printable_ascii_and_cut_where_it_is_long(
    api: httpx2.Client, pair: dict[str, object]
) -> None:
    for name, told in [
        ("\u202e\x1b[2J", '"\\u202e\\u001b[2J"'),
        ("ä" * 1000, '"' + "\\u00e4" * 64 + '\\u2026"'),
        ("\ud800", '"\\ud800"'),
        ('"', '"\\""'),
    ]:
        response = api.post("/payments", content=json.dumps(pair | {name: 1}))
        assert refusal(response) == (400, "WH021", '"' if name == '"' else None)
        assert response.json()["Error"].startswith(f"Unknown field {told}. Known fields: BuyerAccountID, ")


def test_the_known_ones_are_told(api: httpx2.Client) -> None:
    assert_refused(api.get("/livez?x"), "WH022", name='"x"', known="none")
    assert api.get("/account/1?when=1").json()["Error"].endswith("Known parameters: at, details")
