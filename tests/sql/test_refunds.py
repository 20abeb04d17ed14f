"""refund_payment() gives a payment back, in all or in parts that together never exceed it, or refuses."""

from decimal import Decimal

import pytest

from tests.conftest import Connection
from tests.sql.calls import held, paid, refusal, refusal_of, row, rows, state
from tests.sql.test_make_payment import MOST
from tests.support import account, balance, ledger_problems

LEAST = Decimal("0.000000000000001")


@pytest.fixture
def buyer(ops: Connection) -> int:
    return account(ops, "buyer", 1000)


@pytest.fixture
def seller(ops: Connection) -> int:
    return account(ops, "seller")


@pytest.fixture
def sale(ops: Connection, buyer: int, seller: int) -> int:
    """A payment of 100 by the buyer to the seller."""
    return paid(ops, buyer, seller, 100, description="a chair", reference="order 1")


def test_it_is_a_payment_of_the_seller_to_the_buyer(ops: Connection, buyer: int, seller: int, sale: int) -> None:
    refund = row(ops, "refund_payment", sale, Decimal("30.50"), None, "a leg is loose", "case 1")
    assert refund["id"] > sale
    assert {name: value for name, value in refund.items() if name not in ("id", "operation_timestamp")} == {
        "currency_id": 1,
        "amount": Decimal("30.5"),
        "buyer_account_id": seller,
        "seller_account_id": buyer,
        "description": "a leg is loose",
        "reference": "case 1",
        "refunded_payment_id": sale,
        "replayed": None,
        "metadata": None,
        "buyer_balance": None,
        "seller_balance": None,
    }
    assert [balance(ops, id_) for id_ in (buyer, seller)] == [Decimal("930.5"), Decimal("69.5")]
    assert ledger_problems(ops) == []


def test_as_ops_type_it(ops: Connection, buyer: int, sale: int) -> None:
    assert ops.execute(f"select amount from refund_payment({sale})").fetchall() == [(100,)]
    assert balance(ops, buyer) == 1000


def test_both_payments_tell_of_it(ops: Connection, sale: int) -> None:
    assert row(ops, "get_payment", sale)["refunded_amount"] is None
    first, second = row(ops, "refund_payment", sale, "30.50"), row(ops, "refund_payment", sale, 20)
    assert row(ops, "get_payment", sale)["refunded_amount"] == Decimal("50.5")
    shown = row(ops, "get_payment", first["id"])
    assert (shown["refunded_payment_id"], shown["refunded_amount"]) == (sale, None)
    assert [payment["refunded_payment_id"] for payment in rows(ops, "list_payments")] == [None, sale, sale]
    assert [line["refunded_payment_id"] for line in rows(ops, "get_statement", first["buyer_account_id"])] == [
        None, None, sale, sale,
    ]  # fmt: skip
    assert second["id"] > first["id"]


def test_the_description_and_the_reference_of_the_sale_are_not_those_of_its_refund(ops: Connection, sale: int) -> None:
    refund = row(ops, "refund_payment", sale)
    assert (refund["description"], refund["reference"]) == (None, None)


def test_parts_that_sum_up_exactly_and_not_one_unit_more(ops: Connection, buyer: int, sale: int) -> None:
    for part in ("33.333333333333333", "33.333333333333333", "33.333333333333333"):
        row(ops, "refund_payment", sale, part)
    assert refusal(ops, "refund_payment", sale, "0.000000000000002") == "WB021"
    row(ops, "refund_payment", sale, LEAST)
    assert row(ops, "get_payment", sale)["refunded_amount"] == 100
    assert balance(ops, buyer) == 1000
    assert refusal(ops, "refund_payment", sale, LEAST) == "WB021"
    assert refusal(ops, "refund_payment", sale) == "WB021"
    assert ledger_problems(ops) == []


def test_without_an_amount_it_is_all_that_is_left(ops: Connection, sale: int) -> None:
    assert row(ops, "refund_payment", sale, "99.9")["amount"] == Decimal("99.9")
    assert row(ops, "refund_payment", sale)["amount"] == Decimal("0.1")


def test_amounts_have_no_needless_zeros(ops: Connection, sale: int) -> None:
    for part in ("1.50", "2.500"):
        row(ops, "refund_payment", sale, part)
    assert ops.execute(f"select refunded_amount::text from get_payment({sale})").fetchall() == [("4",)]
    assert ops.execute(f"select amount::text from refund_payment({sale})").fetchall() == [("96",)]


def test_refunds_of_one_payment_do_not_count_for_another(ops: Connection, buyer: int, seller: int, sale: int) -> None:
    other = paid(ops, buyer, seller, 100)
    row(ops, "refund_payment", sale)
    assert row(ops, "refund_payment", other)["amount"] == 100


def test_a_plain_payment_back_is_no_refund(ops: Connection, buyer: int, seller: int, sale: int) -> None:
    paid(ops, seller, buyer, 100)
    assert row(ops, "get_payment", sale)["refunded_amount"] is None
    assert refusal(ops, "refund_payment", sale) == "WB023"


