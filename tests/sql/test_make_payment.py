"""make_payment() moves an amount from the buyer's account to the seller's, exactly, or refuses and moves nothing."""

from decimal import Context, Decimal

import psycopg
import pytest

from tests.conftest import Connection
from tests.sql.calls import row, rows
from tests.support import account, balance

MOST = Decimal("999999999999999.999999999999999")
LEAST = Decimal("0.000000000000001")
EXACT = Context(prec=30)  # Python's own default of 28 digits would round here
CALL = "select * from wallet.make_payment(%s, %s, %s)"


@pytest.fixture
def buyer(ops: Connection) -> int:
    return account(ops, "buyer", "1000")


@pytest.fixture
def seller(ops: Connection) -> int:
    return account(ops, "seller", "0")


def test_the_buyer_loses_what_the_seller_gains(ops: Connection, buyer: int, seller: int) -> None:
    payment = row(ops, "make_payment", buyer, seller, Decimal("500.1"))
    assert list(payment) == [
        "id",
        "currency_id",
        "amount",
        "buyer_account_id",
        "seller_account_id",
        "operation_timestamp",
        "description",
        "reference",
        "replayed",
        "metadata",
        "buyer_balance",
        "seller_balance",
    ]
    assert payment["amount"] == Decimal("500.1")
    assert (payment["buyer_account_id"], payment["seller_account_id"], payment["currency_id"]) == (buyer, seller, 1)
    assert balance(ops, buyer) == Decimal("499.9")
    assert balance(ops, seller) == Decimal("500.1")


def test_as_ops_type_it(ops: Connection, buyer: int, seller: int) -> None:
    [row] = ops.execute(f"select amount from make_payment({buyer}, {seller}, 500.1)").fetchall()
    assert row == (Decimal("500.1"),)


def test_the_whole_balance_can_be_paid(ops: Connection, buyer: int, seller: int) -> None:
    row(ops, "make_payment", buyer, seller, 1000)
    assert [balance(ops, buyer), balance(ops, seller)] == [0, 1000]


@pytest.mark.parametrize("amount", [LEAST, MOST, EXACT.subtract(MOST, LEAST), Decimal("1e14"), Decimal("0.1")])
def test_every_amount_in_range_arrives_to_the_last_digit(ops: Connection, seller: int, amount: Decimal) -> None:
    rich = account(ops, "rich", MOST)
    assert row(ops, "make_payment", rich, seller, amount)["amount"] == amount
    assert (balance(ops, rich), balance(ops, seller)) == (EXACT.subtract(MOST, amount), amount)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("500.10", "500.1"),
        ("1e2", "100"),
        ("1E-3", "0.001"),
        ("0.000000000000001", "0.000000000000001"),
        ("7.00000000000000000000", "7"),
    ],
)
def test_amounts_have_no_needless_zeros(ops: Connection, buyer: int, seller: int, given: str, shown: str) -> None:
    [(text,)] = ops.execute(f"select amount::text from wallet.make_payment({buyer}, {seller}, {given})").fetchall()
    assert text == shown
    [(text,)] = ops.execute("select amount::text from wallet.get_account(%s)", [seller]).fetchall()
    assert text == shown
    [(text, trimmed)] = ops.execute(
        "select amount::text, trim_scale(amount)::text from wallet.get_account(%s)", [buyer]
    ).fetchall()
    assert text == trimmed


@pytest.mark.parametrize("text", ["d", " ", "ä" * 255, "😀" * 255, "'; drop schema ledger cascade; --", "a\nb", "NULL"])
def test_it_says_what_its_caller_says_of_it(ops: Connection, buyer: int, seller: int, text: str) -> None:
    query = f"select id, description, reference from make_payment({buyer}, {seller}, 1, null, %s, %s)"
    for description, reference in ((text, None), (None, text), (text, text)):
        [made] = ops.execute(query, [description, reference]).fetchall()
        assert made[1:] == (description, reference)
        shown = ops.execute("select id, description, reference from get_payment(%s)", [made[0]]).fetchall()
        assert shown == [made]
    listed = ops.execute("select description, reference from list_payments()").fetchall()
    assert listed == [(text, None), (None, text), (text, text)]


def test_several_payments_may_have_one_reference(ops: Connection, buyer: int, seller: int) -> None:
    for _ in range(2):
        ops.execute(f"select make_payment({buyer}, {seller}, 1, p_reference => 'order 1')")
    assert ops.execute("select count(*) from list_payments(p_reference => 'order 1')").fetchall() == [(2,)]


def test_both_balances_after_it_are_recorded(admin: Connection) -> None:
    buyer, seller = account(admin, "buyer", 10), account(admin, "seller", 5)
    row(admin, "make_payment", buyer, seller, Decimal("2.5"))
    row(admin, "make_payment", seller, buyer, 1)
    assert admin.execute("select buyer_balance, seller_balance from ledger.payment order by id").fetchall() == [
        (Decimal("7.5"), Decimal("7.5")),
        (Decimal("6.5"), Decimal("8.5")),
    ]


