"""What cannot be answered now is 503 with Retry-After and what to do; what was not foreseen is 500 and a log line."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx2
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.conftest import Connection, clone
from tests.support import (
    PROJECT,
    TIMEOUT,
    Server,
    account,
    assert_refused,
    balance,
    pay,
    payment_body,
    refusal_body,
    serving,
    wait_until,
    waiting_for_locks,
)


class Waiting(NamedTuple):
    """A payment under way, which waits for the account that `holder` has locked."""

    server: Server
    api: httpx2.Client
    holder: Connection
    clients: ThreadPoolExecutor
    pair: tuple[int, int]
    payment: Future[httpx2.Response]
    backend: int


@contextlib.contextmanager
def payment_under_way(admin: Connection, database: str, **settings: str) -> Iterator[Waiting]:
    """A server of these settings, and a payment that goes on when `holder` rolls back."""
    buyer, seller = account(admin, "buyer", 10), account(admin, "seller")
    with (
        ThreadPoolExecutor() as clients,
        serving(DATABASE_URL=database, **settings) as server,
        server.client() as api,
        psycopg.connect(database) as holder,
    ):
        holder.execute("select from ledger.account where id = %s for update", [buyer])
        payment = clients.submit(pay, api, buyer, seller)
        [backend] = waiting_for_locks(admin, 1)
        yield Waiting(server, api, holder, clients, (buyer, seller), payment, backend)


def test_without_a_database_it_lives_is_not_ready_and_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    unreachable = f"postgresql://nobody:secret@127.0.0.1:{port}/nothing"
    with serving(DATABASE_URL=unreachable, WALLET_POOL_TIMEOUT="0.2") as server, server.client() as api:
        assert api.get("/livez").status_code == 200
        assert_refused(api.get("/readyz"), "WU005")
        for response in (api.get("/accounts"), api.get("/account/1"), pay(api, 1, 2)):
            assert_refused(response, "WU001")
    assert "secret" not in server.log
    [warning] = [line["event"] for line in map(json.loads, server.lines) if line["level"] == "warning"]
    assert warning.startswith("Cannot connect to the database: ")


def test_bad_input_is_told_without_a_database() -> None:
    with serving(DATABASE_URL="host=/nonexistent", WALLET_POOL_TIMEOUT="0.2") as server, server.client() as api:
        assert_refused(api.post("/payments", content=b""), "WH014")
        assert_refused(api.get("/account/abc"), "WH031", field="The ID in the URL")


def test_a_database_of_another_version_is_not_ready(admin: Connection, database: str) -> None:
    with serving(DATABASE_URL=database) as server, server.client() as api:
        assert api.get("/readyz").status_code == 200
        admin.execute("insert into ledger.rulebook (version) values ('of tomorrow')")
        assert_refused(api.get("/readyz"), "WU007")


def test_who_asks_for_any_version_learns_whether_payments_go_on_after_a_migration(
    admin: Connection, database: str
) -> None:
    pair = account(admin, "buyer", 10), account(admin, "seller")
    with serving(DATABASE_URL=database, WALLET_DRAIN_TIME="3600") as server, server.client() as api:
        assert api.get("/readyz?any_version=true").status_code == 200
        admin.execute("insert into ledger.rulebook (version) values ('of tomorrow')")
        assert api.get("/readyz?any_version=true").status_code == 200
        assert_refused(api.get("/readyz?any_version=false"), "WU007")
        assert pay(api, *pair).status_code == 200
        admin.execute(f"alter database {admin.info.dbname} set default_transaction_read_only = on")
        admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'wallet'")
        wait_until(lambda: api.get("/readyz?any_version=true").headers.get("error-code") == "WU006")
        admin.execute("set default_transaction_read_only = off")
        admin.execute(f"alter database {admin.info.dbname} reset default_transaction_read_only")
        wait_until(lambda: api.get("/readyz?any_version=true").status_code == 200)
        server.process.terminate()
        wait_until(lambda: api.get("/readyz?any_version=true").headers.get("error-code") == "WU004")
        server.kill()


def test_a_database_that_accepts_no_changes_is_not_ready_until_it_does(admin: Connection, database: str) -> None:
    buyer, seller = account(admin, "buyer", 10), account(admin, "seller")
    admin.execute(f"alter database {admin.info.dbname} set default_transaction_read_only = on")
    with serving(DATABASE_URL=database) as server, server.client() as api:
        assert_refused(api.get("/readyz"), "WU006")
        for _ in range(2):
            assert_refused(pay(api, buyer, seller), "25006")
        new = {"Name": "new", "CurrencyID": 1}
        assert api.post("/accounts", json=new).status_code == 503
        assert api.get(f"/account/{buyer}").status_code == 200
        admin.execute("set transaction_read_only = off")
        admin.execute("set default_transaction_read_only = off")
        admin.execute(f"alter database {admin.info.dbname} reset default_transaction_read_only")
        # Without a request to /readyz:
        wait_until(lambda: pay(api, buyer, seller).status_code == 200)
        wait_until(lambda: api.post("/accounts", json=new).status_code == 200)
        wait_until(lambda: api.get("/readyz").status_code == 200)
    assert balance(admin, seller) == 1


@pytest.mark.parametrize(
    ("default", "kept"), [("off", "on"), ("on", "on"), ("local", "local"), ("remote_apply", "remote_apply")]
)
def test_what_is_answered_is_durable_whatever_the_default_is(
    admin: Connection, database: str, default: str, kept: str
) -> None:
    admin.execute(f"alter database {admin.info.dbname} set synchronous_commit = {default}")
    # Only a warning tells that a commit stopped waiting for its standby.
    admin.execute(f"alter database {admin.info.dbname} set client_min_messages = error")
    admin.execute(
        """create or replace function wallet.get_account(
               p_account_id bigint, p_at timestamptz default null, p_api_key_id bigint default null)
               returns table (id bigint, name text, currency_id bigint, currency_name text, amount numeric,
                              status text, held numeric, available numeric, credit_limit numeric, metadata jsonb)
               language plpgsql stable security definer as $$
           begin raise exception using errcode = 'WN001', message =
               current_setting('synchronous_commit') || ', ' || current_setting('client_min_messages'); end $$"""
    )
    with serving(DATABASE_URL=database) as server, server.client() as api:
        assert api.get("/account/1").json() == {"Error": f"{kept}, warning"}


def test_a_lock_held_for_too_long(admin: Connection, database: str) -> None:
    buyer, seller = account(admin, "buyer", 10), account(admin, "seller")
    with (
        serving(DATABASE_URL=database, WALLET_LOCK_TIMEOUT="0.3") as server,
        server.client() as api,
        psycopg.connect(database) as holder,
    ):
        holder.execute("select from ledger.account where id = %s for update", [buyer])
        assert_refused(pay(api, buyer, seller), "55P03")
        holder.rollback()
        assert pay(api, buyer, seller).status_code == 200
    assert balance(admin, seller) == 1


def test_all_connections_busy_and_their_queue_full(admin: Connection, database: str) -> None:
    account(admin, "one", 10)
    limits = {"WALLET_POOL_SIZE": "1", "WALLET_POOL_WAITING": "1", "WALLET_POOL_TIMEOUT": "1"}
    with (
        ThreadPoolExecutor() as clients,
        serving(DATABASE_URL=database, **limits) as server,
        server.client() as api,
        psycopg.connect(database) as holder,
    ):
        holder.execute("lock table ledger.account")
        first = clients.submit(api.get, "/account/1")
        waiting_for_locks(admin, 1)
        assert api.get("/readyz").status_code == 200, "being busy is no reason to be taken for dead"
        others = [clients.submit(api.get, "/account/1") for _ in range(2)]
        refused = sorted((other.result() for other in others), key=lambda other: other.headers["error-code"])
        for response, code in zip(refused, ("WU001", "WU002"), strict=True):
            assert_refused(response, code)
        holder.rollback()
        assert first.result().status_code == 200
    assert "couldn't get a connection after 1.00 sec" in server.log
    assert "TooManyRequests" in server.log


def test_the_queue_of_payments_is_full(admin: Connection, database: str) -> None:
    limits = {"WALLET_COALESCE_WAITING": "1", "WALLET_COALESCE_LOCK_TIMEOUT": "20", "WALLET_LOCK_TIMEOUT": "20"}
    with payment_under_way(admin, database, **limits) as waiting:
        others = [waiting.clients.submit(pay, waiting.api, *waiting.pair) for _ in range(2)]
        wait_until(lambda: any(other.done() for other in others))
        [refused] = [other.result() for other in others if other.done()]
        assert_refused(refused, "WU002")
        waiting.holder.rollback()
        paid = [other.result() for other in (waiting.payment, *others) if other.result() is not refused]
        assert [payment.status_code for payment in paid] == [200] * 2
    assert balance(admin, waiting.pair[1]) == 2


def test_a_connection_that_is_cut_during_a_payment_leaves_it_open_whether_it_was_made(
    admin: Connection, database: str
) -> None:
    with payment_under_way(admin, database) as waiting:
        admin.execute("select pg_terminate_backend(%s)", [waiting.backend])
        assert_refused(waiting.payment.result(), "WU010")
        waiting.holder.rollback()
        assert pay(waiting.api, *waiting.pair).status_code == 200


def test_connections_that_died_while_idle_fail_no_request(admin: Connection, database: str) -> None:
    account(admin, "one", 10)
    account(admin, "two")
    ours = "from pg_stat_activity where datname = current_database() and application_name = 'wallet'"
    idle = f"select {ours} and state = 'idle'"
    with serving(DATABASE_URL=database, WALLET_POOL_SIZE="4") as server, server.client() as api:
        for _ in range(3):
            wait_until(lambda: len(admin.execute(idle).fetchall()) >= 6)  # 4, and one each for payments and readiness
            time.sleep(0.1)  # what has just become idle may still be reading
            admin.execute(f"select pg_terminate_backend(pid) {ours}")
            wait_until(lambda: admin.execute(f"select {ours}").fetchone() is None)
            assert pay(api, 1, 2).status_code == 200
            assert api.get("/account/1").status_code == 200
            assert api.get("/readyz").status_code == 200


def test_a_read_only_database(admin: Connection, database: str) -> None:
    buyer, seller = account(admin, "buyer", 10), account(admin, "seller")
    readonly = make_conninfo(database, options="-c default_transaction_read_only=on")
    with serving(DATABASE_URL=readonly) as server, server.client() as api:
        assert_refused(pay(api, buyer, seller), "25006")
        assert api.get(f"/account/{buyer}").status_code == 200


NEWER = """create function wallet.get_account(
               p_account_id bigint, p_at timestamptz, p_api_key_id bigint, p_new text default null)
    returns table (new_column text, id bigint, {columns} currency_id bigint, currency_name text, amount numeric, metadata jsonb)
    language sql security definer as $$select 'new', 1, {values} 1, 'USD', 0.5, null::jsonb$$"""


def test_a_function_with_new_columns_and_arguments_still_serves_earlier_callers(
    admin: Connection, database: str
) -> None:
    account(admin, "one", "0.5")
    with serving(DATABASE_URL=database, WALLET_POOL_SIZE="2") as server, server.client() as api:
        before = [api.get("/account/1").text for _ in range(4)]
        admin.execute("drop function wallet.get_account")
        admin.execute(NEWER.format(columns="name text,", values="'one',"))
        admin.execute("grant execute on function wallet.get_account to wallet_app")
        assert [api.get("/account/1").text for _ in range(4)] == before
        admin.execute("drop function wallet.get_account")
        admin.execute(NEWER.format(columns="", values=""))
        admin.execute("grant execute on function wallet.get_account to wallet_app")
        for _ in range(4):
            assert_refused(api.get("/account/1"), "42703")


FUNCTION = """create or replace function wallet.get_account(
               p_account_id bigint, p_at timestamptz default null, p_api_key_id bigint default null)
    returns table (id bigint, name text, currency_id bigint, currency_name text, amount numeric,
                   status text, held numeric, available numeric, credit_limit numeric, metadata jsonb)
    language plpgsql as $$ begin {body} end $$"""


@pytest.mark.parametrize(
    ("state", "status"),
    [(state, 503) for state in ("40001", "40P01", "55P03", "57014", "25006", "3F000", "42703", "42883", "0A000")]
    + [(state, 503) for state in ("53100", "53200", "53300", "53400", "57P01", "57P03", "08006")]
    + [(state, 500) for state in ("22012", "42501", "XX000", "P0001", "23505")]
    + [("WB999", 400), ("WN999", 404), ("WC999", 409)],
)  # fmt: skip
def test_each_sqlstate_has_its_status(
    function_admin: Connection, function_api: httpx2.Client, state: str, status: int
) -> None:
    body = f"raise exception using errcode = '{state}', message = 'words of the database';"
    function_admin.execute(FUNCTION.format(body=body))
    response = function_api.get("/account/1")
    assert (response.status_code, response.headers.get("retry-after")) == (status, "1" if status == 503 else None)
    assert list(response.json()) == ["Error"]
    assert ("words of the database" in response.json()["Error"]) == (status < 500)


def test_calls_are_made_as_the_role_that_can_touch_no_table(
    function_admin: Connection, function_api: httpx2.Client
) -> None:
    function_admin.execute(
        FUNCTION.format(
            body="return query select 1::bigint, current_user::text, 1::bigint, '', 1.0, '', 0.0, 0.0, 0.0, null::jsonb;"
        )
    )
    assert function_api.get("/account/1").json()["Name"] == "wallet_app"


@pytest.fixture(scope="module")
def function_database(cluster: str) -> Iterator[str]:
    """A database whose get_account() each test replaces."""
    yield from clone(cluster, "wallet")


@pytest.fixture(scope="module")
def function_admin(function_database: str) -> Iterator[Connection]:
    with psycopg.connect(function_database, autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="module")
def function_api(function_database: str) -> Iterator[httpx2.Client]:
    with serving(DATABASE_URL=function_database) as server, server.client() as api:
        yield api


def test_a_server_that_vanishes_is_given_up_after_a_time(admin: Connection, database: str) -> None:
    """A backend that is stopped (SIGSTOP) answers nothing, not even that its time is over."""
    account(admin, "one")
    limits = {"WALLET_POOL_SIZE": "1", "WALLET_STATEMENT_TIMEOUT": "0.1"}
    with serving(DATABASE_URL=database, **limits) as server, server.client() as api:
        wait_until(lambda: api.get("/account/1").status_code == 200)
        pids = [
            pid
            for (pid,) in admin.execute(
                "select pid from pg_stat_activity where datname = current_database() and application_name = 'wallet'"
            ).fetchall()
        ]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            response = api.get("/account/1")
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
        assert_refused(response, "WU010")
        wait_until(lambda: api.get("/account/1").status_code == 200)  # 0.1 s may be short on a busy machine


def test_an_unexpected_error_is_500_for_the_client_and_a_line_in_the_log(admin: Connection, database: str) -> None:
    account(admin, "one")
    with serving(DATABASE_URL=database) as server, server.client() as api:
        admin.execute(
            """create or replace function wallet.get_account(
               p_account_id bigint, p_at timestamptz default null, p_api_key_id bigint default null)
                   returns table (id bigint, name text, currency_id bigint, currency_name text, amount numeric,
                                  status text, held numeric, available numeric, credit_limit numeric, metadata jsonb)
                   language plpgsql as 'begin raise division_by_zero using message = ''a secret of the house''; end'"""
        )
        assert_refused(api.get("/account/1"), "XX000")
        assert api.get("/livez").status_code == 200
    assert "a secret of the house" in server.log
    assert "DivisionByZero" in server.log


def test_a_body_that_stalls(database: str) -> None:
    with serving(DATABASE_URL=database, WALLET_BODY_TIMEOUT="0.3") as server:
        address = urlsplit(server.url)
        with socket.create_connection((address.hostname, address.port), TIMEOUT) as client:
            client.sendall(b'POST /payments HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{"Buyer')
            answer = b""
            while chunk := client.recv(65536):
                answer += chunk
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert answer.endswith(refusal_body("WH012", seconds=0.3))


def test_a_client_that_hangs_up_does_not_affect_others(admin: Connection, database: str) -> None:
    buyer, seller = account(admin, "buyer", 10), account(admin, "seller")
    with serving(DATABASE_URL=database) as server, server.client() as api:
        address = urlsplit(server.url)
        for part in (
            b"POST /payments HT",
            b'POST /payments HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{"Buyer',
        ):
            with socket.create_connection((address.hostname, address.port), TIMEOUT) as client:
                client.sendall(part)
        assert pay(api, buyer, seller).status_code == 200
    assert "Traceback" not in server.log


def test_stalled_clients_do_not_delay_payments(admin: Connection, database: str) -> None:
    buyer, seller = account(admin, "buyer", 10), account(admin, "seller")
    with serving(DATABASE_URL=database) as server, server.client() as api:
        address = urlsplit(server.url)
        crowd: list[Any] = []
        for _ in range(100):
            crowd.append(socket.create_connection((address.hostname, address.port), TIMEOUT))
            crowd[-1].sendall(b"POST /payments HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        assert pay(api, buyer, seller).status_code == 200
        for client in crowd:
            client.close()


@pytest.mark.parametrize(
    "behind",
    [
        b"what is this\r\n\r\n",
        b"CONNECT x:1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000,
        b"POST /payments HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b'POST /payments HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{"Buyer',
    ],
)
def test_a_bad_request_behind_a_payment_under_way_is_not_answered_in_its_place(
    admin: Connection, database: str, behind: bytes
) -> None:
    with payment_under_way(admin, database, WALLET_BODY_TIMEOUT="0.3") as waiting:
        address = urlsplit(waiting.server.url)
        body = b'{"BuyerAccountID":%d,"SellerAccountID":%d,"Amount":2}' % waiting.pair
        head = b"POST /payments HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
        with socket.create_connection((address.hostname, address.port), TIMEOUT) as client:
            client.sendall(head + body)
            waiting_for_locks(admin, 2)
            client.sendall(behind)
            time.sleep(0.5)  # longer than a body may take
            waiting.holder.rollback()
            answer = b""
            while chunk := client.recv(65536):
                answer += chunk
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b'"Amount":"2"' in answer
        assert waiting.payment.result().status_code == 200
    assert "Traceback" not in waiting.server.log
    assert balance(admin, waiting.pair[1]) == 3


def test_requests_longer_than_the_shutdown_timeout_get_503(admin: Connection, database: str) -> None:
    with payment_under_way(admin, database, WALLET_SHUTDOWN_TIMEOUT="1") as waiting:
        waiting.server.process.terminate()
        assert_refused(waiting.payment.result(), "WU010")
        assert waiting.server.wait() == 0


def test_requests_under_way_are_answered_before_it_stops(admin: Connection, database: str) -> None:
    with payment_under_way(admin, database) as waiting:
        waiting.server.process.terminate()
        wait_until(lambda: "Shutting down" in waiting.server.log)
        waiting.holder.rollback()
        assert waiting.payment.result().status_code == 200
        assert waiting.server.wait() == 0
    assert balance(admin, waiting.pair[1]) == 1


# Ready is who can answer.


@pytest.fixture
def few(admin: Connection) -> Iterator[str]:
    """A role that may log in four times at once, and act as wallet_app."""
    admin.execute("create role few login connection limit 4 in role wallet_app")
    yield "few"
    admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'few'")
    admin.execute("drop role few")


def test_an_instance_with_a_pool_that_gets_no_connection_is_not_ready_until_it_does(
    admin: Connection, database: str, few: str
) -> None:
    with serving(DATABASE_URL=make_conninfo(database, user=few)) as server, server.client() as api:
        for _ in range(3):
            response = api.get("/readyz")
            assert (response.status_code, response.headers["error-code"]) in {(503, "WU008"), (503, "WU005")}
        admin.execute("alter role few connection limit 20")
        wait_until(lambda: api.get("/readyz").status_code == 200)
        assert api.get("/accounts").status_code == 200
        assert api.get("/currencies").status_code == 200


def test_with_fewer_files_than_clients_may_come_it_says_how_many_it_serves(database: str) -> None:
    with serving(PROJECT, 200, DATABASE_URL=database) as server, server.client() as api:
        assert api.get("/readyz").status_code == 200
        match = re.search(r"At most (\d+) clients are served, not WALLET_CONNECTIONS", server.log)
        assert match is not None
        address = urlsplit(server.url)
        clients = [socket.create_connection((address.hostname, address.port)) for _ in range(2 * int(match[1]) - 5)]
        assert api.get("/livez").status_code == 200
        assert api.get("/readyz").status_code == 200
        assert "Too many open files" not in server.log
        for client in clients:
            client.close()


# A database with defaults of its own.


def defaults(admin: Connection, **settings: str) -> None:
    """Gives the database these defaults, where this version of PostgreSQL has them."""
    known = {name for (name,) in admin.execute("select name from pg_settings").fetchall()}
    for name, value in settings.items():
        if name in known:
            admin.execute(f"alter database {admin.info.dbname} set {name} = '{value}'")


def test_the_database_s_defaults_change_nothing_and_are_told(admin: Connection, database: str) -> None:
    defaults(
        admin,
        default_transaction_isolation="serializable",
        default_transaction_deferrable="on",
        statement_timeout="300ms",
        lock_timeout="1ms",
        array_nulls="off",
        standard_conforming_strings="off",
        transform_null_equals="on",
        plan_cache_mode="force_custom_plan",
        synchronous_commit="off",
        idle_session_timeout="500ms",
        search_path="nowhere",
    )
    pair = account(admin, "buyer", 100), account(admin, "seller")
    body = payment_body(*pair, "0.1")
    with serving(DATABASE_URL=database) as server, ThreadPoolExecutor(20) as threads:

        def use(_: int) -> set[int]:
            with server.client() as own:
                return {own.post(path, json=body).status_code for path in ("/holds", "/payments") for _ in range(5)}

        assert set().union(*threads.map(use, range(20))) == {200}
        with server.client() as api:
            assert api.get("/readyz").status_code == 200
            assert len(api.get("/payments").json()["Payments"]) == 100
    for told in (
        "The database's default of default_transaction_isolation is serializable; the service uses read committed",
        "The database's default of synchronous_commit is off; the service uses on",
        "The database's default of statement_timeout is 300; the service uses 30.0s",
    ):
        assert server.log.count(told) == 1


def test_a_list_is_whole_whatever_limits_the_database_has_for_transactions(admin: Connection, database: str) -> None:
    """A slow reader keeps the transaction open for longer than these."""
    defaults(admin, idle_in_transaction_session_timeout="200ms", transaction_timeout="400ms", statement_timeout="300ms")
    long_name = "'account ' || n || repeat('x', 240)"
    many = f"select {long_name}, 1, 1, 1 from generate_series(1, 20000) n"
    admin.execute(f"insert into ledger.account (name, currency_id, opening_balance, balance) {many}")
    with serving(DATABASE_URL=database) as server:
        address = urlsplit(server.url)
        connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=TIMEOUT)
        connection.request("GET", "/accounts")
        response = connection.getresponse()
        read = response.read(100_000)
        time.sleep(1)
        assert len(json.loads(read + response.read())["Accounts"]) == 20_000
        connection.close()
    assert "was cut off" not in server.log


def test_a_database_whose_triggers_are_switched_off_is_not_used(admin: Connection, database: str) -> None:
    defaults(admin, session_replication_role="replica")
    with serving(DATABASE_URL=database, WALLET_POOL_TIMEOUT="0.5") as server, server.client() as api:
        assert api.get("/readyz").status_code == 503
        assert api.get("/accounts").status_code == 503
        assert "session_replication_role must be origin" in server.log
