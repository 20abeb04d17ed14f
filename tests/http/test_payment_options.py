"""UpTo, Metadata and Balances over HTTP: of payments, in batches, of refunds and of accounts."""

from itertools import count
from typing import Any

import httpx2
import pytest

from tests.support import assert_refused, open_account, payment_body

_names = (f"options {number}" for number in count())


@pytest.fixture
def pair(api: httpx2.Client) -> list[int]:
    """A buyer with 10, a seller with nothing."""
    return [open_account(api, next(_names), 10), open_account(api, next(_names))]


@pytest.fixture(params=["alone", "in a batch"])
def pay(request: pytest.FixtureRequest, api: httpx2.Client) -> Any:
    """Makes a payment with these fields, and returns its object, or the code of its refusal."""

    def alone(buyer: int, seller: int, amount: object, **fields: object) -> Any:
        response = api.post("/payments", json=payment_body(buyer, seller, amount, **fields))
        return response.headers.get("error-code") or response.json()

    def in_a_batch(buyer: int, seller: int, amount: object, **fields: object) -> Any:
        wrong = payment_body(buyer, buyer, amount)
        body = {"Payments": [wrong, payment_body(buyer, seller, amount, **fields)]}
        result = api.post("/payments/batch", json=body).json()["Results"][1]
        return result.get("Code", result)

    return alone if request.param == "alone" else in_a_batch


def test_up_to_pays_what_is_there(api: httpx2.Client, pair: list[int], pay: Any) -> None:
    assert pay(*pair, 3, UpTo=True)["Amount"] == "3"
    assert pay(*pair, "1e9", uPtO=True)["Amount"] == "7"
    assert pay(*pair, 1, UpTo=True) == "WB006"
    assert pay(*pair, 1, UpTo=None) == pay(*pair, 1, UpTo=False) == "WB006"
    assert [api.get(f"/account/{id_}").json()["Amount"] for id_ in pair] == ["0", "10"]


def test_balances_for_who_asks(pair: list[int], pay: Any) -> None:
    made = pay(*pair, "2.5", Balances=True)
    assert (made["BuyerBalance"], made["SellerBalance"]) == ("7.5", "2.5")
    assert "BuyerBalance" not in pay(*pair, "2.5", Balances=False)
    assert "SellerBalance" not in pay(*pair, "2.5")


def test_metadata_comes_back_with_every_digit(api: httpx2.Client, pair: list[int], pay: Any) -> None:
    body = '{"order": 17, "price": 0.10, "big": 12345678901234567890.123456789, "nested": {"Ab": [null, true, "\\u00e4\\""]}}'
    response = api.post(
        "/payments",
        content=f'{{"BuyerAccountID":{pair[0]},"SellerAccountID":{pair[1]},"Amount":1,"Metadata":{body}}}',
    )
    assert response.text.endswith(
        '"Metadata":{"big": 12345678901234567890.123456789, "order": 17, "price": 0.10, "nested": {"Ab": [null, true, "ä\\""]}}}'
    )
    metadata = {"order": 17, "Order": "x"}
    made = pay(*pair, 1, Metadata=metadata)
    assert made["Metadata"] == metadata
    assert api.get(f"/payment/{made['ID']}").json()["Metadata"] == metadata


def test_metadata_in_the_feed(api: httpx2.Client, pair: list[int], pay: Any) -> None:
    with_it, without = pay(*pair, 1, Metadata={"a": 1}), pay(*pair, 1)
    events: list[dict[str, Any]] = []
    address = "/feed"
    while page := api.get(address).json().get("Events"):
        events += page
        address = f"/feed?after={page[-1]['Cursor']}"
    found = {event["PaymentID"]: event.get("Metadata") for event in events if event["Event"] == "payment_made"}
    assert (found[with_it["ID"]], found[without["ID"]]) == ({"a": 1}, None)


