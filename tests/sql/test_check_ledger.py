"""check_ledger() names every account and every payment that something is wrong with, and none on a healthy ledger.

The other tests end with it: its silence means something because it sees each kind of damage here.
"""

import os
import subprocess
import sys
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.conftest import Connection
from tests.support import PROJECT, account

GAP = "The balance after this payment does not follow from the one before it"


@pytest.fixture
def books(admin: Connection) -> Connection:
    """Accounts 1 and 2 (USD) pay each other in payments 1 to 3, 3 is idle, 4 is in RUB; and nothing protects them."""
    for name, currency in (("one", 1), ("two", 1), ("idle", 1), ("roubles", 2)):
        account(admin, name, 100, currency)
    for number, (buyer, seller) in enumerate(((1, 2), (2, 1), (1, 2))):
        admin.execute("select wallet.make_payment(%s, %s, 5, %s)", [buyer, seller, f"key {number}"])
    assert problems(admin) == []
    admin.execute("set session_replication_role = replica")  # no trigger, no foreign key
    for table in ("account", "payment"):
        constraints = admin.execute(
            "select conname from pg_constraint where conrelid = %s::regclass and contype in ('c', 'u')",
            [f"ledger.{table}"],
        ).fetchall()
        for (name,) in constraints:
            admin.execute(f"alter table ledger.{table} drop constraint {name} cascade")
    admin.execute("drop index ledger.payment_idempotency_key_key")
    return admin


def problems(connection: Connection) -> list[tuple[Any, ...]]:
    return connection.execute("select account_id, payment_id, problem from wallet.check_ledger()").fetchall()


def test_none_on_an_empty_ledger(ops: Connection) -> None:
    assert problems(ops) == []


