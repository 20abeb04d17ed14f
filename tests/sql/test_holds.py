"""A hold keeps an amount of the buyer's for a payment to the seller, and ends once: captured, voided or expired."""

from datetime import timedelta
from decimal import Decimal

import pytest

from tests.conftest import Connection
from tests.sql.calls import as_if_an_hour_ago, held, paid, refusal, refusal_of, row, rows, state
from tests.sql.test_make_payment import MOST
from tests.support import account, balance, ledger_problems

LEAST = Decimal("0.000000000000001")
COLUMNS = [
    "id",
    "currency_id",
    "amount",
    "buyer_account_id",
    "seller_account_id",
    "operation_timestamp",
    "expires_at",
    "status",
    "payment_id",
    "captured_amount",
    "description",
    "reference",
    "made_by",
    "ended_by",
    "buyer_may_void",
    "metadata",
]


@pytest.fixture
def buyer(keeper: Connection) -> int:
    return account(keeper, "buyer", 1000)


@pytest.fixture
def seller(keeper: Connection) -> int:
    return account(keeper, "seller")


@pytest.fixture
def hold(keeper: Connection, buyer: int, seller: int) -> int:
    """100 of the buyer's 1000, held for the seller."""
    return held(keeper, buyer, seller, 100, description="a room", reference="order 1")


def stored(connection: Connection, account_id: int) -> Decimal:
    """What the account's row says is held, whatever has expired since."""
    [(amount,)] = connection.execute("select held from ledger.account where id = %s", [account_id]).fetchall()
    return Decimal(amount)


def terms(connection: Connection, account_id: int) -> list[Decimal]:
    """Balance, held, available."""
    shown = row(connection, "get_account", account_id)
    return [shown["amount"], shown["held"], shown["available"]]


# Making one.


def test_it_holds_and_moves_nothing(keeper: Connection, buyer: int, seller: int) -> None:
    hold = row(keeper, "create_hold", buyer, seller, "100.50", 60, None, "a room", "order 1")
    assert list(hold) == [*COLUMNS, "replayed"]
    assert hold["expires_at"] - hold["operation_timestamp"] == timedelta(seconds=60)
    moments = ("id", "operation_timestamp", "expires_at")
    assert {name: value for name, value in hold.items() if name not in moments} == {
        "currency_id": 1,
        "amount": Decimal("100.5"),
        "buyer_account_id": buyer,
        "seller_account_id": seller,
        "status": "open",
        "payment_id": None,
        "captured_amount": None,
        "description": "a room",
        "reference": "order 1",
        "made_by": keeper.info.user,
        "ended_by": None,
        "buyer_may_void": None,
        "metadata": None,
        "replayed": None,
    }
    assert row(keeper, "get_hold", hold["id"]) == {name: hold[name] for name in COLUMNS}
    assert terms(keeper, buyer) == [1000, Decimal("100.5"), Decimal("899.5")]
    assert terms(keeper, seller) == [0, 0, 0]
    assert rows(keeper, "list_payments") == []
    assert ledger_problems(keeper) == []


def test_as_ops_type_it(ops: Connection) -> None:
    buyer, seller = account(ops, "buyer", 10), account(ops, "seller")
    [(hold, status)] = ops.execute(f"select id, status from create_hold({buyer}, {seller}, 2.5)").fetchall()
    assert status == "open"
    assert ops.execute(f"select amount, hold_id from capture_hold({hold})").fetchall() == [(Decimal("2.5"), hold)]
    [(hold,)] = ops.execute(f"select id from create_hold({buyer}, {seller}, 2.5)").fetchall()
    assert ops.execute(f"select status from void_hold({hold})").fetchall() == [("voided",)]
    assert ops.execute(f"select status from get_hold({hold})").fetchall() == [("voided",)]


def test_amounts_have_no_needless_zeros(keeper: Connection, buyer: int, seller: int) -> None:
    """However they were written, and whatever they were added up from."""
    query = f"select amount::text from wallet.create_hold({buyer}, {seller}, %s::text::numeric)"
    assert [keeper.execute(query, [text]).fetchall() for text in ("1.50", "2.500", "4e1")] == [
        [("1.5",)], [("2.5",)], [("40",)],
    ]  # fmt: skip
    row(keeper, "set_credit_limit", buyer, "0.5")
    held(keeper, buyer, seller, "0.50")
    shown = "select held::text, available::text, amount::text from"
    for query in (f"{shown} wallet.get_account({buyer})", f"{shown} wallet.list_accounts(p_name => 'buyer')"):
        assert keeper.execute(query).fetchall() == [("44.5", "956", "1000")]
    hold = held(keeper, buyer, seller, 1)
    query = f"select amount::text from wallet.capture_hold({hold}, 0.50)"
    assert keeper.execute(query).fetchall() == [("0.5",)]
    assert keeper.execute(f"select captured_amount::text from wallet.get_hold({hold})").fetchall() == [("0.5",)]


def test_it_lasts_a_week_if_nothing_else_is_asked_for(keeper: Connection, hold: int) -> None:
    made = row(keeper, "get_hold", hold)
    assert made["expires_at"] - made["operation_timestamp"] == timedelta(days=7)


@pytest.mark.parametrize("expires_in", [1, 31536000])
def test_it_lasts_from_a_second_to_a_year(keeper: Connection, buyer: int, seller: int, expires_in: int) -> None:
    made = row(keeper, "create_hold", buyer, seller, 1, expires_in)
    assert made["expires_at"] - made["operation_timestamp"] == timedelta(seconds=expires_in)


