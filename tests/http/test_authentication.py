"""API keys over HTTP: without one it is 401, what a key does not allow is 403, and a probe needs none."""

import asyncio
import gc
import json
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx2
import psycopg
import pytest

from tests.conftest import Connection
from tests.http.examples import example
from tests.http.test_metrics import METERED, value
from tests.sql.calls import row, rows
from tests.support import (
    TIMEOUT,
    account,
    assert_refused,
    open_account,
    pay,
    payment_body,
    sentence,
    serving,
    wait_until,
    waiting_for_locks,
)
from wallet_api.database.pool import ConnectionLost, Rows
from wallet_api.http import operations
from wallet_api.http.authentication import Keys
from wallet_api.http.operations import Operation

INVALID, MISSING = "WA001", "WA002"
GUARDED = [operation for operation in operations.ALL.values() if operation.function]


@pytest.fixture(scope="module")
def keyed_url(http_database: str) -> Iterator[str]:
    with serving(DATABASE_URL=http_database, WALLET_AUTH="required") as server:
        yield server.url


@pytest.fixture(scope="module")
def keeper(http_database: str) -> Iterator[Connection]:
    """A superuser's connection to its database."""
    with psycopg.connect(http_database, autocommit=True) as connection:
        yield connection


names = (f"key {number}" for number in range(1000))


def key(
    keeper: Connection, *scopes: str, accounts: list[int] | None = None, tenant: str | None = None
) -> dict[str, Any]:
    asked = list(scopes or ["read", "pay", "admin", "keys"])
    return row(keeper, "create_api_key", next(names), asked, accounts, tenant=tenant)


def client(url: str, secret: str) -> httpx2.Client:
    return httpx2.Client(base_url=url, headers={"Authorization": f"Bearer {secret}"}, timeout=TIMEOUT)


def ask(api: httpx2.Client, operation: Operation, **headers: str) -> httpx2.Response:
    """Asks for an operation, of what there is none."""
    path = operation.path.replace("{id}", str(2**62))
    if operation.method == "GET":
        return api.get(path, headers=headers)
    body = example(operation)
    return api.request(operation.method, path, json=body, headers=headers)


@pytest.mark.parametrize("operation", GUARDED, ids=lambda operation: str(operation.name))
def test_without_a_valid_key_it_is_401(keyed_url: str, operation: Operation) -> None:
    with httpx2.Client(base_url=keyed_url) as api:
        for headers, code in (
            ({}, MISSING),
            ({"Authorization": "Bearer"}, MISSING),
            ({"Authorization": "Basic d2FsbGV0"}, MISSING),
            ({"Authorization": "Bearer wallet_none"}, INVALID),
            ({"Authorization": "Bearer %41~[]{}"}, INVALID),
            ({"Authorization": "Bearer " + "x" * 10_000}, INVALID),
        ):
            response = ask(api, operation, **headers)
            assert_refused(response, code)
            assert response.headers["WWW-Authenticate"] == 'Bearer realm="wallet"'


def test_two_keys_are_none(keyed_url: str, keeper: Connection) -> None:
    secret = key(keeper)["secret"]
    headers = [("Authorization", f"Bearer {secret}"), ("Authorization", f"Bearer {secret}")]
    assert_refused(httpx2.get(f"{keyed_url}/accounts", headers=headers), MISSING)


UNGUARDED = ["/livez", "/readyz", "/openapi.json", "/docs"]


def test_these_are_all_that_need_no_key() -> None:
    assert [operation.path for operation in operations.ALL.values() if operation not in GUARDED] == UNGUARDED


@pytest.mark.parametrize("path", UNGUARDED)
def test_probes_and_documents_need_none(keyed_url: str, path: str) -> None:
    assert httpx2.get(f"{keyed_url}{path}").status_code == 200


def test_unknown_paths_and_methods_need_no_key(keyed_url: str) -> None:
    assert httpx2.get(f"{keyed_url}/nothing").status_code == 404
    assert httpx2.delete(f"{keyed_url}/accounts").status_code == 405


