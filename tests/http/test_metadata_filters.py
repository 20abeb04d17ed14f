"""Metadata in the query of a list: by members, metadata.order=17, or as a whole object."""

import itertools
import json
from typing import Any
from urllib.parse import quote

import httpx2
import pytest

from tests.http.test_pages import linked, rows, walk
from tests.support import assert_refused, open_account, pay, payment_body

_names = (f"metadata {number}" for number in itertools.count())
SOME: list[Any] = [
    {"order": 17, "of": {"a": {"b": "x", "B": 2}}},
    {"order": "17", "no": None},
    {"ORDER": 17, "yes": True},
    {"order": "true", "a.b": "c", "text": 'a b&c=d+"ü\\'},
    None,
    {"n": 0.10, "big": 12345678901234567890123},
]


@pytest.fixture(scope="module")
def buyer(api: httpx2.Client) -> int:
    """An account that has made payments with each of the metadata."""
    buyer, seller = (open_account(api, next(_names), 100) for _ in range(2))
    for metadata in SOME:
        assert pay(api, buyer, seller, 1, Metadata=metadata).status_code == 200
    return buyer


@pytest.mark.parametrize(
    ("query", "places"),
    [
        ("metadata.order=17", [0]),
        ("metadata.order=%2217%22", [1]),
        ("metadata.ORDER=17", [2]),
        ("METADATA.order=17", [0]),
        ("metadata.order=1.7e1", [0]),
        ("metadata.order=true", []),
        ("metadata.order=%22true%22", [3]),
        ("metadata.yes=true", [2]),
        ("metadata.no=null", [1]),
        ("metadata.of.a.b=x", [0]),
        ("metadata.of.a.b=x&metadata.of.a.B=2&metadata.order=17", [0]),
        ("metadata.of.a.b=x&metadata.order=18", []),
        ("metadata.of.a.b=y&metadata.of.a.b=x", [0]),  # the last one wins
        ("metadata.a.b=c", []),
        ('metadata={"a.b":"c"}', [3]),
        ('Metadata={"order":17,"of":{}}', [0]),
        ("metadata={}", [0, 1, 2, 3, 5]),
        (f"metadata.text={quote(SOME[3]['text'], '')}", [3]),
        (f"metadata.text={quote(json.dumps(SOME[3]['text']), '')}", [3]),
        ("metadata.n=0.1", [5]),
        ("metadata.big=12345678901234567890123", [5]),
        ("metadata.big=12345678901234567890124", []),
        # Text, because it is no JSON of one of these kinds.
        ("metadata.order=017", []),
        ("metadata.order=%2217", []),
        ("metadata.order=[17]", []),
        ("metadata.order={}", []),
        ("metadata.order=", []),
        ("metadata.order=NaN", []),
        ("metadata.order=%2017", []),
    ],
)
def test_payments_are_found_by_their_metadata(api: httpx2.Client, buyer: int, query: str, places: list[int]) -> None:
    whole = rows(api.get(f"/payments?buyer={buyer}"))
    expected = [whole[place] for place in places]
    assert rows(api.get(f"/payments?buyer={buyer}&{query}")) == expected
    pages = walk(api, f"/payments?buyer={buyer}&{query}&limit=1")
    assert [row for page in pages for row in page] == expected


def test_the_text_of_a_number_is_the_text_of_a_member_if_it_is_quoted(api: httpx2.Client, buyer: int) -> None:
    seller = open_account(api, next(_names))
    for text in ("017", "[17]", "", "NaN", '"17', " 17", "null"):
        assert pay(api, buyer, seller, 1, Metadata={"text": text}).status_code == 200
        sent = json.dumps(text) if text == "null" else text
        found = rows(api.get(f"/payments?seller={seller}&metadata.text={quote(sent, '')}"))
        assert [row["Metadata"] for row in found] == [{"text": text}]