def test_what_is_held_is_not_available_to_anything_else(keeper: Connection, buyer: int, seller: int) -> None:
    held(keeper, buyer, seller, "999.5")
    sale = paid(keeper, buyer, seller, "0.5")
    paid(keeper, seller, buyer, "0.25")
    other = account(keeper, "other")
    assert terms(keeper, buyer) == [Decimal("999.75"), Decimal("999.5"), Decimal("0.25")]
    assert refusal(keeper, "make_payment", buyer, other, "0.250000000000001") == "WB006"
    assert refusal(keeper, "create_hold", buyer, other, "0.250000000000001") == "WB006"
    batch = rows(keeper, "make_payments", [buyer] * 3, [other] * 3, [Decimal(text) for text in ("0.1", "0.2", "0.15")])
    assert [outcome["error_code"] for outcome in batch] == [None, "WB006", None]
    back = paid(keeper, seller, buyer, "0.25")
    held(keeper, buyer, seller, "0.25")
    assert refusal(keeper, "refund_payment", back) == "WB023"
    assert row(keeper, "get_payment", sale)["refunded_amount"] is None
    assert ledger_problems(keeper) == []


def test_exactly_all_that_is_available_can_be_held(keeper: Connection, buyer: int, seller: int, hold: int) -> None:
    held(keeper, buyer, seller, 900)
    assert terms(keeper, buyer) == [1000, 1000, 0]
    assert refusal(keeper, "create_hold", buyer, seller, LEAST) == "WB006"


def test_on_credit(keeper: Connection, seller: int) -> None:
    empty = account(keeper, "empty")
    row(keeper, "set_credit_limit", empty, 10)
    hold = held(keeper, empty, seller, 10)
    assert terms(keeper, empty) == [0, 10, 0]
    row(keeper, "capture_hold", hold)
    assert terms(keeper, empty) == [-10, 0, 0]
    assert ledger_problems(keeper) == []


def test_a_frozen_seller_can_be_held_for_and_paid(keeper: Connection, buyer: int, seller: int) -> None:
    row(keeper, "set_account_status", seller, "frozen")
    row(keeper, "capture_hold", held(keeper, buyer, seller, 3))
    assert balance(keeper, seller) == 3


# Capturing.


def test_a_capture_is_a_payment_of_all_that_is_held(keeper: Connection, buyer: int, seller: int, hold: int) -> None:
    payment = row(keeper, "capture_hold", hold)
    assert {name: value for name, value in payment.items() if name not in ("id", "operation_timestamp")} == {
        "currency_id": 1,
        "amount": 100,
        "buyer_account_id": buyer,
        "seller_account_id": seller,
        "description": "a room",
        "reference": "order 1",
        "hold_id": hold,
        "replayed": None,
        "metadata": None,
        "buyer_balance": None,
        "seller_balance": None,
    }
    ended = row(keeper, "get_hold", hold)
    assert (ended["status"], ended["payment_id"], ended["captured_amount"]) == ("captured", payment["id"], 100)
    shown = row(keeper, "get_payment", payment["id"])
    assert (shown["hold_id"], shown["description"], shown["reference"]) == (hold, "a room", "order 1")
    assert [listed["hold_id"] for listed in rows(keeper, "list_payments")] == [hold]
    assert [line["hold_id"] for line in rows(keeper, "get_statement", seller)] == [None, hold]
    assert terms(keeper, buyer) == [900, 0, 900]
    assert balance(keeper, seller) == 100
    assert ledger_problems(keeper) == []


@pytest.mark.parametrize("part", ["60.50", "0.000000000000001", "100"])
def test_of_a_part_the_rest_is_free_again(keeper: Connection, buyer: int, hold: int, part: str) -> None:
    payment = row(keeper, "capture_hold", hold, part)
    assert payment["amount"] == Decimal(part)
    left = 1000 - Decimal(part)
    assert terms(keeper, buyer) == [left, 0, left]
    ended = row(keeper, "get_hold", hold)
    assert (ended["amount"], ended["captured_amount"]) == (100, Decimal(part))
    assert refusal(keeper, "capture_hold", hold, 1) == "WC031"


def test_it_is_there_to_be_captured_when_nothing_else_is_left(keeper: Connection, buyer: int, seller: int) -> None:
    hold, other = held(keeper, buyer, seller, 400), held(keeper, buyer, seller, 500)
    paid(keeper, buyer, account(keeper, "other"), 100)
    assert terms(keeper, buyer) == [900, 900, 0]
    row(keeper, "capture_hold", hold)
    assert terms(keeper, buyer) == [500, 500, 0]
    row(keeper, "capture_hold", other)
    assert terms(keeper, buyer) == [0, 0, 0]


def test_a_capture_that_is_refused_leaves_the_hold_open(keeper: Connection, buyer: int, seller: int, hold: int) -> None:
    row(keeper, "set_account_status", seller, "closed")
    assert refusal(keeper, "capture_hold", hold) == "WB015"
    row(keeper, "set_account_status", seller, "active")
    row(keeper, "set_account_status", buyer, "frozen")
    assert refusal(keeper, "capture_hold", hold) == "WB010"
    assert terms(keeper, buyer) == [1000, 100, 900]
    row(keeper, "set_account_status", buyer, "active")
    assert row(keeper, "capture_hold", hold)["amount"] == 100


