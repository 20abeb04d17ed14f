"""The feed: what happened, each event once, in an order that never changes."""

import time
from collections.abc import Iterator

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.conftest import Connection
from tests.sql.calls import Row, refusal_of, row, rows
from tests.support import account


@pytest.fixture
def wallet(database: str) -> Iterator[Connection]:
    """An autocommit connection as wallet_ops, with two accounts: 1 has 100, 2 has nothing."""
    with psycopg.connect(database, user="wallet_ops", autocommit=True) as connection:
        account(connection, "buyer", 100)
        account(connection, "seller")
        yield connection


def feed(connection: Connection, after: str | None = None, **named: object) -> list[Row]:
    """The events after a cursor, without the columns that they do not have, their time and `more`."""
    found = rows(connection, "list_feed", after, **named)
    left_out = ("operation_timestamp", "more")
    return [
        {name: value for name, value in event.items() if value is not None and name not in left_out} for event in found
    ]


def last(connection: Connection) -> str:
    return str(feed(connection)[-1]["cursor"])


def test_each_kind_of_event_has_what_happened(wallet: Connection) -> None:
    row(wallet, "set_credit_limit", 1, 50)
    row(wallet, "make_payment", 1, 2, 10, description="Two books", reference="order 17")
    row(wallet, "create_hold", 1, 2, 5, reference="order 18")
    row(wallet, "capture_hold", 1, 3)
    row(wallet, "refund_payment", 1, 4)
    row(wallet, "set_account_status", 2, "frozen")
    row(wallet, "create_hold", 1, 2, 7)
    row(wallet, "void_hold", 2)
    parties = {"currency_id": 1, "buyer_account_id": 1, "seller_account_id": 2}
    events = feed(wallet)
    expiries = [event.pop("expires_at") for event in events if event["event"].startswith("hold")]
    assert expiries[0] == expiries[1]
    assert expiries[2] == expiries[3]
    assert events == [
        {
            "cursor": "0.1",
            "event": "account_created",
            "account_id": 1,
            "name": "buyer",
            "currency_id": 1,
            "amount": 100,
        },
        {"cursor": "0.2", "event": "account_created", "account_id": 2, "name": "seller", "currency_id": 1, "amount": 0},
        {"cursor": "0.3", "event": "account_changed", "account_id": 1, "status": "active", "credit_limit": 50},
        {"cursor": "1.0", "event": "payment_made", "payment_id": 1, "amount": 10, **parties}
        | {"description": "Two books", "reference": "order 17"},
        {"cursor": "1.4", "event": "hold_created", "hold_id": 1, "amount": 5, **parties, "reference": "order 18"},
        {"cursor": "1.5", "event": "hold_ended", "hold_id": 1, "amount": 5, **parties, "reference": "order 18"}
        | {"status": "captured"},
        {"cursor": "2.0", "event": "payment_made", "payment_id": 2, "amount": 3, **parties, "reference": "order 18"}
        | {"hold_id": 1},
        {"cursor": "3.0", "event": "payment_made", "payment_id": 3, "amount": 4, "refunded_payment_id": 1}
        | {"currency_id": 1, "buyer_account_id": 2, "seller_account_id": 1},
        {"cursor": "3.6", "event": "account_changed", "account_id": 2, "status": "frozen", "credit_limit": 0},
        {"cursor": "3.7", "event": "hold_created", "hold_id": 2, "amount": 7, **parties},
        {"cursor": "3.8", "event": "hold_ended", "hold_id": 2, "amount": 7, **parties, "status": "voided"},
    ]


def test_a_change_that_changes_nothing_is_no_event(wallet: Connection) -> None:
    row(wallet, "set_credit_limit", 1, 0)
    row(wallet, "set_account_status", 1, "active")
    row(wallet, "create_hold", 1, 2, 5, idempotency_key="once")
    row(wallet, "create_hold", 1, 2, 5, idempotency_key="once")
    assert [event["event"] for event in feed(wallet, "0.2")] == ["hold_created"]


