"""Currencies, and how many decimals their amounts may have."""

from decimal import Decimal

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


# 'USD' is taken.
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
    # of an account: the currency's rule comes after whether there is one, and before the name's
    ("create_account('one', 0.001, 0)", "WB013"),
    ("create_account('taken', 0.001, {cents})", "WB009"),
]


@pytest.mark.parametrize(("call", "code"), REFUSALS)
def test_refusals(ops: Connection, call: str, code: str) -> None:
    cents = row(ops, "create_currency", "CENT", 2)["id"]
    account(ops, "taken")
    before = rows(ops, "list_currencies")
    assert refusal_of(ops, call.format(cents=cents)) == code
    assert rows(ops, "list_currencies") == before
    assert len(rows(ops, "list_accounts")) == 1
