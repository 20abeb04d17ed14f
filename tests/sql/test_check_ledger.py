"""check_ledger() names every account and every payment that something is wrong with, and none on a healthy ledger.

The other tests end with it: its silence means something because it sees each kind of damage here.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.conftest import Connection
from tests.sql.calls import as_if_an_hour_ago, held, paid, row
from tests.support import PROJECT, TIMEOUT, account, command, wait_until

GAP = "The balance after this payment does not follow from the one before it"


@pytest.fixture
def ledger(admin: Connection) -> Connection:
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
def test_each_damage_is_seen(ledger: Connection, damage: str, found: list[tuple[Any, ...]]) -> None:
    ledger.execute(damage)
    assert sorted(problems(ledger), key=str) == sorted(found, key=str)


# What accounts may do, holds, refunds, and decimals.


@pytest.fixture
def names(keeper: Connection) -> dict[str, int]:
    """A ledger with all of it, healthy: {one} and {two}, in dollars; of {one}'s, {open} holds 7, and {overdue} 3, which
    has expired; {bank} has a credit limit of 30, then 40, and has {used} 30 of it; {frozen} was frozen after {before};
    {blocked} was blocked after {earlier};
    {closed} was closed, opened, frozen, opened, when it paid what was {left} on it, and closed again; of {sale}, 20, {part}
    gave back 5, and another refund too; {capture} paid 6 of the 8 of {captured}; {parted} keeps 5 of 8 after {share}; {cent} and {cent_too} have a currency of
    2 decimals.
    """
    cents = row(keeper, "create_currency", "CENT", 2)["id"]
    names = {name: account(keeper, name, 100) for name in ("one", "two", "frozen", "blocked")}
    names |= {name: account(keeper, name, 100, cents) for name in ("cent", "cent_too")}
    names |= {name: account(keeper, name) for name in ("bank", "closed")} | {"cents": cents}
    one, two, frozen, closed = (names[name] for name in ("one", "two", "frozen", "closed"))
    names["before"] = paid(keeper, frozen, two, 1)
    for name, status in (("frozen", "frozen"), ("closed", "closed"), ("closed", "active"), ("closed", "frozen")):
        row(keeper, "set_account_status", names[name], status)
    names["earlier"] = paid(keeper, two, names["blocked"], 1)
    row(keeper, "set_account_status", names["blocked"], "blocked")
    paid(keeper, two, frozen, 1)
    paid(keeper, one, closed, 1)
    row(keeper, "set_account_status", closed, "active")
    names["left"] = paid(keeper, closed, one, 1)
    row(keeper, "set_account_status", closed, "closed")
    row(keeper, "set_credit_limit", names["bank"], 30)
    names["used"] = paid(keeper, names["bank"], two, 30)
    row(keeper, "set_credit_limit", names["bank"], 40)
    names["sale"] = paid(keeper, one, two, 20)
    names["part"] = row(keeper, "refund_payment", names["sale"], 5)["id"]
    row(keeper, "refund_payment", names["sale"], 5)
    for name, amount in (("open", 7), ("overdue", 3), ("captured", 8), ("parted", 8), ("voided", 9), ("expired", 1)):
        names[name] = held(keeper, one, two, amount, idempotency_key=name)
    names["capture"] = row(keeper, "capture_hold", names["captured"], 6)["id"]
    names["share"] = row(keeper, "capture_hold", names["parted"], 3, final=False)["id"]
    row(keeper, "void_hold", names["voided"])
    as_if_an_hour_ago(keeper, names["expired"])
    names["of_cents"] = paid(keeper, names["cent"], names["cent_too"], "0.01")
    paid(keeper, two, one, "0.000000000000001")
    as_if_an_hour_ago(keeper, names["overdue"])
    assert problems(keeper) == []
    names["change"] = keeper.execute("select max(id) from ledger.account_change").fetchall()[0][0]
    names["next"] = keeper.execute("select last_value + 1 from ledger.payment_id_seq").fetchall()[0][0]
    keeper.execute("set local session_replication_role = replica")  # no trigger, no foreign key
    for table in ("account", "payment", "hold", "account_change"):
        constraints = keeper.execute(
            "select conname from pg_constraint where conrelid = %s::regclass and contype in ('c', 'u')",
            [f"ledger.{table}"],
        ).fetchall()
        for (name,) in constraints:
            keeper.execute(f"alter table ledger.{table} drop constraint {name} cascade")
    keeper.execute("drop index ledger.hold_idempotency_key_key")
    return names


# A payment that fits the ledger but for one thing: each of its accounts has {} before it, and the balance after it.
MADE = """insert into ledger.payment (
              id, currency_id, buyer_account_id, seller_account_id, amount, buyer_balance, seller_balance,
              refunded_payment_id, hold_id
          )
          overriding system value
          select {next} + %(after)s, buyer.currency_id, buyer.id, seller.id, %(amount)s, buyer.balance - %(amount)s,
              seller.balance + %(amount)s, %(refunds)s, %(captures)s
          from ledger.account as buyer, ledger.account as seller where buyer.id = {%(buyer)s} and seller.id = {%(seller)s};
          update ledger.account set balance = balance - %(amount)s where id = {%(buyer)s};
          update ledger.account set balance = balance + %(amount)s where id = {%(seller)s};"""


def made(buyer: str, seller: str, amount: object, after: int = 0, refunds: str = "null", captures: str = "null") -> str:
    return MADE % {
        "buyer": buyer, "seller": seller, "amount": amount, "after": after, "refunds": refunds, "captures": captures,
    }  # fmt: skip


RANGE = "The credit limit, or what is held, is below zero"
CHANGED = "Its status and credit limit are not those of its last change"
SCALE = "Its currency has another number of decimals"
METADATA = "metadata is not an object of at most 4096 bytes"
FINER = "An amount of it has more decimals than its currency"
BACK = "It does not give back what it says"
Found = list[tuple[str | None, str | None, str]]

# Each damage, and all that is wrong then: account, payment, problem, by their names.
DAMAGES_TO_TERMS: list[tuple[str, Found]] = [
    ("update ledger.account set held = held + 1 where id = {one}", [("one", None, "16 is held; its open holds are 15")]),
    ("update ledger.account set held = 0.5 where id = {two}", [("two", None, "0.5 is held; its open holds are 0")]),
    (
        "update ledger.hold set status = 'voided', ended_at = now() where id = {open}",
        [
            ("one", None, "15 is held; its open holds are 8"),
            ("one", None, "Hold {open}: its end is not in the feed"),
        ],
    ),
    ("update ledger.hold set amount = 9.5 where id = {open}", [("one", None, "15 is held; its open holds are 17.5")]),
    (
        "update ledger.hold set status = 'open' where id = {voided}",
        [
            ("one", None, "15 is held; its open holds are 24"),
            ("one", None, "Hold {voided}: its end is in the feed, and it is open"),
        ],
    ),
    ("delete from ledger.event where account_id = {two}", [("two", None, "It is not in the feed")]),
    ("delete from ledger.event where hold_id = {open}", [("one", None, "Hold {open}: it is not in the feed")]),
    (
        "delete from ledger.event where ended_hold_id = {expired}",
        [("one", None, "Hold {expired}: its end is not in the feed")],
    ),
    (
        "delete from ledger.event where account_change_id = (select max(id) from ledger.account_change)",
        [("bank", None, "Its change {change} is not in the feed")],
    ),
    (
        "update ledger.account set held = -1 where id = {two}",
        [("two", None, RANGE), ("two", None, "-1 is held; its open holds are 0")],
    ),
    ("update ledger.account set credit_limit = -1 where id = {two}", [("two", None, RANGE), ("two", None, CHANGED)]),
    (
        "update ledger.account set held = 500 where id = {frozen}",
        [
            ("frozen", None, "500 is held; its open holds are 0"),
            ("frozen", None, "The balance is 100, the credit limit 0, and 500 is held"),
        ],
    ),
    (
        "update ledger.account set credit_limit = 29 where id = {bank}",
        [("bank", None, "The balance is -30, the credit limit 29, and 0 is held"), ("bank", None, CHANGED)],
    ),
    ("update ledger.account set credit_limit = 41 where id = {bank}", [("bank", None, CHANGED)]),
    ("update ledger.account set status = 'frozen' where id = {two}", [("two", None, CHANGED)]),
    ("update ledger.account set status = 'active' where id = {frozen}", [("frozen", None, CHANGED)]),
    (
        "update ledger.account set status = 'closed' where id = {two}",
        [("two", None, "It is closed, and something is on it"), ("two", None, CHANGED)],
    ),
    (
        "update ledger.account set held = 1, credit_limit = 1 where id = {closed}",
        [
            ("closed", None, "1 is held; its open holds are 0"),
            ("closed", None, "It is closed, and something is on it"),
            ("closed", None, CHANGED),
        ],
    ),
    ("delete from ledger.account_change where account_id = {frozen}", [("frozen", None, CHANGED)]),
    (made("frozen", "one", 1), [("frozen", "next", "The buyer was frozen")]),
    (made("one", "frozen", 1), []),
    (
        made("one", "blocked", 1) + made("blocked", "one", 1, after=1),
        [("blocked", "next", "The seller was blocked"), ("blocked", "next + 1", "The buyer was blocked")],
    ),
    (
        "update ledger.account_change set last_payment_id = 0 where account_id = {blocked}",
        [("blocked", "earlier", "The seller was blocked")],
    ),
    (
        made("one", "closed", 1) + made("closed", "one", 1, after=1),
        [("closed", "next", "The seller was closed"), ("closed", "next + 1", "The buyer was closed")],
    ),
    (
        "update ledger.account_change set last_payment_id = 0 where account_id = {frozen}",
        [("frozen", "before", "The buyer was frozen")],
    ),
    (
        """update ledger.account_change set last_payment_id = {left} where id = (
               select max(id) from ledger.account_change where account_id = {closed} and status = 'active')""",
        [("closed", "left", "The buyer was frozen")],
    ),
    (
        "update ledger.account_change set last_payment_id = {used} where account_id = {bank}",
        [("bank", "used", "The balance after it is -30, and the credit limit was 0")],
    ),
    (
        "update ledger.account_change set credit_limit = 20 where account_id = {bank} and credit_limit = 30",
        [("bank", "used", "The balance after it is -30, and the credit limit was 20")],
    ),
    ("update ledger.account set currency_scale = 3 where id = {cent}", [("cent", None, SCALE)]),
    ("update ledger.currency set scale = 3 where id = {cents}", [("cent", None, SCALE), ("cent_too", None, SCALE)]),
    (
        """update ledger.currency set scale = 1 where id = {cents};
           update ledger.account set currency_scale = 1 where currency_id = {cents}""",
        [
            ("cent", None, FINER),
            ("cent_too", None, FINER),
            (None, "of_cents", "The amount has more decimals than its currency"),
        ],
    ),
    (
        "update ledger.account set credit_limit = 0.001 where id = {cent}",
        [("cent", None, FINER), ("cent", None, CHANGED)],
    ),
    (
        "insert into ledger.currency_change (currency_id, scale) values ({cents}, 3), ({cents}, 1)",
        [(None, None, "Its number of decimals is not that of its last change")],
    ),
    ("insert into ledger.currency_change (currency_id, scale) values ({cents}, 3), ({cents}, 2)", []),
    (
        "update ledger.payment set up_to = amount - 0.01 where id = {of_cents}",
        [(None, "of_cents", "The amount is above the most that was asked for")],
    ),
    ("update ledger.payment set metadata = '[]' where id = {of_cents}", [(None, "of_cents", f"Its {METADATA}")]),
    ("update ledger.account set metadata = '{{}}' where id = {cent}", []),
    (
        "update ledger.account set metadata = jsonb_build_object('a', repeat('x', 4096)) where id = {cent}",
        [("cent", None, f"Its {METADATA}")],
    ),
    ("update ledger.hold set metadata = '17' where id = {voided}", [("one", None, f"Hold {{voided}}: its {METADATA}")]),
    (
        made("cent", "cent_too", "0.001"),
        [
            ("cent", None, FINER),
            ("cent_too", None, FINER),
            (None, "next", "The amount has more decimals than its currency"),
        ],
    ),
    (made("two", "one", "10.5", refunds="{sale}"), [(None, "sale", "Its refunds are 20.5, and its amount is 20")]),
    (made("one", "two", 1, refunds="{part}"), [(None, "next", BACK)]),
    (made("one", "two", 1, refunds="{sale}"), [(None, "next", BACK)]),
    (made("two", "bank", 1, refunds="{sale}"), [(None, "next", BACK)]),
    (made("bank", "one", 1, refunds="{sale}"), [(None, "next", BACK)]),
    (made("cent_too", "cent", 1, refunds="{sale}"), [(None, "next", BACK)]),
    ("update ledger.payment set refunded_payment_id = 0 where id = {part}", [(None, "part", BACK)]),
    ("update ledger.payment set refunded_payment_id = {part} where id = {part}", [(None, "part", BACK)]),
    ("update ledger.payment set refunded_payment_id = {next} where id = {part};" + made("one", "two", 9),
     [(None, "part", BACK)]),
    (
        "update ledger.payment set hold_id = 0 where id = {capture}",
        [
            (None, "capture", "Hold 0: there is none that this payment captured"),
            ("one", None, "Hold {captured}: it was captured, and there is no payment"),
        ],
    ),
    (made("one", "two", 1, captures="{captured}"), [("one", "next", "Hold {captured}: its captures are 7, and 6 is noted")]),
    (
        made("one", "two", 1, captures="{captured}") + "update ledger.hold set captured_amount = null where id = {captured}",
        [("one", "next", "Hold {captured}: its captures are 7, and 0 is noted")],
    ),
    (made("one", "two", 1, captures="{expired}"), [("one", "next", "Hold {expired}: its captures are 1, and 0 is noted")]),
    (
        made("one", "two", "5.5", captures="{parted}")
        + "update ledger.hold set captured_amount = 8.5, status = 'captured' where id = {parted}",
        [
            ("one", None, "15 is held; its open holds are 10"),
            ("one", "next", "Hold {parted}: more was captured than it held"),
            ("one", None, "Hold {parted}: its end is not in the feed"),
        ],
    ),
    (
        made("one", "two", 5, captures="{parted}") + "update ledger.hold set captured_amount = 8 where id = {parted}",
        [
            ("one", None, "15 is held; its open holds are 10"),
            ("one", "next", "Hold {parted}: all of it was captured, and it is open"),
        ],
    ),
    (
        "update ledger.hold set captured_amount = 4 where id = {parted}",
        [
            ("one", None, "15 is held; its open holds are 14"),
            ("one", "share", "Hold {parted}: its captures are 3, and 4 is noted"),
        ],
    ),
    (
        "update ledger.hold set captured_amount = null where id = {parted}",
        [
            ("one", None, "15 is held; its open holds are 18"),
            ("one", "share", "Hold {parted}: its captures are 3, and 0 is noted"),
        ],
    ),
    (
        "update ledger.hold set captured_amount = 1 where id = {voided}",
        [("one", None, "Hold {voided}: its captures are 0, and 1 is noted")],
    ),
    # as before captures could be several
    ("update ledger.hold set captured_amount = null where id = {captured}", []),
    (
        "update ledger.hold set amount = 5.5 where id = {captured}",
        [("one", "capture", "Hold {captured}: more was captured than it held")],
    ),
    (
        "update ledger.hold set seller_account_id = {frozen} where id = {captured}",
        [("one", "capture", "Hold {captured}: it was captured between other accounts")],
    ),
    (
        "update ledger.hold set currency_id = 2 where id = {voided}",
        [("one", None, "Hold {voided}: its currency is not that of its accounts")],
    ),
    (
        "update ledger.hold set seller_account_id = {cent} where id = {open}",
        [("one", None, "Hold {open}: its currency is not that of its accounts")],
    ),
    (
        "update ledger.hold set amount = 0 where id = {voided}",
        [("one", None, "Hold {voided}: its amount is not above zero, or has more decimals than its currency")],
    ),
    (
        "update ledger.hold set idempotency_key = 'open' where id = {voided}",
        [("one", None, f"Hold {{{name}}}: another one has the same idempotency key") for name in ("open", "voided")],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("damage", "found"), DAMAGES_TO_TERMS)
def test_each_damage_to_terms_holds_and_refunds_is_seen(
    keeper: Connection, names: dict[str, int], damage: str, found: Found
) -> None:
    keeper.execute(damage.format(**names))
    numbers = names | {"next + 1": names["next"] + 1}
    expected = [
        (None if who is None else numbers[who], None if payment is None else numbers[payment], problem.format(**names))
        for who, payment, problem in found
    ]
    assert sorted(problems(keeper), key=str) == sorted(expected, key=str)


def test_it_names_the_first_payment_that_does_not_follow(ledger: Connection) -> None:
    ledger.execute(
        "update ledger.payment set buyer_balance = 0 where id = 1; update ledger.payment set buyer_balance = 0 where id = 3"
    )
    assert (1, 1, GAP) in problems(ledger)
    assert (1, 3, GAP) not in problems(ledger)


def test_it_sees_the_order_that_a_sequence_breaks_which_gives_several_ids_at_a_time(
    admin: Connection, database: str
) -> None:
    one, other = account(admin, "one", 1000), account(admin, "other", 1000)
    admin.execute("alter sequence ledger.payment_id_seq cache 20")
    with ExitStack() as stack:
        sessions = [stack.enter_context(psycopg.connect(database, autocommit=True)) for _ in range(4)]
        ids = [paid(session, one, other, 1) for _ in range(3) for session in sessions]
    assert ids != sorted(ids)
    found = [(who, problem) for who, _, problem in problems(admin)]
    sequence = "The sequence ledger.payment_id_seq gives a session 20 ids at a time: a later payment of an account may get a lower id"
    assert found == [(one, GAP), (other, GAP), (None, sequence)]
    code, lines, _ = check(database)
    assert (code, lines[-1]) == (1, f"ledger: {sequence}")


def test_it_reads_one_snapshot_and_waits_for_no_lock(admin: Connection, database: str) -> None:
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
    run = command("check", DATABASE_URL=conninfo)
    return run.returncode, run.stdout.splitlines(), run.stderr


def recorded(admin: Connection) -> list[int]:
    """How many problems each check that was recorded has found."""
    return [number for (number,) in admin.execute("select problems from ledger.ledger_check order by id").fetchall()]


@pytest.mark.parametrize("user", [None, "wallet_app", "wallet_ops", "wallet_reporting"])
def test_the_command_says_that_all_is_well(ledger: Connection, database: str, user: str | None) -> None:
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


def test_a_name_from_before_the_rule_forges_no_line_of_it(ledger: Connection, database: str) -> None:
    ledger.execute("set session_replication_role = replica")
    ledger.execute("update ledger.currency set name = E'\n0 problems' where id = 2")
    ledger.execute("update ledger.currency set name = E'\x1b[2J\u202e' where id = 3")
    code, lines, _ = check(database)
    assert code == 0
    assert [line.partition("  ")[0] for line in lines] == ["currency", "USD", "\\n0 problems", "\\x1b[2J\\u202e", "ETC"]


def test_the_command_says_what_is_wrong_and_exits_with_1(ledger: Connection, database: str) -> None:
    ledger.execute("update ledger.account set balance = 100.5 where id = 3")
    ledger.execute("update ledger.payment set buyer_balance = 0 where id = 2")
    code, lines, _ = check(database)
    assert code == 1
    assert lines[1].split() == ["USD", "3", "3", "300.5", "2", "wrong"]
    assert lines[2].endswith("proved")
    assert lines[5:] == [
        f"account 2, payment 2: {GAP}",
        "account 3: The balance is 100.5; opening balance, plus received, minus paid, is 100",
    ]


def test_the_command_records_what_it_found_where_it_may(ledger: Connection, database: str) -> None:
    assert check(make_conninfo(database, user="wallet_app"))[0] == 0
    assert recorded(ledger) == [0]
    ledger.execute("update ledger.account set balance = 100.5 where id = 3")
    assert check(database)[0] == 1
    assert recorded(ledger) == [0, 1]
    assert check(make_conninfo(database, options="-cdefault_transaction_read_only=on"))[0] == 1
    assert check(make_conninfo(database, user="wallet_reporting"))[0] == 1
    assert recorded(ledger) == [0, 1]


def test_of_very_many_problems_the_command_tells_the_number(ledger: Connection, database: str) -> None:
    ledger.execute(
        "insert into ledger.account (name, currency_id, opening_balance, balance) select 'a' || n, 1, 0, -1 from generate_series(1, 50) n"
    )
    code, lines, _ = check(database)
    assert (code, len(lines)) == (1, 5 + 50 + 1)
    assert lines[-1] == "and 100 more; check_ledger() lists them all"


def test_the_command_without_a_wallet(bare_database: str) -> None:
    code, lines, error = check(bare_database)
    assert (code, lines) == (1, [])
    assert error.startswith("server.py: there is no wallet of this version: run migrate first (")
    code, lines, error = check("host=/nonexistent")
    assert (code, lines) == (1, [])
    assert error.startswith("server.py: the database cannot be used")


@contextmanager
def checking(conninfo: str, folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path, Path]]:
    """`server.py check --every 0.1`, and the files that it writes its output and its complaints to."""
    output, complaints = folder / "output", folder / "complaints"
    with output.open("wb") as stdout, complaints.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "server.py", "check", "--every", "0.1"],
            cwd=PROJECT,
            env={"PATH": os.environ["PATH"], "DATABASE_URL": conninfo},
            stdout=stdout,
            stderr=stderr,
        )
    try:
        yield process, output, complaints
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_every_so_often_the_command_goes_on_until_it_is_stopped(
    ledger: Connection, database: str, tmp_path: Path, signum: signal.Signals
) -> None:
    with checking(database, tmp_path) as (process, output, complaints):
        wait_until(lambda: output.read_text().count("proved\nETC") >= 2)
        ledger.execute("update ledger.account set balance = 100.5 where id = 3")
        wait_until(lambda: output.read_text().count("account 3: The balance is 100.5") >= 2)
        process.send_signal(signum)
        assert process.wait(TIMEOUT) == 0
    assert complaints.read_text() == ""


def test_a_database_that_is_away_for_a_while_does_not_end_it(
    ledger: Connection, cluster: str, database: str, tmp_path: Path
) -> None:
    name = conninfo_to_dict(database)["dbname"]
    with (
        psycopg.connect(make_conninfo(cluster, dbname="postgres"), autocommit=True) as keeper,
        checking(database, tmp_path) as (process, output, complaints),
    ):
        wait_until(lambda: output.read_text() != "")
        keeper.execute(f"alter database {name} allow_connections false")
        wait_until(lambda: "server.py: the ledger cannot be checked: " in complaints.read_text())
        before = len(output.read_text())
        keeper.execute(f"alter database {name} allow_connections true")
        wait_until(lambda: len(output.read_text()) > before)
        assert process.poll() is None


def test_no_error_of_the_database_ends_it(ledger: Connection, database: str, tmp_path: Path) -> None:
    original = ledger.execute("select pg_get_functiondef('wallet.check_ledger'::regproc)").fetchone()
    assert original is not None
    with checking(database, tmp_path) as (process, output, complaints):
        wait_until(lambda: output.read_text() != "")
        for sqlstate in ("XX001", "25P04", "22012", "0A000", "53200", "57P01", "P0001"):
            ledger.execute(
                f"""create or replace function wallet.check_ledger()
                        returns table (currency_id bigint, account_id bigint, payment_id bigint, problem text)
                        language plpgsql security definer as $$
                        begin raise exception using errcode = '{sqlstate}', message = 'made up {sqlstate}'; end $$"""
            )
            wait_until(lambda told=f"made up {sqlstate}": told in complaints.read_text())  # type: ignore[misc]
        ledger.execute("drop function wallet.check_ledger()")
        ledger.execute(original[0])
        before = len(output.read_text())
        wait_until(lambda: len(output.read_text()) > before)
        assert process.poll() is None
    assert "Traceback" not in complaints.read_text()


def test_the_limits_that_the_database_has_for_others_do_not_end_a_check(ledger: Connection, database: str) -> None:
    ledger.execute("alter function wallet.check_ledger() rename to check_ledger_at_once")
    ledger.execute(
        """create function wallet.check_ledger()
               returns table (currency_id bigint, account_id bigint, payment_id bigint, problem text)
               language plpgsql security definer as $$
               begin perform pg_sleep(1); return query select * from wallet.check_ledger_at_once(); end $$"""
    )
    for limit in ("statement_timeout", "transaction_timeout", "idle_in_transaction_session_timeout"):
        if limit != "transaction_timeout" or ledger.info.server_version >= 170000:
            ledger.execute(f"alter database {ledger.info.dbname} set {limit} = 500")
    assert check(database)[0] == 0


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "often", ""])
def test_an_interval_that_is_none_is_refused(seconds: str) -> None:
    run = command("check", "--every", seconds)
    assert run.returncode == 2
    assert "--every: should be a number of seconds from 0.1 to 604800" in run.stderr
