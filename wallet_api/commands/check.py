"""Checks the ledger and formats the result as a table and a list of problems."""

from collections import Counter
from typing import Any

import psycopg

from wallet_api.database.installer import NO_WALLET
from wallet_api.observability.log import printable

# Selects from pg_settings, because not every PostgreSQL version has all of these limits.
_NO_LIMITS = """
    select set_config(name, '0', true) from pg_settings
    where name in ('statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout')"""
# Further problems are only counted.
_MOST_SHOWN = 50


class NoWallet(Exception):
    """There is no ledger to check. The text gives the reason."""


def check(conninfo: str) -> tuple[list[str], bool]:
    """Checks the ledger of a live database in one snapshot, and records the number of problems.

    Returns lines of text, and whether there are no problems. Records nothing in a read-only session, such as on a
    standby or as the reporting role. Raises NoWallet, or psycopg.OperationalError if the database is unreachable.
    """
    with psycopg.connect(conninfo, client_encoding="utf8") as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        try:
            # A check may take longer than the usual limits.
            connection.execute(_NO_LIMITS)
            summary = connection.execute("select * from wallet.summarize_ledger()").fetchall()
            problems = connection.execute("select * from wallet.check_ledger()").fetchall()
            if connection.execute("show transaction_read_only").fetchone() == ("off",):
                connection.execute("select wallet.record_ledger_check(%s)", [len(problems)])
        except NO_WALLET as error:
            raise NoWallet(f"there is no wallet of this version that this user may use: {error}") from None
    return [*_table(summary, problems), *map(_line, problems[:_MOST_SHOWN]), *_rest(problems)], not problems


def _table(summary: list[tuple[Any, ...]], problems: list[tuple[Any, ...]]) -> list[str]:
    found = Counter(currency_id for currency_id, *_ in problems)
    rows = [("currency", "accounts", "payments", "total", "verdict")]
    for currency_id, name, accounts, payments, total, _ in summary:
        verdict = f"{found[currency_id]} wrong" if found[currency_id] else "proved"
        rows.append((printable(name), f"{accounts:,}", f"{payments:,}", f"{total:,f}", verdict))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        f"{row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}  {row[3]:>{widths[3]}}  {row[4]}"
        for row in rows
    ]


def _line(problem: tuple[Any, ...]) -> str:
    _, account_id, payment_id, words = problem
    places = [("account", account_id), ("payment", payment_id)]
    return f"{', '.join(f'{name} {id_}' for name, id_ in places if id_ is not None)}: {printable(words)}"


def _rest(problems: list[tuple[Any, ...]]) -> list[str]:
    more = len(problems) - _MOST_SHOWN
    return [f"and {more:,} more; check_ledger() lists them all"] if more > 0 else []
