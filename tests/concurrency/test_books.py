"""The proof that the other tests end with: it sees each kind of damage, so that its silence means something."""

import pytest

from tests.conftest import Connection
from tests.support import account, broken_books


@pytest.fixture
def books(admin: Connection) -> Connection:
    for name in ("one", "two", "idle"):
        account(admin, name, 100)
    for buyer, seller in ((1, 2), (2, 1), (1, 2)):
        admin.execute("select wallet.make_payment(%s, %s, 5)", [buyer, seller])
    assert broken_books(admin) == []
    admin.execute("alter table ledger.payment disable trigger user")
    admin.execute("alter table ledger.account disable trigger user")
    return admin


@pytest.mark.parametrize(
    "damage",
    [
        "update ledger.account set balance = balance + 1 where id = 1",
        "update ledger.account set balance = balance + 1 where id = 3",
        "update ledger.account set opening_balance = opening_balance + 1 where id = 2",
        "update ledger.payment set amount = amount + 1 where id = 2",
        "update ledger.payment set buyer_balance = buyer_balance + 1 where id = 2",
        "update ledger.payment set seller_balance = seller_balance + 1 where id = 1",
        "update ledger.payment set buyer_balance = buyer_balance + 1 where id = 3",
        "delete from ledger.payment where id = 2",
        "delete from ledger.payment where id = 3",
    ],
)
def test_it_sees(books: Connection, damage: str) -> None:
    books.execute(damage)
    assert broken_books(books) != []
