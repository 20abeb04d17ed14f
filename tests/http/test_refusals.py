"""The contract's table of refusals: status, sentence, and nothing else in the answer."""

import httpx2
import pytest

from tests.support import open_account


@pytest.fixture(scope="module")
def accounts(api: httpx2.Client) -> dict[str, int]:
    """Ids of accounts: rich (1000 USD), poor (0 USD), rouble (1000 RUB), full (as much USD as there can be)."""
    given = {
        "rich": ("1000", 1),
        "poor": ("0", 1),
        "rouble": ("1000", 2),
        "full": ("999999999999999.999999999999999", 1),
    }
    return {name: open_account(api, f"refusals {name}", *opening) for name, opening in given.items()}


def error(response: httpx2.Response) -> str:
    assert response.headers["content-type"] == "application/json"
    assert list(response.json()) == ["Error"]
    return str(response.json()["Error"])


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ('"BuyerAccountID":{rich},"SellerAccountID":{rich},"Amount":1', "Could not make payment to self"),
        ('"BuyerAccountID":{rich},"SellerAccountID":{poor},"Amount":0', "Amount should be positive"),
        ('"BuyerAccountID":{rich},"SellerAccountID":{poor},"Amount":-1', "Amount should be positive"),
        ('"BuyerAccountID":{rich},"SellerAccountID":{poor},"Amount":null', "Amount should be positive"),
        ('"BuyerAccountID":{rich},"SellerAccountID":{poor}', "Amount should be positive"),
        ('"BuyerAccountID":{rich},"SellerAccountID":0,"Amount":1', "Account not found"),
        ('"BuyerAccountID":0,"SellerAccountID":{poor},"Amount":1', "Account not found"),
        ('"BuyerAccountID":{rich},"Amount":1', "Account not found"),
        ('"SellerAccountID":{poor},"Amount":1', "Account not found"),
        ('"BuyerAccountID":null,"SellerAccountID":{poor},"Amount":1', "Account not found"),
        ('"Amount":1', "Account not found"),
        (
            '"BuyerAccountID":{rich},"SellerAccountID":{rouble},"Amount":1',
            "Payment allowed only when account currencies match",
        ),
        (
            '"BuyerAccountID":{rich},"SellerAccountID":{poor},"Amount":1000.01',
            "Buyer account does not have sufficient balance",
        ),
        (
            '"BuyerAccountID":{rich},"SellerAccountID":{full},"Amount":1',
            "Seller account balance would have more than 15 integer digits",
        ),
        # Of two reasons, the one that stands first in the contract:
        ('"BuyerAccountID":{rich},"SellerAccountID":{rich},"Amount":-1', "Could not make payment to self"),
        ('"BuyerAccountID":0,"SellerAccountID":{rich},"Amount":0', "Amount should be positive"),
        ('"BuyerAccountID":0,"SellerAccountID":{rouble},"Amount":9999', "Account not found"),
        (
            '"BuyerAccountID":{rich},"SellerAccountID":{rouble},"Amount":9999',
            "Payment allowed only when account currencies match",
        ),
        (
            '"BuyerAccountID":{poor},"SellerAccountID":{full},"Amount":1',
            "Buyer account does not have sufficient balance",
        ),
    ],
)
def test_payments(api: httpx2.Client, accounts: dict[str, int], body: str, sentence: str) -> None:
    for name, identity in accounts.items():
        body = body.replace(f"{{{name}}}", str(identity))
    response = api.post("/payments", content=f"{{{body}}}")
    assert (response.status_code, error(response)) == (400, sentence)


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        ('"CurrencyID":1', 400, "Name should have 1 to 255 characters"),
        ('"Name":null,"CurrencyID":1', 400, "Name should have 1 to 255 characters"),
        ('"Name":"","CurrencyID":1', 400, "Name should have 1 to 255 characters"),
        (f'"Name":"{"x" * 256}","CurrencyID":1', 400, "Name should have 1 to 255 characters"),
        (f'"Name":"{"ä" * 256}","CurrencyID":1', 400, "Name should have 1 to 255 characters"),
        ('"Name":"a\\u0000b","CurrencyID":1', 400, "Name should not contain a NUL character"),
        ('"Name":"a\\ud800b","CurrencyID":1', 400, "Name should not contain half of a surrogate pair"),
        ('"Name":7,"CurrencyID":1', 400, "Name should be a string"),
        ('"Name":["x"],"CurrencyID":1', 400, "Name should be a string"),
        ('"Name":"x","Amount":-1,"CurrencyID":1', 400, "Amount should not be negative"),
        ('"Name":"x","Amount":"-0.000000000000001","CurrencyID":1', 400, "Amount should not be negative"),
        ('"Name":"x"', 400, "Currency not found"),
        ('"Name":"x","CurrencyID":null', 400, "Currency not found"),
        ('"Name":"x","CurrencyID":99', 400, "Currency not found"),
        ('"Name":"refusals rich","CurrencyID":1', 409, "Account name already exists"),
    ],
)
def test_accounts(api: httpx2.Client, accounts: dict[str, int], body: str, status: int, sentence: str) -> None:
    response = api.post("/accounts", content=f"{{{body}}}".encode())
    assert (response.status_code, error(response)) == (status, sentence)


