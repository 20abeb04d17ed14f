"""Payments that are given back, and payments that are held for: the shapes, the keys and the refusals."""

import itertools
import json
from typing import Any

import httpx2
import pytest

from tests.support import assert_refused, open_account, payment_body, sentence

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


def post(api: httpx2.Client, path: str, fields: object = None, key: str | None = None) -> httpx2.Response:
    headers = {} if key is None else {KEY: key}
    return api.post(path, content=b"" if fields is None else json.dumps(fields), headers=headers)


def made(response: httpx2.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def balances(api: httpx2.Client, pair: tuple[int, int]) -> list[tuple[str, str]]:
    accounts = [api.get(f"/account/{id_}?details=true").json() for id_ in pair]
    return [(account["Amount"], account["Available"]) for account in accounts]


@pytest.mark.parametrize("body", [b"", b" \n", b"{}", b'{"Amount":null}', b'{"Amount":"10"}'])
def test_a_refund_gives_all_back_unless_it_says_how_much(
    api: httpx2.Client, pair: tuple[int, int], body: bytes
) -> None:
    before = balances(api, pair)
    payment = made(post(api, "/payments", payment_body(*pair, 10)))
    response = api.post(f"/payment/{payment['ID']}/refund", content=body)
    refund = made(response)
    assert list(refund) == [*PAYMENT, "RefundedPaymentID"]
    assert (refund["Amount"], refund["BuyerAccountID"], refund["SellerAccountID"]) == ("10", pair[1], pair[0])
    assert refund["RefundedPaymentID"] == payment["ID"]
    assert "idempotency-replayed" not in response.headers
    assert balances(api, pair) == before


def test_refunds_in_parts(api: httpx2.Client, pair: tuple[int, int]) -> None:
    payment = made(post(api, "/payments", payment_body(*pair, 10, Description="of ten", Reference="r")))
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
    assert_refused(post(api, f"{path}/refund", {"Amount": 6.01}), "WB021")
    assert made(post(api, f"{path}/refund"))["Amount"] == "6"
    assert_refused(post(api, f"{path}/refund"), "WB021")
    assert_refused(post(api, f"/payment/{first['ID']}/refund"), "WB022")
    assert made(api.get(f"/payment/{first['ID']}"))["RefundedPaymentID"] == payment["ID"]
    refunds = api.get(f"/payments?refunded={payment['ID']}").json()["Payments"]
    assert [refund["Amount"] for refund in refunds] == ["4", "6"]
    assert refunds[0] == made(api.get(f"/payment/{first['ID']}"))
    page = api.get(f"/payments?limit=1&refunded={payment['ID']}")
    assert page.json()["Payments"] == refunds[:1]
    assert api.get(page.links["next"]["url"]).json()["Payments"] == refunds[1:]
    assert api.get(f"/payments?refunded={first['ID']}").text == "{}"


@pytest.mark.parametrize(
    ("path", "method", "code", "field"),
    [
        ("/payment/4611686018427387904", "GET", "WN002", ""),
        ("/payment/4611686018427387904/refund", "POST", "WN002", ""),
        ("/payment/x", "GET", "WH031", "The ID in the URL"),
        ("/payment/1.0/refund", "POST", "WH031", "The ID in the URL"),
        ("/hold/4611686018427387904", "GET", "WN003", ""),
        ("/hold/4611686018427387904/capture", "POST", "WN003", ""),
        ("/hold/4611686018427387904/void", "POST", "WN003", ""),
        ("/hold/9223372036854775808/void", "POST", "WH031", "The ID in the URL"),
        ("/payment/1", "POST", "WH003", ""),
        ("/payment/1/refund", "GET", "WH003", ""),
        ("/holds", "PUT", "WH003", ""),
        ("/hold/1/void", "GET", "WH003", ""),
        ("/payment/", "GET", "WH002", ""),
        ("/hold/1//", "GET", "WH002", ""),
    ],
)
def test_what_is_not_there(api: httpx2.Client, path: str, method: str, code: str, field: str) -> None:
    assert_refused(api.request(method, path), code, field=field)


@pytest.fixture
def hold(api: httpx2.Client, pair: tuple[int, int]) -> dict[str, Any]:
    return made(post(api, "/holds", payment_body(*pair, "20", ExpiresIn=100, Reference="held")))


def test_a_hold_is_captured_once(api: httpx2.Client, pair: tuple[int, int]) -> None:
    [(amount, available), _] = balances(api, pair)
    hold = made(post(api, "/holds", payment_body(*pair, "20.50", ExpiresIn=100, Description="room", Reference="r")))
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
        assert_refused(post(api, f"/hold/{hold['ID']}/{what}"), "WC031")
    made(post(api, f"/payment/{captured['ID']}/refund"))


def test_a_hold_is_captured_in_parts(api: httpx2.Client, pair: tuple[int, int], hold: dict[str, Any], key: str) -> None:
    [(amount, available), _] = balances(api, pair)
    path = f"/hold/{hold['ID']}"
    response = post(api, f"{path}/capture", {"Amount": "5.50", "Final": False}, key)
    first = made(response)
    assert list(first) == [*PAYMENT, "Reference", "HoldID"]
    assert (first["Amount"], first["HoldID"]) == ("5.5", hold["ID"])
    assert balances(api, pair)[0] == (str(float(amount) - 5.5), available)
    parts = {"PaymentID": first["ID"], "CapturedAmount": "5.5"}
    assert made(api.get(path)) == hold | parts
    assert_refused(post(api, f"{path}/capture", {"Amount": "14.51", "Final": False}), "WB032")
    second = made(post(api, f"{path}/capture", {"Amount": "10", "Final": False, "UpTo": True}))
    assert second["Amount"] == "10"
    last = made(post(api, f"{path}/capture", {"Amount": "10", "Final": None, "UpTo": True}))
    assert last["Amount"] == "4.5"
    parts = {"Status": "captured", "PaymentID": last["ID"], "CapturedAmount": "20"}
    assert made(api.get(path)) == hold | parts
    again = post(api, f"{path}/capture", {"Amount": "5.5", "Final": False, "UpTo": False}, key)
    assert (again.text, again.headers["idempotency-replayed"]) == (response.text, "true")
    for other in ({"Amount": "5.5"}, {"Amount": "5.5", "Final": True}, {"Amount": "5.5", "Final": False, "UpTo": True}):
        assert_refused(post(api, f"{path}/capture", other, key), "WK001")


def test_a_void_releases_what_captures_have_left(
    api: httpx2.Client, pair: tuple[int, int], hold: dict[str, Any]
) -> None:
    [(amount, available), _] = balances(api, pair)
    part = made(post(api, f"/hold/{hold['ID']}/capture", {"Amount": 5, "Final": False}))
    voided = made(post(api, f"/hold/{hold['ID']}/void"))
    assert voided == hold | {"Status": "voided", "PaymentID": part["ID"], "CapturedAmount": "5"}
    assert balances(api, pair)[0] == (
        str(float(amount) - 5).removesuffix(".0"),
        str(float(available) + 15).removesuffix(".0"),
    )


@pytest.mark.parametrize(("field", "value"), [("Final", "false"), ("Final", 0), ("UpTo", "true"), ("UpTo", [])])
def test_yes_or_no_is_true_or_false(api: httpx2.Client, hold: dict[str, Any], field: str, value: object) -> None:
    assert_refused(post(api, f"/hold/{hold['ID']}/capture", {"Amount": 1, field: value}), "WH035", field=field)
    assert made(api.get(f"/hold/{hold['ID']}")) == hold


def test_a_hold_says_whether_its_buyer_may_void_it(api: httpx2.Client, pair: tuple[int, int], key: str) -> None:
    asked = payment_body(*pair, 1, BuyerMayVoid=True)
    hold = made(post(api, "/holds", asked, key))
    assert list(hold) == [*HOLD, "BuyerMayVoid"]
    assert hold["BuyerMayVoid"] is True
    assert made(api.get(f"/hold/{hold['ID']}")) == hold
    without = made(post(api, "/holds", payment_body(*pair, 1, BuyerMayVoid=False)))
    listed = made(api.get(f"/holds?account={pair[0]}&status=open"))["Holds"]
    assert [found for found in listed if found["ID"] in (hold["ID"], without["ID"])] == [hold, without]
    assert list(without) == HOLD
    assert made(post(api, "/holds", asked, key)) == hold
    assert_refused(post(api, "/holds", asked | {"BuyerMayVoid": False}, key), "WK002")
    assert_refused(post(api, "/holds", asked | {"BuyerMayVoid": "yes"}), "WH035", field="BuyerMayVoid")
    for found in (hold, without):
        assert made(post(api, f"/hold/{found['ID']}/void")) == found | {"Status": "voided"}


def test_a_hold_is_voided_once(api: httpx2.Client, pair: tuple[int, int], hold: dict[str, Any]) -> None:
    voided = made(post(api, f"/hold/{hold['ID']}/void", {}))
    assert voided == hold | {"Status": "voided"}
    for what in ("capture", "void"):
        assert_refused(post(api, f"/hold/{hold['ID']}/{what}"), "WC032")


def test_a_hold_lasts_a_week_unless_it_says_how_long(api: httpx2.Client, pair: tuple[int, int]) -> None:
    asked_for: list[dict[str, Any]] = [{}, {"ExpiresIn": None}]
    for fields in asked_for:
        hold = made(post(api, "/holds", payment_body(*pair, 1, **fields)))
        made(post(api, f"/hold/{hold['ID']}/void"))
        days = int(hold["ExpiresAt"][8:10]) - int(hold["OperationTimestamp"][8:10])
        assert days == 7 or days < 0
        assert hold["ExpiresAt"][11:] == hold["OperationTimestamp"][11:]


@pytest.mark.parametrize(
    ("fields", "code", "field"),
    [
        ({"ExpiresIn": 0}, "WB031", ""),
        ({"ExpiresIn": 31536001}, "WB031", ""),
        ({"ExpiresIn": 1.5}, "WH031", "ExpiresIn"),
        ({"ExpiresIn": "10"}, "WH031", "ExpiresIn"),
        ({"Amount": 0}, "WB002", ""),
        ({"Amount": "1e7"}, "WB006", ""),
        ({"SellerAccountID": None}, "WB004", ""),
        ({"Description": ""}, "WB016", ""),
        ({"Reference": "x" * 256}, "WB017", ""),
        ({"Reference": 1}, "WH032", "Reference"),
        ({"Description": "a\0"}, "WH033", "Description"),
    ],
)
def test_a_hold_that_is_refused(
    api: httpx2.Client, pair: tuple[int, int], fields: dict[str, object], code: str, field: str
) -> None:
    asked = payment_body(*pair) | fields
    assert_refused(post(api, "/holds", asked), code, field=field)
    if "ExpiresIn" not in fields:
        assert_refused(post(api, "/payments", asked), code, field=field)
        [outcome] = made(post(api, "/payments/batch", {"Payments": [asked]}))["Results"]
        assert (outcome["Error"], outcome["Code"]) == (sentence(code, field=field), code)


def test_a_capture_may_not_exceed_the_hold(api: httpx2.Client, hold: dict[str, Any]) -> None:
    path = f"/hold/{hold['ID']}/capture"
    assert_refused(post(api, path, {"Amount": "20.01"}), "WB032")
    assert_refused(post(api, path, {"Amount": -1}), "WB002")
    assert_refused(post(api, path, []), "WH018")
    assert made(post(api, path))["Amount"] == "20"


@pytest.mark.parametrize("operation", ["refund", "hold", "capture"])
@pytest.mark.parametrize("in_header", [True, False])
def test_a_key_makes_it_happen_once(
    api: httpx2.Client, pair: tuple[int, int], hold: dict[str, Any], key: str, operation: str, in_header: bool
) -> None:
    payment = made(post(api, "/payments", payment_body(*pair, 10)))
    field: dict[str, Any]
    cases: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
        "refund": (f"/payment/{payment['ID']}/refund", {"Amount": 3}, {"Amount": 4}),
        "hold": ("/holds", payment_body(*pair, 3, ExpiresIn=50), payment_body(*pair, 3, ExpiresIn=51)),
        "capture": (f"/hold/{hold['ID']}/capture", {"Amount": 3}, {"Amount": 4}),
    }
    path, fields, other = cases[operation]
    header, field = (key, {}) if in_header else (None, {"IdempotencyKey": key})
    first, again = (post(api, path, fields | field, header) for _ in range(2))
    assert (first.status_code, "idempotency-replayed" in first.headers) == (200, False)
    assert (again.status_code, again.headers["idempotency-replayed"], again.text) == (200, "true", first.text)
    assert_refused(post(api, path, other | field, header), "WK002" if operation == "hold" else "WK001")
    assert_refused(post(api, path, fields | {"IdempotencyKey": "another"}, key), "WH043")
    assert_refused(post(api, path, fields | {"IdempotencyKey": "k" * 256}), "WB008")
    assert_refused(post(api, path, fields | {"IdempotencyKey": 7}), "WH032", field="IdempotencyKey")
    assert_refused(api.post(path, content=json.dumps(fields), headers=[(KEY, key), (KEY, key)]), "WH041")


