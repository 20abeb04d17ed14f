"""Behind PgBouncer the service works as without it, in either mode; or it refuses, and says what to change."""

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.conftest import Connection
from tests.pgbouncer import PgBouncer, pgbouncer
from tests.support import (
    account,
    assert_refused,
    balance,
    command,
    ledger_problems,
    pay,
    payment_body,
    serving,
    wait_until,
    waiting_for_locks,
)
from wallet_api.database import session

MODES = ["transaction", "session"]
SHARED = "A pooler in transaction mode stands before the database: settings travel with each call"


@pytest.fixture(params=MODES)
def pooler(request: pytest.FixtureRequest, tmp_path: Path, database: str) -> Iterator[PgBouncer]:
    with pgbouncer(tmp_path, database, request.param) as running:
        yield running


@pytest.fixture
def transactions(tmp_path: Path, database: str) -> Iterator[PgBouncer]:
    with pgbouncer(tmp_path, database, "transaction") as running:
        yield running


def test_it_notices_the_mode(tmp_path: Path, database: str) -> None:
    with serving(DATABASE_URL=database) as direct, direct.client() as api:
        assert api.get("/readyz").status_code == 200
        assert "pooler" not in direct.log
    for mode in MODES:
        with pgbouncer(tmp_path, database, mode) as running, serving(DATABASE_URL=running.conninfo()) as server:
            assert httpx2.get(f"{server.url}/readyz").status_code == 200
            assert (SHARED in server.log) == (mode == "transaction")


@pytest.mark.parametrize("size", [1, 2, 3, 20])
@pytest.mark.parametrize("order", ["0", "1"])
def test_it_notices_transaction_mode_however_sessions_are_chosen(
    tmp_path: Path, database: str, size: int, order: str
) -> None:
    settings = {"default_pool_size": str(size), "server_round_robin": order}
    with pgbouncer(tmp_path, database, "transaction", **settings) as running:
        with ThreadPoolExecutor(size) as threads:  # as many sessions as there may be
            list(threads.map(lambda _: sleep(running), range(size)))
        for _ in range(5):
            assert session.is_shared_for(running.conninfo())


def sleep(pooler: PgBouncer) -> None:
    with psycopg.connect(pooler.conninfo(), autocommit=True) as connection:
        connection.execute("select pg_sleep(0.1)")


def test_it_takes_no_session_mode_for_transaction_mode(tmp_path: Path, database: str) -> None:
    with pgbouncer(tmp_path, database, "session") as running:
        for _ in range(5):
            assert not session.is_shared_for(running.conninfo())


# What went wrong before.


def test_a_hold_that_is_only_read_is_never_voided(admin: Connection, pooler: PgBouncer) -> None:
    """Threads read holds, void others, and ask for much else, so that sessions change hands all the time."""
    buyer, seller = account(admin, "buyer", 1000), account(admin, "seller")
    with serving(DATABASE_URL=pooler.conninfo(), WALLET_POOL_SIZE="6") as server, server.client() as api:
        body = payment_body(buyer, seller)
        holds = [api.post("/holds", json=body).json()["ID"] for _ in range(100)]
        kept, voided = holds[:40], holds[40:]

        def work(number: int) -> set[int]:
            chance = random.Random(number)
            statuses = set()
            with server.client() as own:
                for turn in range(25):
                    statuses.add(own.get(f"/hold/{chance.choice(kept)}").status_code)
                    if turn % 5 == 0:
                        statuses.add(own.post(f"/hold/{voided[number * 5 + turn // 5]}/void").status_code)
                    statuses.add(own.get(f"/account/{chance.choice([buyer, seller])}").status_code)
                    statuses.add(own.get("/currencies").status_code)
                    statuses.add(own.get("/accounts?limit=2").status_code)
                    statuses.add(own.post("/payments", json=body | {"Amount": "0.01"}).status_code)
            return statuses

        with ThreadPoolExecutor(12) as threads:
            assert set().union(*threads.map(work, range(12))) == {200}
        assert {api.get(f"/hold/{hold}").json()["Status"] for hold in kept} == {"open"}
        assert {api.get(f"/hold/{hold}").json()["Status"] for hold in voided} == {"voided"}
    assert ledger_problems(admin) == []