@pytest.mark.parametrize(
    "text", ["4611686018427387904", "-1", "+4611686018427387904", "0" * 5000], ids=lambda text: text[:24]
)
def test_an_unknown_account_in_the_url(api: httpx2.Client, text: str) -> None:
    response = api.get(f"/account/{text}")
    assert (response.status_code, error(response)) == (404, "Account not found")


@pytest.mark.parametrize(
    "text",
    [
        "abc",
        "1.0",
        "1e3",
        "0x1",
        "1_0",
        "%20",
        "%001",
        "%31%00",
        "१",
        "%FF",
        "9223372036854775808",
        "9" * 5000,
        "1;2",
        "+",
        "-",
    ],
)
def test_an_id_in_the_url_that_is_no_integer(api: httpx2.Client, text: str) -> None:
    response = api.get(f"/account/{text}")
    assert (response.status_code, error(response)) == (400, "The ID in the URL should be a 64-bit integer")


@pytest.mark.parametrize(
    "path",
    ["/", "/account", "/account/", "/account/1//", "/account/1/2", "/accounts//", "/payment", "//accounts", "/%00"],
)
def test_an_unknown_path(api: httpx2.Client, path: str) -> None:
    response = api.get(path)
    assert (response.status_code, error(response)) == (404, "Not found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/accounts", {"GET", "HEAD", "POST"}),
        ("DELETE", "/payments", {"GET", "HEAD", "POST"}),
        ("OPTIONS", "/payments", {"GET", "HEAD", "POST"}),
        ("POST", "/account/1", {"GET", "HEAD"}),
        ("PATCH", "/account/abc", {"GET", "HEAD"}),
        ("POST", "/readyz", {"GET", "HEAD"}),
    ],
)
def test_a_known_path_with_another_method(api: httpx2.Client, method: str, path: str, allowed: set[str]) -> None:
    response = api.request(method, path)
    assert (response.status_code, error(response)) == (405, "Method not allowed")
    assert set(response.headers["allow"].split(", ")) == allowed


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "The body is empty; it should be a JSON object"),
        (b" \n", "The body is empty; it should be a JSON object"),
        (
            b"{",
            "The body is not valid JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
        ),
        (b'{"Amount":', "The body is not valid JSON: Expecting value: line 1 column 11 (char 10)"),
        (b'{"Amount" 1}', "The body is not valid JSON: Expecting ':' delimiter: line 1 column 11 (char 10)"),
        (b"{}{}", "The body is not valid JSON: Extra data: line 1 column 3 (char 2)"),
        (b"abc", "The body is not valid JSON: Expecting value: line 1 column 1 (char 0)"),
        (b'{"Name":"a\nb"}', "The body is not valid JSON: Invalid control character at: line 1 column 11 (char 10)"),
        (b"[]", "The body should be a JSON object"),
        (b"null", "The body should be a JSON object"),
        (b'"text"', "The body should be a JSON object"),
        (b"1", "The body should be a JSON object"),
        (b'{"Name":"\xff"}', "The body is not valid UTF-8: byte 9"),
        (b"\xff\xfe{\x00}\x00", "The body is not valid UTF-8: byte 0"),
        (b"[" * 60000, "The body is nested too deeply"),
    ],
    ids=lambda value: str(value)[:24],
)
@pytest.mark.parametrize("path", ["/accounts", "/payments"])
def test_a_body_that_is_no_json_object(api: httpx2.Client, path: str, body: bytes, sentence: str) -> None:
    response = api.post(path, content=body)
    assert (response.status_code, error(response)) == (400, sentence)


def padded(size: int) -> bytes:
    return b'{"Name":"padded","CurrencyID":99,"CurrencyName":"' + b"x" * (size - 51) + b'"}'


def test_a_body_may_have_64_kib_and_not_a_byte_more(api: httpx2.Client) -> None:
    assert len(padded(65536)) == 65536
    assert error(api.post("/accounts", content=padded(65536))) == "Currency not found"
    for body in (padded(65537), iter([padded(65536), b" "])):
        response = api.post("/accounts", content=body)
        assert (response.status_code, error(response)) == (413, "The body should have at most 65536 bytes")


@pytest.mark.parametrize("amount", ["1" * 60_000 + "x", "1" * 60_000 + "." + "x", "." + "1" * 60_000 + "e"])
def test_a_very_long_amount_does_not_delay_other_requests(api: httpx2.Client, amount: str) -> None:
    response = api.post("/payments", json={"BuyerAccountID": 1, "SellerAccountID": 2, "Amount": amount})
    assert response.status_code == 400
    assert api.get("/livez").status_code == 200
