"""Payments that are given back, and payments that are held for: the shapes, the keys and the refusals."""

import itertools
import json
from typing import Any

import httpx2
import pytest

from tests.support import open_account

_numbers = itertools.count()
PAYMENT = ["ID", "CurrencyID", "Amount", "BuyerAccountID", "SellerAccountID", "OperationTimestamp"]
HOLD = [*PAYMENT, "ExpiresAt", "Status"]
KEY = "Idempotency-Key"


@pytest.fixture(scope="module")
def pair(api: httpx2.Client) -> tuple[int, int]:
    return open_account(api, "refunds buyer", "1e6"), open_account(api, "refunds seller", "1e6")


@pytest.fixture
def key() -> str:
    return f"refunds {next(_numbers)}"


def asked(pair: tuple[int, int], amount: object, **fields: Any) -> dict[str, Any]:
    return {"BuyerAccountID": pair[0], "SellerAccountID": pair[1], "Amount": amount, **fields}


def post(api: httpx2.Client, path: str, fields: object = None, key: str | None = None) -> httpx2.Response:
    headers = {} if key is None else {KEY: key}
    return api.post(path, content=b"" if fields is None else json.dumps(fields), headers=headers)


def made(response: httpx2.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def refusal(response: httpx2.Response) -> tuple[int, str]:
    assert list(response.json()) == ["Error"]
    return response.status_code, response.json()["Error"]


def balances(api: httpx2.Client, pair: tuple[int, int]) -> list[tuple[str, str]]:
    accounts = [api.get(f"/account/{id_}?details=true").json() for id_ in pair]
    return [(account["Amount"], account["Available"]) for account in accounts]


@pytest.mark.parametrize("body", [b"", b" \n", b"{}", b'{"Amount":null}', b'{"Amount":"10"}'])
def test_a_refund_gives_all_back_unless_it_says_how_much(
    api: httpx2.Client, pair: tuple[int, int], body: bytes
) -> None:
    before = balances(api, pair)
    payment = made(post(api, "/payments", asked(pair, 10)))
    response = api.post(f"/payment/{payment['ID']}/refund", content=body)
    refund = made(response)
    assert list(refund) == [*PAYMENT, "RefundedPaymentID"]
    assert (refund["Amount"], refund["BuyerAccountID"], refund["SellerAccountID"]) == ("10", pair[1], pair[0])
    assert refund["RefundedPaymentID"] == payment["ID"]
    assert "idempotency-replayed" not in response.headers
    assert balances(api, pair) == before


def test_refunds_in_parts(api: httpx2.Client, pair: tuple[int, int]) -> None:
    payment = made(post(api, "/payments", asked(pair, 10, Description="of ten", Reference="r")))
    path = f"/payment/{payment['ID']}"
    first = made(post(api, f"{path}/refund", {"amount": 4, "DESCRIPTION": "broken", "reference": "back"}))
    assert list(first) == [*PAYMENT, "Description", "Reference", "RefundedPaymentID"]
    found = made(api.get(path))
    assert list(found) == [
        *PAYMENT[:2],
        "CurrencyName",
        *PAYMENT[2:],
        "Description",
        "Reference",
        "RefundedAmount",
    ]
    assert (found["Amount"], found["RefundedAmount"]) == ("10", "4")
    assert refusal(post(api, f"{path}/refund", {"Amount": 6.01})) == (400, "Refunds should not exceed the payment")
    assert made(post(api, f"{path}/refund"))["Amount"] == "6"
    assert refusal(post(api, f"{path}/refund")) == (400, "Refunds should not exceed the payment")
    assert refusal(post(api, f"/payment/{first['ID']}/refund")) == (400, "A refund cannot be refunded")
    assert made(api.get(f"/payment/{first['ID']}"))["RefundedPaymentID"] == payment["ID"]


@pytest.mark.parametrize(
    ("path", "method", "status", "sentence"),
    [
        ("/payment/4611686018427387904", "GET", 404, "Payment not found"),
        ("/payment/4611686018427387904/refund", "POST", 404, "Payment not found"),
        ("/payment/x", "GET", 400, "The ID in the URL should be a 64-bit integer"),
        ("/payment/1.0/refund", "POST", 400, "The ID in the URL should be a 64-bit integer"),
        ("/hold/4611686018427387904", "GET", 404, "Hold not found"),
        ("/hold/4611686018427387904/capture", "POST", 404, "Hold not found"),
        ("/hold/4611686018427387904/void", "POST", 404, "Hold not found"),
        ("/hold/9223372036854775808/void", "POST", 400, "The ID in the URL should be a 64-bit integer"),
        ("/payment/1", "POST", 405, "Method not allowed"),
        ("/payment/1/refund", "GET", 405, "Method not allowed"),
        ("/holds", "GET", 405, "Method not allowed"),
        ("/hold/1/void", "GET", 405, "Method not allowed"),
        ("/payment/", "GET", 404, "Not found"),
        ("/hold/1/", "GET", 404, "Not found"),
    ],
)
def test_what_is_not_there(api: httpx2.Client, path: str, method: str, status: int, sentence: str) -> None:
    assert refusal(api.request(method, path)) == (status, sentence)


@pytest.fixture
def hold(api: httpx2.Client, pair: tuple[int, int]) -> dict[str, Any]:
    return made(post(api, "/holds", asked(pair, "20", ExpiresIn=100, Reference="held")))


def test_a_hold_is_captured_once(api: httpx2.Client, pair: tuple[int, int]) -> None:
    [(amount, available), _] = balances(api, pair)
    hold = made(post(api, "/holds", asked(pair, "20.50", ExpiresIn=100, Description="room", Reference="r")))
    assert list(hold) == [*HOLD, "Description", "Reference"]
    assert (hold["Amount"], hold["Status"]) == ("20.5", "open")
    assert balances(api, pair)[0] == (amount, str(float(available) - 20.5))
    captured = made(post(api, f"/hold/{hold['ID']}/capture", {"Amount": "5.5"}))
    assert list(captured) == [*PAYMENT, "Description", "Reference", "HoldID"]
    assert (captured["Amount"], captured["HoldID"], captured["Description"]) == ("5.5", hold["ID"], "room")
    assert balances(api, pair)[0] == (str(float(amount) - 5.5), str(float(available) - 5.5))
    now = made(api.get(f"/hold/{hold['ID']}"))
    assert list(now) == [*HOLD, "PaymentID", "CapturedAmount", "Description", "Reference"]
    assert (now["Status"], now["PaymentID"], now["CapturedAmount"]) == ("captured", captured["ID"], "5.5")
    assert made(api.get(f"/payment/{captured['ID']}"))["HoldID"] == hold["ID"]
    for what in ("capture", "void"):
        assert refusal(post(api, f"/hold/{hold['ID']}/{what}")) == (409, "Hold was captured already")
    made(post(api, f"/payment/{captured['ID']}/refund"))


def test_a_hold_is_voided_once(api: httpx2.Client, pair: tuple[int, int], hold: dict[str, Any]) -> None:
    voided = made(post(api, f"/hold/{hold['ID']}/void", {}))
    assert voided == hold | {"Status": "voided"}
    for what in ("capture", "void"):
        assert refusal(post(api, f"/hold/{hold['ID']}/{what}")) == (409, "Hold was voided already")


def test_a_hold_lasts_a_week_unless_it_says_how_long(api: httpx2.Client, pair: tuple[int, int]) -> None:
    asked_for: list[dict[str, Any]] = [{}, {"ExpiresIn": None}]
    for fields in asked_for:
        hold = made(post(api, "/holds", asked(pair, 1, **fields)))
        made(post(api, f"/hold/{hold['ID']}/void"))
        days = int(hold["ExpiresAt"][8:10]) - int(hold["OperationTimestamp"][8:10])
        assert days == 7 or days < 0
        assert hold["ExpiresAt"][11:] == hold["OperationTimestamp"][11:]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"ExpiresIn": 0}, "ExpiresIn should be 1 to 31536000 seconds"),
        ({"ExpiresIn": 31536001}, "ExpiresIn should be 1 to 31536000 seconds"),
        ({"ExpiresIn": 1.5}, "ExpiresIn should be a 64-bit integer"),
        ({"ExpiresIn": "10"}, "ExpiresIn should be a 64-bit integer"),
        ({"Amount": 0}, "Amount should be positive"),
        ({"Amount": "1e7"}, "Buyer account does not have sufficient balance"),
        ({"SellerAccountID": None}, "Account not found"),
        ({"Description": ""}, "Description should have 1 to 255 characters"),
        ({"Reference": "x" * 256}, "Reference should have 1 to 255 characters"),
        ({"Reference": 1}, "Reference should be a string"),
        ({"Description": "a\0"}, "Description should not contain a NUL character"),
    ],
)
def test_a_hold_that_is_refused(
    api: httpx2.Client, pair: tuple[int, int], fields: dict[str, object], sentence: str
) -> None:
    refused = post(api, "/holds", asked(pair, 1) | fields)
    assert refusal(refused) == (400, sentence)
    if "ExpiresIn" not in fields:
        assert refusal(post(api, "/payments", asked(pair, 1) | fields)) == (400, sentence)
        [outcome] = made(post(api, "/payments/batch", {"Payments": [asked(pair, 1) | fields]}))["Results"]
        assert (outcome["Error"], outcome["Code"]) == (sentence, refused.headers["error-code"])