@pytest.mark.parametrize("operation", GUARDED, ids=lambda operation: str(operation.name))
def test_with_a_key_that_has_not_the_scope_it_is_403(keyed_url: str, keeper: Connection, operation: Operation) -> None:
    refused = []
    for scope in ("read", "pay", "admin", "keys"):
        with client(keyed_url, key(keeper, scope)["secret"]) as api:
            response = ask(api, operation)
            # A key with the right scope passes on no others.
            if response.status_code == 403 and response.headers["error-code"] != "WF005":
                assert_refused(response, "WF001")
                refused.append(scope)
    assert len(refused) == 3


def test_a_key_as_clients_use_it(keyed_url: str, keeper: Connection) -> None:
    with client(keyed_url, key(keeper)["secret"]) as api:
        ids = [open_account(api, f"{name} of a key", 100) for name in ("buyer", "seller")]
        assert pay(api, ids[0], ids[1], 10).json()["Amount"] == "10"
        assert (
            api.get(f"/account/{ids[0]}", headers={"authorization": f"bEARER  {key(keeper)['secret']}"}).json()[
                "Amount"
            ]
            == "90"
        )


def test_a_key_that_is_bound_pays_only_from_its_account(keyed_url: str, keeper: Connection) -> None:
    mine, other = account(keeper, "mine", 100), account(keeper, "not mine", 100)
    bound = key(keeper, "read", "pay", accounts=[mine])
    to, back = payment_body(mine, other), payment_body(other, mine)
    with client(keyed_url, bound["secret"]) as api:
        made = api.post("/payments", json=to)
        assert made.status_code == 200
        assert_refused(api.post("/payments", json=back), "WF002")
        assert_refused(api.get(f"/account/{other}"), "WF002")
        assert_refused(api.get("/totals"), "WF002")
        batch = api.post("/payments/batch", json={"Payments": [to, back, to]})
        assert [result.get("Error") for result in batch.json()["Results"]] == [None, sentence("WF002"), None]
        atomic = api.post("/payments/batch", json={"Payments": [to, back], "Atomic": True})
        assert_refused(atomic, "WF002", index=1)
        assert [found["ID"] for found in api.get("/accounts").json()["Accounts"]] == [mine]
        assert api.get("/accounts?limit=1").json() == api.get("/accounts").json()
    made_by = row(keeper, "get_payment", made.json()["ID"])["made_by"]
    assert made_by == f"wallet_app, API key {bound['id']} ({bound['name']})"


def test_who_may_capture_and_void_a_hold(keyed_url: str, keeper: Connection) -> None:
    buyer, seller, other = (account(keeper, f"{name} of holds", 100) for name in ("buyer", "seller", "other"))
    clients = {name: client(keyed_url, key(keeper, accounts=[id_])["secret"]) for name, id_ in (
        ("buyer", buyer), ("seller", seller), ("other", other),
    )}  # fmt: skip
    asked = payment_body(buyer, seller, 10)
    kept, given = (
        clients["buyer"].post("/holds", json=asked | fields).json()["ID"] for fields in ({}, {"BuyerMayVoid": True})
    )
    for hold in (kept, given):
        for what in ("capture", "void"):
            assert_refused(clients["other"].post(f"/hold/{hold}/{what}"), "WN003")
        assert_refused(clients["buyer"].post(f"/hold/{hold}/capture"), "WF002")
    assert_refused(clients["buyer"].post(f"/hold/{kept}/void"), "WF002")
    assert clients["buyer"].post(f"/hold/{given}/void").json()["Status"] == "voided"
    part = clients["seller"].post(f"/hold/{kept}/capture", json={"Amount": 4, "Final": False})
    assert part.json()["Amount"] == "4"
    assert clients["seller"].post(f"/hold/{kept}/void").json()["CapturedAmount"] == "4"
    for each in clients.values():
        each.close()