def test_a_page_goes_on_where_the_one_before_ended(wallet: Connection) -> None:
    for _ in range(5):
        row(wallet, "make_payment", 1, 2, 1)
    pages: list[list[Row]] = []
    after = None
    while found := rows(wallet, "list_feed", after, 3):
        pages.append(found)
        after = found[-1]["cursor"]
    assert [len(page) for page in pages] == [3, 3, 1]
    assert [{event["more"] for event in page} for page in pages] == [{True}, {True}, {False}]
    assert [event["cursor"] for page in pages for event in page] == [event["cursor"] for event in feed(wallet)]


def test_an_expired_hold_ends_in_the_feed_although_no_call_locks_its_account(wallet: Connection) -> None:
    row(wallet, "create_hold", 1, 2, 5, 1)
    after = last(wallet)
    time.sleep(1.1)
    assert feed(wallet, after) == []
    row(wallet, "feed_end")
    [ended] = rows(wallet, "list_feed", after)
    hold = row(wallet, "get_hold", 1)
    assert (ended["event"], ended["status"], ended["hold_id"]) == ("hold_ended", "expired", 1)
    assert ended["operation_timestamp"] == hold["expires_at"]


REFUSALS = [
    ("list_feed('')", "WB063"),
    ("list_feed('x')", "WB063"),
    ("list_feed('1')", "WB063"),
    ("list_feed('1.')", "WB063"),
    ("list_feed('.1')", "WB063"),
    ("list_feed('1.1 ')", "WB063"),
    ("list_feed(e'1.1\\n')", "WB063"),
    ("list_feed('1,1')", "WB063"),
    ("list_feed('-10.1')", "WB063"),
    ("list_feed('1.-1')", "WB063"),
    ("list_feed('1.1@7')", "WB063"),
    ("list_feed('9999999999999999999.1')", "WB063"),
    ("list_feed(null, 0)", "WB061"),
    ("list_feed(null, -1)", "WB061"),
    ("list_feed(null, 1001)", "WB061"),
    # Of two reasons, the one that is checked first:
    ("list_feed('x', 0)", "WB063"),
]
AFTER_A_CHANGE = [("list_feed()", "WC063"), ("feed_end()", "WC063")]


@pytest.mark.parametrize(("call", "code"), REFUSALS)
def test_refusals(ops: Connection, call: str, code: str) -> None:
    assert refusal_of(ops, call) == code


@pytest.mark.parametrize(("call", "code"), AFTER_A_CHANGE)
def test_refusals_in_a_transaction_that_has_made_changes(wallet: Connection, call: str, code: str) -> None:
    with wallet.transaction():
        row(wallet, "make_payment", 1, 2, 1)
        assert refusal_of(wallet, call) == code


def test_the_feed_is_read_once_in_a_transaction(wallet: Connection) -> None:
    with wallet.transaction():
        assert len(feed(wallet)) == 2
        assert refusal_of(wallet, "list_feed()") == "WC063"


def test_from_now_on_there_is_only_what_happens_later(wallet: Connection) -> None:
    [now] = feed(wallet, "now")
    assert now == {"cursor": last(wallet)}
    row(wallet, "make_payment", 1, 2, 1)
    assert [event["event"] for event in feed(wallet, now["cursor"])] == ["payment_made"]


def test_now_is_before_what_others_have_not_committed(wallet: Connection, database: str) -> None:
    with psycopg.connect(database) as slow:
        slow.execute("select wallet.make_payment(1, 2, 1)")
        assert feed(wallet, "now") == []
        slow.commit()
    assert [event["cursor"] for event in feed(wallet, "now")] == ["1.2"]


def test_a_cursor_beyond_the_end_finds_nothing(wallet: Connection) -> None:
    assert feed(wallet, f"{10**18 - 1}.0") == []


def test_what_others_have_not_committed_holds_back_what_came_after(wallet: Connection, database: str) -> None:
    after = last(wallet)
    account(wallet, "third", 10)
    account(wallet, "fourth")
    notices: list[str] = []
    wallet.add_notice_handler(lambda notice: notices.append(str(notice.message_primary)))
    with psycopg.connect(database, application_name="slow job") as slow:
        slow.execute("select wallet.make_payment(1, 2, 1)")
        row(wallet, "make_payment", 3, 4, 1)
        assert [event["event"] for event in feed(wallet, after)] == []
        assert len(notices) == 1
        assert f"process {slow.info.backend_pid} of {slow.info.user} slow job" in notices[0]
        slow.commit()
    assert [event.get("payment_id") for event in feed(wallet, after)] == [None, None, 1, 2]


