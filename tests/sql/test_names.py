"""Names of accounts, currencies and API keys can be told apart by looking at them, and do nothing to a terminal."""

import sys
import unicodedata

import psycopg
import pytest

from tests.conftest import Connection
from tests.sql.calls import refusal_of, row, rows

CREATE = {
    "account": "create_account({name}, 0, 1)",
    "currency": "create_currency({name}, 2)",
    "API key": "create_api_key({name}, '{{read}}')",
}
LETTER_AND_ACCENT, LETTER = "e\u0301", "\u00e9"
BLANKS = [" ", "\u00a0", "\u2003", "\u3000", "\u2800", "\ufe0f", " \ufe0f ", "\u180b"]
INVISIBLE = ["\u200b", "\u00ad", "\u202e", "\u034f", "\u3164", "\ufeff", "\u2028", "\U000e0041"]
CONTROLS = ["\n", "\t", "\x1b[2J", "\x7f", "\x85", "\r"]
REFUSALS = [(create.format(name="E'\\n0 problems'"), "WB018") for create in CREATE.values()]


def creating(what: str, name: str) -> str:
    return CREATE[what].format(name=psycopg.sql.Literal(name).as_string())


@pytest.mark.parametrize(("call", "code"), REFUSALS)
def test_refusals(ops: Connection, call: str, code: str) -> None:
    assert refusal_of(ops, call) == code


@pytest.mark.parametrize("what", CREATE)
def test_a_blank_name_is_refused(ops: Connection, what: str) -> None:
    for name in BLANKS:
        assert refusal_of(ops, creating(what, name)) == "WB018", ascii(name)
        ops.execute(f"select * from wallet.{creating(what, f'{what[:3]}{name}!')}")


@pytest.mark.parametrize("what", CREATE)
def test_a_character_that_shows_nothing_or_does_something_is_refused_wherever_it_stands(
    ops: Connection, what: str
) -> None:
    for character in [*INVISIBLE, *CONTROLS]:
        for name in (character, f"{character}buyer", f"buy{character}er", f"buyer{character}"):
            assert refusal_of(ops, creating(what, name)) == "WB018", ascii(name)


@pytest.mark.parametrize(
    "name",
    ["a", "1", "-", "ä" * 16, "Ω 漢字", "مشتر", "קונה", "👩", "❤\ufe0f", "<script>", "'; --", "\\n", "a  b", LETTER],
)
def test_what_can_be_seen_is_a_name(ops: Connection, name: str) -> None:
    for what in CREATE:
        assert created(ops, what, name) == name


def created(connection: Connection, what: str, name: str) -> str:
    """The name of what is created with a name."""
    [(stored,)] = connection.execute(f"select name from wallet.{creating(what, name)}").fetchall()
    return str(stored)


def test_no_control_or_format_character_of_unicode_is_forgotten(keeper: Connection) -> None:
    refused = [
        code for code in range(1, sys.maxunicode + 1) if unicodedata.category(chr(code)) in ("Cc", "Cf", "Zl", "Zp")
    ]
    assert len(refused) > 200
    passed = keeper.execute(
        "select code from unnest(%s::int[]) as code where wallet._name_is_clear('a' || chr(code) || 'b')", [refused]
    ).fetchall()
    assert [hex(code) for (code,) in passed] == []


def test_letters_digits_and_symbols_of_unicode_are_let_through(keeper: Connection) -> None:
    always_invisible = {0x115F, 0x1160, 0x3164, 0xFFA0, 0x2800}
    visible = [
        code
        for code in range(0x21, sys.maxunicode + 1)
        if unicodedata.category(chr(code))[0] in "LNPS" and code not in always_invisible
    ]
    assert len(visible) > 100_000
    refused = keeper.execute(
        "select code from unnest(%s::int[]) as code where wallet._name_is_clear(chr(code)) is not true", [visible]
    ).fetchall()
    assert [hex(code) for (code,) in refused] == []


# One name, two spellings.


def test_a_name_is_stored_in_normalization_form_c(ops: Connection) -> None:
    for what in CREATE:
        assert created(ops, what, LETTER_AND_ACCENT) == LETTER
        assert refusal_of(ops, creating(what, LETTER)) in ("WC011", "WC051", "WC071")
        assert refusal_of(ops, creating(what, LETTER_AND_ACCENT)) in ("WC011", "WC051", "WC071")


def test_the_length_is_that_of_the_name_as_it_is_stored(ops: Connection) -> None:
    assert row(ops, "create_account", LETTER_AND_ACCENT * 255, 0, 1)["name"] == LETTER * 255
    assert refusal_of(ops, creating("account", LETTER_AND_ACCENT * 256)) == "WB011"


def test_a_name_is_found_however_it_is_spelled(ops: Connection) -> None:
    made = row(ops, "create_account", f"caf{LETTER}", 0, 1)["id"]
    currency = row(ops, "create_currency", LETTER, 2)["id"]
    other = row(ops, "create_account", "other", 0, currency)["id"]
    for spelling in (LETTER, LETTER_AND_ACCENT):
        assert [found["id"] for found in rows(ops, "list_accounts", name=f"caf{spelling}")] == [made]
        assert [found["id"] for found in rows(ops, "list_accounts", name_prefix=f"caf{spelling}")] == [made]
        assert [found["id"] for found in rows(ops, "list_accounts", currency=spelling)] == [other]


def test_names_from_before_the_rule_stay_and_are_found(keeper: Connection) -> None:
    for name in (f"old {LETTER_AND_ACCENT}", " ", "\x1b[2J"):
        keeper.execute(
            "insert into ledger.account (name, currency_id, opening_balance, balance) values (%s, 1, 5, 5)", [name]
        )
        [found] = rows(keeper, "list_accounts", name=name)
        assert (found["name"], found["amount"]) == (name, 5)
        assert name in [listed["name"] for listed in rows(keeper, "list_accounts", name_prefix=name)]
        payer, payee = found["id"], row(keeper, "create_account", f"{found['id']}", 0, 1)["id"]
        assert row(keeper, "make_payment", payer, payee, 1)["amount"] == 1
