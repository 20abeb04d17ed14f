"""The scale of a currency is changed while others pay: no amount ever has more decimals, and nothing deadlocks."""

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from tests.concurrency.test_terms import outcome
from tests.conftest import Connection
from tests.sql.calls import held, paid, row
from tests.support import account, ledger_problems, waiting_for_locks

Names = dict[str, Any]


@pytest.fixture
def names(admin: Connection) -> Iterator[Names]:
    """{one} and {other}, of {currency}, which has 3 decimals; {one} has paid {sale}, 10; of the rest, {hold} holds 10."""
    currency = row(admin, "create_currency", "EUR", 3)["id"]
    names: Names = {name: account(admin, name, 1000, currency) for name in ("one", "other")} | {"currency": currency}
    names |= {
        "sale": paid(admin, names["one"], names["other"], 10),
        "hold": held(admin, names["one"], names["other"], 10),
    }
    yield names
    assert ledger_problems(admin) == []


def called(database: str, call: str) -> Any:
    with psycopg.connect(database, user="wallet_app", autocommit=True) as connection:
        try:
            [(answer,)] = connection.execute(f"select to_jsonb(told) from wallet.{call} as told").fetchall()
        except psycopg.Error as error:
            return str(error.sqlstate)
        return str(answer.get("error_code") or "done")


def one_after_the_other(admin: Connection, database: str, first: str, late: str) -> str:
    """What the late call is told that waits for the first one, which then commits."""
    with ThreadPoolExecutor() as threads, psycopg.connect(database) as holder:
        holder.execute(f"select wallet.{first}")
        asked: Future[str] = threads.submit(called, database, late)
        waiting_for_locks(admin, 1)
        holder.commit()
        return asked.result()


# Calls with an amount, which has 3 decimals or 2.
CALLS = [
    "make_payment({one}, {other}, {amount})",
    "make_payment({other}, {one}, {amount})",
    "make_payments(array[{one}], array[{other}], array[{amount}])",
    "make_payments(array[{one}], array[{other}], array[{amount}], true)",
    "refund_payment({sale}, {amount})",
    "create_hold({one}, {other}, {amount})",
    "capture_hold({hold}, {amount})",
    "set_credit_limit({other}, {amount})",
    "create_account('new', {amount}, {currency})",
]


@pytest.mark.parametrize("call", CALLS)
def test_a_scale_that_waited_for_an_amount_with_more_decimals_is_refused(
    admin: Connection, database: str, names: Names, call: str
) -> None:
    scale = f"set_currency_scale({names['currency']}, 2)"
    assert one_after_the_other(admin, database, call.format(**names, amount="0.125"), scale) == "WC052"
    assert called(database, f"set_currency_scale({names['currency']}, 4)") == "done"


@pytest.mark.parametrize("call", CALLS)
def test_an_amount_that_waited_for_a_smaller_scale_has_to_fit_it(
    admin: Connection, database: str, names: Names, call: str
) -> None:
    scale = f"set_currency_scale({names['currency']}, 2)"
    assert one_after_the_other(admin, database, scale, call.format(**names, amount="0.125")) == "WB009"
    assert called(database, call.format(**names, amount="0.12")) == "done"
    assert called(database, f"set_currency_scale({names['currency']}, 1)") == "WC052"


@pytest.mark.parametrize("call", CALLS)
def test_an_amount_that_waited_for_a_larger_scale_may_use_it(
    admin: Connection, database: str, names: Names, call: str
) -> None:
    scale = f"set_currency_scale({names['currency']}, 4)"
    assert one_after_the_other(admin, database, scale, call.format(**names, amount="0.1234")) == "done"


def test_of_two_scales_at_once_each_is_judged_by_the_one_before_it(
    admin: Connection, database: str, names: Names
) -> None:
    currency = names["currency"]
    for first, late in ((2, 2), (4, 3), (5, 5)):
        calls = [f"set_currency_scale({currency}, {scale})" for scale in (first, late)]
        assert one_after_the_other(admin, database, calls[0], calls[1]) == "done"
    recorded = admin.execute("select scale from ledger.currency_change order by id").fetchall()
    assert [scale for (scale,) in recorded] == [2, 4, 3, 5]


def test_other_currencies_do_not_wait(admin: Connection, database: str, names: Names) -> None:
    dollars = [account(admin, name, 10) for name in ("dollars", "more dollars")]
    with psycopg.connect(database) as holder:
        holder.execute("select wallet.set_currency_scale(%s, 2)", [names["currency"]])
        admin.execute("set lock_timeout = '1s'")
        paid(admin, dollars[0], dollars[1], "0.001")
        row(admin, "get_account", names["one"])
        account(admin, "new", "0.001")


FINE, COARSE = Decimal("0.001"), Decimal("0.01")


def test_payments_holds_new_accounts_and_scales_at_once(admin: Connection, database: str) -> None:
    """Amounts of 2 and 3 decimals, paid in both directions, while the scale changes between 2, 3 and 4."""

    def run(calls: list[tuple[Any, ...]], start: threading.Barrier) -> list[str]:
        with psycopg.connect(database, user="wallet_app", autocommit=True) as connection:
            start.wait()
            return [outcome(connection, call) for call in calls]

    for number in range(3):
        currency = row(admin, "create_currency", f"C{number}", 3)["id"]
        ids = [account(admin, f"{number} {name}", 1000, currency) for name in range(4)]
        new = [("create_account", f"{number} new {n}", (COARSE, FINE)[n % 2], currency) for n in range(20)]
        work: list[list[tuple[Any, ...]]] = [
            [("make_payment", ids[0], ids[3], COARSE), ("make_payment", ids[0], ids[3], FINE)] * 15,
            [("make_payment", ids[3], ids[0], COARSE), ("make_payment", ids[2], ids[1], FINE)] * 15,
            [("make_payments", ids, ids[::-1], [COARSE] * 4), ("make_payments", ids[::-1], ids, [COARSE] * 4)] * 15,
            [("create_hold", ids[2], ids[0], COARSE), ("set_credit_limit", ids[1], COARSE)] * 15,
            [("set_currency_scale", currency, 2), ("set_currency_scale", currency, 4)] * 15,
            [("set_currency_scale", currency, 3), ("set_currency_scale", currency, 2)] * 15,
            [*new],
        ]
        start = threading.Barrier(len(work))
        with ThreadPoolExecutor(len(work)) as threads:
            running = [threads.submit(run, calls, start) for calls in work]
            found = Counter(told for future in running for told in future.result())
        assert set(found) <= {"done", "WB009", "WC052"}
        assert found["done"] > 100
        scales = "select distinct currency_scale from ledger.account where currency_id = %s"
        assert len(admin.execute(scales, [currency]).fetchall()) == 1
        assert ledger_problems(admin) == []