# Several captures.


def ended(connection: Connection, hold_id: int) -> list[object]:
    """The status of a hold, its last capture, and what its captures have paid."""
    shown = row(connection, "get_hold", hold_id)
    [listed] = [listed for listed in rows(connection, "list_holds") if listed["id"] == hold_id]
    assert {name: listed[name] for name in COLUMNS} == shown
    return [shown["status"], shown["payment_id"], shown["captured_amount"]]


def test_a_capture_that_is_not_final_keeps_the_rest_held(
    keeper: Connection, buyer: int, seller: int, hold: int
) -> None:
    first = row(keeper, "capture_hold", hold, "30.50", final=False)
    assert (first["amount"], first["hold_id"], first["reference"]) == (Decimal("30.5"), hold, "order 1")
    assert terms(keeper, buyer) == [Decimal("969.5"), Decimal("69.5"), 900]
    assert ended(keeper, hold) == ["open", first["id"], Decimal("30.5")]
    assert row(keeper, "get_hold", hold)["ended_by"] is None
    second = row(keeper, "capture_hold", hold, 20, final=False)
    assert terms(keeper, buyer) == [Decimal("949.5"), Decimal("49.5"), 900]
    assert ended(keeper, hold) == ["open", second["id"], Decimal("50.5")]
    assert refusal(keeper, "capture_hold", hold, "49.500000000000001", final=False) == "WB032"
    assert refusal(keeper, "make_payment", buyer, seller, "900.000000000000001") == "WB006"
    last = row(keeper, "capture_hold", hold, 40)
    assert terms(keeper, buyer) == [Decimal("909.5"), 0, Decimal("909.5")]
    assert ended(keeper, hold) == ["captured", last["id"], Decimal("90.5")]
    assert row(keeper, "get_hold", hold)["ended_by"] == keeper.info.user
    assert [payment["hold_id"] for payment in rows(keeper, "list_payments")] == [hold] * 3
    assert refusal(keeper, "capture_hold", hold, 1, final=False) == "WC031"
    assert refusal(keeper, "void_hold", hold) == "WC031"
    assert ledger_problems(keeper) == []


@pytest.mark.parametrize("final", [True, False, None])
def test_without_an_amount_it_is_all_that_is_left(keeper: Connection, buyer: int, hold: int, final: bool) -> None:
    """And then the hold is captured, be the capture final or not."""
    row(keeper, "capture_hold", hold, "0.5", final=False)
    rest = row(keeper, "capture_hold", hold, final=final)
    assert rest["amount"] == Decimal("99.5")
    assert ended(keeper, hold) == ["captured", rest["id"], 100]
    assert terms(keeper, buyer) == [900, 0, 900]
    assert refusal(keeper, "capture_hold", hold, final=False) == "WC031"
    assert ledger_problems(keeper) == []


def test_null_says_nothing_else_than_the_defaults(keeper: Connection, buyer: int, hold: int) -> None:
    row(keeper, "capture_hold", hold, 30, final=None, up_to=None)
    assert ended(keeper, hold)[0] == "captured"
    assert terms(keeper, buyer) == [970, 0, 970]
    assert keeper.execute("select up_to from ledger.payment").fetchall() == [(None,)]


def test_a_capture_that_takes_all_that_is_left_is_the_last_one(keeper: Connection, buyer: int, hold: int) -> None:
    row(keeper, "capture_hold", hold, "60.0", final=False)
    row(keeper, "capture_hold", hold, "40.00", final=False)
    assert ended(keeper, hold)[0] == "captured"
    assert terms(keeper, buyer) == [900, 0, 900]
    assert ledger_problems(keeper) == []


def test_a_void_releases_what_captures_have_left(keeper: Connection, buyer: int, hold: int) -> None:
    part = row(keeper, "capture_hold", hold, 30, final=False)["id"]
    voided = row(keeper, "void_hold", hold)
    assert [voided[name] for name in ("status", "payment_id", "captured_amount")] == ["voided", part, 30]
    assert ended(keeper, hold) == ["voided", part, 30]
    assert terms(keeper, buyer) == [970, 0, 970]
    assert stored(keeper, buyer) == 0
    assert refusal(keeper, "capture_hold", hold) == "WC032"
    assert ledger_problems(keeper) == []


def test_an_expiry_releases_what_captures_have_left(keeper: Connection, buyer: int, seller: int, hold: int) -> None:
    other = held(keeper, buyer, seller, 7)
    part = row(keeper, "capture_hold", hold, 30, final=False)["id"]
    as_if_an_hour_ago(keeper, hold)
    [totals] = [found for found in rows(keeper, "get_totals") if found["currency_id"] == 1]
    assert totals["held"] == 7
    assert terms(keeper, buyer) == [970, 7, 963]
    assert rows(keeper, "list_accounts", name="buyer")[0]["held"] == 7
    assert stored(keeper, buyer) == 77  # no call has written
    assert ended(keeper, hold) == ["expired", part, 30]
    paid(keeper, buyer, seller, 963)
    assert stored(keeper, buyer) == 7
    assert ended(keeper, hold) == ["expired", part, 30]
    assert refusal(keeper, "capture_hold", hold) == "WC033"
    row(keeper, "void_hold", other)
    assert ledger_problems(keeper) == []