def test_money_that_the_seller_has_spent_is_given_back_once_it_is_there_again(
    ops: Connection, buyer: int, seller: int, sale: int
) -> None:
    paid(ops, seller, account(ops, "supplier"), Decimal("99.5"))
    assert refusal(ops, "refund_payment", sale) == "WB023"
    assert row(ops, "refund_payment", sale, "0.5")["amount"] == Decimal("0.5")
    paid(ops, buyer, seller, 200)
    assert row(ops, "refund_payment", sale)["amount"] == Decimal("99.5")
    assert balance(ops, seller) == Decimal("100.5")


def test_a_seller_with_a_credit_limit_can_give_back_what_it_has_spent(ops: Connection, seller: int, sale: int) -> None:
    paid(ops, seller, account(ops, "supplier"), 100)
    row(ops, "set_credit_limit", seller, 100)
    row(ops, "refund_payment", sale)
    assert balance(ops, seller) == -100
    assert ledger_problems(ops) == []


def test_what_is_held_of_the_seller_is_not_given_back(ops: Connection, buyer: int, seller: int, sale: int) -> None:
    held(ops, seller, buyer, 1)
    assert refusal(ops, "refund_payment", sale) == "WB023"
    row(ops, "refund_payment", sale, 99)


def test_a_frozen_buyer_gets_its_money_back(ops: Connection, buyer: int, sale: int) -> None:
    row(ops, "set_account_status", buyer, "frozen")
    row(ops, "refund_payment", sale)
    assert balance(ops, buyer) == 1000


def test_a_captured_payment_is_refunded_like_any_other(ops: Connection, buyer: int, seller: int) -> None:
    hold = held(ops, buyer, seller, 50)
    captured = row(ops, "capture_hold", hold, 40)
    assert refusal(ops, "refund_payment", captured["id"], 41) == "WB021"
    refund = row(ops, "refund_payment", captured["id"])
    assert (refund["amount"], row(ops, "get_payment", refund["id"])["hold_id"]) == (40, None)
    assert row(ops, "get_hold", hold)["status"] == "captured"
    assert ledger_problems(ops) == []


# Under a key.


def test_asked_for_again_it_is_returned_and_nothing_moves(ops: Connection, buyer: int, sale: int) -> None:
    first = row(ops, "refund_payment", sale, 30, "key", "d", "r")
    row(ops, "refund_payment", sale, 70)
    again = row(ops, "refund_payment", sale, "30.00", "key", "d", "r")
    assert again == first | {"replayed": True}
    assert balance(ops, buyer) == 1000


def test_asked_for_again_without_an_amount_it_is_what_was_left_then(ops: Connection, sale: int) -> None:
    row(ops, "refund_payment", sale, 60)
    rest = row(ops, "refund_payment", sale, None, "rest")
    assert rest["amount"] == 40
    assert row(ops, "refund_payment", sale, None, "rest") == rest | {"replayed": True}
    assert row(ops, "refund_payment", sale, 40, "rest") == rest | {"replayed": True}


def test_all_of_it_by_its_amount_asked_for_again_without_one_is_the_same(ops: Connection, sale: int) -> None:
    all_of_it = row(ops, "refund_payment", sale, 100, "key")
    assert row(ops, "refund_payment", sale, None, "key") == all_of_it | {"replayed": True}


def test_a_part_asked_for_again_without_an_amount_is_another_request(ops: Connection, sale: int) -> None:
    row(ops, "refund_payment", sale, 30, "key")
    assert refusal(ops, "refund_payment", sale, None, "key") == "WK001"


def test_it_is_returned_whatever_has_happened_since(ops: Connection, buyer: int, seller: int, sale: int) -> None:
    first = row(ops, "refund_payment", sale, None, "key")
    row(ops, "set_account_status", seller, "closed")
    row(ops, "set_account_status", buyer, "frozen")
    assert row(ops, "refund_payment", sale, None, "key") == first | {"replayed": True}


def test_a_refused_refund_does_not_use_up_its_key(ops: Connection, sale: int) -> None:
    assert refusal(ops, "refund_payment", sale, 101, "key") == "WB021"
    assert row(ops, "refund_payment", sale, 100, "key")["replayed"] is None


def test_a_key_stands_for_one_kind_of_request(ops: Connection, buyer: int, seller: int, sale: int) -> None:
    """The same parties and amount, by a payment, a batch, a refund and a capture."""
    other_sale, hold = paid(ops, buyer, seller, 100), held(ops, buyer, seller, 5)
    row(ops, "refund_payment", sale, 5, "of a refund")
    paid(ops, seller, buyer, 5, idempotency_key="of a payment")
    row(ops, "capture_hold", held(ops, seller, buyer, 5), None, "of a capture")
    for key in ("of a payment", "of a capture"):
        assert refusal(ops, "refund_payment", sale, 5, key) == "WK001"
    assert refusal(ops, "refund_payment", other_sale, 5, "of a refund") == "WK001"
    for key in ("of a refund", "of a capture"):
        assert refusal(ops, "make_payment", seller, buyer, 5, key) == "WK001"
        batch = rows(ops, "make_payments", [seller], [buyer], [Decimal(5)], idempotency_keys=[key])
        assert [outcome["error_code"] for outcome in batch] == ["WK001"]
    back = held(ops, seller, buyer, 5)
    for key in ("of a refund", "of a payment", "of a capture"):
        assert refusal(ops, "capture_hold", back, None, key) == "WK001"
        assert refusal(ops, "capture_hold", hold, None, key) == "WK001"