def test_both_accounts_are_locked_until_the_transaction_ends(admin: Connection, database: str) -> None:
    buyer, seller = account(admin, "buyer", 10), account(admin, "seller")
    with psycopg.connect(database) as first:
        row(first, "make_payment", buyer, seller, 1)
        for locked in (buyer, seller):
            with pytest.raises(psycopg.errors.LockNotAvailable):
                admin.execute("select from ledger.account where id = %s for no key update nowait", [locked])
    admin.execute("select from ledger.account for no key update nowait")


def test_a_payment_after_another_of_the_same_account_has_a_later_id_and_time(
    ops: Connection, buyer: int, seller: int
) -> None:
    first, second = row(ops, "make_payment", buyer, seller, 1), row(ops, "make_payment", seller, buyer, 1)
    assert first["id"] < second["id"]
    assert first["operation_timestamp"] < second["operation_timestamp"]


# Refusals. {buyer} has 1000 USD, {seller} 0 USD, {other} 1000 RUB, {full} as much USD as an account can hold.
REFUSALS = [
    ("{buyer}, {buyer}, 1", "WB001"),
    ("0, 0, 1", "WB001"),
    ("{buyer}, {seller}, 0", "WB002"),
    ("{buyer}, {seller}, -1", "WB002"),
    ("{buyer}, {seller}, -0.0000000000000001", "WB002"),
    ("{buyer}, {seller}, '-Infinity'", "WB002"),
    ("{buyer}, {seller}, null", "WB002"),
    ("{buyer}, {seller}, 'NaN'", "WB003"),
    ("{buyer}, {seller}, 'Infinity'", "WB003"),
    ("{buyer}, {seller}, 1e15", "WB003"),
    ("{buyer}, {seller}, 1e100", "WB003"),
    ("{buyer}, {seller}, 0.0000000000000001", "WB003"),
    ("{buyer}, {seller}, 1.0000000000000001", "WB003"),
    ("{buyer}, 0, 1", "WB004"),
    ("0, {seller}, 1", "WB004"),
    ("{buyer}, null, 1", "WB004"),
    ("null, {seller}, 1", "WB004"),
    ("null, null, 1", "WB004"),
    ("{buyer}, 9223372036854775807, 1", "WB004"),
    ("-9223372036854775808, {seller}, 1", "WB004"),
    ("9223372036854775807, {seller}, 1", "WB004"),
    ("{buyer}, {other}, 1", "WB005"),
    ("{other}, {seller}, 1", "WB005"),
    ("{seller}, {buyer}, 1", "WB006"),
    ("{buyer}, {seller}, 1000.000000000000001", "WB006"),
    ("{buyer}, {seller}, 999999999999999.999999999999999", "WB006"),
    ("{buyer}, {full}, 0.000000000000001", "WB007"),
    ("{buyer}, {full}, 1000", "WB007"),
    ("{frozen}, {seller}, 1", "WB010"),
    ("{closed}, {seller}, 1", "WB014"),
    ("{buyer}, {closed}, 1", "WB015"),
    ("{blocked}, {seller}, 1", "WB042"),
    ("{buyer}, {blocked}, 1", "WB043"),
    ("{holding}, {seller}, 4.000000000000001", "WB006"),
    ("{credit}, {seller}, 7.000000000000001", "WB006"),
    ("{cents}, {full_cents}, 0.001", "WB009"),
    ("{cents}, {full_cents}, 1.010000000000001", "WB009"),
    # Of two reasons, the one that is checked first:
    ("{buyer}, {buyer}, null", "WB001"),
    ("{buyer}, {buyer}, 'NaN'", "WB001"),
    ("0, {seller}, -1", "WB002"),
    ("0, {seller}, 'NaN'", "WB003"),
    ("0, {other}, 5000", "WB004"),
    ("{buyer}, {other}, 5000", "WB005"),
    ("{poor}, {full}, 5000", "WB006"),
    ("{frozen}, {other}, 5000", "WB005"),
    ("{frozen_cents}, {closed_cents}, 0.001", "WB009"),
    ("{frozen}, {closed}, 5000", "WB010"),
    ("{closed}, {closed_too}, 5000", "WB014"),
    ("{buyer}, {closed}, 5000", "WB015"),
    ("{blocked}, {other}, 5000", "WB005"),
    ("{blocked}, {closed}, 5000", "WB042"),
    ("{frozen}, {blocked}, 5000", "WB010"),
    ("{buyer}, {blocked}, 5000", "WB043"),
]