def test_a_capture_may_not_exceed_the_hold(api: httpx2.Client, hold: dict[str, Any]) -> None:
    path = f"/hold/{hold['ID']}/capture"
    assert refusal(post(api, path, {"Amount": "20.01"})) == (400, "Amount should not exceed the hold")
    assert refusal(post(api, path, {"Amount": -1})) == (400, "Amount should be positive")
    assert refusal(post(api, path, [])) == (400, "The body should be a JSON object")
    assert made(post(api, path))["Amount"] == "20"


@pytest.mark.parametrize("operation", ["refund", "hold", "capture"])
@pytest.mark.parametrize("in_header", [True, False])
def test_a_key_makes_it_happen_once(
    api: httpx2.Client, pair: tuple[int, int], hold: dict[str, Any], key: str, operation: str, in_header: bool
) -> None:
    payment = made(post(api, "/payments", asked(pair, 10)))
    field: dict[str, Any]
    cases: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
        "refund": (f"/payment/{payment['ID']}/refund", {"Amount": 3}, {"Amount": 4}),
        "hold": ("/holds", asked(pair, 3, ExpiresIn=50), asked(pair, 3, ExpiresIn=51)),
        "capture": (f"/hold/{hold['ID']}/capture", {"Amount": 3}, {"Amount": 4}),
    }
    path, fields, other = cases[operation]
    header, field = (key, {}) if in_header else (None, {"IdempotencyKey": key})
    first, again = (post(api, path, fields | field, header) for _ in range(2))
    assert (first.status_code, "idempotency-replayed" in first.headers) == (200, False)
    assert (again.status_code, again.headers["idempotency-replayed"], again.text) == (200, "true", first.text)
    kind = "hold" if operation == "hold" else "payment"
    assert refusal(post(api, path, other | field, header)) == (422, f"Idempotency key belongs to another {kind}")
    assert refusal(post(api, path, fields | {"IdempotencyKey": "another"}, key)) == (
        400,
        "Idempotency-Key and IdempotencyKey should be the same",
    )
    assert refusal(post(api, path, fields | {"IdempotencyKey": "k" * 256})) == (
        400,
        "Idempotency key should have 1 to 255 characters",
    )
    assert refusal(post(api, path, fields | {"IdempotencyKey": 7})) == (400, "IdempotencyKey should be a string")
    twice = api.post(path, content=json.dumps(fields), headers=[(KEY, key), (KEY, key)])
    assert refusal(twice) == (400, "Idempotency-Key should be given once")