def test_the_rest_stays_held_when_nothing_else_is_left(keeper: Connection, buyer: int, seller: int, hold: int) -> None:
    row(keeper, "capture_hold", hold, 99, final=False)
    paid(keeper, buyer, account(keeper, "other"), 900)
    assert terms(keeper, buyer) == [1, 1, 0]
    assert refusal(keeper, "make_payment", buyer, seller, LEAST) == "WB006"
    assert refusal(keeper, "set_account_status", buyer, "closed") == "WC041"
    row(keeper, "capture_hold", hold)
    assert terms(keeper, buyer) == [0, 0, 0]
    assert ledger_problems(keeper) == []


def test_captures_are_refunded_each_for_itself(keeper: Connection, buyer: int, hold: int) -> None:
    parts = [row(keeper, "capture_hold", hold, amount, final=False)["id"] for amount in (30, 20)]
    assert refusal(keeper, "refund_payment", parts[1], 21) == "WB021"
    row(keeper, "refund_payment", parts[1])
    assert ended(keeper, hold) == ["open", parts[1], 50]
    assert terms(keeper, buyer) == [970, 50, 920]
    assert ledger_problems(keeper) == []


def test_one_that_was_captured_before_captures_could_be_several(keeper: Connection, hold: int) -> None:
    """The version before notes no sum, and needs none."""
    payment = row(keeper, "capture_hold", hold, 60, "key")
    keeper.execute("update ledger.hold set captured_amount = null")
    assert ended(keeper, hold) == ["captured", payment["id"], 60]
    assert row(keeper, "capture_hold", hold, 60, "key") == payment | {"replayed": True}
    assert refusal(keeper, "capture_hold", hold, 60, "key", final=False) == "WK001"
    assert ledger_problems(keeper) == []


# Of up to an amount.


def up_to(connection: Connection, payment_id: int) -> Decimal | None:
    [(amount,)] = connection.execute("select up_to from ledger.payment where id = %s", [payment_id]).fetchall()
    return None if amount is None else Decimal(amount)


def test_up_to_an_amount_it_pays_at_most_what_is_left(keeper: Connection, buyer: int, hold: int) -> None:
    less = row(keeper, "capture_hold", hold, "60.0", final=False, up_to=True)
    assert [less["amount"], up_to(keeper, less["id"])] == [60, 60]
    assert terms(keeper, buyer) == [940, 40, 900]
    assert refusal(keeper, "capture_hold", hold, 41, final=False) == "WB032"
    rest = row(keeper, "capture_hold", hold, "999.5", final=False, up_to=True)
    assert (rest["amount"], up_to(keeper, rest["id"])) == (40, Decimal("999.5"))
    assert ended(keeper, hold) == ["captured", rest["id"], 100]
    assert refusal(keeper, "capture_hold", hold, 1, up_to=True) == "WC031"
    assert ledger_problems(keeper) == []


def test_up_to_an_amount_it_is_final_unless_it_says_otherwise(keeper: Connection, buyer: int, hold: int) -> None:
    row(keeper, "capture_hold", hold, 60, up_to=True)
    assert ended(keeper, hold)[0] == "captured"
    assert terms(keeper, buyer) == [940, 0, 940]


def test_up_to_without_an_amount_has_no_effect(keeper: Connection, hold: int) -> None:
    payment = row(keeper, "capture_hold", hold, None, "key", up_to=True)
    assert (payment["amount"], up_to(keeper, payment["id"])) == (100, None)
    assert row(keeper, "capture_hold", hold, None, "key") == payment | {"replayed": True}
    assert row(keeper, "capture_hold", hold, 100, "key") == payment | {"replayed": True}


# Voiding.


def test_a_voided_hold_frees_what_it_held(keeper: Connection, buyer: int, seller: int, hold: int) -> None:
    voided = row(keeper, "void_hold", hold)
    assert voided.pop("replayed") is None
    assert voided == row(keeper, "get_hold", hold)
    assert list(voided) == COLUMNS
    assert (voided["status"], voided["payment_id"], voided["captured_amount"]) == ("voided", None, None)
    assert terms(keeper, buyer) == [1000, 0, 1000]
    paid(keeper, buyer, seller, 1000)
    assert ledger_problems(keeper) == []


def test_whatever_the_status_of_its_accounts(keeper: Connection, buyer: int, seller: int, hold: int) -> None:
    row(keeper, "set_account_status", seller, "closed")
    row(keeper, "set_account_status", buyer, "frozen")
    assert row(keeper, "void_hold", hold)["status"] == "voided"


def test_the_holds_of_a_blocked_account_can_be_voided_and_expire(
    keeper: Connection, buyer: int, seller: int, hold: int
) -> None:
    expired, received = held(keeper, buyer, seller, 2), held(keeper, account(keeper, "other", 3), buyer, 3)
    row(keeper, "set_account_status", buyer, "blocked")
    as_if_an_hour_ago(keeper, expired)
    assert row(keeper, "void_hold", hold)["status"] == "voided"
    assert row(keeper, "void_hold", received)["status"] == "voided"
    assert row(keeper, "get_hold", expired)["status"] == "expired"
    assert terms(keeper, buyer) == [1000, 0, 1000]
    assert stored(keeper, buyer) == 0
    assert ledger_problems(keeper) == []


# Expiring.


def test_an_expired_hold_reserves_nothing(keeper: Connection, buyer: int, seller: int, hold: int) -> None:
    held(keeper, buyer, seller, 7)
    as_if_an_hour_ago(keeper, hold)
    assert row(keeper, "get_hold", hold)["status"] == "expired"
    assert terms(keeper, buyer) == [1000, 7, 993]
    [listed, _] = rows(keeper, "list_accounts")
    assert [listed["held"], listed["available"]] == [7, 993]
    assert stored(keeper, buyer) == 107  # no call has written
    assert ledger_problems(keeper) == []


