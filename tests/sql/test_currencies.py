"""Currencies, and how many decimals their amounts may have."""

from decimal import Decimal

import psycopg
import pytest

from tests.conftest import Connection
from tests.sql.calls import held, paid, refusal, refusal_of, row, rows
from tests.support import account, balance, ledger_problems


def test_there_are_four_with_all_decimals(ops: Connection) -> None:
    assert rows(ops, "list_currencies") == [
        {"id": number, "name": name, "scale": 15} for number, name in enumerate(("USD", "RUB", "BTC", "ETC"), 1)
    ]


def test_a_new_one_is_listed_last(ops: Connection) -> None:
    made = row(ops, "create_currency", "EUR", 2)
    assert made.pop("replayed") is None
    assert {name: made[name] for name in ("name", "scale")} == {"name": "EUR", "scale": 2}
    assert rows(ops, "list_currencies")[4:] == [made]
    assert [summary["currency_name"] for summary in rows(ops, "summarize_ledger")][4:] == ["EUR"]


def test_as_ops_type_it(ops: Connection) -> None:
    assert ops.execute("select name, scale from create_currency('JPY', 0)").fetchall() == [("JPY", 0)]


@pytest.mark.parametrize("name", ["a", "ä" * 16, "a b", "usd", "1"])
@pytest.mark.parametrize("scale", [0, 15])
def test_names_of_1_to_16_characters_and_scales_of_0_to_15(ops: Connection, name: str, scale: int) -> None:
    made = row(ops, "create_currency", name, scale)
    assert (made["name"], made["scale"]) == (name, scale)
    assert row(ops, "create_account", "one", 1, made["id"])["currency_name"] == name


@pytest.mark.parametrize(
    ("scale", "finest", "too_fine"),
    [
        (0, "1", "0.1"),
        (0, "1.000", "1.5"),
        (2, "0.01", "0.001"),
        (2, "0.010", "1.999"),
        (14, "0.00000000000001", "0.000000000000001"),
    ],
)
def test_amounts_have_no_more_decimals_than_their_currency(
    ops: Connection, scale: int, finest: str, too_fine: str
) -> None:
    currency = row(ops, "create_currency", "EUR", scale)["id"]
    assert refusal(ops, "create_account", "one", too_fine, currency) == "WB009"
    one, other = account(ops, "one", 100, currency), account(ops, "other", finest, currency)
    assert refusal(ops, "make_payment", one, other, too_fine) == "WB009"
    batch = rows(ops, "make_payments", [one, one], [other, other], [Decimal(too_fine), Decimal(finest)])
    assert [outcome["error_code"] for outcome in batch] == ["WB009", None]
    assert refusal(ops, "create_hold", one, other, too_fine) == "WB009"
    hold = held(ops, one, other, 10)
    assert refusal(ops, "capture_hold", hold, too_fine) == "WB009"
    row(ops, "capture_hold", hold, finest)
    sale = paid(ops, one, other, 10)
    assert refusal(ops, "refund_payment", sale, too_fine) == "WB009"
    row(ops, "refund_payment", sale, finest)
    assert refusal(ops, "set_credit_limit", one, too_fine) == "WB009"
    row(ops, "set_credit_limit", one, finest)
    assert balance(ops, one) + balance(ops, other) == 100 + Decimal(finest)
    assert ledger_problems(ops) == []


# Another scale.


def scale_of(connection: Connection, currency: int) -> set[int]:
    """The scales that the currency and its accounts have: one, or something is wrong."""
    query = """select scale from ledger.currency where id = %(id)s
               union select currency_scale from ledger.account where currency_id = %(id)s"""
    return {scale for (scale,) in connection.execute(query, {"id": currency}).fetchall()}