def test_who_made_it_is_told_on_request_to_unbound_keys_of_the_scope_admin(keyed_url: str, keeper: Connection) -> None:
    every = key(keeper)
    maker = f"wallet_app, API key {every['id']} ({every['name']})"
    buyer, seller = account(keeper, "makers buyer", 100), account(keeper, "makers seller")
    with client(keyed_url, every["secret"]) as api:
        payment = pay(api, buyer, seller).json()["ID"]
        hold = api.post("/holds", json=payment_body(buyer, seller)).json()["ID"]
        assert api.post(f"/hold/{hold}/void").status_code == 200
        assert api.post(f"/account/{buyer}/status", json={"Status": "frozen"}).status_code == 200
        paths = [f"/payment/{payment}", f"/hold/{hold}", f"/account/{buyer}/changes"]
        plain = [api.get(path).text for path in paths]
        assert [api.get(f"{path}?made_by=false").text for path in paths] == plain
        assert not any("By" in text for text in plain)
        asked = [api.get(f"{path}?made_by=true").json() for path in paths]
        assert asked[0] == json.loads(plain[0]) | {"MadeBy": maker}
        assert asked[1] == json.loads(plain[1]) | {"MadeBy": maker, "EndedBy": maker}
        opened, frozen = asked[2]["Changes"]
        assert list(opened) == ["ID", "Status", "CreditLimit", "ChangedAt", "MadeBy"]
        assert (opened["Status"], opened["CreditLimit"], opened["MadeBy"]) == ("active", "0", keeper.info.user)
        assert (frozen["Status"], frozen["MadeBy"]) == ("frozen", maker)
        assert api.get(f"{paths[2]}?limit=1&made_by=true").json()["Changes"] == [opened]
    for scopes, accounts in [(("read",), None), (("read", "admin"), [buyer])]:
        with client(keyed_url, key(keeper, *scopes, accounts=accounts)["secret"]) as api:
            assert [api.get(f"{path}?made_by=true").text for path in paths] == plain
    with client(keyed_url, key(keeper, "read", accounts=[seller])["secret"]) as api:
        assert_refused(api.get(paths[2]), "WF002")


def test_a_batch_of_a_key_that_may_not_pay_is_refused_as_a_whole(keyed_url: str, keeper: Connection) -> None:
    payments = {"Payments": [payment_body(1, 2)] * 3}
    with client(keyed_url, key(keeper, "read")["secret"]) as api:
        assert api.post("/payments/batch", json=payments).status_code == 403


def test_payments_of_several_keys_at_once_are_each_of_its_own(keyed_url: str, keeper: Connection) -> None:
    seller = account(keeper, "seller to all")
    keys = []
    for number in range(6):
        own = account(keeper, f"owner {number}", 1000)
        keys.append((key(keeper, "pay", accounts=[own]), own))
    barrier = threading.Barrier(len(keys))

    def pay_in_turn(number: int) -> list[tuple[int, int]]:
        made, own = keys[number]
        others = keys[(number + 1) % len(keys)][1]
        with client(keyed_url, made["secret"]) as api:
            barrier.wait()
            return [
                (response.status_code, response.json().get("ID"))
                for buyer in [own, others] * 10
                for response in [pay(api, buyer, seller)]
            ]

    with ThreadPoolExecutor(len(keys)) as threads:
        for number, outcomes in enumerate(threads.map(pay_in_turn, range(len(keys)))):
            assert [status for status, _ in outcomes] == [200, 403] * 10
            for status, payment in outcomes:
                if status == 200:
                    found = row(keeper, "get_payment", payment)
                    assert (found["buyer_account_id"], found["made_by"].split()[3]) == (
                        keys[number][1],
                        str(keys[number][0]["id"]),
                    )


# Where no key is required, a key that is sent is checked.


@pytest.mark.parametrize("operation", GUARDED, ids=lambda operation: str(operation.name))
def test_a_key_that_is_sent_where_none_is_required_is_checked(
    api: httpx2.Client, keeper: Connection, operation: Operation
) -> None:
    for header, code in [
        ("Bearer wallet_none", INVALID),
        ("Bearer", MISSING),
        ("bearer", MISSING),
        ("wallet_none", MISSING),
        ("Token wallet_none", MISSING),
        ("", MISSING),
    ]:
        response = ask(api, operation, Authorization=header)
        assert_refused(response, code)
        assert response.headers["WWW-Authenticate"] == 'Bearer realm="wallet"'
    answers = {
        scope: ask(api, operation, Authorization=f"Bearer {key(keeper, scope)['secret']}")
        for scope in ("read", "pay", "admin", "keys")
    }
    assert [answer.headers.get("error-code") for answer in answers.values()].count("WF001") == 3, answers


