"""The pages of each list, forwards and backwards and in either order, are the whole list: no row is missing, none comes
twice. Held against random data."""

import random
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, NamedTuple

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.conftest import Connection, clone
from tests.sql.calls import Row, as_if_an_hour_ago, at, held, paid, refusal, row, rows
from tests.support import account

HOURS = [f"2020-01-01 {hour:02}:00:00+00" for hour in range(24)]
EDGES = [-(2**63), -1, 0, 1, 2**63 - 1]
ORDERS = ("asc", "desc")
METADATA_INDEX = """create index payment_metadata_idx on ledger.payment using gin (metadata jsonb_path_ops)
    where metadata is not null"""


class Ledger(NamedTuple):
    connection: Connection
    rng: random.Random
    accounts: list[int]
    payments: list[int]
    holds: list[int]


def fill(connection: Connection, rng: random.Random) -> Ledger:
    """Accounts, and what happens among them at random: payments whose times go back and forth, refunds, holds of every
    status, and changes of what the accounts may."""
    accounts = [
        int(row(connection, "create_account", f"{'ab'[n % 2]}{n}", 10_000, 1, metadata=Jsonb({"n": n % 2}))["id"])
        for n in range(6)
    ]
    payments: list[int] = []
    holds: list[int] = []
    for _ in range(90):
        buyer, seller = rng.sample(accounts, 2)
        amount, reference = rng.randint(1, 9), rng.choice([None, "x", "y"])
        kind = rng.choice(["pay", "pay", "refund", "hold", "capture", "void", "limit", "status"])
        match kind:
            case "pay":
                metadata = rng.choice([None, Jsonb({"n": amount % 2, "of": {"x": ["y"]}})])
                payments.append(paid(connection, buyer, seller, amount, reference=reference, metadata=metadata))
            case "refund" if payments:
                payments.append(int(row(connection, "refund_payment", payments[0], "0.001")["id"]))
            case "hold":
                metadata = rng.choice([None, Jsonb({"n": amount % 2})])
                holds.append(held(connection, buyer, seller, amount, reference=reference, metadata=metadata))
            case "capture" | "void" if holds:
                hold = rng.choice(holds)
                if row(connection, "get_hold", hold)["status"] != "open":
                    continue
                if kind == "capture":
                    for _ in range(2):
                        row(connection, "capture_hold", hold, Decimal("0.1"), final=False)
                row(connection, f"{kind}_hold", hold)
            case "limit":
                row(connection, "set_credit_limit", buyer, amount)
            case "status":
                row(connection, "set_account_status", accounts[0], "active")
    for limit in range(1, 5):
        row(connection, "set_credit_limit", accounts[1], limit)
    for hold in holds:
        if row(connection, "get_hold", hold)["status"] == "open" and rng.random() < 0.3:
            as_if_an_hour_ago(connection, hold)
    payments = [payment["id"] for payment in rows(connection, "list_payments")]
    for payment in payments:
        at(connection, payment, rng.choice(HOURS))
    return Ledger(connection, rng, accounts, payments, holds)


@pytest.fixture(scope="module", params=[1, 2])
def ledger(cluster: str, request: pytest.FixtureRequest) -> Iterator[Ledger]:
    """The second one has the optional index on the metadata of payments."""
    for conninfo in clone(cluster, "wallet"):
        with psycopg.connect(conninfo) as connection:
            if request.param == 2:
                connection.execute(METADATA_INDEX)
            yield fill(connection, random.Random(request.param))


def some(ledger: Ledger, function: str) -> dict[str, Any]:
    """Filters at random, and perhaps an API key that is bound to accounts."""
    rng, accounts = ledger.rng, ledger.accounts

    def one(*values: Any) -> Any:
        return rng.choice(values)

    filters: dict[str, dict[str, Any]] = {
        "list_accounts": {"name_prefix": one("a", "b", ""), "currency": "USD", "status": one("active", "frozen"),
                          "metadata": one(Jsonb({"n": 1}), Jsonb({}))},
        "list_payments": {
            "account_id": one(*accounts), "buyer_account_id": one(*accounts), "seller_account_id": one(*accounts),
            "currency": "1", "from": one(*HOURS), "to": one(*HOURS), "min": one(1, 3), "max": one(7, 9), "reference": "x",
            "refunded_payment_id": ledger.payments[0], "hold_id": one(*ledger.holds),
            "metadata": one(Jsonb({"n": 1}), Jsonb({"of": {"x": ["y"]}}), Jsonb({"n": 2})),
        },
        "list_holds": {
            "account_id": one(*accounts), "status": one("open", "captured", "voided", "expired"), "reference": "x",
            "expires_before": "infinity", "metadata": one(Jsonb({"n": 1}), Jsonb({})),
        },
        "get_statement": {"from": one(*HOURS), "to": one(*HOURS)},
        "list_account_changes": {},
    }  # fmt: skip
    number = rng.choice([0, 1, 1, 2, 3])
    names = sorted(filters[function])
    chosen = {name: filters[function][name] for name in rng.sample(names, min(number, len(names)))}
    if function in NEEDS_ACCOUNT:
        return chosen | {"account_id": one(*accounts)}
    if one(True, False, False):
        bound = rng.sample(accounts, rng.randint(1, 3))
        name = str(rng.random())
        chosen["api_key_id"] = row(ledger.connection, "create_api_key", name, ["read"], bound)["id"]
    return chosen


