"""An instance of the version before goes on paying while the database is migrated, and after it, beside this version.

That version is previous_version.tar.gz, since a clone need not have the history. With each release, after it was
tagged, it is made anew, so that the next version is held against the one that is in use:

    git archive --format=tar 1.2.3 db wallet_api server.py | gzip -9n > tests/schema/previous_version.tar.gz

It is commit 132e259 now. before_feed.tar.gz is commit 852a52c, the last one without a feed.
"""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any, NamedTuple, Self

import httpx2
import psycopg
import pytest

from tests.conftest import Connection
from tests.sql.calls import as_if_an_hour_ago, held, row, rows
from tests.support import (
    TIMEOUT,
    Server,
    account,
    assert_refused,
    ledger_problems,
    open_account,
    pay,
    payment_body,
    serving,
    totals,
    wait_until,
    waiting_for_locks,
)
from wallet_api.database import migrations
from wallet_api.database.installer import MigrationRefused
from wallet_api.settings import DB

FOLDER = Path(__file__).parent
# What a payment is answered with, and nothing else.
PAYMENT = ["ID", "CurrencyID", "Amount", "BuyerAccountID", "SellerAccountID", "OperationTimestamp"]
OPENING = 1000
CLIENTS = 6


@contextmanager
def instance_of(archive: str, folder: Path, database: str) -> Iterator[Server]:
    """An instance of an earlier version, on a database that it has migrated."""
    folder.mkdir()
    # not by tarfile: what it warns of differs between the versions of Python
    subprocess.run(["tar", "-xzf", FOLDER / archive, "-C", folder], check=True)
    subprocess.run(
        [sys.executable, "server.py", "migrate"],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "DATABASE_URL": database},
        capture_output=True,
        check=True,
    )
    with serving(folder, DATABASE_URL=database) as server:
        yield server


@pytest.fixture
def old(tmp_path: Path, bare_database: str) -> Iterator[Server]:
    """An instance of the version before."""
    with instance_of("previous_version.tar.gz", tmp_path / "old", bare_database) as server:
        yield server


@pytest.fixture
def without_feed(tmp_path: Path, bare_database: str) -> Iterator[Server]:
    """An instance of the last version without a feed."""
    with instance_of("before_feed.tar.gz", tmp_path / "old", bare_database) as server:
        yield server


@pytest.fixture
def admin(bare_database: str) -> Iterator[Connection]:
    """A superuser's connection to that database; every statement commits."""
    with psycopg.connect(bare_database, autocommit=True) as connection:
        yield connection


class Payment(NamedTuple):
    """A payment that was made, and its answer."""

    buyer: int
    seller: int
    amount: str
    key: str | None
    answer: str


def pay_until_answered(api: httpx2.Client, buyer: int, seller: int, amount: str, key: str | None) -> httpx2.Response:
    """Asks for a payment. One with a key is repeated as long as the answer is 503."""
    deadline = time.monotonic() + TIMEOUT
    while True:
        response = pay(api, buyer, seller, amount, key)
        if response.status_code != 503 or key is None or time.monotonic() > deadline:
            return response
        assert "Retry-After" in response.headers, response.text
        time.sleep(0.01)


