"""Every refusal has one code, one sentence, a line in db/README.md, and a test that raises it."""

import re

import psycopg
import pytest

from tests.conftest import Connection
from tests.sql import (
    test_account_terms,
    test_api_keys,
    test_create_account,
    test_currencies,
    test_history,
    test_holds,
    test_idempotency_keys,
    test_lists,
    test_make_payment,
    test_reading,
    test_refunds,
    test_statements,
)
from tests.support import PROJECT
from wallet_api import errors

CODES = re.findall(r"when '(W\w{4})' then", (PROJECT / "db/functions/_refuse.sql").read_text())
RULES = [path for path in (PROJECT / "db/functions").glob("*.sql") if path.stem != "_refuse"]
USED = set(re.findall(r"'(W[A-Z0-9]{4})'", "".join(path.read_text() for path in RULES)))
TABLES: list[list[tuple[str, str]]] = [
    test_account_terms.REFUSALS,
    test_api_keys.REFUSALS,
    test_api_keys.PERMISSIONS,
    test_create_account.REFUSALS,
    test_currencies.REFUSALS,
    test_history.REFUSALS,
    test_holds.REFUSALS,
    test_idempotency_keys.REFUSALS,
    test_lists.REFUSALS,
    test_make_payment.REFUSALS,
    test_make_payment.TEXTS,
    test_reading.REFUSALS,
    test_refunds.REFUSALS,
    test_statements.REFUSALS,
]
TESTED = {code for table in TABLES for _, code in table}


def test_the_functions_use_each_code_of_the_registry_and_no_other() -> None:
    assert CODES
    assert sorted(CODES) == sorted(USED)


def test_each_code_is_raised_by_a_test() -> None:
    assert set(CODES) == TESTED


@pytest.mark.parametrize("code", CODES)
def test_each_code_is_the_wallet_s_own_and_has_a_status(code: str) -> None:
    assert code[0] in "56789IJKLMNOPQRSTUVWXYZ"
    assert not code.endswith("000")
    assert code[:2] in errors._REFUSALS


@pytest.mark.parametrize("code", CODES)
def test_each_code_stands_in_the_documentation_with_its_status_and_words(keeper: Connection, code: str) -> None:
    [(message,)] = keeper.execute("select wallet._refusal_message(%s)", [code]).fetchall()
    line = f"| `{code}` | {errors._REFUSALS[code[:2]]} | {message} |"
    assert line in (PROJECT / "db/README.md").read_text().splitlines()


def test_a_refusal_is_raised_with_its_code_and_words(keeper: Connection) -> None:
    with pytest.raises(psycopg.Error) as refusal:
        keeper.execute("select wallet._refuse('WB006')")
    assert refusal.value.sqlstate == "WB006"
    assert refusal.value.diag.message_primary == "Buyer account does not have sufficient balance"
