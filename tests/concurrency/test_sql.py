"""Many at once, by SQL: no race, no deadlock, no money made or lost."""

import random
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import psycopg
import pytest

from tests.concurrency.original import ALLOWED, CLIENTS, PAYMENTS, open_accounts, random_payments
from tests.conftest import Connection
from tests.support import account, balance, ledger_problems, totals, waiting_for_locks

Pay = Callable[[int, int, object], str]


def all_at_once(database: str, clients: int, work: Callable[[Pay, int], list[str]]) -> Counter[str]:
    """Runs `work` in so many threads, each with a connection of its own, and counts the outcomes."""
    start = threading.Barrier(clients)

    def run(number: int) -> list[str]:
        with psycopg.connect(database, user="wallet_app", autocommit=True) as connection:

            def pay(buyer: int, seller: int, amount: object) -> str:
                try:
                    connection.execute("select wallet.make_payment(%s, %s, %s)", [buyer, seller, amount])
                except psycopg.Error as error:
                    return str(error.sqlstate)
                return "paid"

            start.wait()
            return work(pay, number)

    with ThreadPoolExecutor(clients) as threads:
        return Counter(outcome for outcomes in threads.map(run, range(clients)) for outcome in outcomes)


def test_the_concurrency_test_of_the_original_service(admin: Connection, database: str) -> None:
    accounts = open_accounts(lambda name, amount, currency: account(admin, name, amount, currency))

    def work(pay: Pay, number: int) -> list[str]:
        return [pay(*payment) for payment in random_payments(random.Random(number), accounts)]

    outcomes = all_at_once(database, CLIENTS, work)
    assert outcomes.total() == CLIENTS * PAYMENTS
    assert outcomes["paid"] > 0
    assert set(outcomes) <= ALLOWED
    assert totals(admin) == {"USD": Decimal(500), "RUB": Decimal(600)}
    assert ledger_problems(admin) == []


def test_opposing_payments_do_not_deadlock(admin: Connection, database: str) -> None:
    pair = [account(admin, "one", 1000), account(admin, "other", 1000)]

    def work(pay: Pay, number: int) -> list[str]:
        buyer, seller = pair if number % 2 else reversed(pair)
        return [pay(buyer, seller, 1) for _ in range(50)]

    assert all_at_once(database, 16, work) == {"paid": 800}
    assert totals(admin) == {"USD": Decimal(2000)}
    assert ledger_problems(admin) == []


def test_batches_and_single_payments_in_every_direction_do_not_deadlock(admin: Connection, database: str) -> None:
    ids = [account(admin, f"account {number}", 1000) for number in range(6)]

    def work(number: int) -> list[str | None]:
        pairs = [random.Random(number).sample(ids, 2) for _ in range(400)]
        outcomes: list[str | None] = []
        with psycopg.connect(database, user="wallet_app", autocommit=True) as connection:
            for start in range(0, 400, 20):
                buyers, sellers = (list(side) for side in zip(*pairs[start : start + 20], strict=True))
                arguments = [buyers, sellers, [Decimal("0.5")] * 20, number % 2 == 0]
                query = "select error from wallet.make_payments(%s, %s, %s, %s)"
                outcomes += [error for (error,) in connection.execute(query, arguments)]
                connection.execute("select wallet.make_payment(%s, %s, 0.5)", pairs[start])
        return outcomes

    with ThreadPoolExecutor(8) as threads:
        assert [outcome for outcomes in threads.map(work, range(8)) for outcome in outcomes] == [None] * 3200
    assert totals(admin) == {"USD": Decimal(6000)}
    assert ledger_problems(admin) == []


def test_many_buyers_of_one_seller(admin: Connection, database: str) -> None:
    seller = account(admin, "seller")
    buyers = [account(admin, f"buyer {number}", 20) for number in range(40)]

    def work(pay: Pay, number: int) -> list[str]:
        return [pay(buyers[number], seller, "0.5") for _ in range(20)]

    assert all_at_once(database, 40, work) == {"paid": 800}
    assert balance(admin, seller) == 400
    assert {balance(admin, buyer) for buyer in buyers} == {10}
    assert ledger_problems(admin) == []