class Clients:
    """Clients of an instance that pay without a pause, all under keys, and keep what they were answered."""

    def __init__(self, server: Server, accounts: list[int]) -> None:
        self.made: list[Payment] = []
        self._server = server
        self._accounts = accounts
        self._stopping = threading.Event()
        self._threads = ThreadPoolExecutor(CLIENTS)
        self._futures: list[Future[None]] = []

    def __enter__(self) -> Self:
        self._futures = [self._threads.submit(self._run, Random(number)) for number in range(CLIENTS)]
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Waits until all have been answered for good; raises what one of them did not expect."""
        self._stopping.set()
        self._threads.shutdown()
        for future in self._futures:
            future.result()

    def go_on(self, number: int = 100) -> None:
        """Waits until they have made so many more payments."""
        enough = len(self.made) + number
        wait_until(lambda: len(self.made) >= enough or any(future.done() for future in self._futures))

    def _run(self, random: Random) -> None:
        with self._server.client() as api:
            while not self._stopping.is_set():
                buyer, seller = random.sample(self._accounts, 2)
                amount, key = f"0.0{random.randrange(1, 10)}", str(uuid.uuid4())
                response = pay_until_answered(api, buyer, seller, amount, key)
                assert response.status_code == 200, response.text
                self.made.append(Payment(buyer, seller, amount, key, response.text))


def batch(api: httpx2.Client, asked: list[tuple[int, int, str, str | None]]) -> tuple[list[str], bool]:
    """Asks for many payments, a thousand a call; returns the text of each answer, and whether all had been made before."""
    names = ("BuyerAccountID", "SellerAccountID", "Amount", "IdempotencyKey")
    answers, replayed = [], True
    for begin in range(0, len(asked), 1000):
        payments = [dict(zip(names, payment, strict=True)) for payment in asked[begin : begin + 1000]]
        response = api.post("/payments/batch", json={"Payments": payments})
        assert response.status_code == 200, response.text
        answers += response.text.removeprefix('{"Results":[').removesuffix("]}").replace("},{", "}\n{").splitlines()
        replayed = replayed and response.headers.get("Idempotency-Replayed") == "true"
    return answers, replayed


def pay_in_all_ways(api: httpx2.Client, accounts: list[int]) -> list[Payment]:
    """Payments with keys and without, alone and in a batch, some of them asked for twice."""
    asked: list[tuple[int, int, str, str | None]] = [
        (accounts[n % 4], accounts[(n + 1 + n % 3) % 4], f"0.{n:03}1", f"old {n}" if n % 2 else None)
        for n in range(300)
    ]
    answers = [pay(api, *payment).text for payment in asked[:100]]
    for payment in asked[1:100:10]:
        assert pay_until_answered(api, *payment).headers["Idempotency-Replayed"] == "true"
    answers += batch(api, asked[100:])[0]
    return [Payment(*payment, answer) for payment, answer in zip(asked, answers, strict=True)]


def listed(api: httpx2.Client, path: str) -> list[dict[str, Any]]:
    response = api.get(path)
    assert response.status_code == 200, response.text
    items: list[dict[str, Any]] = response.json()[path.strip("/").capitalize()]
    return items


def contain(items: list[dict[str, Any]], others: list[dict[str, Any]]) -> bool:
    """Whether each object has all the fields of the other one in its place, with the same values."""
    return [{name: item.get(name) for name in other} for item, other in zip(items, others, strict=True)] == others


def expected_balances(accounts: list[int], made: list[Payment]) -> dict[int, Decimal]:
    balances = dict.fromkeys(accounts, Decimal(OPENING))
    for payment in made:
        balances[payment.buyer] -= Decimal(payment.amount)
        balances[payment.seller] += Decimal(payment.amount)
    return balances


def test_the_version_before_goes_on_paying_while_the_database_is_migrated_and_after_it(
    admin: Connection, bare_database: str, old: Server, tmp_path: Path
) -> None:
    unfinished = Path(shutil.copytree(DB, tmp_path / "db"))
    (unfinished / "functions/zz_fails.sql").write_text("select 1 / 0")
    with old.client() as before, ExitStack() as stack:
        accounts = [open_account(before, f"account {number}", OPENING) for number in range(4)]
        made = pay_in_all_ways(before, accounts)
        old_payments, old_totals = listed(before, "/payments"), totals(admin)

        paying = stack.enter_context(Clients(old, accounts))
        paying.go_on()
        with pytest.raises(MigrationRefused, match=r"zz_fails\.sql failed"):
            migrations.migrate(bare_database, db=unfinished)
        paying.go_on()
        migrations.migrate(bare_database)
        paying.go_on()
        new = stack.enter_context(serving(DATABASE_URL=bare_database))
        after = stack.enter_context(new.client())
        assert after.get("/readyz").status_code == 200
        paying_too = stack.enter_context(Clients(new, accounts))
        paying_too.go_on()
        paying.go_on()
        paying.stop()
        paying_too.stop()
        made += paying.made + paying_too.made

        # Each payment was made once, and was answered with the fields of the contract by either version.
        answers = [json.loads(payment.answer) for payment in made]
        assert [answer for answer in answers if list(answer) != PAYMENT] == []
        payments = listed(after, "/payments")
        assert contain(payments, sorted(answers, key=lambda answer: int(answer["ID"])))
        assert contain(payments[: len(old_payments)], old_payments)

        # Balances are what follows from them, and no money was made or lost.
        balances = {item["ID"]: Decimal(item["Amount"]) for item in listed(after, "/accounts")}
        assert balances == expected_balances(accounts, made)
        assert totals(admin) == old_totals
        assert ledger_problems(admin) == []

        # A key stands for its payment, whichever version has made it, and whichever is asked.
        keyed = [payment for payment in made if payment.key is not None]
        for api in (after, before):
            assert batch(api, [payment[:4] for payment in keyed]) == ([payment.answer for payment in keyed], True)
            assert pay(api, *keyed[0][:2], "0.7", keyed[0].key).status_code == 422

        # The version before may still open accounts, and read and list them.
        late = open_account(before, "late", 1)
        assert before.get(f"/account/{late}").json()["Amount"] == "1"
        # An account that this version has blocked neither pays nor receives through the version before.
        assert after.post(f"/account/{late}/status", json={"Status": "blocked"}).status_code == 200
        for buyer, seller, code in ((late, accounts[0], "WB042"), (accounts[0], late, "WB043")):
            assert_refused(pay(before, buyer, seller, 1), code)
        assert before.get(f"/account/{late}?details=true").json()["Status"] == "blocked"
        # A scale that this version has set holds for the version before.
        assert after.post("/currency/4/scale", json={"Scale": 2}).status_code == 200
        opened = before.post("/accounts", json={"Name": "finer", "Amount": "0.001", "CurrencyID": 4})
        assert_refused(opened, "WB009")
        assert listed(before, "/accounts") == listed(after, "/accounts")
        assert listed(before, "/payments") == listed(after, "/payments")


def test_a_call_that_began_before_the_migration_is_not_judged_by_half_of_each_version(
    admin: Connection, bare_database: str, old: Server
) -> None:
    """It goes on with the function that it began with, and calls the helpers of this version."""
    with old.client() as api, ThreadPoolExecutor() as threads:
        buyer, seller = (open_account(api, name, 10) for name in ("buyer", "seller"))
        sale = pay(api, buyer, seller, "5").json()["ID"]
        hold = api.post("/holds", json=payment_body(seller, buyer, 5)).json()["ID"]
        assert api.post(f"/account/{seller}/status", json={"Status": "frozen"}).status_code == 200
        with psycopg.connect(bare_database) as holder:
            # the migration waits for this table, and those calls wait behind it
            holder.execute("lock table ledger.hold in row exclusive mode")
            migration = threads.submit(migrations.migrate, bare_database)
            waiting_for_locks(admin, 1)
            calls = [
                threads.submit(api.post, path, json={})
                for path in (f"/payment/{sale}/refund", f"/hold/{hold}/capture", f"/account/{seller}/status")
            ]
            waiting_for_locks(admin, 3)
            holder.rollback()
            migration.result()
        for call in calls:
            assert call.result().status_code in (400, 503), call.result().text
        assert [line["Amount"] for line in listed(api, "/accounts")] == ["5", "15"]
        assert ledger_problems(admin) == []


def test_a_call_that_waits_during_the_migration_does_not_overlook_captures_of_this_version(
    admin: Connection, bare_database: str, old: Server, tmp_path: Path
) -> None:
    """In the version before, a hold was captured once, and held its whole amount until then."""
    before = Path(shutil.copytree(tmp_path / "old/db", tmp_path / "before"))
    after = Path(shutil.copytree(DB, tmp_path / "after"))
    shutil.copy(DB / "install.sql", before)  # this version's migrate calls its functions
    for path in DB.glob("migrations/*.sql"):
        if path.name < "0018":
            shutil.copy(path, before / "migrations")
        elif path.name > "0019":  # 0020 locks accounts, and so would wait for these calls
            (after / "migrations" / path.name).unlink()
    migrations.migrate(bare_database, db=before)
    buyer, seller, other = (account(admin, name, 100) for name in ("buyer", "seller", "other"))
    captured, voided, kept = (held(admin, buyer, seller, 10) for _ in range(3))
    expired = held(admin, other, seller, 10)

    def call(function: str, *arguments: object) -> str | None:
        with psycopg.connect(bare_database, user="wallet_app", autocommit=True) as connection:
            try:
                rows(connection, function, *arguments)
            except psycopg.Error as error:
                return error.sqlstate
            return None

    with ThreadPoolExecutor() as threads, psycopg.connect(bare_database) as holder:
        holder.execute("select from ledger.account for no key update")
        calls = [
            threads.submit(call, *asked)
            for asked in (
                ("capture_hold", captured),
                ("capture_hold", captured, 1, "key"),
                ("void_hold", voided),
                ("create_hold", buyer, seller, 1),
                ("make_payment", other, seller, 1),
                ("make_payments", [other], [seller], [1]),
            )
        ]
        waiting_for_locks(admin, len(calls))
        migrations.migrate(bare_database, db=after)
        for hold in (captured, voided, kept, expired):
            holder.execute("select wallet.capture_hold(%s, 4, p_final => false)", [hold])
        as_if_an_hour_ago(holder, expired)
        holder.commit()
    # 42883: a helper that it calls is not there any more, so the service answers 503, and the client asks again.
    assert [waited.result() for waited in calls] == ["42883"] * 4 + [None] * 2
    assert ledger_problems(admin) == []
    with old.client() as api:
        assert api.post(f"/hold/{captured}/capture", json={}).json()["Amount"] == "6"
        assert api.post(f"/hold/{voided}/void").json()["CapturedAmount"] == "4"
        assert api.get(f"/account/{buyer}?details=true").json()["Held"] == "6"


def test_accounts_that_are_opened_while_the_indexes_on_names_are_exchanged(
    admin: Connection, bare_database: str, tmp_path: Path
) -> None:
    """Calls name the constraint of the old index. The new indexes are those that were built before, concurrently."""
    before = Path(shutil.copytree(DB, tmp_path / "before"))
    for file in (before / "migrations").iterdir():
        if file.name >= "0020":
            file.unlink()
    migrations.migrate(bare_database, db=before)
    files = """select relname, relfilenode from pg_class
               where relname in ('account', 'request', 'account_name_bytes_key', 'request_idempotency_bytes_key',
                                 'account_name_key', 'request_idempotency_key_key')"""
    built = dict(admin.execute(files).fetchall())

    def opened(connection: psycopg.Connection[Any], name: str) -> str | None:
        try:
            account(connection, name)
        except psycopg.Error as error:
            return error.sqlstate
        return None

    with ThreadPoolExecutor() as threads, ExitStack() as stack:
        holder = stack.enter_context(psycopg.connect(bare_database))
        # Before the migration starts, which waits for its lock for no more than 3 seconds.
        callers = [
            stack.enter_context(psycopg.connect(bare_database, user="wallet_app", autocommit=True)) for _ in range(3)
        ]
        account(admin, "taken")
        holder.execute("lock table ledger.account in row share mode")
        migration = threads.submit(migrations.migrate, bare_database)
        waiting_for_locks(admin, 1)
        calls = [threads.submit(opened, *asked) for asked in zip(callers, ("new", "new", "taken"), strict=True)]
        waiting_for_locks(admin, 1 + len(calls))
        holder.rollback()
        assert migration.result()[0] == "applied 0020_unique_in_byte_order.sql"
        assert sorted(str(call.result()) for call in calls) == ["None", "WC011", "WC011"]
    assert dict(admin.execute(files).fetchall()) == {
        "account": built["account"],
        "request": built["request"],
        "account_name_key": built["account_name_bytes_key"],
        "request_idempotency_key_key": built["request_idempotency_bytes_key"],
    }, "an index was built, or a table rewritten, while payments waited"


def test_a_view_on_a_name_is_named_before_its_index_is_exchanged(
    admin: Connection, bare_database: str, old: Server
) -> None:
    admin.execute("create view public.theirs as select name from ledger.account")
    sentence = r"these views use them: view public\.theirs\. Drop them first(.|\n)*These files stay applied: .*0019_.*\.sql\. The"
    with pytest.raises(MigrationRefused, match=sentence):
        migrations.migrate(bare_database)
    admin.execute("drop view public.theirs")
    assert migrations.migrate(bare_database)[0] == "applied 0020_unique_in_byte_order.sql"
    admin.execute("create view public.theirs as select name from ledger.account")


def test_api_keys_of_the_version_before_keep_their_idempotency_keys(
    admin: Connection, bare_database: str, old: Server
) -> None:
    """They have no tenant, and share them with all that have none."""
    with old.client() as api:
        buyer, seller = (open_account(api, name, 10) for name in ("buyer", "seller"))
    calls: list[tuple[str, list[Any]]] = [
        ("make_payment", [buyer, seller, 1]),
        ("create_hold", [buyer, seller, 1]),
        ("create_currency", ["NEW", 2]),
        ("set_credit_limit", [buyer, 5]),
    ]
    shop = row(admin, "create_api_key", "shop", ["pay", "admin"])["id"]
    made = [row(admin, name, *asked, idempotency_key="order-1", api_key_id=shop) for name, asked in calls]
    migrations.migrate(bare_database)
    assert row(admin, "list_api_keys")["tenant"] is None
    later, tenant = (row(admin, "create_api_key", n or "later", ["pay", "admin"], tenant=n)["id"] for n in (None, "a"))
    for api_key in (shop, None, later):
        for (name, asked), before in zip(calls, made, strict=True):
            again = row(admin, name, *asked, idempotency_key="order-1", api_key_id=api_key)
            assert (again["id"], again["replayed"]) == (before["id"], True), name
    for name, asked in (calls[0], calls[1], calls[3]):
        assert row(admin, name, *asked, idempotency_key="order-1", api_key_id=tenant)["replayed"] is None, name
    assert ledger_problems(admin) == []


def test_a_migration_that_meets_a_call_in_a_deadlock_is_repeated(
    admin: Connection, bare_database: str, old: Server
) -> None:
    with (
        ThreadPoolExecutor() as threads,
        psycopg.connect(bare_database) as call,
        psycopg.connect(bare_database) as holder,
    ):
        holder.execute("lock table ledger.hold in row exclusive mode")
        call.execute("set deadlock_timeout = '1min'")  # so that it is the migration that PostgreSQL ends
        call.execute("select from ledger.payment")
        migration = threads.submit(migrations.migrate, bare_database)
        waiting_for_locks(admin, 1)  # the migration has altered accounts, and waits for holds
        read = threads.submit(call.execute, "select from ledger.account")
        waiting_for_locks(admin, 2)
        holder.rollback()  # now it waits for payments
        read.result()
        assert not migration.done()
        call.rollback()
        assert "applied 0016_options.sql" in migration.result()
    assert ledger_problems(admin) == []


def events(connection: Connection) -> list[tuple[str, int]]:
    query = "select event, coalesce(payment_id, hold_id, account_id) from wallet.list_feed()"
    return [(event, subject) for event, subject in connection.execute(query).fetchall()]


def test_the_feed_begins_with_what_the_version_before_has_left(
    admin: Connection, bare_database: str, without_feed: Server
) -> None:
    """Accounts, changes, holds, their ends, payments; and then what happens, whichever version does it."""
    with without_feed.client() as api, ThreadPoolExecutor() as threads:
        buyer, seller = (open_account(api, name, 10) for name in ("buyer", "seller"))
        api.post(f"/account/{buyer}/credit-limit", json={"Amount": 5}).raise_for_status()
        first, second, third = (api.post("/holds", json=payment_body(buyer, seller, 1)).json()["ID"] for _ in range(3))
        payment = pay(api, buyer, seller, "1").json()["ID"]
        capture = api.post(f"/hold/{first}/capture", json={}).json()["ID"]
        with psycopg.connect(bare_database) as holder:
            holder.execute("lock table ledger.hold in row exclusive mode")
            migration = threads.submit(migrations.migrate, bare_database)
            waiting_for_locks(admin, 1)
            void = threads.submit(api.post, f"/hold/{second}/void", json={})
            waiting_for_locks(admin, 2)
            holder.rollback()
            migration.result()
        assert void.result().status_code == 200
        late = open_account(api, "late")
        assert api.post(f"/hold/{third}/void", json={}).status_code == 200
    assert events(admin) == [
        ("account_created", buyer),
        ("account_created", seller),
        ("account_changed", buyer),
        ("hold_created", first),
        ("hold_created", second),
        ("hold_created", third),
        ("hold_ended", first),
        ("payment_made", payment),
        ("payment_made", capture),
        ("hold_ended", second),
        ("account_created", late),
        ("hold_ended", third),
    ]
    listed = "select id, status from wallet.list_holds(p_account_id => %s)"
    assert admin.execute(listed, [seller]).fetchall() == [(first, "captured"), (second, "voided"), (third, "voided")]
    pages = []
    after = None
    while page := admin.execute("select cursor, event from wallet.list_feed(%s, 1)", [after]).fetchall():
        pages += page
        after = page[0][0]
    assert [event for _, event in pages] == [event for event, _ in events(admin)]