def test_a_payment_s_terms_are_part_of_what_its_key_stands_for(
    api: httpx2.Client, pair: tuple[int, int], key: str
) -> None:
    terms = {"Description": 'ü "quoted" \\ NULL', "Reference": "{a,b}"}
    first = post(api, "/payments", asked(pair, 1, **terms), key)
    assert list(made(first)) == [*PAYMENT, "Description", "Reference"]
    assert {name: made(first)[name] for name in terms} == terms
    assert post(api, "/payments", asked(pair, 1, **terms), key).text == first.text
    assert post(api, "/payments", asked(pair, 1), key).status_code == 422


def test_terms_of_some_payments_of_a_batch(api: httpx2.Client, pair: tuple[int, int]) -> None:
    each: list[dict[str, Any]] = [
        {},
        {"Description": "a"},
        {"Reference": "NULL"},
        {"Description": "b", "Reference": '"'},
        {"Reference": None},
    ]
    results = made(post(api, "/payments/batch", {"Payments": [asked(pair, 1, **terms) for terms in each]}))["Results"]
    assert [list(result)[6:] for result in results] == [
        [],
        ["Description"],
        ["Reference"],
        ["Description", "Reference"],
        [],
    ]
    assert (results[2]["Reference"], results[3]["Reference"]) == ("NULL", '"')
