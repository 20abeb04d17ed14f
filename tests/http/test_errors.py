"""Every refusal has a code, in whichever layer it is made, and RFC 9457's form on request."""

import re
import socket
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.support import PROJECT, assert_refused, open_account, payment_body, sentence, serving
from tools import errors
from wallet_api.http import refusals
from wallet_api.http.operations import TABLE

PROBLEM = "application/problem+json"


@pytest.fixture(scope="module")
def pair(api: httpx2.Client) -> dict[str, object]:
    return payment_body(open_account(api, "errors buyer", 5), open_account(api, "errors seller"))


@pytest.mark.parametrize(
    ("method", "path", "body", "code", "field"),
    [
        ("GET", "/nowhere", None, "WH002", None),
        ("DELETE", "/payments", None, "WH003", None),
        ("POST", "/payments", b"", "WH014", None),
        ("POST", "/payments", b"\xff", "WH015", None),
        ("POST", "/payments", b"{", "WH016", None),
        ("POST", "/payments", b"[]", "WH018", None),
        ("POST", "/accounts", b" " * 65_537, "WH011", None),
        ("POST", "/payments", b'{"BuyerAccountID":"1"}', "WH031", "BuyerAccountID"),
        ("POST", "/accounts", b'{"Name":7}', "WH032", "Name"),
        ("GET", "/account/x", None, "WH031", "id"),
        ("GET", "/account/0", None, "WN001", "id"),
        ("GET", "/payments?from=now", None, "WH036", "from"),
        ("GET", "/payments?limit=0", None, "WB061", "limit"),
        ("GET", "/payments?currency=none", None, "WB013", "currency"),
        ("GET", "/payments?min=x", None, "WB062", None),
        ("POST", "/accounts", b'{"Name":"errors","CurrencyID":999999}', "WB013", "CurrencyID"),
        ("POST", "/accounts", b'{"Name":"errors buyer","CurrencyID":1}', "WC011", "Name"),
        ("POST", "/account/0/status", b'{"Status":"shut"}', "WB041", "Status"),
        ("POST", "/payment/0/refund", b"", "WN002", "id"),
        ("POST", "/hold/0/void", b"", "WN003", "id"),
    ],
)
def test_a_refusal_has_its_code_and_names_the_field_to_blame(
    api: httpx2.Client, pair: object, method: str, path: str, body: bytes | None, code: str, field: str | None
) -> None:
    response = api.request(method, path, content=body)
    assert response.headers["content-type"] == "application/json"
    assert list(response.json()) == ["Error"]
    assert (response.headers["error-code"], response.headers.get("error-field")) == (code, field)
    known = next(refusal for refusal in errors.registry() if refusal.code == code)
    assert response.status_code == known.status


def test_account_not_found_says_which(api: httpx2.Client, pair: dict[str, object]) -> None:
    for path in ("/payments", "/holds"):
        for field in ("BuyerAccountID", "SellerAccountID"):
            for missing in (0, None):
                response = api.post(path, json=pair | {field: missing})
                assert_refused(response, "WB004")
                assert response.headers["error-field"] == field


def test_what_became_of_a_payment_has_no_error_headers(api: httpx2.Client, pair: dict[str, object]) -> None:
    made = api.post("/payments", json=pair)
    assert not [name for name in made.headers if name.startswith("error")]


# What is refused before it is a request.


@pytest.fixture(scope="module")
def hasty(http_database: str) -> Iterator[str]:
    with serving(DATABASE_URL=http_database, WALLET_BODY_TIMEOUT="0.2") as server:
        yield server.url


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (b"nonsense\r\n\r\n", 400, "WH001"),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "WH004"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 66_000 + b"\r\n\r\n", 431, "WH005"),
        (b"POST /payments HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{", 408, "WH012"),
    ],
)
def test_what_is_no_request_has_a_code_too(hasty: str, sent: bytes, status: int, code: str) -> None:
    host, port = hasty.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as client:
        client.sendall(sent)
        answer = client.recv(65_536)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert b"\r\nerror-code: %b\r\n" % code.encode() in answer


def test_a_database_that_is_away_has_a_code() -> None:
    with serving(DATABASE_URL="host=127.0.0.1 port=1 dbname=x user=x", WALLET_POOL_TIMEOUT="0.1") as server:
        for path, code in (("/readyz", "WU005"), ("/accounts", "WU001")):
            response = httpx2.get(server.url + path)
            assert_refused(response, code)
            problem = httpx2.get(server.url + path, headers={"Accept": PROBLEM})
            assert (problem.json()["code"], problem.headers["retry-after"]) == (code, "1")


