"""Checks the ledger and formats the result as a table and a list of problems."""

from collections import Counter

import psycopg

from wallet_api.commands import CommandRefused, table, wallet
from wallet_api.observability.log import printable

# A superuser who checks executes no function that others put into the schema public. A check may take longer than the
# usual limits; not every PostgreSQL version has all of these.
_BEGIN = """
    set local search_path = pg_catalog;
    select set_config(name, '0', true) from pg_settings
    where name in ('statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout')"""
# The places of a problem; concat_ws leaves out what is null.
_PROBLEMS = """
    select currency_id, concat_ws(', ', 'account ' || account_id, 'payment ' || payment_id), problem
    from wallet.check_ledger()"""
_IDENTITY = "select wallet.ledger_identity()"
_RECORD = "select wallet.record_ledger_check(%s)"
# Further problems are only counted.
_MOST_SHOWN = 50


def check(conninfo: str, primary: str | None = None) -> tuple[list[str], bool]:
    """Checks the ledger of a live database in one snapshot, and records the number of problems.

    Returns lines of text, and whether there are no problems. If `primary` is given, records there; otherwise here, but
    not in a read-only session, such as on a standby or as the reporting role. Raises CommandRefused, or psycopg.Error.
    """
    with wallet(conninfo) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.execute(_BEGIN)
        identity = connection.execute(_IDENTITY).fetchone()
        summary = connection.execute("select * from wallet.summarize_ledger()").fetchall()
        problems = connection.execute(_PROBLEMS).fetchall()
        if primary is None and connection.execute("show transaction_read_only").fetchone() == ("off",):
            connection.execute(_RECORD, [len(problems)])
    if primary is not None:
        with wallet(primary) as connection:
            connection.execute(_BEGIN)
            if connection.execute(_IDENTITY).fetchone() != identity:
                raise CommandRefused("DATABASE_READ_URL leads to another database than DATABASE_URL")
            connection.execute(_RECORD, [len(problems)])
    found = Counter(currency_id for currency_id, *_ in problems)
    rows = [("currency", "accounts", "payments", "total", "verdict")]
    for currency_id, name, accounts, payments, total, _ in summary:
        verdict = f"{found[currency_id]} wrong" if found[currency_id] else "proved"
        rows.append((printable(name), f"{accounts:,}", f"{payments:,}", f"{total:,f}", verdict))
    lines = table(rows, numbers=(1, 2, 3))
    lines += [f"{places or 'ledger'}: {printable(words)}" for _, places, words in problems[:_MOST_SHOWN]]
    if len(problems) > _MOST_SHOWN:
        lines.append(f"and {len(problems) - _MOST_SHOWN:,} more; check_ledger() lists them all")
    return lines, not problems
