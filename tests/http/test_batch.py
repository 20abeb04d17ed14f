"""POST /payments/batch: many payments in one request, an outcome for each; or, if they are atomic, all or none."""

import json
from typing import Any

import httpx2
import psycopg
import pytest

from tests.conftest import Connection
from tests.support import (
    account,
    assert_refused,
    balance,
    ledger_problems,
    open_account,
    payment_body,
    sentence,
    serving,
)


@pytest.fixture(scope="module")
def pair(api: httpx2.Client) -> list[int]:
    """Two accounts with a lot of USD, and one with nothing."""
    return [
        open_account(api, "batch one", "1e9"),
        open_account(api, "batch two", "1e9"),
        open_account(api, "batch poor"),
    ]


def post(api: httpx2.Client, payments: object, **fields: object) -> httpx2.Response:
    return api.post("/payments/batch", json={"Payments": payments, **fields})


def amounts(api: httpx2.Client, ids: list[int]) -> list[str]:
    return [api.get(f"/account/{id_}").json()["Amount"] for id_ in ids]


@pytest.mark.parametrize("fields", [{}, {"Atomic": False}, {"Atomic": None}])
def test_an_outcome_for_each_in_order(api: httpx2.Client, pair: list[int], fields: dict[str, Any]) -> None:
    one, two, poor = pair
    response = post(
        api, [payment_body(one, two, "1.50"), payment_body(poor, one, 1), payment_body(two, one, 1.5)], **fields
    )
    assert response.status_code == 200
    [first, refused, last] = response.json()["Results"]
    assert list(first) == ["ID", "CurrencyID", "Amount", "BuyerAccountID", "SellerAccountID", "OperationTimestamp"]
    assert (first["Amount"], first["BuyerAccountID"], first["SellerAccountID"]) == ("1.5", one, two)
    assert refused == {"Error": sentence("WB006"), "Code": "WB006"}
    assert last["ID"] == first["ID"] + 1


def test_what_cannot_be_read_is_an_outcome_too(api: httpx2.Client, pair: list[int]) -> None:
    one, two, _ = pair
    asked = [
        payment_body(1.5, two, 1),
        5,
        payment_body(one, two, "0.5"),
        payment_body(one, two, "abc"),
        None,
        [],
        {},
        payment_body(two, one, 0.5),
    ]
    results = post(api, asked).json()["Results"]
    assert [result.get("Error", result.get("Amount")) for result in results] == [
        sentence("WH031", field="BuyerAccountID"),
        sentence("WH039"),
        "0.5",
        sentence("WB003"),
        sentence("WH039"),
        sentence("WH039"),
        sentence("WB002"),
        "0.5",
    ]


def test_field_names_match_whatever_their_case(api: httpx2.Client, pair: list[int]) -> None:
    one, two, _ = pair
    body = f'{{"ATOMIC":true,"payments":[{{"buyeraccountid":{one},"SELLERACCOUNTID":{two},"amount":1e0}}]}}'
    response = api.post("/payments/batch", content=body)
    assert [result["Amount"] for result in response.json()["Results"]] == ["1"]


def test_each_refusal_has_the_code_and_the_field_that_it_has_alone(api: httpx2.Client, pair: list[int]) -> None:
    one, two, poor = pair
    asked = [
        payment_body(one, one, 1),
        payment_body(one, two, 0),
        payment_body(one, two, {}),
        payment_body(0, two, 1),
        payment_body(one, 0, 1),
        payment_body(poor, two, 1),
        payment_body("1", two, 1),
        payment_body(one, two, 1) | {"Reference": ""},
        payment_body(one, two, 1) | {"IdempotencyKey": ""},
        payment_body(one, two, 1) | {"Ammount": 2},
    ]
    for item, result in zip(asked, post(api, asked).json()["Results"], strict=True):
        alone = api.post("/payments", json=item)
        assert (result["Error"], result["Code"]) == (alone.json()["Error"], alone.headers["error-code"])
        assert result.get("Field") == alone.headers.get("error-field")
        together = post(api, [item], Atomic=True)
        assert together.json() == {"Error": result["Error"], "Index": 0}
        assert together.headers["error-code"] == result["Code"]
        assert together.headers.get("error-field") == result.get("Field")