LISTS = ["list_accounts", "list_payments", "list_holds", "get_statement", "list_account_changes"]
NEEDS_ACCOUNT = ("get_statement", "list_account_changes")


def number_of(shown: Row) -> int:
    return int(next(iter(shown.values())))


class Reader:
    """A list with filters: its rows without `more`, and what `more` says. Of a statement, without the opening row."""

    def __init__(self, ledger: Ledger, function: str, filters: dict[str, Any]) -> None:
        self.connection, self.function, self.filters = ledger.connection, function, filters

    def __call__(self, **page: Any) -> tuple[list[Row], bool]:
        found = rows(self.connection, self.function, **self.filters, **page)
        more = {shown.pop("more") for shown in found}
        assert len(more) <= 1
        if self.function == "get_statement":
            opening, *found = found
            self.check_opening(opening, found)
        return found, more == {True}

    def check_opening(self, opening: Row, lines: list[Row]) -> None:
        """It is the balance before the oldest line of the page, whatever the order."""
        assert {name for name, value in opening.items() if value is not None} == {"balance"}
        balance = opening["balance"]
        for line in sorted(lines, key=number_of):
            balance += line["amount"]
            assert line["balance"] == balance

    def walk(self, begin: dict[str, Any], limit: int, order: str) -> list[list[Row]]:
        """Pages, one after another; backwards if the beginning is a row to be before."""
        [(side, _)] = begin.items()
        pages = []
        while True:
            page, more = self(limit=limit, order=order, **begin)
            assert len(page) <= limit
            assert page not in pages
            pages.append(page)
            if not more:
                return pages
            begin = {side: number_of(page[-1 if side == "after_id" else 0])}


@pytest.mark.parametrize("function", LISTS)
def test_pages_in_either_direction_are_the_whole_in_either_order(ledger: Ledger, function: str) -> None:
    sizes = set()
    for _ in range(25):
        read = Reader(ledger, function, some(ledger, function))
        upwards, more = read()
        assert not more
        sizes.add(min(len(upwards), 5))
        assert len({number_of(shown) for shown in upwards}) == len(upwards)
        assert read(order="desc") == (upwards[::-1], False)
        for order, whole in (("asc", upwards), ("desc", upwards[::-1])):
            limit = ledger.rng.choice([1, 2, 3, 5, 1000])
            assert [line for page in read.walk({"after_id": None}, limit, order) for line in page] == whole
            if not whole:
                continue
            last = number_of(whole[-1])
            back = read.walk({"before_id": last}, limit, order)
            assert [line for page in back[::-1] for line in page] == whole[:-1]
            # Any row is a place to go on from, in both directions.
            for place in ledger.rng.sample(range(len(whole)), min(len(whole), 4)):
                cursor = number_of(whole[place])
                after, before = whole[place + 1 :], whole[:place]
                assert read(after_id=cursor, limit=limit, order=order) == (after[:limit], len(after) > limit)
                assert read(before_id=cursor, limit=limit, order=order) == (before[-limit:], len(before) > limit)
                assert read(after_id=cursor, order=order) == (after, False)
                end = ledger.rng.randrange(len(whole))
                between = whole[place + 1 : end]
                bounds = {"after_id": cursor, "before_id": number_of(whole[end])}
                assert read(**bounds, limit=limit, order=order) == (between[:limit], len(between) > limit)
                assert read(**bounds, order=order) == (between, False)
    assert 5 in sizes