def test_limits_hold_for_each_call(admin: Connection, database: str, pooler: PgBouncer) -> None:
    buyer, seller = account(admin, "buyer", 10), account(admin, "seller")
    with (
        serving(DATABASE_URL=pooler.conninfo(), WALLET_LOCK_TIMEOUT="0.4", WALLET_STATEMENT_TIMEOUT="0.8") as server,
        server.client() as api,
        psycopg.connect(database) as holder,
    ):
        body = payment_body(buyer, seller)
        hold = api.post("/holds", json=body).json()["ID"]
        holder.execute("select from ledger.account where id = %s for update", [buyer])
        for path, asked in (("/payments", body), ("/payments/batch", {"Payments": [body]}), (f"/hold/{hold}/void", {})):
            response = api.post(path, json=asked)
            assert_refused(response, "55P03")
        holder.rollback()
        admin.execute(SLOW)
        response = api.get("/account/1")
        assert_refused(response, "57014")
        assert api.get("/currencies").status_code == 200


SLOW = """create or replace function wallet.get_account(
              p_account_id bigint, p_at timestamptz default null, p_api_key_id bigint default null)
              returns table (id bigint, name text, currency_id bigint, currency_name text, amount numeric,
                             status text, held numeric, available numeric, credit_limit numeric, metadata jsonb)
              language plpgsql stable security definer as $$ begin perform pg_sleep(20); end $$"""


def test_what_a_call_relies_on_travels_with_it(admin: Connection, pooler: PgBouncer) -> None:
    name = admin.info.dbname
    for setting in (
        "synchronous_commit = off",
        "default_transaction_isolation = serializable",
        "timezone = 'Asia/Tokyo'",
        "datestyle = 'German'",
        "array_nulls = off",
        "client_min_messages = error",
    ):
        admin.execute(f"alter database {name} set {setting}")
    admin.execute(
        """create or replace function wallet.list_currencies(p_api_key_id bigint default null)
               returns table (id bigint, name text, scale bigint) language sql stable security definer as $$
               select 1::bigint, concat_ws(' ', current_setting('synchronous_commit'), session_user,
                   current_setting('role'), current_setting('transaction_isolation'),
                   current_setting('timezone'), current_setting('array_nulls'),
                   current_setting('client_min_messages'), current_setting('lock_timeout'),
                   now() at time zone 'UTC' = now()::timestamp), 1::bigint $$"""
    )
    with serving(DATABASE_URL=pooler.conninfo(), WALLET_LOCK_TIMEOUT="7") as server, server.client() as api:
        for _ in range(10):
            [found] = api.get("/currencies").json()["Currencies"]
            assert found["Name"] == "on postgres wallet_app read committed UTC on warning 7s t"


def test_payments_have_no_keys_of_their_own_where_array_nulls_is_off(admin: Connection, pooler: PgBouncer) -> None:
    admin.execute(f"alter database {admin.info.dbname} set array_nulls = off")
    buyer, seller = account(admin, "buyer", 10), account(admin, "seller")
    body = payment_body(buyer, seller)
    with serving(DATABASE_URL=pooler.conninfo()) as server, server.client() as api:
        for _ in range(2):
            assert api.post("/payments", json=body).status_code == 200
            keyed = {"Payments": [body, body | {"IdempotencyKey": "a key"}]}
            assert [result["Amount"] for result in api.post("/payments/batch", json=keyed).json()["Results"]] == [
                "1",
                "1",
            ]
    assert balance(admin, seller) == 5