# Each damage, and all that is wrong then.
DAMAGES: list[tuple[str, list[tuple[Any, ...]]]] = [
    (
        "update ledger.account set balance = balance + 1 where id = 1",
        [
            (1, None, "The balance is 96; opening balance, plus received, minus paid, is 95"),
        ],
    ),
    (
        "update ledger.account set balance = balance - 0.000000000000001 where id = 3",
        [
            (3, None, "The balance is 99.999999999999999; opening balance, plus received, minus paid, is 100"),
        ],
    ),
    (
        "update ledger.account set opening_balance = opening_balance + 1 where id = 2",
        [(2, 1, GAP), (2, None, "The balance is 105; opening balance, plus received, minus paid, is 106")],
    ),
    (
        "update ledger.payment set amount = amount + 1 where id = 2",
        [
            (1, 2, GAP),
            (1, None, "The balance is 95; opening balance, plus received, minus paid, is 96"),
            (2, 2, GAP),
            (2, None, "The balance is 105; opening balance, plus received, minus paid, is 104"),
        ],
    ),
    ("update ledger.payment set buyer_balance = buyer_balance + 1 where id = 2", [(2, 2, GAP)]),
    ("update ledger.payment set seller_balance = seller_balance + 1 where id = 1", [(2, 1, GAP)]),
    (
        "update ledger.payment set buyer_balance = buyer_balance + 1 where id = 3",
        [(1, 3, GAP)],
    ),
    (
        "delete from ledger.payment where id = 2",
        [
            (1, 3, GAP),
            (1, None, "The balance is 95; opening balance, plus received, minus paid, is 90"),
            (2, 3, GAP),
            (2, None, "The balance is 105; opening balance, plus received, minus paid, is 110"),
        ],
    ),
    (
        "delete from ledger.payment where id = 3",
        [
            (1, None, "The balance is 95; opening balance, plus received, minus paid, is 100"),
            (2, None, "The balance is 105; opening balance, plus received, minus paid, is 100"),
        ],
    ),
    (
        "update ledger.account set balance = -1, opening_balance = -1 where id = 3",
        [(3, None, "The balance is -1, the credit limit 0, and 0 is held"), (3, None, "The opening balance is -1, below zero")],
    ),
    ("delete from ledger.account where id = 2", [(None, n, f"There is no account of the {who}") for n, who in ((1, "seller"), (2, "buyer"), (3, "seller"))]),
    ("update ledger.payment set currency_id = 2 where id = 2", [(None, 2, "The buyer's currency is another one")]),
    ("update ledger.account set currency_id = 2 where id = 2", [(None, n, f"The {who}'s currency is another one") for n, who in ((1, "seller"), (2, "buyer"), (3, "seller"))]),
    ("update ledger.account set currency_id = 99 where id = 3", [(3, None, "There is no such currency")]),
    ("update ledger.payment set idempotency_key = 'key 0' where id = 3", [(None, n, "Another payment has the same idempotency key") for n in (1, 3)]),
    ("insert into ledger.payment overriding system value select 4, 1, 3, 3, 0, 100, 100", [(None, 4, "Buyer and seller are the same")]),
    ("insert into ledger.payment overriding system value select 4, 1, 1, 2, 0, 95, 105", [(None, 4, "The amount is not above zero")]),
    (
        "insert into ledger.payment overriding system value values (4, 1, 3, 2, 200, -100, 305), (5, 1, 2, 3, 200, 105, 100)",
        [(3, 4, "The balance after it is -100, and the credit limit was 0")],
    ),
    (
        """update ledger.account set opening_balance = -10, balance = -5 where id = 3;
           update ledger.account set balance = 90 where id = 1;
           insert into ledger.payment overriding system value values (4, 1, 1, 3, 5, 90, -5)""",
        [
            (3, None, "The balance is -5, the credit limit 0, and 0 is held"),
            (3, None, "The opening balance is -10, below zero"),
            (3, 4, "The balance after it is -5, and the credit limit was 0"),
        ],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("damage", "found"), DAMAGES)
def test_each_damage_is_seen(books: Connection, damage: str, found: list[tuple[Any, ...]]) -> None:
    books.execute(damage)
    assert sorted(problems(books), key=str) == sorted(found, key=str)


def test_it_names_the_first_payment_that_does_not_follow(books: Connection) -> None:
    books.execute(
        "update ledger.payment set buyer_balance = 0 where id = 1; update ledger.payment set buyer_balance = 0 where id = 3"
    )
    assert (1, 1, GAP) in problems(books)
    assert (1, 3, GAP) not in problems(books)


def test_it_reads_one_moment_and_waits_for_nobody(admin: Connection, database: str) -> None:
    buyer, seller = account(admin, "buyer", 10), account(admin, "seller")
    admin.execute("set lock_timeout = '1ms'")
    with psycopg.connect(database) as other:
        other.execute("select wallet.make_payment(%s, %s, 1)", [buyer, seller])
        assert problems(admin) == []


def test_the_sums_of_each_currency(ops: Connection) -> None:
    one, two = account(ops, "one", "0.5"), account(ops, "two", 99)
    account(ops, "three", 7, 2)
    ops.execute("select wallet.make_payment(%s, %s, 9)", [two, one])
    assert ops.execute("select * from wallet.summarize_ledger()").fetchall() == [
        (1, "USD", 2, 1, Decimal("99.5"), Decimal("99.5")),
        (2, "RUB", 1, 0, 7, 7),
        (3, "BTC", 0, 0, 0, 0),
        (4, "ETC", 0, 0, 0, 0),
    ]


# The command.


def check(conninfo: str) -> tuple[int, list[str], str]:
    run = subprocess.run(
        [sys.executable, "-W", "error", "server.py", "check"],
        cwd=PROJECT,
        env={"PATH": os.environ["PATH"], "DATABASE_URL": conninfo},
        capture_output=True,
        text=True,
        check=False,
    )
    return run.returncode, run.stdout.splitlines(), run.stderr


@pytest.mark.parametrize("user", ["postgres", "wallet_app", "wallet_ops"])
def test_the_command_says_that_all_is_well(books: Connection, database: str, user: str) -> None:
    assert check(make_conninfo(database, user=user)) == (
        0,
        [
            "currency  accounts  payments  total  verdict",
            "USD              3         3    300  proved",
            "RUB              1         0    100  proved",
            "BTC              0         0      0  proved",
            "ETC              0         0      0  proved",
        ],
        "",
    )


def test_the_command_says_what_is_wrong_and_exits_with_1(books: Connection, database: str) -> None:
    books.execute("update ledger.account set balance = 100.5 where id = 3")
    books.execute("update ledger.payment set buyer_balance = 0 where id = 2")
    code, lines, _ = check(database)
    assert code == 1
    assert lines[1].split() == ["USD", "3", "3", "300.5", "2", "wrong"]
    assert lines[2].endswith("proved")
    assert lines[5:] == [
        f"account 2, payment 2: {GAP}",
        "account 3: The balance is 100.5; opening balance, plus received, minus paid, is 100",
    ]


def test_of_very_many_problems_the_command_tells_the_number(books: Connection, database: str) -> None:
    books.execute(
        "insert into ledger.account (name, currency_id, opening_balance, balance) select 'a' || n, 1, 0, -1 from generate_series(1, 50) n"
    )
    code, lines, _ = check(database)
    assert (code, len(lines)) == (1, 5 + 50 + 1)
    assert lines[-1] == "and 50 more; check_ledger() lists them all"


def test_the_command_without_a_wallet(bare_database: str) -> None:
    code, lines, error = check(bare_database)
    assert (code, lines) == (1, [])
    assert error.startswith("server.py: there is no wallet of this version that this user may use")
    code, lines, error = check("host=/nonexistent")
    assert (code, lines) == (1, [])
    assert error.startswith("server.py: the database cannot be used")
