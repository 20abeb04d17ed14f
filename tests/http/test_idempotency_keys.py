"""A payment that is asked for again under its idempotency key is answered as before, and nothing moves."""

import itertools
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
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
    pay,
    payment_body,
    sentence,
    serving,
    waiting_for_locks,
)

_numbers = itertools.count()


@pytest.fixture
def key() -> str:
    return f"key {next(_numbers)}"


@pytest.fixture(scope="module")
def accounts(api: httpx2.Client) -> list[int]:
    """Two with a lot of USD, and one with nothing."""
    return [open_account(api, "keys one", "1e9"), open_account(api, "keys two", "1e9"), open_account(api, "keys poor")]


def answer(response: httpx2.Response) -> tuple[int, str | None, str]:
    return response.status_code, response.headers.get("idempotency-replayed"), response.text


def amounts(api: httpx2.Client, ids: list[int]) -> list[str]:
    return [api.get(f"/account/{id_}").json()["Amount"] for id_ in ids]


def test_a_repeat_gives_the_original_answer_and_says_so(api: httpx2.Client, accounts: list[int], key: str) -> None:
    one, two, _ = accounts
    first = pay(api, one, two, "1.50", key)
    assert (first.status_code, "idempotency-replayed" in first.headers) == (200, False)
    assert list(first.json()) == [
        "ID",
        "CurrencyID",
        "Amount",
        "BuyerAccountID",
        "SellerAccountID",
        "OperationTimestamp",
    ]
    before = amounts(api, accounts)
    for again in ("1.5", 1.5, "15e-1"):
        assert answer(pay(api, one, two, again, key)) == (200, "true", first.text)
    assert amounts(api, accounts) == before


def test_a_payment_without_a_key_is_made_each_time(api: httpx2.Client, accounts: list[int]) -> None:
    one, two, _ = accounts
    ids = {pay(api, one, two, 1).json()["ID"] for _ in range(3)}
    assert len(ids) == 3


@pytest.mark.parametrize(
    "other", [{"Amount": 2}, {"Amount": 1.01}, {"Amount": -1}, {"SellerAccountID": 0}, {"Amount": "x"}]
)
def test_another_payment_under_a_used_key_is_422(
    api: httpx2.Client, accounts: list[int], key: str, other: dict[str, object]
) -> None:
    one, two, _ = accounts
    assert pay(api, one, two, 1, key).status_code == 200
    before = amounts(api, accounts)
    asked = payment_body(one, two) | other
    assert_refused(api.post("/payments", json=asked, headers={"Idempotency-Key": key}), "WK001")
    assert amounts(api, accounts) == before


def test_a_refused_payment_does_not_use_up_its_key(api: httpx2.Client, accounts: list[int], key: str) -> None:
    one, two, poor = accounts
    for _ in range(2):
        assert pay(api, poor, one, 1, key).status_code == 400
    assert answer(pay(api, one, two, 1, key))[:2] == (200, None)
    assert pay(api, poor, one, 1, key).status_code == 422


@pytest.mark.parametrize("length", [0, 256])
def test_a_key_of_another_length(api: httpx2.Client, accounts: list[int], length: int) -> None:
    assert_refused(pay(api, accounts[0], accounts[1], 1, "k" * length), "WB008")


@pytest.mark.parametrize("text", ["\x1f", "\x1fa", "\x1f" + "k" * 255])
def test_a_key_that_begins_as_those_of_tenants_are_stored(
    api: httpx2.Client, accounts: list[int], key: str, text: str
) -> None:
    one, two, _ = accounts
    asked = payment_body(one, two, 1, IdempotencyKey=text)
    response = api.post("/payments", json=asked)
    assert_refused(response, "WB028")
    assert response.headers["error-field"] == "IdempotencyKey"
    results = batch(api, [asked, payment_body(one, two, 1, IdempotencyKey=key)]).json()["Results"]
    assert [result.get("Code") for result in results] == ["WB028", None]
    for path, body in changes(api, key):
        assert_refused(api.post(path, json=body | {"IdempotencyKey": text}), "WB028")


@pytest.mark.parametrize("text", ["ü" * 255, '"quoted"', "\\", "{NULL,}", "NULL", "null", "a, b", "'", "%s", "\u0085x"])
def test_a_key_is_any_text(api: httpx2.Client, accounts: list[int], text: str) -> None:
    one, two, _ = accounts
    headers = [(b"Idempotency-Key", text.encode())]
    first, again = (api.post("/payments", json=payment_body(one, two, 1), headers=headers) for _ in range(2))
    assert (answer(first)[:2], answer(again)) == ((200, None), (200, "true", first.text))
    [same] = api.post("/payments/batch", json={"Payments": [payment_body(one, two, 1, IdempotencyKey=text)]}).json()[
        "Results"
    ]
    assert same == first.json()