def test_a_scale_that_is_changed_holds_for_all_amounts_from_then_on(keeper: Connection) -> None:
    currency = row(keeper, "create_currency", "EUR", 2)["id"]
    one, other = account(keeper, "one", 100, currency), account(keeper, "other", 0, currency)
    unlike = account(keeper, "unlike", "0.001")
    for scale, finest, too_fine in ((3, "0.001", "0.0001"), (15, "0.000000000000001", None)):
        assert row(keeper, "set_currency_scale", currency, scale) == {
            "id": currency, "name": "EUR", "scale": scale, "replayed": None,
        }  # fmt: skip
        assert rows(keeper, "list_currencies")[4]["scale"] == scale
        assert scale_of(keeper, currency) == {scale}
        if too_fine:
            assert refusal(keeper, "make_payment", one, other, too_fine) == "WB009"
            assert refusal(keeper, "create_account", "new", too_fine, currency) == "WB009"
            assert refusal(keeper, "set_credit_limit", one, too_fine) == "WB009"
            batch = rows(keeper, "make_payments", [one, one], [other, other], [Decimal(too_fine), Decimal(finest)])
            assert [outcome["error_code"] for outcome in batch] == ["WB009", None]
        paid(keeper, one, other, finest)
        account(keeper, f"with {scale} decimals", finest, currency)
    assert refusal(keeper, "set_currency_scale", currency, 14) == "WC052"
    assert scale_of(keeper, currency) == {15}
    assert scale_of(keeper, 1) == {15}
    assert row(keeper, "get_account", unlike)["amount"] == Decimal("0.001")
    assert ledger_problems(keeper) == []


def test_a_smaller_scale_is_one_that_all_amounts_have(keeper: Connection) -> None:
    one, other = account(keeper, "one", "100.50"), account(keeper, "other")
    account(keeper, "of another currency", "0.001", 2)
    row(keeper, "refund_payment", paid(keeper, one, other, "7.250"))
    assert refusal(keeper, "set_currency_scale", 1, 1) == "WC052"
    assert row(keeper, "set_currency_scale", 1, 2)["scale"] == 2
    assert scale_of(keeper, 1) == {2}
    assert scale_of(keeper, 2) == {15}
    assert refusal(keeper, "make_payment", one, other, "0.001") == "WB009"
    paid(keeper, one, other, "0.01")
    unused = row(keeper, "create_currency", "JPY", 15)["id"]
    assert row(keeper, "set_currency_scale", unused, 0)["scale"] == 0
    assert ledger_problems(keeper) == []


# What happens to accounts {one}, which has 100, and {other} of a currency: each leaves an amount with 3 decimals.
FINE = {
    "an opening balance": ["create_account('new', 0.001, {currency})"],
    "a payment": ["make_payment({one}, {other}, 0.001)"],
    "payments that add up to less": ["make_payment({one}, {other}, 0.005)", "make_payment({one}, {other}, 0.995)"],
    "a batch": ["make_payments(array[{one}, {one}], array[{other}, {other}], array[0.001, 0.999])"],
    "a refund": ["make_payment({one}, {other}, 1)", "refund_payment({payment}, 0.001)"],
    "a credit limit": ["set_credit_limit({one}, 0.001)"],
    "a past credit limit": ["set_credit_limit({one}, 0.001)", "set_credit_limit({one}, 0)"],
    "a hold": ["create_hold({one}, {other}, 0.001)"],
    "a hold that was voided": ["create_hold({one}, {other}, 0.001)", "void_hold({hold})"],
    "a hold that was captured in part": ["create_hold({one}, {other}, 1.001)", "capture_hold({hold}, 1)"],
    "a capture": ["create_hold({one}, {other}, 1)", "capture_hold({hold}, 0.999)"],
}


@pytest.mark.parametrize("what", FINE)
def test_no_amount_is_left_with_more_decimals(keeper: Connection, what: str) -> None:
    currency = row(keeper, "create_currency", "EUR", 5)["id"]
    names = {
        "currency": currency,
        "one": account(keeper, "one", 100, currency),
        "other": account(keeper, "other", 0, currency),
    }
    for call in FINE[what]:
        [(names["payment"], names["hold"])] = keeper.execute(
            "select (select max(id) from ledger.payment), (select max(id) from ledger.hold)"
        ).fetchall()
        keeper.execute(f"select wallet.{call.format(**names)}")
    for scale in (2, 0):
        assert refusal(keeper, "set_currency_scale", currency, scale) == "WC052"
        assert scale_of(keeper, currency) == {5}
    assert row(keeper, "set_currency_scale", currency, 3)["scale"] == 3
    assert scale_of(keeper, currency) == {3}
    assert ledger_problems(keeper) == []