def test_it_ends_when_its_time_is_over_not_later(keeper: Connection, buyer: int, seller: int, hold: int) -> None:
    """Compared with the clock, not with the transaction's beginning, which was before it was made."""
    as_if_an_hour_ago(keeper, hold, "0")
    assert refusal(keeper, "capture_hold", hold) == "WC033"
    other = held(keeper, buyer, seller, 100)
    as_if_an_hour_ago(keeper, other, "-1 minute")
    assert row(keeper, "capture_hold", other)["amount"] == 100


@pytest.mark.parametrize(
    "call",
    [
        "make_payment({buyer}, {seller}, 1000)",
        "make_payment({seller}, {buyer}, 1)",
        "make_payments(array[{buyer}], array[{seller}], array[1000])",
        "make_payments(array[{buyer}, {seller}], array[{seller}, {buyer}], array[1000, 3], p_wait => false)",
        "create_hold({buyer}, {seller}, 1000)",
        "refund_payment({back}, 1000)",
        "set_credit_limit({buyer}, 1)",
        "set_account_status({buyer}, 'frozen')",
        "void_hold({other})",
        "capture_hold({other}, 5)",
    ],
)
def test_it_frees_itself_for_whatever_touches_its_account_next(keeper: Connection, seller: int, call: str) -> None:
    """No sweeper has to run: what an account has held expires with the next call that locks it."""
    buyer, other_buyer = account(keeper, "buyer", 0), account(keeper, "other", 1005)
    paid(keeper, other_buyer, seller, 5)
    back = paid(keeper, other_buyer, buyer, 1000)
    expired = [held(keeper, buyer, seller, amount) for amount in (300, "699.5")]
    other = held(keeper, buyer, seller, "0.5") if "other" in call else None
    for hold in expired:
        as_if_an_hour_ago(keeper, hold)
    if other:
        call = call.replace(", 5)", ")")
    outcome = rows_of(keeper, call.format(buyer=buyer, seller=seller, back=back, other=other))
    assert outcome
    expected = 1000 if "create_hold" in call else 0
    assert stored(keeper, buyer) == expected
    assert terms(keeper, buyer)[1] == expected
    for hold in expired:
        assert row(keeper, "get_hold", hold)["status"] == "expired"
        [(ended,)] = keeper.execute("select ended_at = expires_at from ledger.hold where id = %s", [hold]).fetchall()
        assert ended
    assert ledger_problems(keeper) == []


def rows_of(connection: Connection, call: str) -> list[tuple[object, ...]]:
    found = connection.execute(f"select * from wallet.{call}").fetchall()
    if "make_payments" in call:
        assert all(found_row[-2] is None for found_row in found)
    return found


def test_one_that_has_been_freed_stays_expired(keeper: Connection, buyer: int, seller: int, hold: int) -> None:
    """Even if the clock goes back."""
    as_if_an_hour_ago(keeper, hold)
    paid(keeper, buyer, seller, 1000)
    as_if_an_hour_ago(keeper, hold, "-1 hour")
    assert row(keeper, "get_hold", hold)["status"] == "expired"
    assert refusal(keeper, "capture_hold", hold) == "WC033"
    assert refusal(keeper, "void_hold", hold) == "WC033"
    assert ledger_problems(keeper) == []


def test_a_closed_account_was_held_by_nothing(keeper: Connection, seller: int) -> None:
    empty = account(keeper, "empty")
    row(keeper, "set_credit_limit", empty, 5)
    hold = held(keeper, empty, seller, 5)
    assert refusal(keeper, "set_account_status", empty, "closed") == "WC042"
    as_if_an_hour_ago(keeper, hold)
    assert row(keeper, "set_account_status", empty, "closed")["status"] == "closed"
    assert ledger_problems(keeper) == []


# Under a key.


def test_a_hold_asked_for_again_is_returned_as_it_is_now(keeper: Connection, buyer: int, seller: int) -> None:
    asked = (buyer, seller, 100, 60, "key", "d", "r")
    first = row(keeper, "create_hold", *asked)
    assert row(keeper, "create_hold", *asked) == first | {"replayed": True}
    payment = row(keeper, "capture_hold", first["id"], 60)
    row(keeper, "set_account_status", buyer, "frozen")
    assert row(keeper, "create_hold", *asked) == first | {
        "replayed": True,
        "status": "captured",
        "payment_id": payment["id"],
        "captured_amount": 60,
        "ended_by": keeper.info.user,
    }
    assert terms(keeper, buyer) == [940, 0, 940]


def test_a_hold_of_a_year_is_the_same_in_whatever_time_zone(keeper: Connection, buyer: int, seller: int) -> None:
    keeper.execute("set local time zone 'Europe/Berlin'")
    asked = (buyer, seller, 100, 31536000, "key")
    first = row(keeper, "create_hold", *asked)
    keeper.execute("set local time zone 'America/New_York'")
    assert row(keeper, "create_hold", *asked) == first | {"replayed": True}


