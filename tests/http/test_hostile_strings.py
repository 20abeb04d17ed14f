"""Whatever a client writes is data: it comes back as it was sent, or is refused in the contract's form, and never more."""

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx2
import psycopg
import pytest

from tests.conftest import Connection, clone
from tests.http.examples import example
from tests.sql.calls import row
from tests.support import account, ledger_problems, open_account, payment_body, serving
from wallet_api.http import refusals
from wallet_api.http.operations import ALL, Operation

# Those that can be stored: 1 to 255 characters, of which none is a NUL.
TEXTS = [
    "'; drop table ledger.account; --",
    '" or "1"="1',
    "$$; select pg_sleep(10); $$",
    "%s %(name)s %d %n {} {0.__class__} ${jndi:ldap://x} `id` $(id)",
    "\\ \\' \\\" \\n \\x00 \\u0000 \\000 \\.",
    '{"Error":"x"},[],{}',
    "{1,2,NULL}",
    "NULL",
    "../../../../etc/passwd",
    "a\r\nSet-Cookie: a=b\r\n\r\nHTTP/1.1 200 OK",
    "<script>alert(1)</script>&amp;",
    "a,b;c=d&e?f#g/h%2f+%00",
    "\u202eright to left\u202c \u200f\u061c",
    "\ufeff\u200b\u00a0\u2028\u2029\ufffe\uffff",
    "👩\u200d👩\u200d👧 \U0010ffff e\u0301 é",
    "\x01\x02\x08\t\n\x0b\x0c\r\x1b[31m\x7f\x80\x9f",
    " blanks around ",
    "x" * 255,
    "\U0010ffff" * 255,
]
# Those that may be a description, and no name: with control, format or other invisible characters.
NO_NAMES = [TEXTS[number] for number in (9, 12, 13, 14, 15)]
HOSTILE = [*TEXTS, "", "a\0b", "\0", "\ud800", "a\udfff\ud83d", "x" * 10_000, "9" * 10_000, "-0", "1e999999999"]

# Names of what it is made of, and what these say when something goes wrong.
TELLTALE = re.compile(
    r"postgres|psycopg|pgsql|uvicorn|uvloop|starlette|httptools|python|traceback|exception|sqlstate|context:"
    r"|relation|syntax error|line \d+ at|\.py\b|/[a-z]+/[a-z]+/|wallet\.\w+\(|ledger\.",
    re.IGNORECASE,
)


def check(response: httpx2.Response) -> None:
    """An answer is a success, or one sentence that says nothing of what stands behind it."""
    assert response.status_code in (200, 400, 404, 409, 413, 422), response.text
    # An unknown name is told, as it was sent.
    echoes = response.headers.get("error-code") in (refusals.UNKNOWN_FIELD.code, refusals.UNKNOWN_PARAMETER.code)
    headers = [value for name, value in response.headers.items() if not (echoes and name == "error-field")]
    assert TELLTALE.search(" ".join(headers)) is None
    assert "server" not in response.headers
    if response.headers["content-type"] == "application/json":
        found = response.json()
        if response.status_code != 200:
            assert set(found) - {"Index"} == {"Error"}
            assert echoes or TELLTALE.search(found["Error"]) is None, found["Error"]
            assert found["Error"].isprintable()
    else:
        assert response.status_code == 200
        assert response.request.url.path == "/docs"


def in_url(text: str) -> str:
    return quote(text.encode(errors="surrogatepass"), safe="")


def in_json(text: str) -> list[bytes]:
    """A text as a JSON string: escaped, and as it is; the half of a surrogate pair is broken UTF-8 then."""
    return [json.dumps(text).encode(), json.dumps(text, ensure_ascii=False).encode(errors="surrogatepass")]


def body(operation: Operation, hostile: str, value: bytes) -> bytes:
    """A body of examples, but for one field, which is hostile."""
    right = {name: json.dumps(value).encode() for name, value in example(operation).items()}
    members = [
        b'"%b":%b' % (field.name.encode(), value if field.name == hostile else right[field.name])
        for field in operation.body or ()
        if field.name == hostile or field.required
    ]
    return b"{" + b",".join(members) + b"}"


