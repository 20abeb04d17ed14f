"""get_account(), list_accounts() and list_payments() show what there is, in order."""

from decimal import Decimal

import psycopg
import pytest

from tests.conftest import Connection
from tests.support import account

REFUSALS = [("0", "WN001"), ("null", "WN001"), ("9223372036854775807", "WN001")]


@pytest.mark.parametrize(("arguments", "code"), REFUSALS)
def test_refusals(ops: Connection, arguments: str, code: str) -> None:
    with pytest.raises(psycopg.Error) as refusal, ops.transaction():
        ops.execute(f"select * from wallet.get_account({arguments})")
    assert refusal.value.sqlstate == code


def test_an_account_has_its_currency_s_name_and_its_balance(ops: Connection) -> None:
    identity = account(ops, "saver", "12.50", 3)
    assert ops.execute("select * from get_account(%s)", [identity]).fetchall() == [
        (identity, "saver", 3, "BTC", Decimal("12.5"), "active", 0, Decimal("12.5"), 0, None)
    ]


def test_accounts_are_listed_by_id(ops: Connection) -> None:
    assert ops.execute("select * from list_accounts()").fetchall() == []
    identities = [account(ops, name, 1, currency) for name, currency in (("z", 4), ("a", 1), ("m", 2))]
    assert ops.execute("select id, name, currency_name from list_accounts()").fetchall() == [
        (identities[0], "z", "ETC"),
        (identities[1], "a", "USD"),
        (identities[2], "m", "RUB"),
    ]


def test_payments_are_listed_oldest_first(ops: Connection) -> None:
    assert ops.execute("select * from list_payments()").fetchall() == []
    buyer, seller = account(ops, "buyer", 10), account(ops, "seller")
    for amount in (3, 1, 2):
        ops.execute("select make_payment(%s, %s, %s)", [buyer, seller, amount])
    rows = ops.execute(
        "select currency_id, currency_name, amount, buyer_account_id, seller_account_id from list_payments()"
    ).fetchall()
    assert rows == [(1, "USD", amount, buyer, seller) for amount in (3, 1, 2)]


def test_a_new_database_has_the_four_currencies(admin: Connection) -> None:
    assert admin.execute("select id, name from ledger.currency order by id").fetchall() == [
        (1, "USD"),
        (2, "RUB"),
        (3, "BTC"),
        (4, "ETC"),
    ]