def test_an_expired_hold_asked_for_again_is_not_made_again(keeper: Connection, buyer: int, seller: int) -> None:
    asked = (buyer, seller, 100, 3600 - 1, "key")
    hold = held(keeper, *asked[:3], expires_in=3599, idempotency_key="key")
    as_if_an_hour_ago(keeper, hold)
    keeper.execute("set local session_replication_role = replica")
    keeper.execute("update ledger.hold set expires_at = operation_timestamp + interval '3599 seconds'")
    keeper.execute("set local session_replication_role = origin")
    again = row(keeper, "create_hold", *asked)
    assert (again["id"], again["status"], again["replayed"]) == (hold, "expired", True)
    assert terms(keeper, buyer) == [1000, 0, 1000]


def test_a_capture_asked_for_again_is_returned_and_nothing_moves(
    keeper: Connection, buyer: int, seller: int, hold: int
) -> None:
    first = row(keeper, "capture_hold", hold, 60, "key")
    row(keeper, "set_account_status", buyer, "frozen")
    assert row(keeper, "capture_hold", hold, "60.0", "key") == first | {"replayed": True}
    assert balance(keeper, seller) == 60
    assert refusal(keeper, "capture_hold", hold, None, "key") == "WK001"
    assert refusal(keeper, "capture_hold", hold, 60, "another") == "WC031"


def test_all_of_it_with_and_without_its_amount_is_the_same(keeper: Connection, buyer: int, seller: int) -> None:
    for first, again in ((None, 5), (5, None)):
        hold = held(keeper, buyer, seller, 5)
        made = row(keeper, "capture_hold", hold, first, f"key {first}")
        assert row(keeper, "capture_hold", hold, again, f"key {first}") == made | {"replayed": True}


def test_each_of_several_captures_is_returned_as_it_was_asked_for(
    keeper: Connection, buyer: int, seller: int, hold: int
) -> None:
    """Whether it was final is part of it, and an omitted amount means what was left then."""
    first = row(keeper, "capture_hold", hold, 30, "first", final=False)
    second = row(keeper, "capture_hold", hold, 20, "second", final=False)
    third = row(keeper, "capture_hold", hold, 10, "third")
    before = terms(keeper, buyer)
    for key, payment, final in (("first", first, False), ("second", second, False), ("third", third, True)):
        asked = payment["amount"]
        assert row(keeper, "capture_hold", hold, asked, key, final=final) == payment | {"replayed": True}
        assert refusal(keeper, "capture_hold", hold, asked, key, final=not final) == "WK001"
        assert refusal(keeper, "capture_hold", hold, asked + 1, key, final=final) == "WK001"
        assert refusal(keeper, "capture_hold", hold, None, key, final=final) == "WK001"
    assert terms(keeper, buyer) == before == [940, 0, 940]
    assert ledger_problems(keeper) == []


def test_while_the_hold_is_open_a_capture_was_not_final(keeper: Connection, hold: int) -> None:
    first = row(keeper, "capture_hold", hold, 30, "first", final=False)
    assert refusal(keeper, "capture_hold", hold, 30, "first") == "WK001"
    row(keeper, "void_hold", hold)
    assert refusal(keeper, "capture_hold", hold, 30, "first") == "WK001"
    assert row(keeper, "capture_hold", hold, 30, "first", final=False) == first | {"replayed": True}


@pytest.mark.parametrize("amount", [None, 70])
@pytest.mark.parametrize("final", [True, False])
def test_of_a_capture_that_left_nothing_either_fits(
    keeper: Connection, hold: int, amount: int | None, final: bool
) -> None:
    row(keeper, "capture_hold", hold, 30, final=False)
    last = row(keeper, "capture_hold", hold, amount, "last", final=final)
    for asked in (None, 70, "70.0"):
        for again in (True, False, None):
            assert row(keeper, "capture_hold", hold, asked, "last", final=again) == last | {"replayed": True}
    assert refusal(keeper, "capture_hold", hold, 70, "last", up_to=True) == "WK001"


def test_up_to_is_part_of_what_a_key_stands_for(keeper: Connection, buyer: int, hold: int) -> None:
    less = row(keeper, "capture_hold", hold, 60, "less", final=False, up_to=True)
    rest = row(keeper, "capture_hold", hold, 60, "rest", final=False, up_to=True)
    assert [less["amount"], rest["amount"]] == [60, 40]
    for key, payment in (("less", less), ("rest", rest)):
        asked = (hold, "60.00", key)
        assert row(keeper, "capture_hold", *asked, final=False, up_to=True) == payment | {"replayed": True}
        assert refusal(keeper, "capture_hold", *asked, final=False) == "WK001"
        assert refusal(keeper, "capture_hold", hold, 61, key, final=False, up_to=True) == "WK001"
        assert refusal(keeper, "capture_hold", hold, payment["amount"], key, final=False) == "WK001"
        assert refusal(keeper, "capture_hold", hold, None, key, final=False, up_to=True) == "WK001"
    assert terms(keeper, buyer) == [900, 0, 900]


def test_whether_the_buyer_may_void_is_part_of_what_a_key_stands_for(
    keeper: Connection, buyer: int, seller: int
) -> None:
    may = row(keeper, "create_hold", buyer, seller, 5, idempotency_key="may", buyer_may_void=True)
    may_not = row(keeper, "create_hold", buyer, seller, 5, idempotency_key="may not", buyer_may_void=False)
    assert [may["buyer_may_void"], may_not["buyer_may_void"]] == [True, None]
    for key, hold, same, others in (("may", may, [True], [False, None]), ("may not", may_not, [False, None], [True])):
        for asked in same:
            again = row(keeper, "create_hold", buyer, seller, 5, idempotency_key=key, buyer_may_void=asked)
            assert again == hold | {"replayed": True}
        for asked in others:
            terms_asked = {"idempotency_key": key, "buyer_may_void": asked}
            assert refusal(keeper, "create_hold", buyer, seller, 5, **terms_asked) == "WK002"
    assert [listed["buyer_may_void"] for listed in rows(keeper, "list_holds")] == [True, None]
    assert row(keeper, "void_hold", may["id"])["buyer_may_void"] is True


