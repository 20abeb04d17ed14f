"""The tables refuse what no function should ever store, and never round."""

from decimal import Decimal

import psycopg
import pytest
from psycopg.errors import CheckViolation, ForeignKeyViolation, NotNullViolation, RestrictViolation, UniqueViolation

from tests.conftest import Connection
from tests.sql.calls import held, paid, row
from tests.support import account

PAYMENT = """insert into ledger.payment
    (currency_id, buyer_account_id, seller_account_id, amount, buyer_balance, seller_balance) values """
ACCOUNT = "insert into ledger.account (name, currency_id, opening_balance, balance) values "
CURRENCY = "insert into ledger.currency (name, scale) values "
CHANGE_OF_CURRENCY = "insert into ledger.currency_change (currency_id, scale) values "
HOLD = """insert into ledger.hold
    (currency_id, buyer_account_id, seller_account_id, amount, expires_at, status, ended_at, idempotency_key, description,
     reference) values """
REFUND = """insert into ledger.payment
    (currency_id, buyer_account_id, seller_account_id, amount, buyer_balance, seller_balance, refunded_payment_id) values """
CAPTURE = REFUND.replace("refunded_payment_id", "hold_id")
LATER = "clock_timestamp() + interval '1 hour'"


# A statement, the error, and the constraint or the trigger that says so. {one} and {two} have dollars, {three} roubles,
# {cent} a currency of 2 decimals; {payment} is one of {one} to {two}, {hold} an open hold of the same, {voided} another
# one, {captured} one that {capture} has paid.
REFUSED: list[tuple[str, type[psycopg.Error], str]] = [
    (ACCOUNT + "('x', 1, 0, -1)", CheckViolation, "account_covered"),
    (ACCOUNT + "('x', 1, -1, 0)", CheckViolation, "account_terms"),
    (ACCOUNT + "('x', 1, 0, 'NaN')", CheckViolation, "amount_has_15_integer_digits"),
    (ACCOUNT + "('x', 1, 0, 'Infinity')", CheckViolation, "amount_has_15_integer_digits"),
    (ACCOUNT + "('x', 1, 0, 1e15)", CheckViolation, "amount_has_15_integer_digits"),
    (ACCOUNT + "('x', 1, 0, 0.0000000000000001)", CheckViolation, "amount_has_15_decimals"),
    (ACCOUNT + "('x', 1, 0, null)", NotNullViolation, "balance"),
    (ACCOUNT + "('', 1, 0, 0)", CheckViolation, "account_terms"),
    (ACCOUNT + "(repeat('n', 256), 1, 0, 0)", CheckViolation, "account_terms"),
    ("update ledger.account set name = '' where id = {one}", CheckViolation, "account_terms"),
    (ACCOUNT + "('one', 1, 0, 0)", UniqueViolation, "account_name_key"),
    (ACCOUNT + "('x', 999999, 0, 0)", ForeignKeyViolation, "account_currency_scale_fkey"),
    (ACCOUNT + "('x', {cents}, 0, 0)", ForeignKeyViolation, "account_currency_scale_fkey"),
    ("update ledger.account set balance = -1 where id = {one}", CheckViolation, "account_covered"),
    ("update ledger.account set credit_limit = -1 where id = {two}", CheckViolation, "account_terms"),
    ("update ledger.account set credit_limit = 1e15 where id = {two}", CheckViolation, "account_terms"),
    ("update ledger.account set credit_limit = 'NaN' where id = {two}", CheckViolation, "account_terms"),
    ("update ledger.account set credit_limit = 1e-16 where id = {two}", CheckViolation, "account_terms"),
    ("update ledger.account set credit_limit = null where id = {two}", NotNullViolation, "credit_limit"),
    ("update ledger.account set held = -1 where id = {two}", CheckViolation, "account_terms"),
    ("update ledger.account set held = 'NaN' where id = {two}", CheckViolation, "account_"),
    ("update ledger.account set held = 1e-16 where id = {two}", CheckViolation, "account_terms"),
    ("update ledger.account set held = null where id = {two}", NotNullViolation, "held"),
    ("update ledger.account set held = balance + 1 where id = {one}", CheckViolation, "account_covered"),
    ("update ledger.account set status = 'open' where id = {two}", CheckViolation, "account_terms"),
    ("update ledger.account set status = null where id = {two}", NotNullViolation, "status"),
    ("update ledger.account set status = 'closed' where id = {two}", CheckViolation, "account_covered"),
    (
        "update ledger.account set status = 'closed', balance = 0, held = 0.5, credit_limit = 1 where id = {two}",
        CheckViolation,
        "account_terms",
    ),
    ("delete from ledger.account where id = {one}", RestrictViolation, "account_origin_kept"),
    ("truncate ledger.account cascade", RestrictViolation, "account_origin_kept"),
    ("update ledger.account set currency_id = 2 where id = {one}", RestrictViolation, "account_origin_kept"),
    ("update ledger.account set currency_scale = 2 where id = {one}", ForeignKeyViolation, "account_currency_scale_fkey"),
    ("update ledger.account set opening_balance = 2 where id = {one}", RestrictViolation, "account_origin_kept"),
    (CURRENCY + "('x', -1)", CheckViolation, "currency_scale_range"),
    (CURRENCY + "('x', 16)", CheckViolation, "currency_scale_range"),
    (CURRENCY + "('x', null)", NotNullViolation, "scale"),
    (CURRENCY + "('', 2)", CheckViolation, "currency_name_length"),
    (CURRENCY + "('USD', 2)", UniqueViolation, "currency_name_key"),
    ("update ledger.currency set scale = 3 where id = {cents}", ForeignKeyViolation, "account_currency_scale_fkey"),
    ("update ledger.currency set id = default where id = {cents}", RestrictViolation, "currency_kept"),
    ("update ledger.currency_change set scale = 3", RestrictViolation, "currency_change_append_only"),
    ("delete from ledger.currency_change", RestrictViolation, "currency_change_append_only"),
    ("truncate ledger.currency_change", RestrictViolation, "currency_change_append_only"),
    (CHANGE_OF_CURRENCY + "(0, 2)", ForeignKeyViolation, "currency_change_currency_id_fkey"),
    (CHANGE_OF_CURRENCY + "(1, 16)", CheckViolation, "currency_change_scale_range"),
    (CHANGE_OF_CURRENCY + "(1, null)", NotNullViolation, "scale"),
    ("update ledger.currency set name = 'x' where id = {cents}", RestrictViolation, "currency_kept"),
    ("delete from ledger.currency where id = {cents}", RestrictViolation, "currency_kept"),
    ("truncate ledger.currency cascade", RestrictViolation, "currency_kept"),
    ("update ledger.account_change set status = 'active'", RestrictViolation, "account_change_append_only"),
    ("delete from ledger.account_change", RestrictViolation, "account_change_append_only"),
    ("truncate ledger.account_change", RestrictViolation, "account_change_append_only"),
    (
        "insert into ledger.account_change (account_id, status, credit_limit, last_payment_id) values (0, 'active', 0, 0)",
        ForeignKeyViolation,
        "account_change_account",
    ),
    (PAYMENT + "(1, {one}, {one}, 1, 0, 0)", CheckViolation, "payment_not_to_self"),
    (PAYMENT + "(1, {one}, {two}, 0, 0, 0)", CheckViolation, "payment_amount_positive"),
    (PAYMENT + "(1, {one}, {two}, -1, 0, 0)", CheckViolation, "payment_amount_positive"),
    (PAYMENT + "(1, {one}, {two}, 'NaN', 0, 0)", CheckViolation, "amount_has_15_integer_digits"),
    (PAYMENT + "(1, {one}, {two}, 0.0000000000000001, 0, 0)", CheckViolation, "amount_has_15_decimals"),
    (PAYMENT + "(1, {one}, {three}, 1, 0, 0)", CheckViolation, "payment_true"),
    (PAYMENT + "(2, {one}, {two}, 1, 0, 0)", CheckViolation, "payment_true"),
    (PAYMENT + "(1, {one}, 0, 1, 0, 0)", CheckViolation, "payment_true"),
    ("update ledger.payment set amount = 2", RestrictViolation, "payment_append_only"),
    ("update ledger.payment set description = 'x'", RestrictViolation, "payment_append_only"),
    ("delete from ledger.payment", RestrictViolation, "payment_append_only"),
    ("truncate ledger.payment", RestrictViolation, "payment_append_only"),
    (PAYMENT.replace("seller_balance)", "seller_balance, description)") + "(1, {one}, {two}, 1, 0, 0, '')",
     CheckViolation, "payment_true"),
    (PAYMENT.replace("seller_balance)", "seller_balance, description)") + "(1, {one}, {two}, 1, 0, 0, repeat('d', 256))",
     CheckViolation, "payment_true"),
    (PAYMENT.replace("seller_balance)", "seller_balance, reference)") + "(1, {one}, {two}, 1, 0, 0, '')",
     CheckViolation, "payment_true"),
    (PAYMENT.replace("seller_balance)", "seller_balance, reference)") + "(1, {one}, {two}, 1, 0, 0, repeat('r', 256))",
     CheckViolation, "payment_true"),
    (REFUND + "(1, {two}, {one}, 1, 0, 0, 9223372036854775807)", CheckViolation, "payment_true"),
    (REFUND + "(1, {two}, {one}, 1, 0, 0, 0)", CheckViolation, "payment_true"),
    (REFUND + "(1, {one}, {two}, 1, 0, 0, {payment})", CheckViolation, "payment_true"),
    (REFUND + "(1, {two}, {four}, 1, 0, 0, {payment})", CheckViolation, "payment_true"),
    (REFUND + "(1, {four}, {one}, 1, 0, 0, {payment})", CheckViolation, "payment_true"),
    (CAPTURE + "(1, {one}, {two}, 1, 0, 0, 0)", CheckViolation, "payment_true"),
    (CAPTURE + "(1, {two}, {one}, 1, 0, 0, {hold})", CheckViolation, "payment_true"),
    (CAPTURE + "(1, {one}, {four}, 1, 0, 0, {hold})", CheckViolation, "payment_true"),
    (CAPTURE + "(1, {four}, {two}, 1, 0, 0, {hold})", CheckViolation, "payment_true"),
    (CAPTURE + "(1, {one}, {two}, 1, 0, 0, {captured})", CheckViolation, "payment_true"),
    (HOLD + "(1, {one}, {one}, 1, LATER, 'open', null, null, null, null)", CheckViolation, "hold_not_to_self"),
    (HOLD + "(1, {one}, {two}, 0, LATER, 'open', null, null, null, null)", CheckViolation, "hold_amount_positive"),
    (HOLD + "(1, {one}, {two}, 'NaN', LATER, 'open', null, null, null, null)", CheckViolation, "amount_has_15"),
    (HOLD + "(1, {one}, {two}, 1, null, 'open', null, null, null, null)", NotNullViolation, "expires_at"),
    (HOLD + "(1, {one}, {two}, 1, LATER, 'ended', LATER, null, null, null)", CheckViolation, "hold_status_known"),
    (HOLD + "(1, {one}, {two}, 1, LATER, 'open', LATER, null, null, null)", CheckViolation, "hold_ended"),
    (HOLD + "(1, {one}, {two}, 1, LATER, 'voided', null, null, null, null)", CheckViolation, "hold_ended"),
    (HOLD + "(1, {one}, {two}, 1, LATER, 'open', null, '', null, null)", CheckViolation, "hold_idempotency_key_length"),
    (HOLD + "(1, {one}, {two}, 1, LATER, 'open', null, repeat('k', 322), null, null)",
     CheckViolation, "hold_idempotency_key_length"),
    (HOLD + "(1, {one}, {two}, 1, LATER, 'open', null, 'key', null, null)", UniqueViolation, "hold_idempotency_key_key"),
    (HOLD + "(1, {one}, {two}, 1, LATER, 'open', null, null, '', null)", CheckViolation, "hold_description_length"),
    (HOLD + "(1, {one}, {two}, 1, LATER, 'open', null, null, null, repeat('r', 256))",
     CheckViolation, "hold_reference_length"),
    (HOLD + "(2, {one}, {two}, 1, LATER, 'open', null, null, null, null)", ForeignKeyViolation, "hold_parties"),
    (HOLD + "(1, {one}, {three}, 1, LATER, 'open', null, null, null, null)", ForeignKeyViolation, "hold_parties"),
    *(
        (f"update ledger.hold set {column} = default", RestrictViolation, "hold_kept")
        for column in ("id", "currency_id", "buyer_account_id", "seller_account_id", "amount", "operation_timestamp",
                       "expires_at", "idempotency_key", "description", "reference")
    ),
    ("delete from ledger.hold", RestrictViolation, "hold_kept"),
    ("truncate ledger.hold", RestrictViolation, "hold_kept"),
]  # fmt: skip


