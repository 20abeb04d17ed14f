"""What an account may do, how far below zero it may go; and the currencies that there are."""

import itertools

import httpx2
import pytest

from tests.support import open_account

_names = (f"status {number}" for number in itertools.count())
DETAILED = ["ID", "Name", "CurrencyID", "CurrencyName", "Amount", "Status", "Held", "Available", "CreditLimit"]


def refusal(response: httpx2.Response) -> tuple[int, str]:
    assert list(response.json()) == ["Error"]
    return response.status_code, response.json()["Error"]


def pay(api: httpx2.Client, buyer: int, seller: int, amount: object = 1) -> httpx2.Response:
    return api.post("/payments", json={"BuyerAccountID": buyer, "SellerAccountID": seller, "Amount": amount})


def test_an_account_is_frozen_closed_and_opened_again(api: httpx2.Client) -> None:
    one, two = (open_account(api, next(_names), 5) for _ in range(2))
    path = f"/account/{one}/status"
    frozen = api.post(path, json={"STATUS": "frozen"})
    assert (frozen.status_code, list(frozen.json()), frozen.json()["Status"]) == (200, DETAILED, "frozen")
    assert refusal(pay(api, one, two)) == (400, "Buyer account is frozen")
    assert pay(api, two, one).status_code == 200
    assert refusal(api.post(path, json={"Status": "closed"})) == (
        409,
        "Account should have a balance of 0 to be closed",
    )
    assert api.post(path, json={"Status": "active"}).json()["Status"] == "active"
    assert pay(api, one, two, 6).status_code == 200
    assert api.post(path, json={"Status": "closed"}).json()["Status"] == "closed"
    assert refusal(pay(api, one, two)) == (400, "Buyer account is closed")
    assert refusal(pay(api, two, one)) == (400, "Seller account is closed")


def test_an_account_with_credit(api: httpx2.Client) -> None:
    one, two = (open_account(api, next(_names), 5) for _ in range(2))
    path = f"/account/{one}/credit-limit"
    limited = api.post(path, json={"Amount": "10.50"})
    assert (limited.status_code, list(limited.json())) == (200, DETAILED)
    assert (limited.json()["CreditLimit"], limited.json()["Available"]) == ("10.5", "15.5")
    assert pay(api, one, two, 12).status_code == 200
    assert api.get(f"/account/{one}").json()["Amount"] == "-7"
    assert refusal(api.post(path, json={"Amount": 6.9})) == (409, "Credit limit should cover what is used of it")
    assert refusal(pay(api, one, two, 4)) == (400, "Buyer account does not have sufficient balance")
    assert api.post(path, json={"Amount": 7}).json()["Available"] == "0"


@pytest.mark.parametrize(
    ("path", "body", "status", "sentence"),
    [
        ("/account/1/status", "{}", 400, "Status should be active, frozen or closed"),
        ("/account/1/status", '{"Status":"Active"}', 400, "Status should be active, frozen or closed"),
        ("/account/1/status", '{"Status":1}', 400, "Status should be a string"),
        ("/account/1/status", "", 400, "The body is empty; it should be a JSON object"),
        ("/account/4611686018427387904/status", '{"Status":"active"}', 404, "Account not found"),
        ("/account/x/status", '{"Status":"active"}', 400, "The ID in the URL should be a 64-bit integer"),
        ("/account/1/credit-limit", '{"Amount":-1}', 400, "Amount should not be negative"),
        (
            "/account/1/credit-limit",
            "{}",
            400,
            "Amount should be a number of at most 15 integer digits and 15 decimals",
        ),
        ("/account/4611686018427387904/credit-limit", '{"Amount":1}', 404, "Account not found"),
        ("/currencies", '{"Name":"","Scale":1}', 400, "Name should have 1 to 16 characters"),
        ("/currencies", '{"Name":"ABCDEFGHIJKLMNOPQ","Scale":1}', 400, "Name should have 1 to 16 characters"),
        ("/currencies", '{"Name":"X"}', 400, "Scale should be 0 to 15"),
        ("/currencies", '{"Name":"X","Scale":16}', 400, "Scale should be 0 to 15"),
        ("/currencies", '{"Name":"X","Scale":1.0}', 400, "Scale should be a 64-bit integer"),
        ("/currencies", '{"Name":"USD","Scale":2}', 409, "Currency name already exists"),
    ],
)
def test_refusals(api: httpx2.Client, path: str, body: str, status: int, sentence: str) -> None:
    assert refusal(api.post(path, content=body)) == (status, sentence)


def test_a_currency_of_one_s_own(api: httpx2.Client) -> None:
    response = api.post("/currencies", json={"name": "YEN ¥", "SCALE": 0})
    currency = response.json()
    assert (response.status_code, list(currency.items())[1:]) == (200, [("Name", "YEN ¥"), ("Scale", 0)])
    listed = api.get("/currencies").json()["Currencies"]
    assert [(row["ID"], row["Name"]) for row in listed[:4]] == [(1, "USD"), (2, "RUB"), (3, "BTC"), (4, "ETC")]
    assert listed[-1] == currency
    body = {"Name": next(_names), "Amount": 1.5, "CurrencyID": currency["ID"]}
    sentence = "Amount should have no more decimals than its currency has"
    assert refusal(api.post("/accounts", json=body)) == (400, sentence)
    one = open_account(api, next(_names), 10, currency["ID"])
    two = open_account(api, next(_names), 0, currency["ID"])
    assert refusal(pay(api, one, two, "0.1")) == (400, sentence)
    assert pay(api, one, two, "1.0").json()["Amount"] == "1"