@pytest.mark.parametrize(
    ("headers", "fields", "code", "field"),
    [
        ([b"a", b"a"], {}, "WH041", ""),
        ([b"\xff"], {}, "WH042", ""),
        ([b"a"], {"IdempotencyKey": "b"}, "WH043", ""),
        ([], {"IdempotencyKey": 1}, "WH032", "IdempotencyKey"),
        ([], {"IdempotencyKey": "a\0b"}, "WH033", "IdempotencyKey"),
        ([], {"IdempotencyKey": "\ud800"}, "WH034", "IdempotencyKey"),
    ],
)
def test_a_key_that_cannot_be_read(
    api: httpx2.Client, accounts: list[int], headers: list[bytes], fields: dict[str, object], code: str, field: str
) -> None:
    before = amounts(api, accounts)
    body = json.dumps(payment_body(accounts[0], accounts[1], 1, **fields))
    response = api.post("/payments", content=body, headers=[(b"Idempotency-Key", value) for value in headers])
    assert_refused(response, code, field=field)
    assert amounts(api, accounts) == before


def test_the_key_may_be_a_field_of_a_lone_payment_too(api: httpx2.Client, accounts: list[int], key: str) -> None:
    one, two, _ = accounts
    first = api.post("/payments", json=payment_body(one, two, 1, idempotencykey=key))
    assert answer(pay(api, one, two, 1, key)) == (200, "true", first.text)
    assert answer(pay(api, one, two, 1, key, IdempotencyKey=key)) == (200, "true", first.text)


def batch(api: httpx2.Client, payments: list[dict[str, object]], **fields: Any) -> httpx2.Response:
    return api.post("/payments/batch", json={"Payments": payments, **fields})


def test_each_payment_of_a_batch_has_its_own_key(api: httpx2.Client, accounts: list[int], key: str) -> None:
    one, two, poor = accounts
    earlier = pay(api, one, two, 3, key)
    response = batch(
        api,
        [
            payment_body(one, two, 1, IdempotencyKey=key + "a"),
            payment_body(one, two, 3, IdempotencyKey=key),
            payment_body(one, two, 1, IdempotencyKey=key + "a"),
            payment_body(one, two, 2, IdempotencyKey=key + "a"),
            payment_body(poor, two, 1, IdempotencyKey=key + "b"),
            payment_body(one, two, 1),
            payment_body(one, two, 1, IdempotencyKey=""),
            payment_body(one, two, 1, IdempotencyKey=7),
        ],
    )
    results = response.json()["Results"]
    assert "idempotency-replayed" not in response.headers
    assert (results[1], results[2]) == (earlier.json(), results[0])
    assert [(result.get("Code"), result.get("Error")) for result in results] == [
        (None, None),
        (None, None),
        (None, None),
        ("WK001", sentence("WK001")),
        ("WB006", sentence("WB006")),
        (None, None),
        ("WB008", sentence("WB008")),
        ("WH032", sentence("WH032", field="IdempotencyKey")),
    ]
    assert pay(api, poor, one, 1, key + "b").status_code == 400


@pytest.mark.parametrize("atomic", [False, True])
def test_a_batch_that_is_repeated_is_answered_as_before_and_says_so(
    api: httpx2.Client, accounts: list[int], key: str, atomic: bool
) -> None:
    one, two, poor = accounts
    asked = [
        payment_body(one, two, 5, IdempotencyKey=key + "a"),
        payment_body(one, poor, "0.000001", IdempotencyKey=key + "b"),
    ]
    first = batch(api, asked, Atomic=atomic)
    before = amounts(api, accounts)
    assert answer(batch(api, asked, Atomic=atomic)) == (200, "true", first.text)
    assert amounts(api, accounts) == before
    another = [asked[0], asked[1] | {"Amount": 2}]
    response = batch(api, another, Atomic=atomic)
    if atomic:
        assert_refused(response, "WK001", index=1)
    else:
        refused = {"Error": sentence("WK001"), "Code": "WK001", "Field": "IdempotencyKey"}
        assert response.json()["Results"][1] == refused
    assert amounts(api, accounts) == before


# A key for a whole batch.


def test_a_batch_under_a_key_is_answered_as_before_refusals_included(api: httpx2.Client, key: str) -> None:
    one, two = (open_account(api, f"{key} {name}", 10) for name in ("one", "two"))
    asked = {"Payments": [payment_body(one, two, 4), payment_body(one, two, 1000), payment_body(one, two, 6)]}
    headers = {"Idempotency-Key": key}
    first = api.post("/payments/batch", json=asked, headers=headers)
    assert (first.status_code, "idempotency-replayed" in first.headers) == (200, False)
    assert [result.get("Code") for result in first.json()["Results"]] == [None, "WB006", None]
    pay(api, two, one, 10)
    api.post(f"/account/{one}/credit-limit", json={"Amount": 5000})
    before = amounts(api, [one, two])
    for again in (
        api.post("/payments/batch", json=asked, headers=headers),
        api.post("/payments/batch", json=asked | {"IdempotencyKey": key}),
    ):
        assert answer(again) == (200, "true", first.text)
    another = {"Payments": asked["Payments"][:2]}
    assert answer(api.post("/payments/batch", json=another, headers=headers))[0] == 422
    assert amounts(api, [one, two]) == before


