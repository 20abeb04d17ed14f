"""The tables themselves refuse what no function should ever store, whoever writes, and never round."""

from decimal import Decimal

import psycopg
import pytest

from tests.conftest import Connection
from tests.support import account

PAYMENT = """insert into ledger.payment
    (currency_id, buyer_account_id, seller_account_id, amount, buyer_balance, seller_balance) values """
ACCOUNT = "insert into ledger.account (name, currency_id, opening_balance, balance) values "


@pytest.fixture
def ledger(admin: Connection) -> Connection:
    """Accounts 1 and 2 in USD, 3 in RUB, and a payment."""
    for name, currency in (("one", 1), ("two", 1), ("three", 2)):
        account(admin, name, 10, currency)
    admin.execute("select wallet.make_payment(1, 2, 1)")
    return admin


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        (ACCOUNT + "('x', 1, 0, -1)", psycopg.errors.CheckViolation),
        (ACCOUNT + "('x', 1, -1, 0)", psycopg.errors.CheckViolation),
        (ACCOUNT + "('x', 1, 0, 'NaN')", psycopg.errors.CheckViolation),
        (ACCOUNT + "('x', 1, 0, 'Infinity')", psycopg.errors.CheckViolation),
        (ACCOUNT + "('x', 1, 0, 1e15)", psycopg.errors.CheckViolation),
        (ACCOUNT + "('x', 1, 0, 0.0000000000000001)", psycopg.errors.CheckViolation),
        (ACCOUNT + "('x', 1, 0, null)", psycopg.errors.NotNullViolation),
        (ACCOUNT + "('', 1, 0, 0)", psycopg.errors.CheckViolation),
        (ACCOUNT + "('one', 1, 0, 0)", psycopg.errors.UniqueViolation),
        (ACCOUNT + "('x', 9, 0, 0)", psycopg.errors.ForeignKeyViolation),
        ("update ledger.account set balance = -1 where id = 1", psycopg.errors.CheckViolation),
        ("delete from ledger.account where id = 1", psycopg.errors.RestrictViolation),
        ("truncate ledger.account cascade", psycopg.errors.RestrictViolation),
        ("update ledger.account set currency_id = 2 where id = 1", psycopg.errors.RestrictViolation),
        ("update ledger.account set opening_balance = 2 where id = 1", psycopg.errors.RestrictViolation),
        (PAYMENT + "(1, 1, 1, 1, 0, 0)", psycopg.errors.CheckViolation),
        (PAYMENT + "(1, 1, 2, 0, 0, 0)", psycopg.errors.CheckViolation),
        (PAYMENT + "(1, 1, 2, -1, 0, 0)", psycopg.errors.CheckViolation),
        (PAYMENT + "(1, 1, 2, 'NaN', 0, 0)", psycopg.errors.CheckViolation),
        (PAYMENT + "(1, 1, 2, 0.0000000000000001, 0, 0)", psycopg.errors.CheckViolation),
        (PAYMENT + "(1, 1, 3, 1, 0, 0)", psycopg.errors.ForeignKeyViolation),
        (PAYMENT + "(2, 1, 2, 1, 0, 0)", psycopg.errors.ForeignKeyViolation),
        (PAYMENT + "(1, 1, 9, 1, 0, 0)", psycopg.errors.ForeignKeyViolation),
        ("update ledger.payment set amount = 2", psycopg.errors.RestrictViolation),
        ("delete from ledger.payment", psycopg.errors.RestrictViolation),
        ("truncate ledger.payment", psycopg.errors.RestrictViolation),
    ],
)
def test_refused(ledger: Connection, statement: str, error: type[psycopg.Error]) -> None:
    with pytest.raises(error):
        ledger.execute(statement)


def test_nothing_is_rounded_on_its_way_into_a_table(ledger: Connection) -> None:
    ledger.execute("update ledger.account set balance = 123456789012345.123456789012345 where id = 1")
    assert ledger.execute("select balance from ledger.account where id = 1").fetchall() == [
        (Decimal("123456789012345.123456789012345"),)
    ]
