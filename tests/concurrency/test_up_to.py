"""Payments of up to an amount, many at once: together they take what is available, and no more."""

from concurrent.futures import ThreadPoolExecutor

import psycopg

from tests.concurrency.test_terms import ROUNDS, at_once
from tests.conftest import Connection
from tests.sql.calls import row, rows
from tests.support import account, balance, ledger_problems, payment_body, serving, waiting_for_locks

# After the amount: no key, description, reference, API key; then p_up_to.
UP_TO = (None, None, None, None, True)


def test_they_empty_the_account_and_take_no_more(admin: Connection, database: str) -> None:
    for number in range(ROUNDS):
        buyer, seller = account(admin, f"buyer {number}", 100), account(admin, f"seller {number}")
        calls = [("make_payment", buyer, seller, 15, *UP_TO)] * 20
        assert at_once(database, calls) == {"done": 7, "WB006": 13}
        amounts = [payment["amount"] for payment in rows(admin, "list_payments", account_id=buyer)]
        assert amounts == [15] * 6 + [10]
        assert [balance(admin, buyer), balance(admin, seller)] == [0, 100]
    assert ledger_problems(admin) == []


def test_one_that_is_asked_for_by_many_is_made_once(admin: Connection, database: str) -> None:
    """Also while deposits change what is available."""
    for number in range(ROUNDS):
        buyer, seller = account(admin, f"buyer {number}", 100), account(admin, f"seller {number}", 1000)
        asked = ("make_payment", buyer, seller, 500, f"key {number}", None, None, None, True)
        deposit = ("make_payment", seller, buyer, 1)
        outcomes = at_once(database, [asked, deposit] * 8)
        assert outcomes == {"done": 1 + 8, "replayed": 7}
    assert ledger_problems(admin) == []


def test_what_it_pays_is_what_is_available_when_the_lock_comes(admin: Connection, database: str) -> None:
    buyer, seller = account(admin, "buyer", 100), account(admin, "seller")
    with (
        serving(DATABASE_URL=database) as server,
        server.client() as api,
        psycopg.connect(database) as holder,
        ThreadPoolExecutor(1) as threads,
    ):
        row(holder, "make_payment", buyer, seller, 60)
        answer = threads.submit(api.post, "/payments", json=payment_body(buyer, seller, 1000, UpTo=True))
        waiting_for_locks(admin, 1)
        holder.commit()
        assert answer.result().json()["Amount"] == "40"
    assert ledger_problems(admin) == []
