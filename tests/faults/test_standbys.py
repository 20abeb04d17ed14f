"""Reads from standbys: they answer what changes nothing, and a read that carries a position sees all changes up to it."""

import random
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.faults import postgres
from tests.faults.postgres import Postgres
from tests.pgbouncer import pgbouncer
from tests.support import (
    PROJECT,
    Server,
    account,
    assert_refused,
    command,
    open_account,
    pay,
    payment_body,
    serving,
    wait_until,
)
from wallet_api.http.operations import ALL

# A standby never lags by more than this.
_NEVER = {"WALLET_READ_LAG": "3600"}


@pytest.fixture(scope="module")
def primary(tmp_path_factory: pytest.TempPathFactory, postgres_template: Path) -> Iterator[Postgres]:
    with postgres.running(tmp_path_factory.mktemp("servers") / "primary", postgres_template) as running:
        yield running


@pytest.fixture(scope="module")
def replica(primary: Postgres) -> Iterator[Postgres]:
    """A standby that the primary does not wait for."""
    with primary.new_standby(primary.folder.parent / "standby") as standby:
        with primary.admin() as admin:
            admin.execute("alter system reset synchronous_standby_names")
            admin.execute("select pg_reload_conf()")
        yield standby


@pytest.fixture
def pair(primary: Postgres) -> tuple[int, int]:
    """A buyer with a balance of 1000, and a seller with 0."""
    with primary.admin() as admin:
        number = len(admin.execute("select from ledger.account").fetchall())
        return account(admin, f"buyer {number}", 1000), account(admin, f"seller {number}")


@contextmanager
def reading(primary: Postgres, replica: Postgres, **settings: str) -> Iterator[tuple[Server, httpx2.Client]]:
    """An instance that reads from the standby, and does so by now."""
    urls = {"DATABASE_URL": primary.conninfo(), "DATABASE_READ_URL": replica.conninfo()}
    with serving(**urls, **{"WALLET_METRICS_PORT": "0", **settings}) as server, server.client() as api:
        wait_until(lambda: api.get("/currencies").status_code == 200 and reads(server)["answered"] > 0)
        yield server, api


def metric(server: Server, name: str) -> dict[str, float]:
    """The values of a metric, by the value of its label."""
    [url] = re.findall(r"Metrics on (http://[\w.:]+/metrics)", server.log)
    found = re.findall(rf'^{name}(?:{{\w+="(\w+)"}})? ([\d.e+]+)$', httpx2.get(url).text, re.MULTILINE)
    return {label: float(value) for label, value in found}


def reads(server: Server) -> dict[str, float]:
    """How many reads a standby has answered, or why it has not."""
    return {"answered": 0, "behind": 0, "failed": 0, "left_out": 0} | metric(server, "wallet_standby_reads_total")


def position(response: httpx2.Response) -> dict[str, str]:
    """The header that carries the position of a change to a read."""
    assert response.status_code == 200, response.text
    return {"Ledger-Position": response.headers["ledger-position"]}


def amount(api: httpx2.Client, account_id: int, headers: dict[str, str] | None = None) -> str:
    response = api.get(f"/account/{account_id}", headers=headers)
    assert response.status_code == 200, response.text
    return str(response.json()["Amount"])


@contextmanager
def paused(replica: Postgres) -> Iterator[None]:
    """The standby receives changes, but does not show them."""
    with replica.admin() as admin:
        admin.execute("select pg_wal_replay_pause()")
        wait_until(lambda: admin.execute("select pg_get_wal_replay_pause_state()").fetchone() == ("paused",))
        try:
            yield
        finally:
            admin.execute("select pg_wal_replay_resume()")