def requests(operation: Operation, text: str) -> Iterator[dict[str, Any]]:
    """The requests of an operation that have the text somewhere, each in one place."""
    path = operation.path.replace("{id}", "1")
    right: dict[str, Any] = {"method": operation.method, "url": path}
    if operation.body is not None:
        right["content"] = body(operation, "", b"")
    if operation.in_path:
        yield right | {"url": operation.path.replace("{id}", in_url(text))}
    yield right | {"url": f"{path}{in_url(text)}"}
    yield right | {"url": f"{path}?{in_url(text)}"}
    for asked in operation.query:
        yield right | {"url": f"{path}?{asked.name}={in_url(text)}"}
    for value in in_json(text):
        for asked in operation.body or ():
            yield right | {"content": body(operation, asked.name, value)}
        if operation.name == "makePayments":
            payment = ALL["makePayment"]
            for asked in payment.body or ():
                yield right | {"content": b'{"Payments":[%b]}' % body(payment, asked.name, value)}
        yield right | {"content": value}
        yield right | {"content": b"{%b:1}" % value}
    # What else is no HTTP is for tests/http/fuzz.py.
    if text.strip() == text and re.search(r"[\x00-\x1f\x7f]", text) is None:
        for name in ["Idempotency-Key"] if operation.keyed else ["Content-Type", "Accept", "X-Forwarded-For"]:
            yield right | {"headers": {name.encode(): text.encode(errors="surrogatepass")}}


@pytest.fixture(scope="module")
def target(cluster: str) -> Iterator[httpx2.Client]:
    """A service with two accounts, a payment and a hold, that each have the number 1, and a key that may do all."""
    for conninfo in clone(cluster, "wallet"):
        with psycopg.connect(conninfo) as connection:
            connection.execute("select wallet.create_api_key('one', '{read}')")
            secret = row(connection, "create_api_key", "all", ["read", "pay", "admin", "keys"])["secret"]
        with serving(DATABASE_URL=conninfo) as server, server.client() as api:
            api.headers["Authorization"] = f"Bearer {secret}"
            for name in ("one", "two"):
                open_account(api, name, 1000)
            for path in ("/payments", "/holds"):
                api.post(path, json=payment_body(1, 2, "0.1"))
            yield api


@pytest.mark.parametrize("operation", ALL.values(), ids=lambda operation: operation.name)
def test_each_operation_answers_in_the_contract_s_form_whatever_is_in_any_field(
    target: httpx2.Client, operation: Operation
) -> None:
    for text in HOSTILE:
        for request in requests(operation, text):
            check(target.request(**request))


def test_what_can_be_stored_comes_back_as_it_was_sent(admin: Connection, database: str) -> None:
    payer = account(admin, "payer", 1000)
    names = [text if text not in NO_NAMES else f"account {number}" for number, text in enumerate(TEXTS)]
    with serving(DATABASE_URL=database) as server, server.client() as api:
        for text, name in zip(TEXTS, names, strict=True):
            made = api.post("/accounts", json={"Name": name, "CurrencyID": 1})
            place = made.headers["location"]
            asked = payment_body(payer, int(place[9:]), Description=text, Reference=text)
            paid = api.post("/payments", json=asked | {"IdempotencyKey": text})
            assert (paid.json()["Description"], paid.json()["Reference"]) == (text, text)
            again = api.post("/payments/batch", json={"Payments": [asked | {"IdempotencyKey": text}]})
            assert again.headers["idempotency-replayed"] == "true"
            assert again.json()["Results"] == [paid.json()]
            assert api.get(place).json()["Name"] == name
            [found] = api.get("/accounts", params={"name": name}).json()["Accounts"]
            assert found["Name"] == name
            [found] = api.get("/payments", params={"reference": text}).json()["Payments"]
            assert (found["ID"], found["Description"]) == (paid.json()["ID"], text)
            [line] = api.get(f"{place}/statement").json()["Lines"]
            assert (line["Description"], line["Reference"]) == (text, text)
            held = api.post("/holds", json=asked | {"IdempotencyKey": f"{text[:-1]}!"}).json()
            assert (held["Description"], held["Reference"]) == (text, text)
        for limit in ("", "?limit=1000"):
            accounts = api.get(f"/accounts{limit}").json()["Accounts"]
            payments = api.get(f"/payments{limit}").json()["Payments"]
            lines = api.get(f"/account/{payer}/statement{limit}").json()["Lines"]
            assert [found["Name"] for found in accounts] == ["payer", *names]
            assert [(found["Description"], found["Reference"]) for found in payments] == [
                *zip(TEXTS, TEXTS, strict=True)
            ]
            assert [line["CounterpartyName"] for line in lines] == names
    stored = admin.execute("select description, reference, idempotency_key from ledger.payment order by id").fetchall()
    assert stored == [(text, text, text) for text in TEXTS]
    assert ledger_problems(admin) == []