def test_a_key_that_is_revoked_or_has_expired_is_checked_too(api: httpx2.Client, keeper: Connection) -> None:
    revoked, expired = key(keeper), key(keeper)
    for made in (revoked, expired):
        headers = {"Authorization": f"Bearer {made['secret']}"}
        assert api.get("/currencies", headers=headers).status_code == 200
    row(keeper, "revoke_api_key", revoked["id"])
    with keeper.transaction():
        keeper.execute("set local session_replication_role = replica")  # no trigger keeps it as it is
        keeper.execute("update ledger.api_key set expires_at = statement_timestamp() where id = %s", [expired["id"]])
    for made in (revoked, expired):
        headers = {"Authorization": f"Bearer {made['secret']}"}
        assert_refused(api.get("/currencies", headers=headers), INVALID)


def test_a_key_that_is_sent_where_none_is_required_binds(api: httpx2.Client, keeper: Connection) -> None:
    mine, other = account(keeper, "bound without need", 100), account(keeper, "free without need", 100)
    bound = key(keeper, "read", "pay", accounts=[mine], tenant="bound without need")
    headers = {"Authorization": f"Bearer {bound['secret']}", "Idempotency-Key": "without need"}
    made = api.post("/payments", json=payment_body(mine, other), headers=headers)
    assert made.status_code == 200
    assert (
        row(keeper, "get_payment", made.json()["ID"])["made_by"]
        == f"wallet_app, API key {bound['id']} ({bound['name']})"
    )
    assert_refused(api.post("/payments", json=payment_body(other, mine), headers=headers), "WF002")
    assert_refused(api.get(f"/account/{other}", headers=headers), "WF002")
    # Without the key, the idempotency key is another one, and both accounts may pay.
    del headers["Authorization"]
    again = api.post("/payments", json=payment_body(mine, other), headers=headers)
    assert (again.status_code, again.headers.get("idempotency-replayed")) == (200, None)
    assert row(keeper, "get_payment", again.json()["ID"])["made_by"] == "wallet_app"
    assert pay(api, other, mine).status_code == 200


@pytest.mark.parametrize("header", ["Basic d2FsbGV0", "basic d2FsbGV0", "Digest username=x", "Negotiate x"])
def test_what_a_proxy_in_front_asks_for_is_no_key(api: httpx2.Client, keyed_url: str, header: str) -> None:
    headers = {"Authorization": header}
    assert api.get("/currencies", headers=headers).status_code == 200
    assert_refused(httpx2.get(f"{keyed_url}/currencies", headers=headers), MISSING)
    with_key = [("Authorization", header), ("Authorization", "Bearer wallet_none")]
    assert_refused(api.get("/currencies", headers=with_key), MISSING)


@pytest.mark.parametrize("path", UNGUARDED)
def test_probes_and_documents_check_none(api: httpx2.Client, path: str) -> None:
    assert api.get(path, headers={"Authorization": "Bearer wallet_none"}).status_code == 200


# Tenants, and their idempotency keys.