def test_a_key_of_a_hold_is_free_for_its_capture(keeper: Connection, buyer: int, seller: int) -> None:
    """Holds have their keys and payments have theirs: a caller may go through with one key."""
    hold = held(keeper, buyer, seller, 5, idempotency_key="order 1")
    payment = row(keeper, "capture_hold", hold, None, "order 1")
    assert payment["replayed"] is None
    assert row(keeper, "capture_hold", hold, None, "order 1") == payment | {"replayed": True}
    assert row(keeper, "create_hold", buyer, seller, 5, 604800, "order 1")["id"] == hold


def test_a_key_belongs_to_one_hold(keeper: Connection, buyer: int, seller: int) -> None:
    one, other = held(keeper, buyer, seller, 5), held(keeper, buyer, seller, 5)
    row(keeper, "capture_hold", one, None, "key")
    assert refusal(keeper, "capture_hold", other, None, "key") == "WK001"
    assert row(keeper, "get_hold", other)["status"] == "open"


# Refusals. {hold} holds 100 under the key 'used', for a minute; {captured}, {voided} and {expired} have ended; the others
# are accounts, and holds of theirs, named after what is in the way.
REFUSALS = [
    ("get_hold(null)", "WN003"),
    ("get_hold(0)", "WN003"),
    ("get_hold(9223372036854775807)", "WN003"),
    ("void_hold(null)", "WN003"),
    ("void_hold(-1)", "WN003"),
    ("capture_hold(null)", "WN003"),
    ("capture_hold(0, -1, '')", "WN003"),
    ("capture_hold(9223372036854775807)", "WN003"),
    ("create_hold({buyer}, {seller}, 1, 60, '')", "WB008"),
    ("create_hold({buyer}, {seller}, 1, 60, repeat('k', 256))", "WB008"),
    ("create_hold({buyer}, {seller}, 101, 60, 'used')", "WK002"),
    ("create_hold({buyer}, {seller}, 100, 61, 'used')", "WK002"),
    ("create_hold({buyer}, {seller}, 100, null, 'used')", "WK002"),
    ("create_hold({buyer}, {seller}, 100, 60, 'used', 'd')", "WK002"),
    ("create_hold({buyer}, {seller}, 100, 60, 'used', null, 'r')", "WK002"),
    ("create_hold({buyer}, {rich}, 100, 60, 'used')", "WK002"),
    ("create_hold({rich}, {seller}, 100, 60, 'used')", "WK002"),
    ("create_hold({buyer}, {buyer}, 100, 60, 'used')", "WK002"),
    ("create_hold({buyer}, {buyer}, 1)", "WB001"),
    ("create_hold({buyer}, {seller}, null)", "WB002"),
    ("create_hold({buyer}, {seller}, 0)", "WB002"),
    ("create_hold({buyer}, {seller}, -1)", "WB002"),
    ("create_hold({buyer}, {seller}, 'NaN')", "WB003"),
    ("create_hold({buyer}, {seller}, 'Infinity')", "WB003"),
    ("create_hold({buyer}, {seller}, 1e15)", "WB003"),
    ("create_hold({buyer}, {seller}, 0.0000000000000001)", "WB003"),
    ("create_hold({buyer}, {seller}, 1, 60, null, '')", "WB016"),
    ("create_hold({buyer}, {seller}, 1, 60, null, repeat('d', 256))", "WB016"),
    ("create_hold({buyer}, {seller}, 1, 60, null, null, '')", "WB017"),
    ("create_hold({buyer}, {seller}, 1, 60, null, null, repeat('r', 256))", "WB017"),
    ("create_hold({buyer}, {seller}, 1, null)", "WB031"),
    ("create_hold({buyer}, {seller}, 1, 0)", "WB031"),
    ("create_hold({buyer}, {seller}, 1, -1)", "WB031"),
    ("create_hold({buyer}, {seller}, 1, 31536001)", "WB031"),
    ("create_hold({buyer}, {seller}, 1, 9223372036854775807)", "WB031"),
    ("create_hold({buyer}, 0, 1)", "WB004"),
    ("create_hold(null, {seller}, 1)", "WB004"),
    ("create_hold({buyer}, {cents}, 1)", "WB005"),
    ("create_hold({cents}, {cents_too}, 0.001)", "WB009"),
    ("create_hold({frozen}, {seller}, 1)", "WB010"),
    ("create_hold({closed}, {seller}, 1)", "WB014"),
    ("create_hold({buyer}, {closed}, 1)", "WB015"),
    ("create_hold({blocked}, {seller}, 1)", "WB042"),
    ("create_hold({buyer}, {blocked}, 1)", "WB043"),
    ("create_hold({buyer}, {seller}, 900.000000000000001)", "WB006"),
    ("create_hold({buyer}, {rich}, 1)", "WB007"),
    ("capture_hold({hold}, null, '')", "WB008"),
    ("capture_hold({hold}, null, repeat('k', 256))", "WB008"),
    ("capture_hold({hold}, 100, 'of a payment')", "WK001"),
    ("capture_hold({captured}, 50, 'key')", "WK001"),
    ("capture_hold({hold}, 0)", "WB002"),
    ("capture_hold({hold}, -1)", "WB002"),
    ("capture_hold({hold}, 'NaN')", "WB003"),
    ("capture_hold({hold}, 'Infinity')", "WB003"),
    ("capture_hold({hold}, 0.0000000000000001)", "WB003"),
    ("capture_hold({hold}, 1e15)", "WB003"),
    ("capture_hold({hold}, 100.000000000000001)", "WB032"),
    ("capture_hold({captured})", "WC031"),
    ("capture_hold({voided})", "WC032"),
    ("capture_hold({expired})", "WC033"),
    ("void_hold({captured})", "WC031"),
    ("void_hold({voided})", "WC032"),
    ("void_hold({expired})", "WC033"),
    ("capture_hold({of_cents}, 0.001)", "WB009"),
    ("capture_hold({of_frozen})", "WB010"),
    ("capture_hold({for_closed})", "WB015"),
    ("capture_hold({of_blocked})", "WB042"),
    ("capture_hold({for_blocked})", "WB043"),
    ("capture_hold({for_full})", "WB007"),
    # Of two reasons, the one that is checked first:
    ("create_hold({buyer}, {buyer}, -1, 0, '')", "WB008"),
    ("create_hold({buyer}, {seller}, 1, 0, null, null, '')", "WB017"),
    ("create_hold(0, {seller}, 1, 0)", "WB031"),
    ("capture_hold({captured}, -1, '')", "WB008"),
    ("capture_hold({captured}, -1)", "WC031"),
    ("capture_hold({expired}, 101)", "WC033"),
    ("capture_hold({of_cents}, 10.001)", "WB032"),
    ("capture_hold({of_frozen}, 2)", "WB032"),
    # Of up to an amount:
    ("capture_hold({hold}, 0, p_up_to => true)", "WB002"),
    ("capture_hold({hold}, -1, p_up_to => true)", "WB002"),
    ("capture_hold({hold}, 'NaN', p_up_to => true)", "WB003"),
    ("capture_hold({hold}, 'Infinity', p_up_to => true)", "WB003"),
    ("capture_hold({hold}, 1e15, p_up_to => true)", "WB003"),
    ("capture_hold({of_cents}, 0.001, p_up_to => true)", "WB009"),
    ("capture_hold({of_cents}, 10.001, p_up_to => true)", "WB009"),
    ("capture_hold({of_frozen}, 2, p_up_to => true)", "WB010"),
    ("capture_hold({captured}, -1, p_up_to => true)", "WC031"),
    ("capture_hold({captured}, 40, 'key', p_up_to => true)", "WK001"),
    ("capture_hold({captured}, 40, 'key', p_final => false)", "WK001"),
    ("create_hold({buyer}, {seller}, 100, 60, 'used', p_buyer_may_void => true)", "WK002"),
]


