"""What an account may do, how far below zero it may go; and the currencies that there are."""

import itertools
from datetime import datetime

import httpx2
import pytest

from tests.conftest import Connection
from tests.sql.calls import row
from tests.support import assert_refused, open_account, pay, payment_body, serving

_names = (f"status {number}" for number in itertools.count())
DETAILED = ["ID", "Name", "CurrencyID", "CurrencyName", "Amount", "Status", "Held", "Available", "CreditLimit"]


def test_an_account_is_frozen_closed_and_opened_again(api: httpx2.Client) -> None:
    one, two = (open_account(api, next(_names), 5) for _ in range(2))
    path = f"/account/{one}/status"
    frozen = api.post(path, json={"STATUS": "frozen"})
    assert (frozen.status_code, list(frozen.json()), frozen.json()["Status"]) == (200, DETAILED, "frozen")
    assert_refused(pay(api, one, two), "WB010")
    assert pay(api, two, one).status_code == 200
    assert_refused(api.post(path, json={"Status": "closed"}), "WC041")
    assert api.post(path, json={"Status": "active"}).json()["Status"] == "active"
    assert pay(api, one, two, 6).status_code == 200
    assert api.post(path, json={"Status": "closed"}).json()["Status"] == "closed"
    assert_refused(pay(api, one, two), "WB014")
    assert_refused(pay(api, two, one), "WB015")


def test_a_blocked_account_over_http(api: httpx2.Client) -> None:
    one, two = (open_account(api, next(_names), 5) for _ in range(2))
    sale = pay(api, one, two, 1).json()["ID"]
    blocked = api.post(f"/account/{one}/status", json={"Status": "blocked"})
    assert (blocked.status_code, blocked.json()["Status"], blocked.json()["Amount"]) == (200, "blocked", "4")
    for refused, code in (
        (pay(api, one, two), "WB042"),
        (pay(api, two, one), "WB043"),
        (api.post(f"/payment/{sale}/refund", json={}), "WB045"),
    ):
        assert_refused(refused, code)
    assert [account["ID"] for account in api.get("/accounts?status=blocked").json()["Accounts"]] == [one]
    assert api.post(f"/account/{one}/status", json={"Status": "active"}).json()["Status"] == "active"
    assert pay(api, two, one).status_code == 200


def test_an_account_with_credit(api: httpx2.Client) -> None:
    one, two = (open_account(api, next(_names), 5) for _ in range(2))
    path = f"/account/{one}/credit-limit"
    limited = api.post(path, json={"Amount": "10.50"})
    assert (limited.status_code, list(limited.json())) == (200, DETAILED)
    assert (limited.json()["CreditLimit"], limited.json()["Available"]) == ("10.5", "15.5")
    assert pay(api, one, two, 12).status_code == 200
    assert api.get(f"/account/{one}").json()["Amount"] == "-7"
    assert_refused(api.post(path, json={"Amount": 6.9}), "WC043")
    assert_refused(pay(api, one, two, 4), "WB006")
    assert api.post(path, json={"Amount": 7}).json()["Available"] == "0"