def test_a_buyer_overdrawn_by_a_hundred_at_once_pays_exactly_what_there_is(admin: Connection, database: str) -> None:
    buyer = account(admin, "buyer", "37.5")
    sellers = [account(admin, f"seller {number}") for number in range(10)]
    outcomes = all_at_once(database, 100, lambda pay, number: [pay(buyer, sellers[number % 10], 1)])
    assert outcomes == {"paid": 37, "WB006": 63}
    assert balance(admin, buyer) == Decimal("0.5")
    assert ledger_problems(admin) == []


def test_one_name_asked_for_by_many_at_once_is_given_once(admin: Connection, database: str) -> None:
    start = threading.Barrier(20)

    def create(_: int) -> str | None:
        with psycopg.connect(database, user="wallet_app", autocommit=True) as connection:
            start.wait()
            try:
                account(connection, "the only one")
            except psycopg.Error as error:
                return error.sqlstate
            return None

    with ThreadPoolExecutor(20) as threads:
        assert Counter(threads.map(create, range(20))) == {None: 1, "WC011": 19}


ONE = "select id, null from wallet.make_payment(%s, %s, %s)"
MANY = "select id, error_code from wallet.make_payments(array[%s], array[%s], array[%s])"


def pay_alone(database: str, buyer: int, seller: int, amount: object, function: str = ONE) -> object:
    """Makes a payment on a connection of its own, for a thread that will have to wait; returns its code, if it is refused."""
    with psycopg.connect(database, user="wallet_app", autocommit=True) as connection:
        [(_, code)] = connection.execute(function, [buyer, seller, amount]).fetchall()
        return code


@pytest.mark.parametrize("function", [ONE, MANY])
@pytest.mark.parametrize("direction", [1, -1])
def test_accounts_are_locked_in_the_order_of_their_ids(
    admin: Connection, database: str, direction: int, function: str
) -> None:
    first, second = account(admin, "first", 10), account(admin, "second", 10)
    buyer, seller = (first, second)[::direction]
    with ThreadPoolExecutor() as threads, psycopg.connect(database) as holder:
        holder.execute("select from ledger.account where id = %s for update", [first])
        payment = threads.submit(pay_alone, database, buyer, seller, 1, function)
        waiting_for_locks(admin, 1)
        # It waits for the first in either direction, and so does not hold the second yet.
        admin.execute("select from ledger.account where id = %s for update nowait", [second])
        holder.rollback()
        payment.result()
    assert {balance(admin, first), balance(admin, second)} == {9, 11}


def test_what_waited_for_a_lock_sees_the_balance_that_it_waited_for(admin: Connection, database: str) -> None:
    buyer, seller = account(admin, "buyer", 10), account(admin, "seller")
    with ThreadPoolExecutor() as threads, psycopg.connect(database) as first:
        first.execute("select wallet.make_payment(%s, %s, 8)", [buyer, seller])
        late = threads.submit(pay_alone, database, buyer, seller, 8)
        waiting_for_locks(admin, 1)
        first.commit()
        with pytest.raises(psycopg.Error) as refused:
            late.result()
        assert refused.value.sqlstate == "WB006"
    assert [balance(admin, buyer), balance(admin, seller)] == [2, 8]


def test_a_batch_that_waited_sees_it_too(admin: Connection, database: str) -> None:
    buyer, seller = account(admin, "buyer", 10), account(admin, "seller")
    with ThreadPoolExecutor() as threads, psycopg.connect(database) as first:
        first.execute("select wallet.make_payment(%s, %s, 8)", [buyer, seller])
        late = threads.submit(pay_alone, database, buyer, seller, 8, MANY)
        waiting_for_locks(admin, 1)
        first.commit()
        assert late.result() == "WB006"
    assert [balance(admin, buyer), balance(admin, seller)] == [2, 8]


def test_payments_between_other_accounts_do_not_wait(admin: Connection, database: str) -> None:
    ids = [account(admin, f"account {number}", 10) for number in range(4)]
    with psycopg.connect(database) as holder:
        holder.execute("select wallet.make_payment(%s, %s, 1)", ids[:2])
        admin.execute("set lock_timeout = '1ms'")
        admin.execute("select wallet.make_payment(%s, %s, 1)", ids[2:])
