"""Lists find what has metadata: by containment, whatever index there is, and without a look at all there is."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.conftest import Connection, clone
from tests.sql.calls import held, paid, refusal_of, row, rows
from tests.sql.test_pages import METADATA_INDEX
from tests.sql.test_plans import LIMIT, LOOKED_AT, WALKS, Cost
from tests.support import account

SOME: list[dict[str, Any] | None] = [
    {"order": 17, "tags": ["a", "b"], "of": {"a": {"b": "x"}}},
    {"order": "17"},
    {"Order": 17},
    {"order": 17.0, "no": None, "yes": True},
    {},
    None,
    {"order": {"17": 17}, "a.b": 1, "": ""},
]
# What is asked for, and which of the above contain it.
CONTAINED: list[tuple[Any, list[int]]] = [
    ({"order": 17}, [0, 3]),
    ({"order": "17"}, [1]),
    ({"Order": 17}, [2]),
    ({"order": 17, "tags": ["b"]}, [0]),
    ({"tags": []}, [0]),
    ({"tags": "a"}, []),
    ({"of": {"a": {"b": "x"}}}, [0]),
    ({"of": {"a": {}}}, [0]),
    ({"of": {"b": "x"}}, []),
    ({"no": None}, [3]),
    ({"yes": True}, [3]),
    ({"yes": False}, []),
    ({"a.b": 1}, [6]),
    ({"": ""}, [6]),
    ({}, [0, 1, 2, 3, 4, 6]),
    ({"order": {}}, [6]),
]


def made(connection: Connection) -> dict[str, list[int]]:
    """An account, a payment and a hold with each of the metadata, by list."""
    accounts, payments = [], []
    for number, metadata in enumerate(SOME):
        given = None if metadata is None else Jsonb(metadata)
        accounts.append(int(row(connection, "create_account", f"account {number}", 100, 1, metadata=given)["id"]))
        payments.append(paid(connection, accounts[-1], accounts[0], 1, metadata=given) if number else 0)
    payments[0] = paid(connection, accounts[0], accounts[1], 1, metadata=Jsonb(SOME[0]))
    holds = [
        held(connection, accounts[0], accounts[1], 1, metadata=None if metadata is None else Jsonb(metadata))
        for metadata in SOME
    ]
    return {"list_accounts": accounts, "list_payments": payments, "list_holds": holds}


LISTS = ["list_accounts", "list_payments", "list_holds"]


@pytest.mark.parametrize("index", ["", METADATA_INDEX], ids=["no index", "index"])
def test_what_contains_the_metadata_that_is_asked_for(keeper: Connection, index: str) -> None:
    ids = made(keeper)
    if index:
        keeper.execute(index)
    for function in LISTS:
        shown = {found["id"]: found["metadata"] for found in rows(keeper, function)}
        assert [shown[id_] for id_ in ids[function]] == SOME
        for asked, places in CONTAINED:
            expected = sorted(ids[function][place] for place in places)
            for page in ({}, {"limit": 1000}, {"limit": 100, "order": "desc"}, {"limit": 100, "before_id": 2**63 - 1}):
                found = [found["id"] for found in rows(keeper, function, metadata=Jsonb(asked), **page)]
                assert found == (expected if "order" not in page else expected[::-1]), (function, asked)


def test_a_statement_shows_the_metadata(keeper: Connection) -> None:
    first, *_ = made(keeper)["list_accounts"]
    payments = {found["id"]: found["metadata"] for found in rows(keeper, "list_payments", account_id=first)}
    lines = rows(keeper, "get_statement", first)[1:]
    assert {line["payment_id"]: line["metadata"] for line in lines} == payments


REFUSALS = [
    (f"{function}(p_metadata => '{metadata}')", "WB020")
    for function in LISTS
    for metadata in ("17", "null", "[]", '"a"', '{"a": "' + "x" * 4096 + '"}')
]


@pytest.mark.parametrize(("call", "code"), REFUSALS, ids=lambda value: value[:50])
def test_refusals(keeper: Connection, call: str, code: str) -> None:
    assert refusal_of(keeper, call) == code


# 25,000 accounts, holds and payments; the metadata of each thousandth says so, that of half says "many", some are bound.
MANY = 25_000
SAYS = """case
    when n % 1000 = 7 then '{"rare": "yes", "n": {"of": 1000}}' when n % 2 = 0 then '{"many": "yes"}'
