"""create_account() creates an account with a name, an opening balance and a currency, or refuses."""

from decimal import Decimal

import psycopg
import pytest

from tests.conftest import Connection
from tests.support import account, balance


def test_it_returns_the_account(ops: Connection) -> None:
    cursor = ops.execute("select * from wallet.create_account('buyer', 1000.50, 2)")
    assert cursor.description is not None
    names = ["id", "name", "currency_id", "currency_name", "amount", "replayed", "metadata"]
    assert [column.name for column in cursor.description] == names
    [(*row, replayed, metadata)] = cursor.fetchall()
    assert metadata is None
    assert (*row[1:], replayed) == ("buyer", 2, "RUB", Decimal("1000.5"), None)
    assert ops.execute("select * from wallet.get_account(%s)", [row[0]]).fetchall() == [
        (*row, "active", 0, Decimal("1000.5"), 0, None)
    ]


def test_no_amount_is_0(ops: Connection) -> None:
    assert balance(ops, account(ops, "empty", None)) == 0


@pytest.mark.parametrize("amount", ["0", "0.000000000000001", "999999999999999.999999999999999"])
def test_every_amount_in_range_is_kept_to_the_last_digit(ops: Connection, amount: str) -> None:
    assert balance(ops, account(ops, "exact", amount)) == Decimal(amount)


@pytest.mark.parametrize("name", ["a", "ä" * 255, "a b", "'; drop schema ledger cascade; --", "\U0001f4b0"])
def test_a_name_has_1_to_255_characters(ops: Connection, name: str) -> None:
    identity = account(ops, name)
    assert ops.execute("select name from wallet.get_account(%s)", [identity]).fetchall() == [(name,)]


def test_the_opening_balance_is_recorded(admin: Connection) -> None:
    buyer, seller = account(admin, "buyer", 10), account(admin, "seller", 5)
    admin.execute("select wallet.make_payment(%s, %s, 3)", [buyer, seller])
    assert admin.execute("select opening_balance, balance from ledger.account order by id").fetchall() == [
        (10, 7),
        (5, 8),
    ]


REFUSALS = [
    ("null, 1, 1", "WB011"),
    ("'', 1, 1", "WB011"),
    ("repeat('x', 256), 1, 1", "WB011"),
    ("'new', -0.000000000000001, 1", "WB012"),
    ("'new', '-Infinity', 1", "WB012"),
    ("'new', 'NaN', 1", "WB003"),
    ("'new', 'Infinity', 1", "WB003"),
    ("'new', 1e15, 1", "WB003"),
    ("'new', 0.0000000000000001, 1", "WB003"),
    ("'new', 1, null", "WB013"),
    ("'new', 1, 0", "WB013"),
    ("'new', 1, 5", "WB013"),
    ("'new', 1, 9223372036854775807", "WB013"),
    ("'taken', 1, 1", "WC011"),
    ("'taken', 1, 2", "WC011"),
    # Of two reasons, the one that is checked first:
    ("'', -1, 0", "WB011"),
    ("'taken', -1, 0", "WB012"),
    ("'taken', 1, 0", "WB013"),
]


@pytest.mark.parametrize(("arguments", "code"), REFUSALS)
def test_refusals(ops: Connection, arguments: str, code: str) -> None:
    account(ops, "taken")
    with pytest.raises(psycopg.Error) as refusal, ops.transaction():
        ops.execute(f"select * from wallet.create_account({arguments})")
    assert refusal.value.sqlstate == code
    assert ops.execute("select count(*) from wallet.list_accounts()").fetchall() == [(1,)]


def test_names_differ_by_case(ops: Connection) -> None:
    assert account(ops, "Buyer") != account(ops, "buyer")
