"""Bodies as clients send them: those that are compressed are refused by name, and a byte order mark does not count."""

import gzip
import itertools
import json
from codecs import BOM_UTF8
from typing import Any

import httpx2
import pytest

from tests.http.examples import example
from tests.support import assert_refused, open_account, payment_body
from wallet_api.http.operations import ALL, Operation

_names = (f"bodies {number}" for number in itertools.count())
WITH_BODY = [operation for operation in ALL.values() if operation.body is not None]


@pytest.fixture(scope="module")
def pair(api: httpx2.Client) -> dict[str, Any]:
    return payment_body(*(open_account(api, next(_names), 1000) for _ in range(2)))


@pytest.mark.parametrize("operation", WITH_BODY, ids=lambda operation: operation.name)
def test_a_compressed_body_is_refused_by_name(api: httpx2.Client, operation: Operation) -> None:
    path = operation.path.replace("{id}", "0")
    content = gzip.compress(json.dumps(example(operation)).encode())
    response = api.request(operation.method, path, content=content, headers={"Content-Encoding": "gzip"})
    assert_refused(response, "WH019", coding='"gzip"')
    assert (response.headers["error-field"], response.headers["accept-encoding"]) == ("Content-Encoding", "identity")


@pytest.mark.parametrize("coding", ["GZIP", "deflate", "br", "gzip, identity", "aws-chunked", "x" * 1000, '\xff"'])
def test_any_coding_is_refused_and_nothing_is_done(api: httpx2.Client, pair: dict[str, Any], coding: str) -> None:
    """Even if the body is not encoded: what it says is not what the client means."""
    before = api.get(f"/account/{pair['BuyerAccountID']}").json()
    response = api.post("/payments", json=pair, headers={b"Content-Encoding": coding.encode("latin-1")})
    shown = json.dumps(coding if len(coding) <= 64 else f"{coding[:64]}…")
    assert_refused(response, "WH019", coding=shown)
    assert api.get(f"/account/{pair['BuyerAccountID']}").json() == before


@pytest.mark.parametrize("coding", ["identity", "Identity", "", "utf-8", "UTF-8"])
def test_what_is_no_coding_changes_nothing(api: httpx2.Client, pair: dict[str, Any], coding: str) -> None:
    assert api.post("/payments", json=pair, headers={"Content-Encoding": coding}).status_code == 200


def test_without_a_body_nothing_is_encoded(api: httpx2.Client, pair: dict[str, Any]) -> None:
    hold = api.post("/holds", json=pair).json()["ID"]
    assert api.post(f"/hold/{hold}/void", headers={"Content-Encoding": "gzip"}).status_code == 200
    assert api.get("/currencies", headers={"Content-Encoding": "gzip"}).status_code == 200


def test_a_byte_order_mark_does_not_count(api: httpx2.Client, pair: dict[str, Any]) -> None:
    made = api.post("/payments", content=BOM_UTF8 + json.dumps(pair).encode())
    assert (made.status_code, made.json()["Amount"]) == (200, "1")
    hold = api.post("/holds", json=pair).json()["ID"]
    assert api.post(f"/hold/{hold}/void", content=BOM_UTF8).status_code == 200
    assert_refused(api.post("/payments", content=BOM_UTF8), "WH014")
    assert_refused(api.post("/payments", content=BOM_UTF8 + b"{\xff"), "WH015", byte=1)
    [result] = api.post("/payments/batch", content=BOM_UTF8 + json.dumps({"Payments": [pair]}).encode()).json()[
        "Results"
    ]
    assert result["Amount"] == "1"
    twice = api.post("/payments", content=BOM_UTF8 * 2 + json.dumps(pair).encode())
    assert (twice.status_code, twice.headers["error-code"]) == (400, "WH016")


@pytest.mark.parametrize("blank", [b"\x0c", b"\x0b", b"\x1f", "\u00a0".encode()])
def test_only_blanks_of_json_are_an_empty_body(api: httpx2.Client, pair: dict[str, Any], blank: bytes) -> None:
    hold = api.post("/holds", json=pair).json()["ID"]
    response = api.post(f"/hold/{hold}/void", content=blank)
    assert (response.status_code, response.headers["error-code"]) == (400, "WH016")
    assert api.post(f"/hold/{hold}/void", content=b" \t\r\n").status_code == 200