@pytest.mark.parametrize("function", LISTS)
def test_a_cursor_may_be_any_number(ledger: Ledger, function: str) -> None:
    """It need not be that of a row."""
    read = Reader(ledger, function, {"account_id": 2} if function in NEEDS_ACCOUNT else {})
    upwards, _ = read()
    for low in (None, *EDGES, number_of(upwards[1])):
        for high in (None, *EDGES, number_of(upwards[2])):
            part = [
                shown
                for shown in upwards
                if (low is None or number_of(shown) > low) and (high is None or number_of(shown) < high)
            ]
            for order, after, before, found in (("asc", low, high, part), ("desc", high, low, part[::-1])):
                got, more = read(after_id=after, before_id=before, limit=2, order=order)
                shown = found[-2:] if after is None and before is not None else found[:2]
                assert (got, more) == (shown, len(found) > 2)


def test_a_cursor_may_be_any_number_by_time(ledger: Ledger) -> None:
    """It then stands for the nearest row that the page does not have. If there is none, the page has no such bound."""
    read = Reader(ledger, "list_payments", {"from": HOURS[0]})
    whole, _ = read()
    first, last = (
        next(n for n, shown in enumerate(whole) if shown["id"] == id_)
        for id_ in ledger.payments[:: len(ledger.payments) - 1]
    )
    for low, high in ((-(2**63), 2**63 - 1), (0, last + 1000)):
        assert read(after_id=low) == read(after_id=low, before_id=high) == (whole, False)
        assert (
            read(after_id=high, order="desc")
            == read(after_id=high, before_id=low, order="desc")
            == (whole[::-1], False)
        )
        assert read(before_id=high, limit=2) == (whole[-2:], True)
        assert read(before_id=low, limit=1000) == (whole[:first], False)
        assert read(after_id=high) == (whole[last + 1 :], False)


@pytest.mark.parametrize("order", ORDERS)
def test_while_rows_are_added_those_that_were_there_come_once(ledger: Ledger, order: str) -> None:
    """Newest first, none of the new ones comes: a reader of the newest rows is not overtaken."""
    one, two = ledger.accounts[1:3]
    for function, filters in (
        ("list_accounts", {}), ("list_payments", {}), ("list_payments", {"account_id": one}),
        ("list_payments", {"reference": "x"}), ("list_holds", {}), ("get_statement", {"account_id": one}),
        ("list_account_changes", {"account_id": one}),
    ):  # fmt: skip
        read = Reader(ledger, function, filters)
        with ledger.connection.transaction(force_rollback=True):
            whole, _ = read(order=order)
            found: list[Row] = []
            after, more = None, True
            while more:
                page, more = read(after_id=after, limit=2, order=order)
                found += page
                after = number_of(page[-1])
                if len(found) <= len(whole):  # it would never end
                    account(ledger.connection, f"new {function} {after}")
                    paid(ledger.connection, one, two, 1, reference="x")
                    held(ledger.connection, one, two, 1, reference="x")
                    row(ledger.connection, "set_credit_limit", one, 1000 + len(found))
            numbers = [number_of(shown) for shown in found]
            assert numbers[: len(whole)] == [number_of(shown) for shown in whole]
            assert numbers == sorted(set(numbers), reverse=order == "desc")
            assert (len(numbers) > len(whole)) == (order == "asc")


def test_the_captures_of_a_hold(ledger: Ledger) -> None:
    captured = {payment["id"]: payment["hold_id"] for payment in rows(ledger.connection, "list_payments")}
    assert len({*captured.values()}) > 1
    for hold in (*ledger.holds, 0, -(2**63), 2**63 - 1):
        expected = [payment for payment, of in captured.items() if of == hold]
        assert len(expected) in (0, 3)
        for limit in (None, 1):
            found = rows(ledger.connection, "list_payments", None, limit, hold_id=hold)
            assert [payment["id"] for payment in found] == expected[:limit]
        found = rows(ledger.connection, "list_payments", hold_id=hold, max=0)
        assert found == []


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"order": ""}, "WB064"),
    ({"order": "DESC"}, "WB064"),
    ({"order": "desc "}, "WB064"),
    ({"order": None}, "WB064"),
    ({"before_id": 5}, "WB065"),
    ({"before_id": 0, "order": "desc"}, "WB065"),
    # Of two reasons, the one that is checked first:
    ({"limit": 0, "order": "up"}, "WB061"),
    ({"before_id": 5, "order": "up"}, "WB064"),
]


@pytest.mark.parametrize("function", LISTS)
@pytest.mark.parametrize(("page", "code"), REFUSED, ids=str)
def test_refusals(ledger: Ledger, function: str, page: dict[str, Any], code: str) -> None:
    filters = {"account_id": 1} if function in NEEDS_ACCOUNT else {}
    assert refusal(ledger.connection, function, **filters, **page) == code