def test_a_payment_s_terms_are_part_of_what_its_key_stands_for(
    api: httpx2.Client, pair: tuple[int, int], key: str
) -> None:
    terms = {"Description": 'ü "quoted" \\ NULL', "Reference": "{a,b}"}
    first = post(api, "/payments", payment_body(*pair, 1, **terms), key)
    assert list(made(first)) == [*PAYMENT, "Description", "Reference"]
    assert {name: made(first)[name] for name in terms} == terms
    assert post(api, "/payments", payment_body(*pair, 1, **terms), key).text == first.text
    assert post(api, "/payments", payment_body(*pair, 1), key).status_code == 422


def test_terms_of_some_payments_of_a_batch(api: httpx2.Client, pair: tuple[int, int]) -> None:
    each: list[dict[str, Any]] = [
        {},
        {"Description": "a"},
        {"Reference": "NULL"},
        {"Description": "b", "Reference": '"'},
        {"Reference": None},
    ]
    results = made(post(api, "/payments/batch", {"Payments": [payment_body(*pair, 1, **terms) for terms in each]}))[
        "Results"
    ]
    assert [list(result)[6:] for result in results] == [
        [],
        ["Description"],
        ["Reference"],
        ["Description", "Reference"],
        [],
    ]
    assert (results[2]["Reference"], results[3]["Reference"]) == ("NULL", '"')
