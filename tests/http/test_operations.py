"""The contract's table of operations."""

import re
from itertools import count
from typing import Any

import httpx2
import psycopg
import pytest

from tests.support import open_account, pay, serving

_names = (f"operations {number}" for number in count())


def get(api: httpx2.Client, path: str) -> Any:
    response = api.get(path)
    assert response.status_code == 200, response.text
    return response.json()


def test_a_new_database_lists_nothing(database: str) -> None:
    with serving(DATABASE_URL=database) as server, server.client() as api:
        for path in ("/accounts", "/payments"):
            response = api.get(path)
            assert (response.status_code, response.content) == (200, b"{}")


def test_create_account_answers_an_empty_object_and_where_the_account_is(api: httpx2.Client) -> None:
    response = api.post("/accounts", json={"Name": "located", "Amount": "1000", "CurrencyID": 1})
    assert (response.status_code, response.content) == (200, b"{}")
    assert re.fullmatch(r"/account/\d+", response.headers["location"])
    account = get(api, response.headers["location"])
    assert list(account.items())[1:] == [
        ("Name", "located"),
        ("CurrencyID", 1),
        ("CurrencyName", "USD"),
        ("Amount", "1000"),
    ]


@pytest.mark.parametrize("amount", ['"Amount":null,', ""])
def test_an_account_without_an_amount_has_0(api: httpx2.Client, amount: str) -> None:
    body = f'{{"Name":"{next(_names)}",{amount}"CurrencyID":2}}'
    response = api.post("/accounts", content=body)
    assert response.status_code == 200
    assert get(api, response.headers["location"])["Amount"] == "0"


def test_accounts_are_listed_by_id(api: httpx2.Client) -> None:
    created = [open_account(api, next(_names), "1.50", currency) for currency in (4, 3)]
    accounts = get(api, "/accounts")["Accounts"]
    assert [account["ID"] for account in accounts] == sorted(account["ID"] for account in accounts)
    shown = [account for account in accounts if account["ID"] in created]
    assert [list(account) for account in shown] == [["ID", "Name", "CurrencyID", "CurrencyName", "Amount"]] * 2
    assert [(account["CurrencyName"], account["Amount"]) for account in shown] == [("ETC", "1.5"), ("BTC", "1.5")]


def test_a_payment_is_answered_flat_and_without_the_currency_s_name(api: httpx2.Client) -> None:
    buyer, seller = open_account(api, next(_names), 1000), open_account(api, next(_names))
    response = pay(api, buyer, seller, "500.10")
    payment = response.json()
    assert response.status_code == 200
    assert list(payment) == ["ID", "CurrencyID", "Amount", "BuyerAccountID", "SellerAccountID", "OperationTimestamp"]
    assert (payment["Amount"], payment["BuyerAccountID"], payment["SellerAccountID"]) == ("500.1", buyer, seller)
    assert [get(api, f"/account/{account}")["Amount"] for account in (buyer, seller)] == ["499.9", "500.1"]


def test_payments_are_listed_oldest_first_with_the_currency_s_name(api: httpx2.Client) -> None:
    buyer, seller = open_account(api, next(_names), 1000, 2), open_account(api, next(_names), 0, 2)
    made = [pay(api, buyer, seller, amount).json() for amount in (3, 1, 2)]
    listed = [payment for payment in get(api, "/payments")["Payments"] if payment["BuyerAccountID"] == buyer]
    assert listed == [payment | {"CurrencyName": "RUB"} for payment in made]
    assert list(listed[0]) == [
        "ID",
        "CurrencyID",
        "CurrencyName",
        "Amount",
        "BuyerAccountID",
        "SellerAccountID",
        "OperationTimestamp",
    ]


def test_a_timestamp_has_six_decimals_even_if_they_are_zeros(admin: psycopg.Connection[Any], database: str) -> None:
    for name in ("buyer", "seller"):
        admin.execute("select wallet.create_account(%s, 1, 1)", [name])
    admin.execute(
        """insert into ledger.payment (currency_id, buyer_account_id, seller_account_id, amount, buyer_balance,
                                       seller_balance, operation_timestamp)
           values (1, 1, 2, 1, 0, 2, '2019-06-13 05:21:29+02')"""
    )
    with serving(DATABASE_URL=database, PGTZ="Asia/Tokyo") as server, server.client() as api:
        assert get(api, "/payments")["Payments"][0]["OperationTimestamp"] == "2019-06-13T03:21:29.000000Z"


def test_every_answer_is_json(api: httpx2.Client) -> None:
    for method, path in [("GET", "/accounts"), ("GET", "/nowhere"), ("PUT", "/accounts"), ("POST", "/payments")]:
        response = api.request(method, path)
        assert response.headers["content-type"] == "application/json"
        assert response.json() is not None


def test_head_is_get_without_a_body(api: httpx2.Client) -> None:
    response = api.head("/accounts")
    assert (response.status_code, response.content) == (200, b"")


def test_no_answer_names_the_software_behind_it(api: httpx2.Client) -> None:
    assert "server" not in api.get("/accounts").headers


def test_livez_and_readyz(api: httpx2.Client) -> None:
    for path in ("/livez", "/readyz"):
        response = api.get(path)
        assert (response.status_code, response.content) == (200, b"{}")
