"""What a page costs does not depend on how much there is, nor on where the page is. Held against counters, not clocks.

A ledger of 20,000 payments of 2,000 accounts: account 1 is a party of half of them, account 77 of a few.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from tests.conftest import Connection, clone
from tests.sql.calls import held, paid, row, rows

PAYMENTS, ACCOUNTS = 20_000, 2_000
LIMIT = 20
LOOKED_AT = 10_000
BEGIN = datetime(2020, 1, 1, tzinfo=UTC)
FILL = f"""
    insert into ledger.account (name, currency_id, opening_balance, balance, created_at, status)
    select
        case n % 2 when 0 then 'even ' else 'odd ' end || n, 1 + n % 3, 0, 0, '2019-01-01',
        case n % 500 when 0 then 'frozen' else 'active' end
    from generate_series(1, {ACCOUNTS}) as n;

    insert into ledger.payment (
        currency_id, buyer_account_id, seller_account_id, amount, buyer_balance, seller_balance, operation_timestamp,
        reference, refunded_payment_id
    )
    select
        1, case n % 4 when 0 then 1 else 2 + n * 7 % {ACCOUNTS - 1} end,
        case n % 4 when 2 then 1 else 2 + (n * 7 + 1) % {ACCOUNTS - 1} end, 1 + n % 100, n, n,
        timestamptz '2020-01-01 00:00+00' + n * interval '1 second',
        case when n % 5 = 0 then 'many' when n % 7 = 0 then 'one ' || n end,
        case n % 1000 when 4 then 2 end
    from generate_series(1, {PAYMENTS}) as n;