end::jsonb"""
FILL = f"""
    insert into ledger.account (name, currency_id, opening_balance, balance, metadata)
    select 'n ' || n, 1, 0, 0, {SAYS} from generate_series(1, {MANY}) as n;
    insert into ledger.payment (
        currency_id, buyer_account_id, seller_account_id, amount, buyer_balance, seller_balance, metadata
    )
    select 1, 1 + n % 100, 101 + n % 100, 1, 0, 0, {SAYS} from generate_series(1, {MANY}) as n;
    insert into ledger.hold (currency_id, buyer_account_id, seller_account_id, amount, expires_at, metadata)
    select 1, 1 + n % 100, 101 + n % 100, 1, now() + interval '1 day', {SAYS} from generate_series(1, {MANY}) as n;
"""
RARE = [*range(7, MANY, 1000)]


@pytest.fixture(scope="module")
def large(cluster: str) -> Iterator[Connection]:
    for conninfo in clone(cluster, "wallet"):
        with psycopg.connect(conninfo, autocommit=True) as connection:
            connection.execute("set session_replication_role = replica")
            connection.execute(FILL)
            connection.execute("set session_replication_role = origin")
            connection.execute("vacuum analyze ledger.account, ledger.payment, ledger.hold")
            yield connection


@pytest.fixture
def indexed(large: Connection) -> Iterator[Connection]:
    large.execute(METADATA_INDEX)
    large.execute("vacuum analyze ledger.payment")
    yield large
    large.execute("drop index ledger.payment_metadata_idx")


@pytest.mark.parametrize("walk", WALKS, ids=str)
@pytest.mark.parametrize("function", LISTS)
def test_a_page_looks_at_so_many_and_says_where_to_go_on(
    large: Connection, function: str, walk: tuple[dict[str, Any], str, bool]
) -> None:
    place, side, _ = walk
    table = {"list_accounts": "account", "list_payments": "payment", "list_holds": "hold"}[function]
    asked = {"metadata": Jsonb({"n": {"of": 1000}})}
    pages: list[list[int]] = []
    more = True
    while more:
        page = rows(large, function, limit=LIMIT, **place, **asked)
        cost = Cost(large, function, limit=LIMIT, **place, **asked)
        assert cost.scanned <= {"currency"}
        # One look to find where the page ends, and one to show it. Holds: as few as may do, then ten times as many.
        assert cost.rows[table] <= 2.5 * LOOKED_AT + LIMIT
        more = bool(page) and page[-1]["more"]
        ends = [shown for shown in page if shown["amount"] is None]
        assert ends == ([page[-1 if side == "after_id" else 0]] if ends else [])
        pages.append([shown["id"] for shown in page if shown["amount"] is not None])
        place = {"order": place["order"], side: page[-1 if side == "after_id" else 0]["id"]}
    assert len(pages) == 1 + MANY // LOOKED_AT
    found = [id_ for page in (pages if side == "after_id" else pages[::-1]) for id_ in page]
    assert found == (RARE if place["order"] == "asc" else RARE[::-1])


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_with_its_index_a_page_reads_only_what_has_the_metadata(indexed: Connection, order: str) -> None:
    expected = RARE if order == "asc" else RARE[::-1]
    for asked, number in (({"rare": "yes"}, len(RARE)), ({"n": {"of": 1000}}, len(RARE)), ({"none": 1}, 0)):
        found = rows(indexed, "list_payments", limit=1000, order=order, metadata=Jsonb(asked))
        assert [payment["id"] for payment in found] == expected[:number]
        cost = Cost(indexed, "list_payments", limit=1000, order=order, metadata=Jsonb(asked))
        # Counted, counted again for the page, and shown.
        assert (cost.scanned & {"payment"}, cost.rows["payment"]) == (set(), 3 * number)
    page = rows(indexed, "list_payments", expected[3], 2, order=order, metadata=Jsonb({"rare": "yes"}))
    assert [(payment["id"], payment["more"]) for payment in page] == [(id_, True) for id_ in expected[4:6]]
    page = rows(indexed, "list_payments", None, 2, order=order, before_id=expected[3], metadata=Jsonb({"rare": "yes"}))
    assert [(payment["id"], payment["more"]) for payment in page] == [(id_, True) for id_ in expected[1:3]]
    narrower = rows(indexed, "list_payments", None, 2, order=order, max=0, metadata=Jsonb({"rare": "yes"}))
    assert narrower == []


@pytest.mark.parametrize("asked", [{"many": "yes"}, {}, {"n": {}}], ids=str)
def test_what_the_index_finds_too_often_or_not_at_all_is_looked_for_by_id(
    indexed: Connection, asked: dict[str, Any]
) -> None:
    """Without it, the pages are the same."""
    pages = [
        rows(indexed, "list_payments", after, LIMIT, metadata=Jsonb(asked)) for after in (None, MANY // 2, MANY - 5)
    ]
    assert (
        Cost(indexed, "list_payments", None, LIMIT, metadata=Jsonb(asked)).rows["payment"] <= 3 * LOOKED_AT + LIMIT + 1
    )
    with indexed.transaction(force_rollback=True):
        indexed.execute("drop index ledger.payment_metadata_idx")
        again = [
            rows(indexed, "list_payments", after, LIMIT, metadata=Jsonb(asked)) for after in (None, MANY // 2, MANY - 5)
        ]
    assert pages == again


@pytest.mark.parametrize(
    "index",
    [
        "create index payment_metadata_idx on ledger.payment (id)",
        "create index payment_metadata_idx on ledger.payment using gin ((metadata -> 'n') jsonb_path_ops)",
        "create index payment_metadata_idx on ledger.account using gin (metadata jsonb_path_ops)",
        f"{METADATA_INDEX}; update pg_index set indisvalid = false where indexrelid = 'ledger.payment_metadata_idx'::regclass",
    ],
)
def test_another_index_of_this_name_or_one_that_is_not_ready_changes_nothing(large: Connection, index: str) -> None:
    with large.transaction(force_rollback=True):
        large.execute(index)
        cost = Cost(large, "list_payments", None, LIMIT, metadata=Jsonb({"rare": "yes"}))
        assert cost.scanned & {"payment"} == set()
        assert cost.rows["payment"] <= 2 * LOOKED_AT + LIMIT


def test_a_bound_key_finds_its_own_and_is_told_nothing_of_others_by_the_index(indexed: Connection) -> None:
    rare = Jsonb({"rare": "yes"})
    # Account 8 is the buyer of all that are rare, account 10 of none, nor of any with metadata.
    for bound, expected in (([8], RARE), ([10], []), ([8, 10], RARE)):
        api_key = row(indexed, "create_api_key", str(bound), ["read"], bound)["id"]
        for page in ({}, {"limit": 1000}):
            found = rows(indexed, "list_payments", metadata=rare, api_key_id=api_key, **page)
            assert [payment["id"] for payment in found] == expected
    api_key = row(indexed, "create_api_key", "other", ["read"], [10])["id"]
    costs = [
        Cost(indexed, "list_payments", None, LIMIT, metadata=Jsonb(asked), api_key_id=api_key)
        for asked in ({"rare": "yes"}, {"none": "yes"})
    ]
    assert costs[0].rows["payment"] == costs[1].rows["payment"]
    assert costs[0].buffers == costs[1].buffers


def test_of_a_hold_or_an_account_too_a_bound_key_finds_only_its_own(keeper: Connection) -> None:
    ids = made(keeper)
    third = account(keeper, "third")
    api_key = row(keeper, "create_api_key", "key", ["read"], [ids["list_accounts"][1], third])["id"]
    assert [found["id"] for found in rows(keeper, "list_accounts", metadata=Jsonb({}), api_key_id=api_key)] == [
        ids["list_accounts"][1]
    ]
    assert len(rows(keeper, "list_holds", metadata=Jsonb({"order": 17}), api_key_id=api_key)) == 2
    api_key = row(keeper, "create_api_key", "other", ["read"], [third])["id"]
    for function in LISTS:
        assert rows(keeper, function, None, 5, metadata=Jsonb({"order": 17}), api_key_id=api_key) == []