def test_each_tenant_has_idempotency_keys_of_its_own(keyed_url: str, keeper: Connection) -> None:
    """So has a request of every kind; and a rotated API key has those of its tenant."""
    tenants = [("a", "a"), ("b", "b"), (None, None)]
    headers = {"Idempotency-Key": "order-1"}
    kinds: dict[str, list[str]] = {}
    for number, pair in enumerate(tenants):
        old, new = (key(keeper, tenant=tenant) for tenant in pair)
        with client(keyed_url, old["secret"]) as before, client(keyed_url, new["secret"]) as after:
            one, two = (open_account(before, f"{name} of tenant {number}", 100) for name in ("one", "two"))
            hold, other = (before.post("/holds", json=payment_body(one, two)).json()["ID"] for _ in range(2))
            payment = pay(before, one, two).json()["ID"]
            coin = before.post("/currencies", json={"Name": f"COIN {number}", "Scale": 2}).json()["ID"]
            for path, body in [
                ("/payments", payment_body(one, two)),
                ("/payments/batch", {"Payments": [payment_body(one, two)]}),
                ("/holds", payment_body(one, two)),
                (f"/hold/{other}/void", {}),
                ("/accounts", {"Name": f"account of tenant {number}", "CurrencyID": 1}),
                ("/currencies", {"Name": f"TENANT {number}", "Scale": 2}),
                (f"/currency/{coin}/scale", {"Scale": 3}),
                (f"/account/{one}/credit-limit", {"Amount": 7}),
                (f"/account/{one}/status", {"Status": "active"}),
                ("/keys", {"Name": f"key of tenant {number}", "Scopes": ["read"]}),
                (f"/key/{key(keeper)['id']}/revoke", {}),
            ]:
                first = before.post(path, json=body, headers=headers)
                assert (first.status_code, "idempotency-replayed" in first.headers) == (200, False), (path, first.text)
                again = after.post(path, json=body, headers=headers)
                shown = {name: value for name, value in first.json().items() if name != "Secret"}
                assert (again.json(), again.headers["idempotency-replayed"]) == (shown, "true"), path
                kinds.setdefault(operation_of(path), []).append(first.text)
            for path in (f"/payment/{payment}/refund", f"/hold/{hold}/capture"):
                asked = {"Idempotency-Key": f"order-2 {path.rpartition('/')[2]}"}
                first, again = (api.post(path, headers=asked) for api in (before, after))
                assert (first.status_code, again.text, again.headers["idempotency-replayed"]) == (
                    200,
                    first.text,
                    "true",
                )
                kinds.setdefault(operation_of(path), []).append(first.text)
    posts = {operation.path for operation in GUARDED if operation.method == "POST"}
    assert {path: len(answers) for path, answers in kinds.items()} == dict.fromkeys(posts, len(tenants))


def operation_of(path: str) -> str:
    return re.sub(r"\d+", "{id}", path)


def test_one_idempotency_key_in_one_call_is_another_one_for_each_tenant(database: str, admin: Connection) -> None:
    """The payments wait for a call that is under way, and are then made together, whoever asked for them."""
    buyer, seller, locked = account(admin, "buyer", 100), account(admin, "seller"), account(admin, "locked", 100)
    keys = [key(admin, tenant=tenant) for tenant in ("a", "a", "b", None)]
    waits = ("WALLET_COALESCE_TIMEOUT", "WALLET_COALESCE_LOCK_TIMEOUT", "WALLET_LOCK_TIMEOUT")
    with (
        serving(DATABASE_URL=database, WALLET_AUTH="required", **METERED, **dict.fromkeys(waits, "20")) as server,
        psycopg.connect(database) as holder,
        ThreadPoolExecutor(20) as threads,
        ExitStack() as stack,
    ):
        apis = [stack.enter_context(client(server.url, made["secret"])) for made in keys]
        holder.execute("select from ledger.account where id = %s for update", [locked])
        first = threads.submit(pay, apis[0], locked, seller)
        waiting_for_locks(admin, 1)
        # The next call takes more than half of them, from the API keys in turn: at least one of each.
        requests = [threads.submit(pay, api, buyer, seller, 1, "order-1") for api in apis * 2]
        wait_until(lambda: value(server, "wallet_queue_payments") == len(requests))
        holder.rollback()
        assert first.result().status_code == 200
        answers = [request.result() for request in requests]
    assert {answer.status_code for answer in answers} == {200}
    paid = [answer.json()["ID"] for answer in answers]
    assert [paid[0] == paid[1], len({*paid[1:4]}), paid[:4]] == [True, 3, paid[4:]]
    assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 3
    calls = "select count(distinct xmin::text) from ledger.payment where buyer_account_id = %s"
    assert admin.execute(calls, [buyer]).fetchall() == [(1,)]
    assert admin.execute("select amount from wallet.get_account(%s)", [buyer]).fetchall() == [(97,)]


@pytest.mark.parametrize("path", ["/accounts", "/accounts?limit=1", "/payments"])
def test_a_key_that_is_revoked_is_of_no_use_from_the_next_request_on(
    keyed_url: str, keeper: Connection, path: str
) -> None:
    made = key(keeper)
    with client(keyed_url, made["secret"]) as api:
        assert api.get(path).status_code == 200
        row(keeper, "revoke_api_key", made["id"])
        for _ in range(2):
            assert_refused(api.get(path), INVALID)
        payment = pay(api, 1, 2)
        assert_refused(payment, INVALID)
        assert "WWW-Authenticate" in payment.headers