def test_an_empty_batch_has_no_outcomes(api: httpx2.Client) -> None:
    for atomic in (False, True):
        response = post(api, [], Atomic=atomic)
        assert (response.status_code, response.json()) == (200, {"Results": []})


def test_atomic_payments_are_made_all(api: httpx2.Client, pair: list[int]) -> None:
    one, two, poor = pair
    results = post(api, [payment_body(one, poor, 2), payment_body(poor, two, 2)], Atomic=True).json()["Results"]
    assert [result["Amount"] for result in results] == ["2", "2"]


@pytest.mark.parametrize(
    ("second", "code", "field"),
    [
        (("poor", "one", 1), "WB006", ""),
        (("one", "one", 1), "WB001", ""),
        (("one", 0, 1), "WB004", ""),
        (
            ("one", "two", "1.0000000000000001"),
            "WB003",
            "",
        ),
        (("one", "two", {}), "WB003", ""),
        (("one", True, 1), "WH031", "SellerAccountID"),
    ],
)
def test_or_none_of_them(api: httpx2.Client, pair: list[int], second: tuple[Any, ...], code: str, field: str) -> None:
    names = dict(zip(("one", "two", "poor"), pair, strict=True))
    buyer, seller, amount = (names.get(part, part) if isinstance(part, str) else part for part in second)
    before = amounts(api, pair)
    response = post(
        api,
        [payment_body(pair[0], pair[1], 1), payment_body(buyer, seller, amount), payment_body(0, 0, 0)],
        Atomic=True,
    )
    assert_refused(response, code, index=1, field=field)
    assert amounts(api, pair) == before


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        ({}, "WH037", "Payments"),
        ({"Payments": None}, "WH037", "Payments"),
        ({"Payments": {}}, "WH037", "Payments"),
        ({"Payments": "x"}, "WH037", "Payments"),
        ({"Payments": [], "Atomic": 1}, "WH035", "Atomic"),
        ({"Payments": [], "Atomic": "true"}, "WH035", "Atomic"),
        ({"Payments": [{}] * 10_001}, "WH038", "Payments"),
    ],
)
def test_bad_batches(api: httpx2.Client, body: object, code: str, field: str) -> None:
    assert_refused(api.post("/payments/batch", json=body), code, field=field, limit=10_000)


def test_a_body_may_have_4_mib_and_no_more(api: httpx2.Client) -> None:
    empty = b'{"Payments":[]}'
    assert api.post("/payments/batch", content=empty.rjust(4 * 1024 * 1024)).status_code == 200
    assert_refused(api.post("/payments/batch", content=empty.rjust(4 * 1024 * 1024 + 1)), "WH011", limit=4_194_304)


def test_other_methods(api: httpx2.Client) -> None:
    response = api.get("/payments/batch")
    assert (response.status_code, response.headers["allow"]) == (405, "POST")


def test_ten_thousand_payments(admin: Connection, database: str) -> None:
    ids = [account(admin, f"account {number}", 100) for number in range(10)]
    asked = [payment_body(ids[n % 10], ids[(n + 1) % 10], "0.01") for n in range(10_000)]
    with serving(DATABASE_URL=database) as server, server.client() as api:
        results = api.post("/payments/batch", content=json.dumps({"Payments": asked})).json()["Results"]
    assert [result["Amount"] for result in results] == ["0.01"] * 10_000
    assert [balance(admin, id_) for id_ in ids] == [100] * 10
    assert ledger_problems(admin) == []


def test_an_atomic_batch_that_cannot_be_made_now_is_made_not_at_all(admin: Connection, database: str) -> None:
    one, two, three = [account(admin, f"account {number}", 100) for number in range(3)]
    with (
        serving(DATABASE_URL=database, WALLET_LOCK_TIMEOUT="0.3") as server,
        server.client() as api,
        psycopg.connect(database) as holder,
    ):
        holder.execute("select from ledger.account where id = %s for update", [three])
        response = post(api, [payment_body(one, two, 1), payment_body(one, three, 1)], Atomic=True)
        assert_refused(response, "55P03")
    assert [balance(admin, id_) for id_ in (one, two, three)] == [100] * 3