@pytest.mark.parametrize(
    ("path", "body", "code", "field"),
    [
        ("/account/1/status", "{}", "WB041", ""),
        ("/account/1/status", '{"Status":"Active"}', "WB041", ""),
        ("/account/1/status", '{"Status":1}', "WH032", "Status"),
        ("/account/1/status", "", "WH014", ""),
        ("/account/4611686018427387904/status", '{"Status":"active"}', "WN001", ""),
        ("/account/x/status", '{"Status":"active"}', "WH031", "The ID in the URL"),
        ("/account/1/credit-limit", '{"Amount":-1}', "WB012", ""),
        (
            "/account/1/credit-limit",
            "{}",
            "WB003",
            "",
        ),
        ("/account/4611686018427387904/credit-limit", '{"Amount":1}', "WN001", ""),
        ("/currencies", '{"Name":"","Scale":1}', "WB051", ""),
        ("/currencies", '{"Name":"ABCDEFGHIJKLMNOPQ","Scale":1}', "WB051", ""),
        ("/currencies", '{"Name":"X"}', "WB052", ""),
        ("/currencies", '{"Name":"X","Scale":16}', "WB052", ""),
        ("/currencies", '{"Name":"X","Scale":1.0}', "WH031", "Scale"),
        ("/currencies", '{"Name":"USD","Scale":2}', "WC051", ""),
        ("/currency/1/scale", "{}", "WB052", ""),
        ("/currency/1/scale", '{"Scale":16}', "WB052", ""),
        ("/currency/1/scale", '{"Scale":"2"}', "WH031", "Scale"),
        ("/currency/1/scale", '{"Scale":2.0}', "WH031", "Scale"),
        ("/currency/1/scale", '{"Scale":9223372036854775808}', "WH031", "Scale"),
        ("/currency/0/scale", '{"Scale":2}', "WN005", ""),
        ("/currency/x/scale", '{"Scale":2}', "WH031", "The ID in the URL"),
    ],
)
def test_refusals(api: httpx2.Client, path: str, body: str, code: str, field: str) -> None:
    assert_refused(api.post(path, content=body), code, field=field)


def test_a_currency_of_one_s_own(api: httpx2.Client) -> None:
    response = api.post("/currencies", json={"name": "YEN ¥", "SCALE": 0})
    currency = response.json()
    assert (response.status_code, list(currency.items())[1:]) == (200, [("Name", "YEN ¥"), ("Scale", 0)])
    listed = api.get("/currencies").json()["Currencies"]
    assert [(row["ID"], row["Name"]) for row in listed[:4]] == [(1, "USD"), (2, "RUB"), (3, "BTC"), (4, "ETC")]
    assert listed[-1] == currency
    body = {"Name": next(_names), "Amount": 1.5, "CurrencyID": currency["ID"]}
    assert_refused(api.post("/accounts", json=body), "WB009")
    one = open_account(api, next(_names), 10, currency["ID"])
    two = open_account(api, next(_names), 0, currency["ID"])
    assert_refused(pay(api, one, two, "0.1"), "WB009")
    assert pay(api, one, two, "1.0").json()["Amount"] == "1"


def test_the_totals_of_each_currency(admin: Connection, database: str) -> None:
    with serving(DATABASE_URL=database) as server, server.client() as api:
        buyer, seller = open_account(api, "buyer", "10.5"), open_account(api, "seller")
        assert pay(api, buyer, seller, "1").status_code == 200
        assert api.post("/holds", json=payment_body(buyer, seller, "0.50")).status_code == 200
        first, *others = api.get("/totals").json()["Totals"]
        assert list(first.items()) == [
            ("CurrencyID", 1), ("CurrencyName", "USD"), ("Accounts", 2), ("Payments", 1), ("Total", "10.5"),
            ("Held", "0.5"),
        ]  # fmt: skip
        assert [each["CurrencyName"] for each in others] == ["RUB", "BTC", "ETC"]
        checked_at = row(admin, "record_ledger_check", 2)["record_ledger_check"]
        for each in api.get("/totals").json()["Totals"]:
            assert (datetime.fromisoformat(each["CheckedAt"]), each["Problems"]) == (checked_at, 2)


def test_the_scale_of_a_currency_over_http(api: httpx2.Client) -> None:
    currency = api.post("/currencies", json={"Name": "MILL", "Scale": 3}).json()
    path = f"/currency/{currency['ID']}/scale"
    one, two = (open_account(api, next(_names), "1.5", currency["ID"]) for _ in range(2))
    smaller = api.post(path, json={"SCALE": 1})
    assert (smaller.status_code, smaller.json()) == (200, currency | {"Scale": 1})
    assert_refused(pay(api, one, two, "0.01"), "WB009")
    assert_refused(api.post(path, json={"Scale": 0}), "WC052")
    assert api.post(path, json={"Scale": 15}).json() == currency | {"Scale": 15}
    assert pay(api, one, two, "0.000000000000001").status_code == 200
    assert_refused(api.post(path, json={"Scale": 14}), "WC052")
    assert api.get("/currencies").json()["Currencies"][-1] == currency | {"Scale": 15}