@pytest.fixture
def names(keeper: Connection) -> dict[str, int]:
    cents = row(keeper, "create_currency", "CENT", 2)["id"]
    names = {"cents": cents, "cent": account(keeper, "cent", 10, cents), "three": account(keeper, "three", 10, 2)}
    for name in ("one", "two", "four"):
        names[name] = account(keeper, name, 10)
    names["payment"] = paid(keeper, names["one"], names["two"], 1)
    names["hold"] = held(keeper, names["one"], names["two"], 1, idempotency_key="key")
    names["captured"] = held(keeper, names["one"], names["two"], 1)
    row(keeper, "capture_hold", names["captured"])
    row(keeper, "set_account_status", names["four"], "frozen")
    return names


@pytest.mark.parametrize(("statement", "error", "says"), REFUSED)
def test_refused(
    keeper: Connection, names: dict[str, int], statement: str, error: type[psycopg.Error], says: str
) -> None:
    with pytest.raises(error, match=says), keeper.transaction():
        keeper.execute(statement.format(**names).replace("LATER", LATER))


# The trigger payment_true asserts this of each payment, whatever else it asserts of some.
PLAIN = {"buyer_account_id": "{one}", "seller_account_id": "{two}"}
KINDS = {
    "a payment": PLAIN,
    "a refund": {"buyer_account_id": "{two}", "seller_account_id": "{one}", "refunded_payment_id": "{payment}"},
    "a capture": PLAIN | {"hold_id": "{hold}"},
}
RIGHT = {"currency_id": "1", "description": "'d'", "reference": "'r'", "api_key_id": "null"}
WRONG = [
    {"currency_id": "2"},
    {"description": "''"},
    {"description": "repeat('d', 256)"},
    {"reference": "''"},
    {"reference": "repeat('r', 256)"},
    {"api_key_id": "0"},
]