# Refusals. Of {sale}, 100, {part} is given back; {done} is all given back; the names of the others say what is in the
# way. 'used' is the key of a payment of 1 back, 'part' that of {part}.
REFUSALS = [
    ("null", "WN002"),
    ("0", "WN002"),
    ("-1", "WN002"),
    ("9223372036854775807", "WN002"),
    ("{sale}, 1, ''", "WB008"),
    ("{sale}, 1, repeat('k', 256)", "WB008"),
    ("{sale}, 1, 'used'", "WK001"),
    ("{sale}, 31, 'part'", "WK001"),
    ("{sale}, 30, 'part', 'd'", "WK001"),
    ("{sale}, 30, 'part', null, 'r'", "WK001"),
    ("{part}", "WB022"),
    ("{sale}, 0", "WB002"),
    ("{sale}, -1", "WB002"),
    ("{sale}, '-Infinity'", "WB002"),
    ("{sale}, 'NaN'", "WB003"),
    ("{sale}, 'Infinity'", "WB003"),
    ("{sale}, 1e15", "WB003"),
    ("{sale}, 0.0000000000000001", "WB003"),
    ("{sale}, 1, null, ''", "WB016"),
    ("{sale}, 1, null, repeat('d', 256)", "WB016"),
    ("{sale}, 1, null, null, ''", "WB017"),
    ("{sale}, 1, null, null, repeat('r', 256)", "WB017"),
    ("{sale}, 70.000000000000001", "WB021"),
    ("{sale}, 999999999999999.999999999999999", "WB021"),
    ("{done}", "WB021"),
    ("{done}, 0.000000000000001", "WB021"),
    ("{of_cents}, 0.001", "WB009"),
    ("{of_frozen}", "WB024"),
    ("{of_closed}", "WB025"),
    ("{to_closed}", "WB026"),
    ("{of_blocked}", "WB044"),
    ("{to_blocked}", "WB045"),
    ("{spent}", "WB023"),
    ("{to_full}", "WB027"),
    # Of two reasons, the one that is checked first:
    ("0, -1, ''", "WN002"),
    ("{part}, -1, ''", "WB008"),
    ("{part}, -1", "WB022"),
    ("{part}, 'NaN', null, ''", "WB022"),
    ("{sale}, 0, 'part'", "WK001"),
    ("{sale}, 101, null, ''", "WB016"),
    ("{done}, null, null, ''", "WB016"),
    ("{of_cents}, 100.001", "WB021"),
    ("{of_frozen}, 101", "WB021"),
    ("{of_frozen}, 100", "WB024"),
    ("{of_blocked}, 101", "WB021"),
    ("{of_blocked}, 0.000000000000001", "WB044"),
]


@pytest.mark.parametrize(("arguments", "code"), REFUSALS)
def test_refusals(ops: Connection, buyer: int, seller: int, sale: int, arguments: str, code: str) -> None:
    cents = row(ops, "create_currency", "CENT", 2)["id"]
    rich, sink, from_, to = (account(ops, name, amount) for name, amount in
                             (("rich", MOST), ("sink", 0), ("frozen", 0), ("closed", 0)))  # fmt: skip
    leaver, spender, blocked = account(ops, "leaver", 1), account(ops, "spender"), account(ops, "blocked", 1)
    sales = {
        "sale": sale,
        "part": row(ops, "refund_payment", sale, 30, "part")["id"],
        "done": paid(ops, buyer, seller, 7),
        "of_cents": paid(ops, account(ops, "c", 100, cents), account(ops, "d", 0, cents), 100),
        "of_frozen": paid(ops, buyer, from_, 100),
        "of_closed": paid(ops, buyer, to, 1),
        "to_closed": paid(ops, leaver, seller, 1),
        "of_blocked": paid(ops, buyer, blocked, 1),
        "to_blocked": paid(ops, blocked, seller, 1),
        "spent": paid(ops, buyer, spender, 1),
        "to_full": paid(ops, rich, seller, 1),
    }
    row(ops, "refund_payment", sales["done"])
    for payer in (from_, to, spender):
        paid(ops, payer, sink, 1)
    paid(ops, seller, rich, 1)
    paid(ops, seller, buyer, 1, idempotency_key="used")
    row(ops, "set_account_status", from_, "frozen")
    row(ops, "set_account_status", to, "closed")
    row(ops, "set_account_status", leaver, "closed")
    row(ops, "set_account_status", blocked, "blocked")
    before = state(ops)
    assert refusal_of(ops, f"refund_payment({arguments.format(**sales)})") == code
    assert state(ops) == before
    assert ledger_problems(ops) == []