def changes(buyer: int, seller: int, payment: int, hold: int) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Each kind of change: its path, its body, and the path of a read that shows it."""
    pair = {"BuyerAccountID": buyer, "SellerAccountID": seller, "Amount": 5}
    yield "/payments", pair, f"/account/{buyer}/statement"
    yield "/payments/batch", {"Payments": [pair]}, f"/account/{buyer}"
    yield f"/payment/{payment}/refund", {}, f"/payment/{payment}"
    yield "/holds", pair, f"/holds?account={buyer}"
    yield f"/hold/{hold}/capture", {"Amount": 1, "Final": False}, f"/hold/{hold}"
    yield f"/hold/{hold}/void", {}, f"/hold/{hold}"
    yield f"/account/{buyer}/status", {"Status": "frozen"}, f"/account/{buyer}/changes"
    yield f"/account/{buyer}/credit-limit", {"Amount": 7}, f"/account/{buyer}/changes?limit=1&order=desc"
    yield "/accounts", {"Name": f"of {buyer}", "CurrencyID": 1}, "/accounts"
    yield "/currencies", {"Name": f"of {buyer}", "Scale": 2}, "/currencies"


def test_a_read_with_the_position_of_a_change_sees_it_however_far_the_standby_is(
    primary: Postgres, replica: Postgres, pair: tuple[int, int]
) -> None:
    with reading(primary, replica, **_NEVER) as (server, api):
        hold = api.post("/holds", json=payment_body(*pair, 3)).json()["ID"]
        payment = pay(api, *pair)
        catch_up(replica, position(payment))
        for path, body, read in changes(*pair, payment.json()["ID"], hold):
            with paused(replica):
                stale = api.get(read).json()
                carried = position(api.post(path, json=body))
                fresh = api.get(read, headers=carried).json()
                assert api.get(read).json() == stale != fresh, path
            catch_up(replica, carried)
            answered = reads(server)["answered"]
            assert api.get(read, headers=carried).json() == fresh
            assert reads(server)["answered"] == answered + 1, "the standby does not answer"
        assert reads(server)["behind"] == len(list(changes(*pair, 0, 0)))


def catch_up(replica: Postgres, carried: dict[str, str]) -> None:
    """Waits until the standby shows the change that returned this position."""
    with replica.admin() as admin:
        reached = "select wallet.ledger_position() >= %s"
        wait_until(lambda: admin.execute(reached, [int(carried["Ledger-Position"])]).fetchone() == (True,))


def test_a_standby_answers_however_idle_the_primary_is(primary: Postgres, replica: Postgres) -> None:
    """Records that no commit has written to disk reach no standby: hence a commit follows each look at the primary."""
    with reading(primary, replica, WALLET_READ_LAG="0.5") as (server, api), primary.admin() as admin:
        ids = "select pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
        [(before,)] = admin.execute(ids).fetchall()
        admin.execute("select pg_logical_emit_message(false, 'nothing', 'in particular')")
        wait_until(lambda: int(admin.execute(ids).fetchall()[0][0]) >= before + 2)
        answered = reads(server)["answered"]
        wait_until(lambda: api.get("/currencies").status_code == 200 and reads(server)["answered"] > answered)


def test_a_repeated_payment_has_a_position_that_includes_the_first(
    primary: Postgres, replica: Postgres, pair: tuple[int, int]
) -> None:
    with reading(primary, replica, **_NEVER) as (_, api), paused(replica):
        pay(api, *pair, key="once")
        repeated = pay(api, *pair, key="once")
        assert repeated.headers["idempotency-replayed"] == "true"
        assert amount(api, pair[1], position(repeated)) == "1"


def test_no_read_with_a_position_is_stale_while_the_standby_stops_and_goes_on(
    primary: Postgres, replica: Postgres, pair: tuple[int, int]
) -> None:
    """Each client is the only seller of its payments, pays through one instance and reads through another."""
    clients, payments = 4, 60
    with ExitStack() as stack:
        (_, one), (server, other) = (stack.enter_context(reading(primary, replica, **_NEVER)) for _ in range(2))
        buyer, first = pair
        sellers = [first, *(open_account(one, f"seller {first} {number}") for number in range(1, clients))]
        stale: list[tuple[int, str]] = []
        done = threading.Event()

        def stop_and_go() -> None:
            while not done.wait(random.uniform(0, 0.02)):
                with paused(replica):
                    done.wait(random.uniform(0, 0.02))

        def use(seller: int) -> None:
            for number in range(1, payments + 1):
                carried = position(pay(one, buyer, seller))
                if (found := amount(other, seller, carried)) != str(number):
                    stale.append((number, found))

        disturbing = threading.Thread(target=stop_and_go)
        using = [threading.Thread(target=use, args=[seller]) for seller in sellers]
        for thread in (disturbing, *using):
            thread.start()
        for thread in using:
            thread.join()
        done.set()
        disturbing.join()
        assert stale == []
        assert min(reads(server)["answered"], reads(server)["behind"]) > 0


def test_a_standby_that_lags_is_left_out_until_it_has_caught_up(
    primary: Postgres, replica: Postgres, pair: tuple[int, int]
) -> None:
    _, seller = pair
    with reading(primary, replica, WALLET_READ_LAG="0.5") as (server, api):
        with paused(replica):
            assert pay(api, *pair).status_code == 200
            wait_until(lambda: api.get(f"/account/{seller}").json().get("Amount") == "1")
            wait_until(lambda: metric(server, "wallet_standby_usable") == {"": 0})
        answered = reads(server)["answered"]
        wait_until(lambda: amount(api, seller) == "1" and reads(server)["answered"] > answered)
        wait_until(lambda: metric(server, "wallet_standby_usable") == {"": 1})


def test_the_primary_answers_while_no_standby_does(primary: Postgres, replica: Postgres) -> None:
    with reading(primary, replica) as (server, api):
        replica.kill()
        for path in ("/accounts", "/payments", "/holds?limit=1") * 10:
            assert api.get(path).status_code == 200
        assert api.get("/readyz").status_code == 200
        replica.start()
        answered = reads(server)["answered"]
        wait_until(lambda: api.get("/accounts").status_code == 200 and reads(server)["answered"] > answered)
        warnings = [line for line in server.lines if '"warning"' in line]
        assert [("the standbys" in line, "the database" in line) for line in warnings] == [(True, False)], warnings


def test_a_service_that_starts_without_its_standby_serves(primary: Postgres, pair: tuple[int, int]) -> None:
    nothing = make_conninfo(primary.conninfo(), port=postgres.free_port())
    with serving(DATABASE_URL=primary.conninfo(), DATABASE_READ_URL=nothing) as server, server.client() as api:
        assert amount(api, pair[1], position(pay(api, *pair))) == "1"


def test_a_service_that_starts_before_its_primary_reads_from_the_standby_later(
    primary: Postgres, replica: Postgres
) -> None:
    primary.kill()
    urls = {"DATABASE_URL": primary.conninfo(), "DATABASE_READ_URL": replica.conninfo()}
    with serving(**urls, WALLET_METRICS_PORT="0") as server, server.client() as api:
        wait_until(lambda: metric(server, "wallet_database_up") == {"": 0} and api.get("/accounts").status_code == 503)
        primary.start()
        wait_until(lambda: api.get("/accounts").status_code == 200 and reads(server)["answered"] > 0)


def test_another_database_is_not_read(primary: Postgres, pair: tuple[int, int]) -> None:
    """A copy of the wallet on the same server, and it is further on."""
    with primary.admin() as admin:
        admin.execute("create database copied template wallet")
    other = make_conninfo(primary.conninfo(), dbname="copied")
    with serving(DATABASE_URL=primary.conninfo(), DATABASE_READ_URL=other) as server, server.client() as api:
        wait_until(lambda: "DATABASE_READ_URL leads to another database" in server.log)
        checked = command("check", DATABASE_URL=primary.conninfo(), DATABASE_READ_URL=other)
        assert (checked.returncode, checked.stdout) == (1, "")
        assert "DATABASE_READ_URL leads to another database than DATABASE_URL" in checked.stderr
        assert pay(api, *pair).status_code == 200
        assert amount(api, pair[1]) == "1"


def test_reads_go_on_without_the_primary(primary: Postgres, replica: Postgres, pair: tuple[int, int]) -> None:
    with reading(primary, replica) as (_, api):
        carried = position(pay(api, *pair))
        catch_up(replica, carried)
        primary.kill()
        try:
            assert [amount(api, pair[1], carried) for _ in range(10)] == ["1"] * 10
            assert pay(api, *pair).status_code == 503
        finally:
            primary.start()


def test_a_refusal_is_that_of_the_primary(primary: Postgres, replica: Postgres) -> None:
    """An account that the standby does not have yet is found without a position, too."""
    with reading(primary, replica, **_NEVER) as (server, api), paused(replica):
        assert amount(api, open_account(api, "new to the standby", 3)) == "3"
        assert_refused(api.get("/account/9999"), "WN001")
        assert reads(server)["failed"] == 2


def test_the_feed_comes_from_the_primary(primary: Postgres, replica: Postgres) -> None:
    with reading(primary, replica, **_NEVER) as (_, api), paused(replica):
        created = open_account(api, "new to the feed", 3)
        assert api.get("/feed").json()["Events"][-1]["AccountID"] == created
        with replica.admin() as admin, pytest.raises(psycopg.errors.ReadOnlySqlTransaction, match="on a standby"):
            admin.execute("select * from wallet.list_feed()")


def test_what_names_a_moment_comes_from_the_primary(
    primary: Postgres, replica: Postgres, pair: tuple[int, int]
) -> None:
    """A standby cannot keep later payments out of a moment that was read."""
    _, seller = pair
    with reading(primary, replica, **_NEVER) as (server, api), paused(replica):
        moment = pay(api, *pair).json()["OperationTimestamp"]
        answered = reads(server)["answered"]
        assert api.get(f"/account/{seller}?at={moment}").json()["Amount"] == "1"
        assert len(api.get(f"/account/{seller}/statement?from={moment}").json()["Lines"]) == 1
        assert len(api.get(f"/payments?limit=9&from={moment}").json()["Payments"]) == 1
        assert len(api.get("/payments/hours").json()["Hours"]) == 24
        assert reads(server)["answered"] == answered


def test_every_other_read_works_on_a_standby(primary: Postgres, replica: Postgres, pair: tuple[int, int]) -> None:
    with primary.admin() as admin:
        [(secret,)] = admin.execute(
            "select secret from wallet.create_api_key('reader', '{read,pay,admin,keys}')"
        ).fetchall()
    with reading(primary, replica, **_NEVER) as (server, api):
        api.headers["Authorization"] = f"Bearer {secret}"
        ids = {
            "/account/{id}": pair[0],
            "/payment/{id}": pay(api, *pair).json()["ID"],
            "/hold/{id}": api.post("/holds", json=payment_body(*pair)).json()["ID"],
        }
        catch_up(replica, position(pay(api, *pair)))
        before, asked = reads(server), 0
        for operation in ALL.values():
            if operation.method == "GET" and operation.function and operation.name != "listFeed" and not operation.past:
                [id_] = [id_ for path, id_ in ids.items() if operation.path.startswith(path)] or [0]
                for query in ("", "?limit=1") if operation.is_paged else ("",):
                    assert api.get(operation.path.format(id=id_) + query).status_code == 200, operation.name
                    asked += 1
        assert reads(server) == {**before, "answered": before["answered"] + asked}
        assert asked > 10


@pytest.mark.parametrize("value", ["", "x", "-1", "1.5", "9223372036854775808", "1, y", "0x10", "٣"])
def test_a_malformed_position_is_refused(api: httpx2.Client, value: str) -> None:
    assert_refused(api.get("/accounts", headers=[(b"Ledger-Position", value.encode())]), "WH008")


def test_the_highest_of_several_positions_counts(primary: Postgres, replica: Postgres, pair: tuple[int, int]) -> None:
    _, seller = pair
    with reading(primary, replica, **_NEVER) as (_, api):
        catch_up(replica, first := position(pay(api, *pair)))
        with paused(replica):
            second = position(pay(api, *pair))
            assert [amount(api, seller, carried) for carried in (first, second)] == ["1", "2"]
            old, new = first["Ledger-Position"], second["Ledger-Position"]
            for values in ([f"{old}, {new}"], [f"{new},{old}"], [old, new], [new, old]):
                headers = [("Ledger-Position", value) for value in values]
                assert api.get(f"/account/{seller}", headers=headers).json()["Amount"] == "2"


def test_without_standbys_changes_have_no_position(api: httpx2.Client) -> None:
    created = api.post("/accounts", json={"Name": "without standbys", "CurrencyID": 1})
    assert created.status_code == 200
    assert "ledger-position" not in created.headers
    assert api.get("/accounts", headers={"Ledger-Position": "9223372036854775807"}).status_code == 200


def test_a_pooler_in_transaction_mode_leads_to_no_standby(tmp_path: Path, primary: Postgres, replica: Postgres) -> None:
    """It may run the check of the position and the read on two servers."""
    with pgbouncer(tmp_path, replica.conninfo(), "transaction") as pooler:
        urls = {"DATABASE_URL": primary.conninfo(), "DATABASE_READ_URL": pooler.conninfo()}
        with serving(**urls) as server, server.client() as api:
            wait_until(lambda: "DATABASE_READ_URL leads to a pooler in transaction mode" in server.log)
            assert api.get("/accounts").status_code == 200


def test_a_check_reads_the_standby_and_is_recorded_on_the_primary(primary: Postgres, replica: Postgres) -> None:
    urls = {"DATABASE_URL": primary.conninfo(), "DATABASE_READ_URL": replica.conninfo()}
    with primary.admin() as admin:
        with paused(replica):
            [(primary_has,)] = admin.execute("select count(*) from wallet.list_accounts()").fetchall()
            account(admin, "not on the standby")
            checked = subprocess.run(
                [sys.executable, "server.py", "check"],
                cwd=PROJECT,
                env=urls,
                capture_output=True,
                text=True,
                check=False,
            )
        assert (checked.returncode, checked.stderr) == (0, "")
        assert re.search(rf"^USD +{primary_has} ", checked.stdout, re.MULTILINE)
        assert admin.execute("select problems from ledger.ledger_check").fetchall() == [(0,)]