def test_a_batch_of_refusals_alone_says_that_it_was_answered_before(api: httpx2.Client, key: str) -> None:
    asked = {"Payments": [payment_body(0, 0, 1)], "IdempotencyKey": key}
    first = api.post("/payments/batch", json=asked)
    assert "idempotency-replayed" not in first.headers
    assert answer(api.post("/payments/batch", json=asked)) == (200, "true", first.text)


def test_an_empty_batch_uses_its_key(api: httpx2.Client, accounts: list[int], key: str) -> None:
    headers = {"Idempotency-Key": key}
    for _ in range(2):
        assert api.post("/payments/batch", json={"Payments": []}, headers=headers).json() == {"Results": []}
    asked = {"Payments": [payment_body(accounts[0], accounts[1], 1)]}
    assert api.post("/payments/batch", json=asked, headers=headers).status_code == 422


def test_a_batch_under_a_key_is_refused_where_a_payment_cannot_be_read(
    api: httpx2.Client, accounts: list[int], key: str
) -> None:
    """The database does not know of such a payment, and so could not tell another batch from this one."""
    before = amounts(api, accounts)
    asked = {
        "Payments": [payment_body(accounts[0], accounts[1], 1), payment_body(accounts[0], "x", 1)],
        "IdempotencyKey": key,
    }
    response = api.post("/payments/batch", json=asked)
    assert (response.status_code, response.json()["Index"]) == (400, 1)
    assert amounts(api, accounts) == before


# Every other request that changes something.


def changes(api: httpx2.Client, name: str) -> list[tuple[str, dict[str, object]]]:
    """A request of each operation that changes something, payments excepted."""
    one, two = (open_account(api, f"{name} {number}", 100) for number in range(2))
    hold = api.post("/holds", json=payment_body(one, two, 5)).json()["ID"]
    return [
        ("/accounts", {"Name": f"{name} new", "Amount": "7.50", "CurrencyID": 1}),
        (f"/account/{one}/status", {"Status": "frozen"}),
        (f"/account/{two}/credit-limit", {"Amount": "20.50"}),
        (f"/hold/{hold}/void", {}),
        ("/currencies", {"Name": name[-16:], "Scale": 2}),
        (
            f"/currency/{api.post('/currencies', json={'Name': f'{name[-14:]} s', 'Scale': 1}).json()['ID']}/scale",
            {"Scale": 3},
        ),
    ]


def test_every_post_honours_the_key(api: httpx2.Client, key: str) -> None:
    for path, body in changes(api, key):
        first = api.post(path, json=body, headers={"Idempotency-Key": key})
        assert (first.status_code, "idempotency-replayed" in first.headers) == (200, False), path
        for again in (
            api.post(path, json=body, headers={"Idempotency-Key": key}),
            api.post(path, json=body | {"IdempotencyKey": key}),
        ):
            assert answer(again) == (200, "true", first.text), path
            assert again.headers.get("location") == first.headers.get("location")
        without = api.post(path, json=body)
        assert without.status_code == (200 if path.startswith(("/account/", "/currency/")) else 409)


def test_no_post_accepts_other_content_under_a_used_key(api: httpx2.Client, key: str) -> None:
    others = changes(api, f"{key} other")
    for (path, body), (other_path, other_body) in zip(changes(api, key), others, strict=True):
        api.post(path, json=body, headers={"Idempotency-Key": key})
        refused = api.post(other_path, json=other_body, headers={"Idempotency-Key": key})
        assert_refused(refused, "WK003")
        assert refused.headers["error-field"] == "IdempotencyKey"


@pytest.mark.parametrize(("headers", "fields"), [({"Idempotency-Key": ""}, {}), ({}, {"IdempotencyKey": "k" * 256})])
def test_no_post_accepts_a_key_that_is_empty_or_too_long(
    api: httpx2.Client, key: str, headers: dict[str, str], fields: dict[str, str]
) -> None:
    for path, body in changes(api, key):
        response = api.post(path, json=body | fields, headers=headers)
        assert_refused(response, "WB008")


