"""Every refusal has one code, one sentence, a cause and a cure, and a test that raises it."""

import re
from typing import Any

import psycopg
import pytest

from tests.conftest import Connection
from tests.sql import (
    test_account_terms,
    test_api_keys,
    test_create_account,
    test_currencies,
    test_feed,
    test_history,
    test_holds,
    test_idempotency_keys,
    test_keyed_requests,
    test_lists,
    test_make_payment,
    test_names,
    test_payment_options,
    test_reading,
    test_refunds,
    test_statements,
    test_summaries,
    test_tenants,
)
from tests.sql.calls import rows
from tests.support import PROJECT, account
from tools import rules
from wallet_api.http.refusals import STATUS

CODES = list(rules.refusals())
RULES = [path for path in (PROJECT / "db/functions").glob("*.sql") if path.stem != "_refuse"]
USED = set(re.findall(r"'(W[A-Z0-9]{4})'", "".join(path.read_text() for path in RULES)))
TABLES: list[list[tuple[str, str]]] = [
    test_account_terms.REFUSALS,
    test_api_keys.REFUSALS,
    test_api_keys.PERMISSIONS,
    test_create_account.REFUSALS,
    test_currencies.REFUSALS,
    test_feed.REFUSALS,
    test_feed.AFTER_A_CHANGE,
    test_history.REFUSALS,
    test_holds.REFUSALS,
    test_idempotency_keys.REFUSALS,
    test_keyed_requests.REFUSALS,
    test_lists.REFUSALS,
    test_make_payment.REFUSALS,
    test_make_payment.TEXTS,
    test_names.REFUSALS,
    test_payment_options.REFUSALS,
    test_reading.REFUSALS,
    test_refunds.REFUSALS,
    test_statements.REFUSALS,
    test_summaries.REFUSALS,
    test_tenants.REFUSALS,
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
    assert code[:2] in STATUS


# A call whose argument, given as %s, a rule limits; what the registry says that the rule allows is what it does.
LIMITED = {
    "WB008": "make_payment(0, 0, 1, %s)",
    "WB011": "create_account(%s, 0, 1)",
    "WB016": "make_payment(1, 2, 1, null, %s)",
    "WB017": "make_payment(1, 2, 1, null, null, %s)",
    "WB028": "make_payment(0, 0, 1, %s)",
    "WB031": "create_hold(1, 2, 1, %s)",
    "WB036": "list_holds(p_status => %s)",
    "WB041": "set_account_status(0, %s)",
    "WB051": "create_currency(%s, 2)",
    "WB052": "create_currency('x', %s)",
    "WB061": "list_accounts(p_limit => %s)",
    "WB064": "list_accounts(p_order => %s)",
    "WB071": "create_api_key(%s, array['read'])",
}


def test_every_limit_of_the_registry_is_tried() -> None:
    assert sorted(LIMITED) == sorted(code for code, about in rules.registry().items() if "allowed" in about)


@pytest.mark.parametrize("code", LIMITED)
def test_a_rule_allows_what_the_registry_says(ops: Connection, code: str) -> None:
    allowed = rules.registry()[code]["allowed"]
    good, bad = edges(allowed)
    for value, refused in [*((value, False) for value in good), *((value, True) for value in bad)]:
        state = ""
        try:
            with ops.transaction(force_rollback=True):
                ops.execute(f"select wallet.{LIMITED[code]}", [value])
        except psycopg.Error as error:
            state = error.sqlstate or ""
        assert (state == code) == refused, value


def edges(allowed: dict[str, Any]) -> tuple[list[str | int], list[str | int]]:
    """The values just inside of what is allowed, and those just outside."""
    if "enum" in allowed:
        return allowed["enum"], ["", "other", *[f"{value} " for value in allowed["enum"]]]
    if "pattern" in allowed:
        tried = ["\x1f", "\x1fx", "\x1e", " \x1f", "\n", "x"]
        good = [text for text in tried if re.search(allowed["pattern"], text)]
        return [*good], [text for text in tried if text not in good]
    if "maxLength" in allowed:
        least, most = allowed["minLength"], allowed["maxLength"]
        return ["x" * least, "x" * most], ["x" * (least - 1), "x" * (most + 1)]
    least, most = allowed["minimum"], allowed["maximum"]
    return [least, most], [least - 1, most + 1]


def test_list_refusals_shows_what_docs_errors_md_is_made_from(ops: Connection) -> None:
    shown = [row for row in rows(ops, "list_refusals") if row["code"] != "55P03"]
    assert [row["code"] for row in shown] == sorted(CODES)
    for row in shown:
        refusal = rules.refusals()[row["code"]]
        assert (row["message"], row["cause"], row["cure"]) == (refusal.sentence, refusal.cause, refusal.cure)


def test_the_argument_to_blame_is_one_of_some_function(keeper: Connection) -> None:
    query = "select distinct unnest(proargnames) from pg_proc where pronamespace = 'wallet'::regnamespace"
    arguments = {name.removeprefix("p_") for (name,) in keeper.execute(query).fetchall()}
    blamed = {row["argument"] for row in rows(keeper, "list_refusals")} - {None}
    assert blamed
    assert blamed <= arguments


def test_a_refusal_is_raised_with_its_code_its_words_and_the_argument_to_blame(ops: Connection) -> None:
    for call, blamed in [
        ("make_payment(1, 2, 0)", "amount"),
        ("make_payment(0, 1, 1)", "buyer_account_id"),
        ("create_account(null, 0, 1)", "name"),
        ("get_account(0)", "account_id"),
        ("set_account_status(0, 'closed ')", "status"),
        ("list_payments(p_min => 'NaN')", ""),
    ]:
        with pytest.raises(psycopg.Error) as refusal, ops.transaction():
            ops.execute(f"select * from {call}")
        known = rules.refusals()[refusal.value.sqlstate or ""]
        assert refusal.value.diag.message_primary == known.sentence
        assert (refusal.value.diag.column_name or "") == blamed


def test_account_not_found_names_the_account_that_is_missing(ops: Connection) -> None:
    there = account(ops, "there", 10)
    for buyer, seller, blamed in [
        (0, there, "buyer_account_id"),
        (there, 0, "seller_account_id"),
        (0, -1, "buyer_account_id"),
    ]:
        for call in (
            "make_payment(%s, %s, 1)",
            "create_hold(%s, %s, 1)",
            "make_payments(array[%s], array[%s], array[1], true)",
        ):
            with pytest.raises(psycopg.Error) as refusal, ops.transaction():
                ops.execute(f"select * from {call}", [buyer, seller])
            assert (refusal.value.sqlstate, refusal.value.diag.column_name) == ("WB004", blamed)
        [made] = rows(ops, "make_payments", [buyer], [seller], [1])
        assert (made["error_code"], made["error_field"]) == ("WB004", blamed)