"""


def moment(number: int) -> datetime:
    """When the payment with this number was made."""
    return BEGIN + timedelta(seconds=number)


@pytest.fixture(scope="module")
def large(cluster: str) -> Iterator[Connection]:
    for conninfo in clone(cluster, "wallet"):
        with psycopg.connect(conninfo, autocommit=True) as connection:
            connection.execute("set session_replication_role = replica")
            connection.execute(FILL)
            connection.execute("set session_replication_role = origin")
            connection.execute("vacuum analyze ledger.account, ledger.payment")
            yield connection


class Cost:
    """What a call reads: rows of each table, buffers; and which tables it reads from end to end."""

    def __init__(self, connection: Connection, function: str, *arguments: object, **named: object) -> None:
        for _ in range(2):  # the first time, the catalog is read too
            with connection.transaction(force_rollback=True):
                before = _counters(connection)
                places = ["%s"] * len(arguments) + [f"p_{name} => %s" for name in named]
                query = f"select * from wallet.{function}({', '.join(places)})"
                [([plan],)] = connection.execute(
                    f"explain (analyze, buffers, timing off, format json) {query}", [*arguments, *named.values()]
                ).fetchall()
                counted = {table: counts - before[table] for table, counts in _counters(connection).items()}
        self.rows = {table: counts.rows for table, counts in counted.items()}
        self.scanned = {table for table, counts in counted.items() if counts.scans}
        self.buffers = plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"]


class _Counts:
    def __init__(self, scans: int, read: int) -> None:
        self.scans, self.rows = scans, read

    def __sub__(self, other: "_Counts") -> "_Counts":
        return _Counts(self.scans - other.scans, self.rows - other.rows)


def _counters(connection: Connection) -> dict[str, _Counts]:
    query = """select relname, seq_scan, seq_tup_read + coalesce(idx_tup_fetch, 0)
               from pg_stat_xact_user_tables where schemaname = 'ledger'"""
    return {name: _Counts(scans, read) for name, scans, read in connection.execute(query).fetchall()}


# Pages that are full, wherever they are.
FILTERS: list[dict[str, Any]] = [
    {},
    {"account_id": 1},
    {"buyer_account_id": 1},
    {"seller_account_id": 1},
    {"reference": "many"},
    {"from": BEGIN},
    {"to": moment(10**6)},
    {"from": BEGIN, "to": moment(10**6)},
    {"account_id": 1, "from": BEGIN, "to": moment(10**6)},
    {"buyer_account_id": 1, "from": BEGIN},
    {"seller_account_id": 1, "to": moment(10**6)},
]
FIRST, MIDDLE, LAST = None, PAYMENTS // 2, PAYMENTS - 20 * LIMIT


def pages(middle: int, last: int) -> list[dict[str, Any]]:
    """The first page, one in the middle and one near the end, read upwards and downwards, in either order."""
    end = 2**63 - 1
    return [
        *({"after_id": place, "order": "asc"} for place in (None, middle, last)),
        *({"before_id": place, "order": "desc"} for place in (0, middle, last)),
        *({"after_id": place, "order": "desc"} for place in (None, middle, 20 * LIMIT)),
        *({"before_id": place, "order": "asc"} for place in (end, middle, 20 * LIMIT)),
    ]


# Walks through a whole list: where it begins, which side of a page it goes on from, and whether ids rise.
WALKS: list[tuple[dict[str, Any], str, bool]] = [
    ({"order": "asc"}, "after_id", True),
    ({"order": "desc"}, "after_id", False),
    ({"order": "asc", "before_id": 2**63 - 1}, "before_id", False),
    ({"order": "desc", "before_id": 0}, "before_id", True),
]


@pytest.mark.parametrize("filters", FILTERS, ids=lambda filters: " ".join(filters) or "none")
def test_the_first_page_of_payments_and_the_last_cost_the_same(large: Connection, filters: dict[str, Any]) -> None:
    costs = []
    for page in pages(MIDDLE, LAST):
        assert len(rows(large, "list_payments", limit=LIMIT, **page, **filters)) == LIMIT
        costs.append(Cost(large, "list_payments", limit=LIMIT, **page, **filters))
    for cost in costs:
        assert cost.scanned == set()
        # Of an account, as a buyer and as a seller; and a few to find where a moment is.
        assert LIMIT <= cost.rows["payment"] <= 2 * (LIMIT + 1) + 8
        assert cost.buffers <= 3 * min(other.buffers for other in costs) + 20


@pytest.mark.parametrize("filters", [{"from": moment(MIDDLE)}, {"to": moment(MIDDLE)}], ids=" ".join)
def test_a_page_by_time_reads_nothing_beyond_its_moments(large: Connection, filters: dict[str, Any]) -> None:
    for page in pages(MIDDLE, LAST):
        number = len(rows(large, "list_payments", limit=LIMIT, **page, **filters))
        cost = Cost(large, "list_payments", limit=LIMIT, **page, **filters)
        assert cost.scanned == set()
        assert cost.rows["payment"] <= 2 * number + 4
        assert cost.buffers <= 120


@pytest.mark.parametrize("reference", ["one 7", "none"])
def test_a_reference_reads_what_has_it(large: Connection, reference: str) -> None:
    cost = Cost(large, "list_payments", None, LIMIT, reference=reference)
    assert (cost.scanned, cost.rows["payment"]) == (set(), int(reference != "none"))


def test_a_page_of_the_changes_of_an_account_reads_no_more_than_it_shows(large: Connection) -> None:
    with large.transaction(force_rollback=True):
        large.execute(
            """insert into ledger.account_change (account_id, status, credit_limit, last_payment_id)
               select 1 + n % 3, 'active', n, 0 from generate_series(1, 6000) as n"""
        )
        [(middle,)] = large.execute("select max(id) - 3000 from ledger.account_change").fetchall()
        for page in pages(middle, middle):
            cost = Cost(large, "list_account_changes", 1, limit=LIMIT, **page)
            if page.get("after_id", page.get("before_id")) == 20 * LIMIT:
                continue  # ids are higher
            assert (cost.scanned, cost.rows["account_change"]) == (set(), LIMIT + 1)


@pytest.mark.parametrize("filters", [{}, {"buyer_account_id": 1}, {"min": 1, "from": BEGIN}], ids=str)
def test_the_refunds_of_a_payment_are_all_that_is_read(large: Connection, filters: dict[str, Any]) -> None:
    for payment, number in ((2, PAYMENTS // 1000), (3, 0), (2**62, 0)):
        assert len(rows(large, "list_payments", refunded_payment_id=payment, **filters)) == number
        cost = Cost(large, "list_payments", None, LIMIT, refunded_payment_id=payment, **filters)
        assert cost.scanned == set()
        # Looked at three times: to find where the page ends, and whether others follow. And the payment itself.
        assert cost.rows["payment"] <= 3 * number + 1


def test_an_account_of_few_payments_reads_these(large: Connection) -> None:
    number = len(rows(large, "list_payments", account_id=77))
    assert 0 < number < LIMIT
    for call in (("list_payments", None, LIMIT, 77), ("get_statement", 77, None, LIMIT)):
        cost = Cost(large, *call)
        assert cost.scanned == set()
        assert cost.rows["payment"] == number


# And how many payments of that order there are, of whatever currency and amount.
NARROW: list[tuple[dict[str, Any], int]] = [
    ({"currency": "ETC"}, 20000),
    ({"min": 101}, 20000),
    ({"max": "0.5"}, 20000),
    ({"from": BEGIN, "min": 101}, 20000),
    ({"to": moment(10**6), "currency": "4"}, 20000),
    ({"account_id": 1, "min": 101}, 10000),
    ({"reference": "many", "min": 101}, 4000),
    ({"buyer_account_id": 1, "seller_account_id": 1}, 5000),
    ({"buyer_account_id": 1, "account_id": 3, "max": "0.5"}, 5000),
    ({"reference": "many", "from": moment(10**6)}, 4000),
    ({"seller_account_id": 1, "from": BEGIN, "currency": "RUB"}, 5000),
]


@pytest.mark.parametrize("walk", WALKS, ids=str)
@pytest.mark.parametrize(("filters", "number"), NARROW, ids=str)
def test_what_narrows_and_finds_nothing_looks_at_so_many_says_where_to_go_on_and_comes_to_the_end(
    large: Connection, filters: dict[str, Any], number: int, walk: tuple[dict[str, Any], str, bool]
) -> None:
    place, side, upwards = walk
    seen = []
    while True:
        cost = Cost(large, "list_payments", limit=LIMIT, **place, **filters)
        assert cost.scanned == set()
        # Of an account, as many as a buyer and as a seller; and a few to find where a moment is. Looked at twice: once
        # to find where the page ends.
        assert cost.rows["payment"] <= 2 * LOOKED_AT + 8
        page = rows(large, "list_payments", limit=LIMIT, **place, **filters)
        if not page:
            break
        [marker] = page
        assert {name for name, value in marker.items() if value is not None} == {"id", "more"}
        assert marker["more"] is True
        seen.append(marker["id"])
        assert len(seen) <= number // LOOKED_AT
        place = {"order": place["order"], side: marker["id"]}
    assert seen == sorted(set(seen), reverse=not upwards)
    assert len(seen) == number // LOOKED_AT


@pytest.mark.parametrize("walk", WALKS, ids=str)
@pytest.mark.parametrize(("limit", "number"), [(150, 3), (100, 3), (60, 4)])
def test_a_page_that_narrows_ends_after_so_many_even_if_some_were_found(
    large: Connection, limit: int, number: int, walk: tuple[dict[str, Any], str, bool]
) -> None:
    """Each hundredth payment is one of 100: 10,000 payments hold 100 of them. Pages of more than that end early, and
    those of exactly as many, or of fewer, do not know yet whether there are others."""
    place, side, _ = walk
    read: list[list[int]] = []
    more = True
    while more:
        page = rows(large, "list_payments", limit=limit, min=100, **place)
        more = bool(page) and page[-1]["more"]
        read.append([payment["id"] for payment in page if payment["amount"] is not None])
        if more:
            place = {"order": place["order"], side: page[-1 if side == "after_id" else 0]["id"]}
    found = [id_ for page in (read if side == "after_id" else read[::-1]) for id_ in page]
    expected = [*range(99, PAYMENTS, 100)]
    assert found == (expected if place["order"] == "asc" else expected[::-1])
    assert abs(len(read) - number) <= 1


@pytest.mark.parametrize("account_id", [1, 77])
def test_the_first_page_of_a_statement_and_the_last_cost_the_same(large: Connection, account_id: int) -> None:
    asked: list[dict[str, Any]] = [
        *pages(MIDDLE, LAST),
        *(
            {"from": moment(n), "to": moment(n + 50), "order": order}
            for n in (1, MIDDLE, LAST)
            for order in ("asc", "desc")
        ),
        *({"from": moment(n), "order": order} for n in (1, MIDDLE, LAST) for order in ("asc", "desc")),
    ]
    for page in asked:
        cost = Cost(large, "get_statement", account_id, limit=LIMIT, **page)
        assert cost.scanned == set()
        assert cost.rows["payment"] <= 2 * (LIMIT + 1) + 12
        assert cost.rows["account"] <= LIMIT + 2
        assert cost.buffers <= 300


@pytest.mark.parametrize("account_id", [1, 77])
def test_a_balance_at_a_moment_is_found_and_not_added_up(large: Connection, account_id: int) -> None:
    for number in (1, MIDDLE, LAST, 10**6):
        cost = Cost(large, "get_account", account_id, moment(number))
        assert not cost.scanned & {"payment", "account"}
        assert 0 < cost.rows["payment"] <= 12
        assert cost.buffers <= 80


def test_a_clock_that_was_wrong_once_does_not_make_it_dear(large: Connection) -> None:
    """One payment of another account has a time after all others, and another one a time before them."""
    wrong = """update ledger.payment set operation_timestamp = case id when 5 then '2040-01-01' else '1970-01-01' end::timestamptz
               where id in (5, 19997)"""
    with large.transaction(force_rollback=True):
        large.execute("set local session_replication_role = replica")
        large.execute(wrong)
        for account_id in (1, 77):
            for wrong_since in (datetime(2041, 1, 1, tzinfo=UTC), datetime(2019, 6, 1, tzinfo=UTC)):
                assert Cost(large, "get_account", account_id, wrong_since).rows["payment"] <= 8
                cost = Cost(large, "get_statement", account_id, None, LIMIT, wrong_since, wrong_since)
                assert cost.rows["payment"] <= 20
            since, until = datetime(2000, 1, 1, tzinfo=UTC), datetime(2050, 1, 1, tzinfo=UTC)
            whole = rows(large, "get_statement", account_id)
            assert rows(large, "get_statement", account_id, None, None, since, until) == whole


# Filters of the accounts, the rows that a page of them reads at most (an index read for its order may be of two
# accounts for one that is asked for), and how many there are.
ACCOUNT_FILTERS: list[tuple[dict[str, str], int, int]] = [
    ({}, LIMIT + 1, ACCOUNTS),
    ({"name": "odd 77"}, 1, 1),
    ({"name": "none"}, 0, 0),
    ({"name_prefix": "even 77"}, 5 * LIMIT, 5),  # of the last 100 accounts, all may be read by id
    ({"name_prefix": "even "}, 3 * LIMIT, ACCOUNTS // 2),
    ({"name_prefix": "none"}, 0, 0),
    ({"currency": "RUB"}, 4 * LIMIT, 667),
    ({"currency": "4"}, 0, 0),
    ({"status": "frozen"}, 4, 4),
    ({"status": "closed"}, 0, 0),
    ({"status": "active"}, LIMIT + 2, ACCOUNTS - 4),
    ({"status": "frozen", "currency": "RUB"}, 4, 1),
    ({"status": "frozen", "name_prefix": "even 1"}, 4, 2),
]


@pytest.mark.parametrize(("filters", "read", "number"), ACCOUNT_FILTERS, ids=str)
def test_a_page_of_accounts_reads_no_more_than_it_shows(
    large: Connection, filters: dict[str, str], read: int, number: int
) -> None:
    assert len(rows(large, "list_accounts", **filters)) == number
    for page in pages(ACCOUNTS // 2, ACCOUNTS - 5 * LIMIT):
        cost = Cost(large, "list_accounts", limit=LIMIT, **page, **filters)
        assert "account" not in cost.scanned
        assert cost.rows["account"] <= read
        assert cost.buffers <= 40


# 20,000 holds, of which 16,500 were captured; account 1 is a party of half of them. Of the open ones, 20 % have expired.
HOLDS = 20_000
FILL_HOLDS = f"""
    insert into ledger.hold (
        currency_id, buyer_account_id, seller_account_id, amount, expires_at, status, ended_at, reference
    )
    select
        1, made.buyer, made.seller, 1,
        now() + case when made.status = 'open' and n % 200 >= 40 then interval '1 day' else interval '-1 day' end,
        made.status, case when made.status <> 'open' then now() end,
        case when n % 5 = 0 then 'many' when n % 7 = 0 then 'one ' || n end
    from generate_series(1, {HOLDS}) as n
    cross join lateral (
        select
            case n % 4 when 0 then 1 else 2 + n * 7 % {ACCOUNTS - 1} end as buyer,
            case n % 4 when 2 then 1 else 2 + (n * 7 + 1) % {ACCOUNTS - 1} end as seller,
            case
                when n % 40 in (0, 2, 5) then 'open' when n % 40 in (4, 6) then 'expired'
                when n % 40 in (8, 10) then 'voided' else 'captured'
            end as status
    ) as made;

    insert into ledger.payment (
        currency_id, buyer_account_id, seller_account_id, amount, buyer_balance, seller_balance, hold_id
    )
    select 1, hold.buyer_account_id, hold.seller_account_id, 1, 0, 0, hold.id
    from ledger.hold as hold
    where hold.status = 'captured';