@pytest.mark.parametrize(("call", "code"), REFUSALS)
def test_refusals(keeper: Connection, buyer: int, seller: int, call: str, code: str) -> None:
    cents = row(keeper, "create_currency", "CENT", 2)["id"]
    names = {
        "buyer": buyer,
        "seller": seller,
        "rich": account(keeper, "rich", MOST),
        "frozen": account(keeper, "frozen", 1),
        "closed": account(keeper, "closed"),
        "blocked": account(keeper, "blocked", 1),
        "cents": account(keeper, "cents", 10, cents),
        "cents_too": account(keeper, "cents too", 0, cents),
    }
    for _ in range(3):
        paid(keeper, names["rich"], buyer, 100)
    for status in ("captured", "voided", "expired"):
        names[status] = held(keeper, buyer, seller, 50)
    row(keeper, "capture_hold", names["captured"], 40, "key")
    row(keeper, "void_hold", names["voided"])
    as_if_an_hour_ago(keeper, names["expired"])
    paid(keeper, buyer, seller, 100, idempotency_key="of a payment")
    paid(keeper, buyer, names["rich"], 160)
    names["hold"] = held(keeper, buyer, seller, 100, expires_in=60, idempotency_key="used")
    names["of_cents"] = held(keeper, names["cents"], names["cents_too"], 10)
    names["of_frozen"] = held(keeper, names["frozen"], seller, 1)
    names["for_closed"] = held(keeper, names["rich"], names["closed"], 1)
    names["of_blocked"] = held(keeper, names["blocked"], seller, 1)
    names["for_blocked"] = held(keeper, names["rich"], names["blocked"], 1)
    paid(keeper, account(keeper, "donor", 1), seller, 1)
    names["for_full"] = held(keeper, seller, names["rich"], 1)
    paid(keeper, seller, names["rich"], 140)
    row(keeper, "set_account_status", names["frozen"], "frozen")
    row(keeper, "set_account_status", names["closed"], "closed")
    row(keeper, "set_account_status", names["blocked"], "blocked")
    before = [*state(keeper), stored(keeper, buyer), holds(keeper)]
    assert refusal_of(keeper, call.format(**names)) == code
    assert [*state(keeper), stored(keeper, buyer), holds(keeper)] == before
    assert ledger_problems(keeper) == []


def holds(connection: Connection) -> list[tuple[object, ...]]:
    return connection.execute("select * from ledger.hold order by id").fetchall()