def insertion(*payments: dict[str, str]) -> str:
    """A statement that adds payments, each a value or NULL by column."""
    columns = ["refunded_payment_id", "hold_id", *RIGHT, *PLAIN]
    rows = [", ".join([payment.get(column, "null") for column in columns]) for payment in payments]
    values = ", ".join([f"({row}, 1, 0, 0)" for row in rows])
    return f"insert into ledger.payment ({', '.join(columns)}, amount, buyer_balance, seller_balance) values {values}"


@pytest.mark.parametrize("wrong", WRONG, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_what_any_payment_says_is_so(
    keeper: Connection, names: dict[str, int], kind: str, wrong: dict[str, str]
) -> None:
    right = KINDS[kind] | RIGHT
    with pytest.raises(CheckViolation, match="payment_true"), keeper.transaction():
        keeper.execute(insertion(right | wrong).format(**names))
    for other in (KINDS["a payment"], KINDS["a refund"]):
        with pytest.raises(CheckViolation, match="payment_true"), keeper.transaction():
            keeper.execute(insertion(other | RIGHT, right | wrong).format(**names))
    keeper.execute(insertion(right).format(**names))


def test_nothing_is_rounded_on_its_way_into_a_table(keeper: Connection, names: dict[str, int]) -> None:
    most = "123456789012345.123456789012345"
    change = "update ledger.account set balance = most, credit_limit = most, held = most from (select %s::numeric as most) as most where id = %s"
    keeper.execute(change, [most, names["one"]])
    stored = keeper.execute("select balance, credit_limit, held from ledger.account where id = %s", [names["one"]])
    assert stored.fetchall() == [(Decimal(most),) * 3]


def test_every_constraint_holds_for_the_rows_that_were_there_before(keeper: Connection) -> None:
    """Those that were added to tables with rows in them were added "not valid", and looked at afterwards."""
    assert keeper.execute("select conname from pg_constraint where not convalidated").fetchall() == []