def test_feed_end_says_what_it_waits_for(wallet: Connection, database: str) -> None:
    with psycopg.connect(database) as slow:
        slow.execute("select wallet.make_payment(1, 2, 1)")
        looks = None
        for pause in (0, 0.2, 1.0):
            time.sleep(pause)
            found = row(wallet, "feed_end", Jsonb(looks) if looks else None)
            looks = found["looks"]
        assert found["feed_end"] is None
        assert found["waits_for"] == f"process {slow.info.backend_pid} of {slow.info.user}"


@pytest.mark.prepared
def test_a_prepared_transaction_holds_the_feed_back(wallet: Connection, admin: Connection) -> None:
    admin.execute("begin; select wallet.make_payment(1, 2, 1); prepare transaction 'payment'")
    account(wallet, "third")
    assert feed(wallet, "0.2") == []
    admin.execute("commit prepared 'payment'")
    assert [event["event"] for event in feed(wallet, "0.2")] == ["payment_made", "account_created"]


@pytest.mark.parametrize("statement", ["create temp table other (id int)", "lock ledger.account in access share mode"])
def test_a_transaction_that_adds_no_events_does_not_hold_the_feed_back(
    wallet: Connection, database: str, statement: str
) -> None:
    with psycopg.connect(database) as other:
        other.execute("select pg_current_xact_id()")
        other.execute(statement)
        row(wallet, "make_payment", 1, 2, 1)
        assert feed(wallet)[-1]["event"] == "payment_made"


def test_reports_read_the_feed_in_transactions_that_may_change_nothing(wallet: Connection, database: str) -> None:
    with psycopg.connect(database, user="wallet_reporting", autocommit=True) as reporting:
        assert reporting.execute("show transaction_read_only").fetchone() == ("on",)
        assert len(feed(reporting)) == 2


def test_an_end_that_another_server_has_found_does_not_count(wallet: Connection, database: str) -> None:
    after = last(wallet)
    with psycopg.connect(database) as slow:
        slow.execute("select wallet.make_payment(1, 2, 1)")
        account(wallet, "third")
        assert feed(wallet, after, until="9.9@1.000000") == []
        found = row(wallet, "feed_end", Jsonb({"server": "1.000000", "end": [9, 9], "looks": []}))
        assert found["feed_end"] is None


def test_a_bound_key_sees_the_events_of_its_accounts(wallet: Connection) -> None:
    third = account(wallet, "third", 10)
    bound = row(wallet, "create_api_key", "bound", ["read"], [third])["id"]
    row(wallet, "make_payment", 1, 2, 1)
    row(wallet, "make_payment", third, 2, 1)
    row(wallet, "create_hold", 1, 2, 1)
    row(wallet, "create_hold", third, 2, 1)
    row(wallet, "set_credit_limit", 1, 1)
    row(wallet, "set_credit_limit", third, 1)
    seen = [event["event"] for event in feed(wallet, api_key_id=bound) if "event" in event]
    assert seen == ["account_created", "payment_made", "hold_created", "account_changed"]


def test_the_page_of_a_bound_key_goes_on_after_events_of_others(wallet: Connection) -> None:
    third = account(wallet, "third", 10)
    bound = row(wallet, "create_api_key", "bound", ["read"], [third])["id"]
    row(wallet, "make_payment", third, 2, 1)
    batch = "select count(*) from wallet.make_payments(%s, %s, array_fill(0.001, array[10050]))"
    wallet.execute(batch, [[1] * 10_050, [2] * 10_050])
    row(wallet, "make_payment", third, 2, 1)
    pages = []
    after = "0.3"
    while found := rows(wallet, "list_feed", after, api_key_id=bound):
        pages.append([(event["payment_id"], event["more"]) for event in found])
        after = found[-1]["cursor"]
    assert pages == [[(1, True), (None, True)], [(10_052, False)]]