def test_what_has_metadata_shows_it_in_every_list(api: httpx2.Client, buyer: int) -> None:
    shown = [row.get("Metadata", "none") for row in rows(api.get(f"/payments?buyer={buyer}"))]
    assert shown[: len(SOME)] == ["none" if metadata is None else metadata for metadata in SOME]
    lines = rows(api.get(f"/account/{buyer}/statement"))
    assert [line.get("Metadata", "none") for line in lines] == shown
    name = next(_names)
    body = {"Name": name, "CurrencyID": 1, "Metadata": {"of": name}}
    place = api.post("/accounts", json=body).headers["location"]
    [found] = rows(api.get(f"/accounts?metadata.of={name}"))
    assert (found["Metadata"], f"/account/{found['ID']}") == ({"of": name}, place)
    assert api.get(f"/accounts?metadata.of={name}&name=other").text == "{}"
    assert api.get(f"/holds?account={buyer}&metadata.of={name}").text == "{}"


def test_links_keep_the_metadata(api: httpx2.Client, buyer: int) -> None:
    path = f"/payments?buyer={buyer}&Metadata.no=null&metadata.order=%2217%22&limit=1"
    page = api.get(f"{path}&after=0")
    assert linked(page)["prev"] == f"{path}&before={rows(page)[0]['ID']}"


@pytest.mark.parametrize("path", ["/payments", "/holds", "/accounts"])
@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("metadata=", "WH046"),
        ("metadata=abc", "WH046"),
        ('metadata={"a":1', "WH046"),
        ("metadata={'a':1}", "WH046"),
        (f"metadata={'[' * 5000}", "WH046"),
        ("metadata.=1", "WH046"),
        ("metadata.a..b=1", "WH046"),
        ("metadata.a.=1", "WH046"),
        ("metadata.a=1&metadata.a.b=1", "WH046"),
        ("metadata.a.b=1&metadata.a=1", "WH046"),
        ("metadata={}&metadata.a=1", "WH046"),
        (f"metadata.{'a.' * 5000}a=1", "WH046"),
        ("metadata.a=1%00", "WH033"),
        ("metadata.a%00=1", "WH033"),
        ('metadata={"a":"\\u0000"}', "WH033"),
        ('metadata={"a":"\\ud800"}', "WH034"),
        ("metadata.a=1e9999", "WH045"),
        ('metadata={"a":NaN}', "WH045"),
        ("metadata=17", "WB020"),
        ("metadata=[]", "WB020"),
        ("metadata=null", "WB020"),
        (f"metadata.a={'x' * 4096}", "WB020"),
    ],
    ids=lambda value: value[:30],
)
def test_what_is_no_metadata_is_refused(api: httpx2.Client, path: str, query: str, code: str) -> None:
    response = api.get(f"{path}?{query}")
    assert_refused(response, code, field="metadata")
    assert response.headers["error-field"] == "metadata"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/payments?metadat.order=17", "metadat.order"),
        ("/payments?limit.order=17", "limit.order"),
        ("/payments?metadata[order]=17", "metadata[order]"),
        ("/account/1/statement?metadata.order=17", "metadata.order"),
        ("/account/1?metadata=17", "metadata"),
    ],
)
def test_other_parameters_stay_unknown(api: httpx2.Client, path: str, name: str) -> None:
    response = api.get(path)
    assert response.status_code == 400
    assert (response.headers["error-code"], response.headers["error-field"]) == ("WH022", name)


def test_of_holds_too(api: httpx2.Client) -> None:
    buyer, seller = (open_account(api, next(_names), 10) for _ in range(2))
    holds = [api.post("/holds", json=payment_body(buyer, seller, 1, Metadata=metadata)).json() for metadata in SOME[:2]]
    assert rows(api.get(f"/holds?account={buyer}&metadata.order=17")) == holds[:1]
    assert rows(api.get(f"/holds?account={buyer}&metadata={{}}&order=desc")) == holds[::-1]