"""


@pytest.fixture(scope="module")
def holding(cluster: str) -> Iterator[Connection]:
    for conninfo in clone(cluster, "wallet"):
        with psycopg.connect(conninfo, autocommit=True) as connection:
            connection.execute("set session_replication_role = replica")
            connection.execute(FILL_HOLDS)
            connection.execute("set session_replication_role = origin")
            connection.execute("vacuum analyze ledger.hold, ledger.payment")
            yield connection


# Filters of holds with full pages everywhere, and the rows that a page reads at most: those that it shows and the next
# one, of each side of an account and of each status, once to count them and once to show them; of open ones more,
# because some have expired.
HOLD_FILTERS: list[tuple[dict[str, Any], int]] = [
    ({}, 2 * (LIMIT + 1)),
    ({"reference": "many"}, 2 * (LIMIT + 1)),
    ({"status": "captured"}, 2 * (LIMIT + 1)),
    ({"status": "voided"}, 2 * (LIMIT + 1)),
    ({"status": "open"}, 22 * (LIMIT + 1)),
    ({"status": "expired"}, 2 * 22 * (LIMIT + 1)),
    ({"account_id": 1}, 2 * 8 * (LIMIT + 1)),
    ({"account_id": 1, "status": "captured"}, 2 * 2 * (LIMIT + 1)),
    ({"account_id": 1, "status": "voided"}, 2 * 2 * (LIMIT + 1)),
    ({"account_id": 1, "status": "open"}, 2 * 22 * (LIMIT + 1)),
    ({"account_id": 1, "status": "open", "expires_before": "infinity"}, 2 * 22 * (LIMIT + 1)),
    ({"account_id": 1, "status": "expired"}, 4 * 22 * (LIMIT + 1)),
    ({"expires_before": "infinity"}, 2 * (LIMIT + 1)),
]


@pytest.mark.parametrize(("filters", "read"), HOLD_FILTERS, ids=str)
def test_the_first_page_of_holds_and_the_last_cost_the_same(
    holding: Connection, filters: dict[str, Any], read: int
) -> None:
    for page in pages(HOLDS // 2, HOLDS - 60 * LIMIT):
        if 20 * LIMIT in page.values():
            page = {name: value if name == "order" else 60 * LIMIT for name, value in page.items()}
        found = rows(holding, "list_holds", limit=LIMIT, **page, **filters)
        assert len(found) == LIMIT
        assert all(hold["amount"] is not None and hold["more"] for hold in found)
        cost = Cost(holding, "list_holds", limit=LIMIT, **page, **filters)
        assert cost.scanned == set()
        assert cost.rows["hold"] <= read
        assert cost.rows["payment"] <= LIMIT
        assert cost.buffers <= 3 * read + 200


def test_a_hold_that_was_lost_is_found_without_a_look_at_others(holding: Connection) -> None:
    [lost] = rows(holding, "list_holds", reference="one 42")
    assert Cost(holding, "list_holds", None, LIMIT, reference="one 42").rows["hold"] <= 2
    assert Cost(holding, "list_holds", None, LIMIT, reference="none").rows["hold"] == 0
    for account_id in (lost["buyer_account_id"], lost["seller_account_id"]):
        number = len(rows(holding, "list_holds", account_id=account_id, status=lost["status"]))
        cost = Cost(holding, "list_holds", None, 1000, account_id=account_id, status=lost["status"])
        assert cost.rows["hold"] <= 3 * number + 8  # and those that have expired
        assert cost.scanned == set()


def test_the_few_open_holds_that_expire_soon_are_all_that_is_read(holding: Connection) -> None:
    with holding.transaction(force_rollback=True):
        holding.execute("set local session_replication_role = replica")
        holding.execute("update ledger.hold set expires_at = expires_at + interval '100 years' where status = 'open'")
        ending = "select id from ledger.hold where status = 'open' order by id desc limit 5"
        soon = "update ledger.hold set expires_at = clock_timestamp() + interval '5 minutes'"
        holding.execute(f"{soon} where id in ({ending})".encode())
        until = datetime.now(UTC) + timedelta(hours=1)
        assert len(rows(holding, "list_holds", None, LIMIT, status="open", expires_before=until)) == 5
        cost = Cost(holding, "list_holds", None, LIMIT, status="open", expires_before=until)
        assert cost.scanned == set()
        assert cost.rows["hold"] <= 3 * 5


def test_if_very_many_open_holds_expire_soon_a_page_of_them_reads_no_more(holding: Connection) -> None:
    with holding.transaction(force_rollback=True):
        holding.execute("set local session_replication_role = replica")
        holding.execute(
            """insert into ledger.hold (currency_id, buyer_account_id, seller_account_id, amount, expires_at)
               select 1, 1, 2, 1, clock_timestamp() + interval '5 minutes' from generate_series(1, 3 * %s)""",
            [LOOKED_AT],
        )
        until = datetime.now(UTC) + timedelta(hours=1)
        filters = {"status": "open", "expires_before": until, "order": "desc"}
        assert len(rows(holding, "list_holds", None, LIMIT, **filters)) == LIMIT
        cost = Cost(holding, "list_holds", None, LIMIT, **filters)
        assert cost.scanned == set()
        assert cost.rows["hold"] <= LOOKED_AT + 1 + 3 * (LIMIT + 1)


NARROW_HOLDS: list[tuple[dict[str, Any], int]] = [
    ({"expires_before": BEGIN}, HOLDS),
    ({"reference": "many", "account_id": 0}, 4000),
    ({"account_id": 1, "expires_before": BEGIN}, 10_000),
    ({"account_id": 1, "status": "captured", "expires_before": BEGIN}, 8_000),
    ({"status": "open", "expires_before": BEGIN}, 1_500),
]


@pytest.mark.parametrize("walk", WALKS, ids=str)
@pytest.mark.parametrize(("filters", "number"), NARROW_HOLDS, ids=str)
def test_what_narrows_and_finds_no_hold_looks_at_so_many_says_where_to_go_on_and_comes_to_the_end(
    holding: Connection, filters: dict[str, Any], number: int, walk: tuple[dict[str, Any], str, bool]
) -> None:
    place, side, upwards = walk
    seen = []
    while True:
        cost = Cost(holding, "list_holds", limit=LIMIT, **place, **filters)
        assert cost.scanned == set()
        assert cost.rows["hold"] <= 5 * LOOKED_AT
        page = rows(holding, "list_holds", limit=LIMIT, **place, **filters)
        if not page:
            break
        [marker] = page
        assert {name for name, value in marker.items() if value is not None} == {"id", "more"}
        assert marker["more"] is True
        seen.append(marker["id"])
        assert len(seen) <= 4 * number // LOOKED_AT
        place = {"order": place["order"], side: marker["id"]}
    assert seen == sorted(set(seen), reverse=not upwards)


def test_an_account_of_very_many_open_holds_is_as_quick_as_any(admin: Connection) -> None:
    """A lock looks for the expired holds, not at all of them."""
    for name, amount in (("buyer", 50_000), ("seller", 100)):
        row(admin, "create_account", name, amount, 1)
    hold = held(admin, 1, 2, 1)
    admin.execute("set session_replication_role = replica")
    admin.execute(
        """insert into ledger.hold (currency_id, buyer_account_id, seller_account_id, amount, expires_at)
           select 1, 1, 2, 1, clock_timestamp() + n * interval '1 minute' from generate_series(1, 20000) as n"""
    )
    admin.execute("update ledger.account set held = held + 20000 where id = 1")
    admin.execute("set session_replication_role = origin")
    admin.execute("analyze ledger.hold")
    payment = paid(admin, 2, 1, 1)
    calls: list[tuple[Any, ...]] = [
        ("make_payment", 1, 2, 1),
        ("make_payments", [1], [2], [1]),
        ("create_hold", 1, 2, 1),
        ("refund_payment", payment),
        ("capture_hold", hold),
        ("void_hold", hold),
        ("set_credit_limit", 1, 5),
        ("set_account_status", 1, "frozen"),
        ("get_account", 1),
        ("list_accounts",),
    ]
    for call in calls:
        cost = Cost(admin, *call)
        assert cost.rows["hold"] <= 8, call


# Plans are made once a session, and it may be the first of a new wallet.
TOUCHED = 40
PAY: dict[str, Any] = {
    "make_payment": lambda ids: (ids[0], ids[-1], 1),
    "make_payments": lambda ids: (ids, ids[::-1], [1] * len(ids)),
}


@pytest.mark.parametrize("analyzed", [False, True])
@pytest.mark.parametrize("function", PAY)
def test_a_payment_reads_its_accounts_alone_whatever_was_there_when_it_was_planned(
    admin: Connection, function: str, analyzed: bool
) -> None:
    admin.execute("set plan_cache_mode = force_generic_plan")
    open_accounts = "insert into ledger.account (name, currency_id, opening_balance, balance) select 'n ' || n, 1, 9, 9"
    admin.execute(f"{open_accounts} from generate_series(1, 4) as n")
    if analyzed:
        admin.execute("analyze ledger.account")
    row(admin, "set_account_status", 1, "active")
    rows(admin, function, *PAY[function]([1, 2]))
    admin.execute(f"{open_accounts} from generate_series(5, 4000) as n")
    ids = list(range(1, 4000, 4000 // TOUCHED))
    cost = Cost(admin, function, *PAY[function](ids))
    assert cost.scanned == set()
    # To lock it, to change its balance, and twice to look whether the payment is between such accounts.
    assert cost.rows["account"] <= 6 * len(ids)


# Calls of the functions that do without sequential scans, of accounts 1 and 2, payment 1 and hold 1.
WITHOUT_SCANS: dict[str, tuple[Any, ...]] = {
    "make_payment": (1, 2, 1, "key", "description", "reference"),
    "make_payments": ([1, 2], [2, 1], [1, 1]),
    "refund_payment": (1, 1, "key"),
    "create_hold": (1, 2, 1),
    "capture_hold": (1, 1),
    "void_hold": (2,),
    "set_account_status": (2, "frozen"),
    "set_credit_limit": (2, 5),
    "list_holds": (None, 20, 1, "open"),
    "list_account_changes": (1, None, 20),
    "list_payments": (None, 20),
    "get_statement": (1, None, 20),
    "list_feed": (),
    "feed_end": (),
    "get_balance_curve": (1,),
    "list_counterparties": (1,),
    "sum_payments_by_hour": (),
}


@pytest.mark.parametrize("function", WITHOUT_SCANS)
def test_no_plan_has_a_scan_that_is_switched_off(admin: Connection, function: str) -> None:
    """It would be made all the same, and its cost would have PostgreSQL compile the query, for 100 ms."""
    try:
        admin.execute("load 'auto_explain'")
    except psycopg.errors.UndefinedFile:
        pytest.skip("this PostgreSQL has no auto_explain; Debian's has")
    for name in ("buyer", "seller"):
        row(admin, "create_account", name, 100, 1)
    paid(admin, 1, 2, 10)
    for _ in range(2):
        held(admin, 1, 2, 1)
    plans: list[str] = []
    admin.add_notice_handler(lambda notice: plans.append(str(notice.message_primary)))
    admin.execute(
        """select set_config('auto_explain.log_min_duration', '0', false),
                  set_config('auto_explain.log_nested_statements', 'on', false),
                  set_config('auto_explain.log_level', 'notice', false)"""
    )
    rows(admin, function, *WITHOUT_SCANS[function])
    assert len(plans) > 1
    assert [plan for plan in plans if "Seq Scan" in plan] == []


def test_every_function_that_does_without_scans_is_tried(admin: Connection) -> None:
    query = "select proname from pg_proc where 'enable_seqscan=off' = any (proconfig) and pronamespace = 'wallet'::regnamespace"
    assert {name for (name,) in admin.execute(query)} == set(WITHOUT_SCANS)