def test_its_last_use_is_noted(keyed_url: str, keeper: Connection) -> None:
    made = key(keeper)
    with client(keyed_url, made["secret"]) as api:
        api.get("/currencies")
    [used] = [found["last_used_at"] for found in rows(keeper, "list_api_keys") if found["id"] == made["id"]]
    assert used is not None


def test_clients_without_a_key_do_not_wait_for_others(database: str, admin: Connection) -> None:
    frozen = account(admin, "frozen")
    made = key(admin)
    one_connection = {"WALLET_POOL_SIZE": "1", "WALLET_POOL_TIMEOUT": "1"}
    with (
        serving(DATABASE_URL=database, WALLET_AUTH="required", **one_connection) as server,
        psycopg.connect(database) as other,
        ThreadPoolExecutor() as threads,
        client(server.url, made["secret"]) as api,
        client(server.url, "wallet_none") as unknown,
    ):
        row(other, "set_credit_limit", frozen, 1)  # and does not commit
        waiting = threads.submit(api.post, f"/account/{frozen}/status", json={"Status": "frozen"})
        waiting_for_locks(admin, 1)
        assert_refused(unknown.get("/currencies"), INVALID)
        assert api.get("/currencies").status_code == 503
        other.rollback()
        assert waiting.result().status_code == 200


# What is remembered: with a look-up that is made up.


class Database:
    """Finds one key, and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.error: Exception | None = None

    async def call(self, query: str, arguments: list[bytes]) -> Rows:
        self.asked += 1
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        return Rows((), [("7", "shop")])


def scope() -> dict[str, Any]:
    return {"headers": [(b"authorization", b"Bearer secret")]}


def keys_of(database: Database) -> Keys:
    return Keys(database, required=True)  # type: ignore[arg-type]


def test_many_at_once_ask_once_and_the_next_ones_not_at_all() -> None:
    async def run() -> None:
        database = Database()
        keys = keys_of(database)
        found = await asyncio.gather(*[keys.identify(scope()) for _ in range(10)])
        await keys.identify(scope())
        assert database.asked == 1
        assert set(found) == {(7, "shop")}

    asyncio.run(run())


def test_a_known_key_does_not_wait_for_the_next_look_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        monkeypatch.setattr("wallet_api.http.authentication._REMEMBERED", 1000)
        database = Database()
        keys = keys_of(database)
        await keys.identify(scope())
        monkeypatch.setattr("wallet_api.http.authentication._REMEMBERED", 3000)  # more than half of which has gone by
        for _ in range(2):
            await keys.identify(scope())
        assert database.asked == 1
        await asyncio.sleep(0)
        assert database.asked == 2

    asyncio.run(run())


def test_a_failed_look_up_without_waiting_requests_logs_nothing() -> None:
    said: list[dict[str, Any]] = []

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
        database = Database()
        database.error = ConnectionLost()
        asked = asyncio.create_task(keys_of(database).identify(scope()))
        await asyncio.sleep(0)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        await asyncio.sleep(0.01)
        del asked
        gc.collect()

    asyncio.run(run())
    assert said == []


def test_a_cancelled_request_does_not_cancel_the_shared_look_up() -> None:
    async def run() -> None:
        keys = keys_of(Database())
        first = asyncio.create_task(keys.identify(scope()))
        second = asyncio.create_task(keys.identify(scope()))
        await asyncio.sleep(0)
        first.cancel()
        assert (await second).name == "shop"

    asyncio.run(run())


def test_what_is_known_serves_while_the_look_up_fails_but_not_after_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refused(psycopg.Error):
        sqlstate = "WA001"

    async def run() -> None:
        monkeypatch.setattr("wallet_api.http.authentication._REMEMBERED", 0)
        database = Database()
        keys = keys_of(database)
        await keys.identify(scope())
        database.error = ConnectionLost()
        await keys.identify(scope())
        database.error = Refused()
        with pytest.raises(Refused):
            await keys.identify(scope())
        database.error = ConnectionLost()
        with pytest.raises(ConnectionLost):
            await keys.identify(scope())

    asyncio.run(run())