def test_haproxy_s_own_answers_are_those_of_the_registry() -> None:
    configured = re.findall(
        r"http-error status (\d+) content-type application/json string '(.*?)' hdr Error-Code (\w+)",
        (PROJECT / "deploy/haproxy.cfg").read_text(),
    )
    assert [status for status, _, _ in configured] == ["400", "408", "500", "502", "503", "504"]
    for status, body, code in configured:
        known = next(refusal for refusal in errors.registry() if refusal.code == code)
        assert (int(status), body) == (known.status, f'{{"Error":"{known.sentence}"}}')


# application/problem+json


def problem(api: httpx2.Client, method: str, path: str, accept: str = PROBLEM, **sent: Any) -> dict[str, Any]:
    response = api.request(method, path, headers={"Accept": accept}, **sent)
    assert response.headers["content-type"] == PROBLEM
    assert response.headers["error-code"] == response.json()["code"]
    assert response.status_code == response.json()["status"]
    found: dict[str, Any] = response.json()
    return found


def test_a_problem_says_the_same(api: httpx2.Client, pair: dict[str, object]) -> None:
    assert problem(api, "POST", "/payments", json=pair | {"Amount": 0}) == {
        "type": "/docs#WB002",
        "title": "Bad Request",
        "status": 400,
        "detail": sentence("WB002"),
        "code": "WB002",
        "field": "Amount",
    }
    batch = {"Payments": [pair, pair | {"Amount": 100}], "Atomic": True}
    assert problem(api, "POST", "/payments/batch", json=batch) == {
        "type": "/docs#WB006",
        "title": "Bad Request",
        "status": 400,
        "detail": sentence("WB006"),
        "code": "WB006",
        "index": 1,
    }
    assert problem(api, "GET", "/nowhere")["detail"] == sentence("WH002")
    assert problem(api, "GET", "/account/0")["title"] == "Not Found"
    assert f'id="{problem(api, "GET", "/nowhere")["type"].removeprefix("/docs#")}"' in api.get("/docs").text


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (PROBLEM, PROBLEM),
        ("Application/Problem+JSON", PROBLEM),
        ("application/json, application/problem+json", PROBLEM),
        ("application/problem+json;q=0.5", PROBLEM),
        ("text/html, application/problem+json; charset=utf-8 ;q=1", PROBLEM),
        ("application/problem+json;q=0.5, application/json", "application/json"),
        ("application/problem+json;q=0", "application/json"),
        ("application/problem+json;q=x", "application/json"),
        ("application/*", "application/json"),
        ("*/*", "application/json"),
        ("", "application/json"),
        (",;q=,", "application/json"),
        ("\xff", "application/json"),
    ],
)
def test_problems_are_sent_only_on_request_by_name(api: httpx2.Client, accept: str, content_type: str) -> None:
    response = api.get("/account/0", headers={b"Accept": accept.encode("latin-1")})
    assert (response.status_code, response.headers["content-type"]) == (404, content_type)


def test_a_success_is_the_same_with_accept_problem(api: httpx2.Client) -> None:
    for accept in (PROBLEM, "*/*"):
        response = api.get("/currencies", headers={"Accept": accept})
        assert (response.status_code, response.headers["content-type"]) == (200, "application/json")


def test_each_code_stands_once_and_has_a_cause_and_a_cure() -> None:
    codes = [refusal.code for refusal in errors.registry()]
    assert len(codes) == len(set(codes))
    for refusal in errors.registry():
        assert re.fullmatch(r"[A-Z\d]{5}", refusal.code)
        assert refusal.cause.endswith((".", "?"))
        assert refusal.cure.endswith(".")


def test_each_refusal_that_the_code_names_is_declared_and_each_declared_one_is_named() -> None:
    code = "".join(path.read_text() for path in (PROJECT / "wallet_api").rglob("*.py"))
    used = set(re.findall(r"\brefusals\.([A-Z0-9_]+)\b", code)) - {"BY_STATE", "OWN", "STATUS"}
    used |= {name for entry in TABLE["operations"].values() for name in entry.get("refusals", [])}
    # HAProxy sends those of the balancer.
    assert used == {name for name in refusals.OWN if not name.startswith("BALANCER_")}