@pytest.mark.parametrize(
    ("metadata", "code"),
    [
        ("[]", "WB020"),
        ('"text"', "WB020"),
        ("17", "WB020"),
        (f'{{"a":"{"x" * 4096}"}}', "WB020"),
        ('{"a":"\\u0000"}', "WH033"),
        ('{"\\u0000":1}', "WH033"),
        ('{"a":["\\ud800"]}', "WH034"),
        ('{"a":NaN}', "WH045"),
        ('{"a":[1e99999]}', "WH045"),
        (f'{{"a":{"[" * 5000}{"]" * 5000}}}', "WH017"),
        (f'{{"a":{"[" * 600}{"]" * 600}}}', "WH017"),
    ],
)
def test_what_is_no_metadata(api: httpx2.Client, pair: list[int], metadata: str, code: str) -> None:
    parties = f'"BuyerAccountID":{pair[0]},"SellerAccountID":{pair[1]},"Amount":1'
    for path, body in (
        ("/payments", f'{{{parties},"Metadata":{metadata}}}'),
        ("/accounts", f'{{"Name":"{next(_names)}","CurrencyID":1,"Metadata":{metadata}}}'),
    ):
        response = api.post(path, content=body)
        assert_refused(response, code, field="Metadata")
        assert response.headers.get("error-field") == (None if code == "WH017" else "Metadata")


@pytest.mark.parametrize("name", ["UpTo", "Balances"])
@pytest.mark.parametrize("wrong", ["true", 1, [], {}])
def test_what_is_no_flag(pair: list[int], pay: Any, name: str, wrong: object) -> None:
    assert pay(*pair, 1, **{name: wrong}) == "WH035"


def test_a_repeated_payment_has_the_same_options(api: httpx2.Client, pair: list[int]) -> None:
    buyer, seller = pair
    body = payment_body(buyer, seller, 20, UpTo=True, Metadata={"a": 1}, IdempotencyKey=next(_names))
    made = api.post("/payments", json=body | {"Balances": True})
    again = api.post("/payments", json=body)
    assert again.headers["idempotency-replayed"] == "true"
    assert made.json() == again.json() | {"BuyerBalance": "0", "SellerBalance": "10"}
    for other in ({"UpTo": False}, {"UpTo": False, "Amount": 10}, {"Metadata": {"a": 2}}, {"Metadata": None}):
        assert_refused(api.post("/payments", json=body | other), "WK001")


def test_holds_and_captures(api: httpx2.Client, pair: list[int]) -> None:
    buyer, seller = pair
    metadata = {"order": 17}
    hold = api.post("/holds", json=payment_body(buyer, seller, 4, Metadata=metadata)).json()
    assert hold["Metadata"] == metadata
    assert api.get(f"/hold/{hold['ID']}").json()["Metadata"] == metadata
    body = {"Amount": 10, "UpTo": True, "Balances": True}
    told = api.post(f"/hold/{hold['ID']}/capture", json=body).json()
    assert (told["Amount"], told["Metadata"]) == ("4", metadata)
    assert (told["BuyerBalance"], told["SellerBalance"]) == ("6", "4")


def test_refunds_and_accounts(api: httpx2.Client, pair: list[int]) -> None:
    buyer, seller = pair
    payment = api.post("/payments", json=payment_body(buyer, seller, 4)).json()["ID"]
    refund = api.post(f"/payment/{payment}/refund", json={"Amount": 1, "Metadata": {"why": "late"}, "Balances": True})
    told = refund.json()
    assert (told["Metadata"], told["BuyerBalance"], told["SellerBalance"]) == ({"why": "late"}, "3", "7")
    metadata = {"customer": "ä"}
    created = api.post("/accounts", json={"Name": next(_names), "CurrencyID": 1, "Metadata": metadata})
    address = created.headers["location"]
    assert api.get(address).json()["Metadata"] == metadata
    assert api.post(f"{address}/status", json={"Status": "frozen"}).json()["Metadata"] == metadata