def test_lists_are_of_one_moment_and_pages_of_any_length(admin: Connection, pooler: PgBouncer) -> None:
    admin.execute("select count(*) from generate_series(1, 2500) n, wallet.create_account('a' || n, 1, 1)")
    with serving(DATABASE_URL=pooler.conninfo()) as server, server.client() as api:
        for _ in range(3):
            listed = api.get("/accounts").json()["Accounts"]
            assert [found["ID"] for found in listed] == list(range(1, 2501))


def test_a_pooler_that_changes_its_mode_is_noticed(admin: Connection, database: str, tmp_path: Path) -> None:
    buyer, seller = account(admin, "buyer", 100), account(admin, "seller")
    with (
        pgbouncer(tmp_path, database, "session") as running,
        serving(DATABASE_URL=running.conninfo()) as server,
        server.client() as api,
    ):
        body = payment_body(buyer, seller)
        holds = [api.post("/holds", json=body).json()["ID"] for _ in range(10)]
        assert SHARED not in server.log
        running.reload("transaction")

        def ask(number: int) -> None:
            with server.client() as own:
                for hold in holds:
                    own.get(f"/hold/{hold}")
                    own.get(f"/account/{buyer}")
                    own.get("/accounts?limit=1")
                    own.get("/readyz")

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(ask, range(8)))
        wait_until(lambda: SHARED in server.log)
        wait_until(lambda: api.get("/readyz").status_code == 200)
        assert {api.get(f"/hold/{hold}").json()["Status"] for hold in holds} == {"open"}
        assert api.post("/payments", json=body).status_code == 200
    assert ledger_problems(admin) == []


# What it refuses.


def test_a_pooler_that_allows_no_transactions_is_not_ready_and_the_log_says_what_to_set(
    tmp_path: Path, database: str
) -> None:
    with (
        pgbouncer(tmp_path, database, "statement") as running,
        serving(DATABASE_URL=running.conninfo(), WALLET_POOL_TIMEOUT="0.5") as server,
        server.client() as api,
    ):
        assert api.get("/readyz").status_code == 503
        assert api.get("/currencies").status_code == 503
        assert "set its pool_mode to transaction or session" in server.log


def test_migrate_refuses_to_go_through_a_pooler_in_transaction_mode(transactions: PgBouncer, admin: Connection) -> None:
    refused = command("migrate", DATABASE_URL=transactions.conninfo())
    assert refused.returncode == 1
    assert "give migrate a DATABASE_URL that leads to PostgreSQL itself" in refused.stderr
    locks = "select count(*) from pg_locks where locktype = 'advisory' and granted"
    assert admin.execute(locks).fetchall() == [(0,)]


def test_commands_for_people_work_behind_it(pooler: PgBouncer, admin: Connection) -> None:
    account(admin, "one", 5)
    as_ops = make_conninfo(pooler.conninfo(), user="wallet_ops")
    assert command("check", DATABASE_URL=as_ops).returncode == 0
    assert command("key", "create", "shop", "--scopes", "read", DATABASE_URL=as_ops).returncode == 0
    assert "shop" in command("key", "list", DATABASE_URL=as_ops).stdout


# Commit and answer.


def test_a_pooler_that_dies_between_commit_and_answer(admin: Connection, database: str, pooler: PgBouncer) -> None:
    buyer, seller = account(admin, "buyer", 10), account(admin, "seller")
    with (
        ThreadPoolExecutor() as clients,
        serving(DATABASE_URL=pooler.conninfo(), WALLET_LOCK_TIMEOUT="20") as server,
        server.client() as api,
        psycopg.connect(database) as holder,
    ):
        holder.execute("select from ledger.account where id = %s for update", [buyer])
        without_key = clients.submit(pay, api, buyer, seller)
        waiting_for_locks(admin, 1)
        pooler.kill()
        assert_refused(without_key.result(), "WU010")
        holder.rollback()
        pooler.start()
        wait_until(lambda: api.get("/readyz").status_code == 200)
        assert pay(api, buyer, seller, key="once").status_code == 200
    assert ledger_problems(admin) == []