def test_two_at_the_same_moment_open_one_account(
    admin: Connection, database: str, two_instances: list[httpx2.Client], key: str
) -> None:
    body = {"Name": "new", "CurrencyID": 1}
    with ThreadPoolExecutor(40) as clients:
        requests = [
            clients.submit(api.post, "/accounts", json=body, headers={"Idempotency-Key": key})
            for api in two_instances * 20
        ]
        answers = [request.result() for request in requests]
    assert {(response.status_code, response.headers["location"]) for response in answers} == {(200, "/account/1")}
    assert sum("idempotency-replayed" not in response.headers for response in answers) == 1
    assert admin.execute("select count(*) from ledger.account").fetchall() == [(1,)]


# Several at once. The account `held` is locked by `holder`, until all have come.


@pytest.fixture
def held(admin: Connection) -> int:
    return account(admin, "held", 1000)


@pytest.fixture
def two_instances(database: str) -> Iterator[list[httpx2.Client]]:
    patient = {"WALLET_COALESCE_LOCK_TIMEOUT": "20", "WALLET_LOCK_TIMEOUT": "20", "WALLET_COALESCE_WAITING": "30"}
    with (
        serving(DATABASE_URL=database, **patient) as first,
        serving(DATABASE_URL=database, **patient) as second,
        first.client() as one,
        second.client() as two,
    ):
        yield [one, two]


def test_many_at_the_same_moment_through_two_instances_are_one_payment(
    admin: Connection, database: str, held: int, two_instances: list[httpx2.Client], key: str
) -> None:
    seller = account(admin, "seller")
    asked = payment_body(held, seller, 7)
    with ThreadPoolExecutor(60) as clients, psycopg.connect(database) as holder:
        holder.execute("select from ledger.account where id = %s for update", [held])
        requests = [clients.submit(pay, api, held, seller, 7, key) for api in two_instances for _ in range(20)]
        requests += [
            clients.submit(batch, api, [asked | {"IdempotencyKey": key}] * 2, Atomic=atomic)
            for api in two_instances
            for atomic in (False, True)
        ]
        waiting_for_locks(admin, 6)  # a call of single payments, and two batches, of each instance
        holder.rollback()
        answers = [request.result() for request in requests]
    assert {response.status_code for response in answers} == {200}
    ids = {response.json()["ID"] for response in answers[:40]}
    ids |= {result["ID"] for response in answers[40:] for result in response.json()["Results"]}
    assert len(ids) == 1
    assert sum("idempotency-replayed" not in response.headers for response in answers) == 1
    assert balance(admin, seller) == 7
    assert ledger_problems(admin) == []


def test_of_different_payments_at_the_same_moment_one_has_the_key(
    admin: Connection, database: str, held: int, two_instances: list[httpx2.Client], key: str
) -> None:
    sellers = [account(admin, f"seller {number}") for number in range(10)]
    with ThreadPoolExecutor(20) as clients, psycopg.connect(database) as holder:
        holder.execute("select from ledger.account where id = %s for update", [held])
        requests = [
            clients.submit(pay, two_instances[number % 2], held, seller, 7, key)
            for number, seller in enumerate(sellers)
        ]
        waiting_for_locks(admin, 2)
        holder.rollback()
        assert sorted(request.result().status_code for request in requests) == [200] + [422] * 9
    assert balance(admin, held) == 993
    assert ledger_problems(admin) == []


def test_an_idempotency_key_in_use_delays_only_payments_under_it(
    admin: Connection, database: str, held: int, key: str
) -> None:
    """In psql: begin, make_payment(…) under this key, and no commit. The accounts are others."""
    other = account(admin, "other", 1000), account(admin, "yet another")
    with (
        ThreadPoolExecutor(60) as clients,
        serving(DATABASE_URL=database, WALLET_LOCK_TIMEOUT="20") as server,
        httpx2.Client(base_url=server.url, timeout=20, limits=httpx2.Limits(max_connections=60)) as api,
        psycopg.connect(database) as holder,
    ):
        holder.execute("select wallet.make_payment(%s, %s, 1, %s)", [held, account(admin, "seller"), key])
        waiting = clients.submit(pay, api, *other, 1, key)
        neighbours = [clients.submit(pay, api, *other) for _ in range(40)]
        assert {neighbour.result().status_code for neighbour in neighbours} == {200}
        assert not waiting.done()
        holder.rollback()
        assert waiting.result().status_code == 200


def test_a_repeat_is_answered_while_its_accounts_are_locked(
    admin: Connection, database: str, held: int, key: str
) -> None:
    asked = held, account(admin, "seller"), 7
    with serving(DATABASE_URL=database, WALLET_LOCK_TIMEOUT="20") as server, server.client() as api:
        first = pay(api, *asked, key)
        with psycopg.connect(database) as holder:
            holder.execute("select from ledger.account where id = %s for update", [held])
            assert answer(pay(api, *asked, key)) == (200, "true", first.text)