def test_a_change_of_a_scale_is_recorded_and_the_same_scale_is_none(keeper: Connection) -> None:
    api_key = row(keeper, "create_api_key", "admin", ["admin"])["id"]
    for scale in (2, 2, 3):
        row(keeper, "set_currency_scale", 3, scale, api_key_id=api_key)
    row(keeper, "set_currency_scale", 3, 1)
    query = "select currency_id, scale, api_key_id, database_role from ledger.currency_change order by id"
    assert keeper.execute(query).fetchall() == [
        (3, 2, api_key, keeper.info.user), (3, 3, api_key, keeper.info.user), (3, 1, None, keeper.info.user)
    ]  # fmt: skip


def test_a_repeated_call_gets_its_answer_whatever_the_scale_is_now(ops: Connection) -> None:
    assert row(ops, "set_currency_scale", 1, 2, "key")["replayed"] is None
    row(ops, "set_currency_scale", 1, 4)
    assert row(ops, "set_currency_scale", 1, 2, "key") == {"id": 1, "name": "USD", "scale": 2, "replayed": True}
    assert rows(ops, "list_currencies")[0]["scale"] == 4


def test_a_scale_that_some_amount_does_not_have_waits_for_nothing(admin: Connection, database: str) -> None:
    account(admin, "one", "0.001")
    with psycopg.connect(database) as holder:
        holder.execute("select from ledger.account for update")
        admin.execute("set lock_timeout = '1ms'")
        assert refusal(admin, "set_currency_scale", 1, 2) == "WC052"
        row(admin, "set_currency_scale", 1, 15)


# 'USD' is taken. {cents} has an amount of 2 decimals.
REFUSALS = [
    ("create_currency(null, 2)", "WB051"),
    ("create_currency('', 2)", "WB051"),
    ("create_currency(repeat('x', 17), 2)", "WB051"),
    ("create_currency('EUR', null)", "WB052"),
    ("create_currency('EUR', -1)", "WB052"),
    ("create_currency('EUR', 16)", "WB052"),
    ("create_currency('EUR', 9223372036854775807)", "WB052"),
    ("create_currency('USD', 15)", "WC051"),
    ("create_currency('', -1)", "WB051"),
    ("create_currency('USD', 16)", "WB052"),
    ("set_currency_scale(1, null)", "WB052"),
    ("set_currency_scale(1, -1)", "WB052"),
    ("set_currency_scale(1, 16)", "WB052"),
    ("set_currency_scale(1, 9223372036854775807)", "WB052"),
    ("set_currency_scale(1, -9223372036854775808)", "WB052"),
    ("set_currency_scale(null, 2)", "WN005"),
    ("set_currency_scale(0, 2)", "WN005"),
    ("set_currency_scale(9223372036854775807, 2)", "WN005"),
    ("set_currency_scale({cents}, 1)", "WC052"),
    ("set_currency_scale({cents}, 0)", "WC052"),
    ("set_currency_scale({cents}, 3, '')", "WB008"),
    ("set_currency_scale(0, 16)", "WB052"),
    # of an account: the currency's rule comes after whether there is one, and before the name's
    ("create_account('one', 0.001, 0)", "WB013"),
    ("create_account('taken', 0.001, {cents})", "WB009"),
]


@pytest.mark.parametrize(("call", "code"), REFUSALS)
def test_refusals(ops: Connection, call: str, code: str) -> None:
    cents = row(ops, "create_currency", "CENT", 2)["id"]
    account(ops, "taken", "1.25", cents)
    before = rows(ops, "list_currencies")
    assert refusal_of(ops, call.format(cents=cents)) == code
    assert rows(ops, "list_currencies") == before
    assert len(rows(ops, "list_accounts")) == 1