# Of those that have a key, a description, a reference as well. {buyer} has paid {seller} 1 under 'used', with 'd' and 'r'.
TEXTS = [
    ("{buyer}, {seller}, 1, null, ''", "WB016"),
    ("{buyer}, {seller}, 1, null, repeat('d',256)", "WB016"),
    ("{buyer}, {seller}, 1, null, null, ''", "WB017"),
    ("{buyer}, {seller}, 1, null, null, repeat('ä',256)", "WB017"),
    ("{buyer}, {seller}, 1, 'used'", "WK001"),
    ("{buyer}, {seller}, 1, 'used', 'd'", "WK001"),
    ("{buyer}, {seller}, 1, 'used', null, 'r'", "WK001"),
    ("{buyer}, {seller}, 1, 'used', 'r', 'd'", "WK001"),
    ("{buyer}, {seller}, 1, 'used', 'D', 'r'", "WK001"),
    ("{buyer}, {seller}, 1, 'used', '', 'r'", "WK001"),
    ("{buyer}, {seller}, 1, '', '', ''", "WB008"),
    ("{buyer}, {buyer}, 0, null, '', ''", "WB001"),
    ("{buyer}, {seller}, 0, null, '', ''", "WB002"),
    ("{buyer}, {seller}, 'NaN', null, '', ''", "WB003"),
    ("{buyer}, {seller}, 1, null, '', ''", "WB016"),
    ("{buyer}, 0, 1, null, null, ''", "WB017"),
]


def scene(connection: Connection) -> dict[str, int]:
    """The accounts that the refusals speak of, but for the buyer and the seller."""
    cents = rows(connection, "create_currency", "CENT", 2)[0]["id"]
    openings: dict[str, tuple[object, int]] = {
        "other": (1000, 2),
        "full": (MOST, 1),
        "poor": (0, 1),
        "frozen": (10, 1),
        "blocked": (10, 1),
        "closed": (0, 1),
        "closed_too": (0, 1),
        "holding": (10, 1),
        "credit": (2, 1),
        "cents": (10, cents),
        "full_cents": ("999999999999999.99", cents),
        "frozen_cents": (10, cents),
        "closed_cents": (0, cents),
    }
    accounts = {name: account(connection, name, *opening) for name, opening in openings.items()}
    for name, status in (
        ("frozen", "frozen"),
        ("frozen_cents", "frozen"),
        ("blocked", "blocked"),
        ("closed", "closed"),
        ("closed_too", "closed"),
    ):
        rows(connection, "set_account_status", accounts[name], status)
    rows(connection, "set_account_status", accounts["closed_cents"], "closed")
    rows(connection, "create_hold", accounts["holding"], accounts["poor"], 6)
    rows(connection, "set_credit_limit", accounts["credit"], 5)
    return accounts


@pytest.mark.parametrize(("arguments", "code"), REFUSALS)
def test_refusals(ops: Connection, buyer: int, seller: int, arguments: str, code: str) -> None:
    arguments = arguments.format(buyer=buyer, seller=seller, **scene(ops))
    before = ops.execute("select * from wallet.list_accounts()").fetchall()
    with pytest.raises(psycopg.Error) as refusal, ops.transaction():
        ops.execute(f"select * from wallet.make_payment({arguments})")
    assert refusal.value.sqlstate == code
    assert ops.execute("select * from wallet.list_accounts()").fetchall() == before
    assert ops.execute("select count(*) from wallet.list_payments()").fetchall() == [(0,)]


@pytest.mark.parametrize(("arguments", "code"), TEXTS)
def test_refusals_of_what_its_caller_says_of_it(
    ops: Connection, buyer: int, seller: int, arguments: str, code: str
) -> None:
    ops.execute("select make_payment(%s, %s, 1, 'used', 'd', 'r')", [buyer, seller])
    with pytest.raises(psycopg.Error) as refusal, ops.transaction():
        ops.execute(f"select make_payment({arguments.format(buyer=buyer, seller=seller)})")
    assert refusal.value.sqlstate == code
    again = ops.execute("select replayed from make_payment(%s, %s, 1, 'used', 'd', 'r')", [buyer, seller]).fetchall()
    assert again == [(True,)]
    assert [balance(ops, buyer), balance(ops, seller)] == [999, 1]


@pytest.mark.parametrize("arguments", ["1, 1, 1", "1, 2, -1", "1, 2, 'NaN'"])
def test_what_no_account_could_make_right_waits_for_none(admin: Connection, database: str, arguments: str) -> None:
    assert [account(admin, "buyer", 10), account(admin, "seller")] == [1, 2]
    with psycopg.connect(database) as holder:
        holder.execute("select from ledger.account for update")
        admin.execute("set lock_timeout = '1ms'")
        with pytest.raises(psycopg.Error) as refusal:
            admin.execute(f"select wallet.make_payment({arguments})")
        assert refusal.value.sqlstate in ("WB001", "WB002", "WB003")


def test_what_is_no_number_is_refused_by_postgresql(ops: Connection, buyer: int, seller: int) -> None:
    with pytest.raises(psycopg.errors.InvalidTextRepresentation):
        ops.execute(f"select * from wallet.make_payment({buyer}, {seller}, 'abc')")


def test_in_repeatable_read_a_balance_that_changed_meanwhile_is_a_serialization_failure(
    admin: Connection, database: str
) -> None:
    buyer, seller = account(admin, "buyer", 10), account(admin, "seller")
    with psycopg.connect(database) as late:
        late.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        late.execute("select 1")
        row(admin, "make_payment", buyer, seller, 10)
        with pytest.raises(psycopg.errors.SerializationFailure):
            row(late, "make_payment", buyer, seller, 10)
        late.rollback()
    assert [balance(admin, buyer), balance(admin, seller)] == [0, 10]
