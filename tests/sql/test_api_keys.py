"""API keys: created and shown once, found by their hash, revoked, and what each may do, function by function."""

import datetime
import hashlib
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from tests.conftest import Connection
from tests.sql.calls import Row, as_if_an_hour_ago, held, paid, refusal, refusal_of, row, rows
from tests.support import account, ledger_problems

SCOPES = ["read", "pay", "admin"]
TOMORROW = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1)


def key(connection: Connection, *scopes: str, accounts: list[int] | None = None, name: str = "key") -> int:
    """Creates a key and returns its id."""
    return int(row(connection, "create_api_key", name, list(scopes or SCOPES), accounts)["id"])


def hash_of(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


@pytest.fixture
def one(keeper: Connection) -> int:
    return account(keeper, "one", 100)


@pytest.fixture
def two(keeper: Connection) -> int:
    return account(keeper, "two", 100)


@pytest.fixture
def three(keeper: Connection) -> int:
    return account(keeper, "three", 100)


# Made, listed, revoked.


def test_a_secret_is_told_once_and_only_its_hash_is_stored(keeper: Connection, one: int) -> None:
    made = row(keeper, "create_api_key", "shop", ["read", "pay"], [one], TOMORROW)
    for told in (made, row(keeper, "list_api_keys")):
        assert {name: told[name] for name in ("name", "scopes", "account_ids", "expires_at")} == {
            "name": "shop",
            "scopes": ["read", "pay"],
            "account_ids": [one],
            "expires_at": TOMORROW,
        }
    assert re.fullmatch(r"wallet_[A-Za-z0-9_-]{43}", made["secret"])
    [(stored, text)] = keeper.execute("select secret_hash, api_key::text from ledger.api_key as api_key").fetchall()
    assert stored == hash_of(made["secret"])
    assert made["secret"][7:] not in text
    assert "secret" not in row(keeper, "list_api_keys")


def test_no_statement_that_a_server_may_log_has_the_secret_in_it(keeper: Connection) -> None:
    logged: list[str] = []

    def note(notice: psycopg.errors.Diagnostic) -> None:
        logged.append(" ".join((notice.message_detail or "").split()))

    keeper.add_notice_handler(note)
    for setting in ("debug_print_plan = on", "client_min_messages = log"):
        keeper.execute(f"set local {setting}")
    made = row(keeper, "create_api_key", "a shop", ["read"])
    keeper.remove_notice_handler(note)

    def is_logged(value: bytes) -> bool:
        return any(" ".join(map(str, value)) in plan for plan in logged)

    assert is_logged(b"a shop")
    assert not is_logged(made["secret"].encode())


def test_no_two_secrets_are_alike(keeper: Connection) -> None:
    secrets = {row(keeper, "create_api_key", f"key {number}", ["read"])["secret"] for number in range(20)}
    assert len(secrets) == 20


def test_as_ops_type_it(ops: Connection) -> None:
    [(name, secret)] = ops.execute("select name, secret from create_api_key('shop', '{read, pay}')").fetchall()
    assert (name, secret[:7]) == ("shop", "wallet_")
    assert ops.execute("select name, scopes, account_ids, created_by from list_api_keys()").fetchall() == [
        ("shop", ["read", "pay"], None, "wallet_ops")
    ]


REFUSALS = [
    ("create_api_key(null, '{read}')", "WB071"),
    ("create_api_key('', '{read}')", "WB071"),
    ("create_api_key(repeat('x', 65), '{read}')", "WB071"),
    ("create_api_key('key', null)", "WB072"),
    ("create_api_key('key', '{}')", "WB072"),
    ("create_api_key('key', '{read, write}')", "WB072"),
    ("create_api_key('key', '{read, null}')", "WB072"),
    ("create_api_key('key', '{READ}')", "WB072"),
    ("create_api_key('key', '{read, read, read, read, read}')", "WB072"),
    ("create_api_key('key', '{read}', '{}')", "WB073"),
    ("create_api_key('key', '{read}', '{0}')", "WB073"),
    ("create_api_key('key', '{read}', '{null}')", "WB073"),
    ("create_api_key('key', '{read}', array_fill(1::bigint, array[101]))", "WB073"),
    ("create_api_key('key', '{read}', null, now())", "WB074"),
    ("create_api_key('key', '{read}', null, '-infinity')", "WB074"),
    ("create_api_key('taken', '{read}')", "WC071"),
    ("revoke_api_key(0)", "WN004"),
    ("revoke_api_key(null)", "WN004"),
    ("authenticate(null)", "WA001"),
    ("authenticate('\\x00')", "WA001"),
    ("get_account(1, p_api_key_id => 0)", "WA001"),
]
# What a key that has the scope read alone, and is bound to another account, is refused.
PERMISSIONS = [("make_payment", "WF001"), ("get_account", "WF002"), ("create_api_key", "WF005")]


@pytest.mark.parametrize(("call", "code"), REFUSALS)
def test_it_is_refused(keeper: Connection, call: str, code: str) -> None:
    key(keeper, name="taken")
    assert refusal_of(keeper, call) == code


def test_an_account_is_named_once(keeper: Connection, one: int) -> None:
    assert refusal(keeper, "create_api_key", "key", ["read"], [one, one]) == "WB073"


def test_up_to_100_accounts(keeper: Connection) -> None:
    many = [account(keeper, f"account {number}") for number in range(101)]
    assert refusal(keeper, "create_api_key", "key", ["read"], many) == "WB073"
    assert row(keeper, "create_api_key", "key", ["read"], many[:100])["account_ids"] == many[:100]


def test_a_revoked_key_stays_revoked_since_then_and_by_whom(keeper: Connection) -> None:
    shop = key(keeper, name="shop")
    revoked = row(keeper, "revoke_api_key", shop)
    assert (revoked["name"], revoked["revoked_by"]) == ("shop", keeper.info.user)
    assert revoked["revoked_at"] >= revoked["created_at"]
    assert row(keeper, "revoke_api_key", shop) == revoked == row(keeper, "list_api_keys") | {"replayed": None}


def test_what_a_key_was_allowed_to_do_is_kept(keeper: Connection) -> None:
    key(keeper)
    for statement in (
        "update ledger.api_key set scopes = '{admin}'",
        "update ledger.api_key set account_ids = null",
        "update ledger.api_key set expires_at = null",
        "update ledger.api_key set tenant = 'another'",
        "delete from ledger.api_key",
        "truncate ledger.api_key cascade",
    ):
        with pytest.raises(Exception, match=r"api_key_kept|append_only"), keeper.transaction():
            keeper.execute(statement)


# Found by its hash.


def test_a_secret_identifies_its_key(keeper: Connection) -> None:
    made = row(keeper, "create_api_key", "shop", ["pay"])
    assert row(keeper, "authenticate", hash_of(made["secret"])) == {"id": made["id"], "name": "shop"}
    assert refusal(keeper, "authenticate", hash_of(made["secret"] + "x")) == "WA001"


@pytest.mark.parametrize("scopes", ["{pay,read}", "[2:3]={pay,read}", "{{pay},{read}}"])
def test_however_its_scopes_were_written_it_is_found(keeper: Connection, scopes: str) -> None:
    made = row(keeper, "create_api_key", "shop", scopes)
    assert row(keeper, "authenticate", hash_of(made["secret"]))["id"] == made["id"]
    assert rows(keeper, "list_currencies", api_key_id=made["id"])


def test_its_last_use_is_noted_to_the_minute(keeper: Connection) -> None:
    made = row(keeper, "create_api_key", "shop", ["pay"])
    assert row(keeper, "list_api_keys")["last_used_at"] is None
    row(keeper, "authenticate", hash_of(made["secret"]))
    used = row(keeper, "list_api_keys")["last_used_at"]
    [(minute,)] = keeper.execute("select date_trunc('minute', clock_timestamp())").fetchall()
    assert minute - datetime.timedelta(minutes=1) <= used <= minute
    [(version,)] = keeper.execute("select xmin::text || ctid::text from ledger.api_key").fetchall()
    row(keeper, "authenticate", hash_of(made["secret"]))
    if row(keeper, "list_api_keys")["last_used_at"] == used:
        assert keeper.execute("select xmin::text || ctid::text from ledger.api_key").fetchall() == [(version,)]
    key(keeper)
    row(keeper, "authenticate", hash_of(made["secret"]))
    assert rows(keeper, "list_api_keys")[1]["last_used_at"] is None


def test_a_key_that_is_being_revoked_does_not_wait(admin: Connection, database: str) -> None:
    made = row(admin, "create_api_key", "shop", ["pay"])
    with psycopg.connect(database) as revoking:
        row(revoking, "revoke_api_key", made["id"])
        admin.execute("set lock_timeout = '10ms'")
        assert row(admin, "authenticate", hash_of(made["secret"]))["id"] == made["id"]
    assert refusal(admin, "authenticate", hash_of(made["secret"])) == "WA001"


def end(keeper: Connection, api_key: int, how: str) -> None:
    """Revokes a key, or has it expire."""
    if how == "revoked":
        row(keeper, "revoke_api_key", api_key)
    else:
        keeper.execute("set local session_replication_role = replica")  # no trigger keeps it as it is
        keeper.execute("update ledger.api_key set expires_at = statement_timestamp() where id = %s", [api_key])
        keeper.execute("set local session_replication_role = origin")


@pytest.mark.parametrize("how", ["revoked", "expired"])
def test_a_key_that_has_ended_is_not_found(keeper: Connection, how: str) -> None:
    made = row(keeper, "create_api_key", "shop", SCOPES, None, TOMORROW)
    row(keeper, "authenticate", hash_of(made["secret"]))
    end(keeper, made["id"], how)
    assert refusal(keeper, "authenticate", hash_of(made["secret"])) == "WA001"


# Managed by a key.

KEY_CALLS: list[tuple[Any, ...]] = [
    ("list_api_keys",),
    ("create_api_key", "new", ["read"]),
    ("revoke_api_key", 1),
]


@pytest.fixture
def over_http(database: str) -> Iterator[Connection]:
    """A connection as wallet_app."""
    with psycopg.connect(database, user="wallet_app", autocommit=True) as connection:
        yield connection


@pytest.mark.parametrize("call", KEY_CALLS, ids=lambda call: str(call[0]))
def test_over_http_only_a_key_with_the_scope_manages_keys(
    admin: Connection, over_http: Connection, call: tuple[Any, ...]
) -> None:
    assert refusal(over_http, *call) == "WA001"
    mine = account(admin, "mine")
    others, bound = key(admin, *SCOPES, name="others"), key(admin, "keys", accounts=[mine], name="bound")
    assert refusal(over_http, *call, acting_key_id=others) == "WF001"
    assert refusal(over_http, *call, acting_key_id=bound) == "WF002"
    assert refusal(over_http, *call, acting_key_id=0) == "WA001"
    assert rows(over_http, *call, acting_key_id=key(admin, "keys", "read", name="right"))


def test_a_key_passes_on_no_scope_that_it_lacks(admin: Connection, over_http: Connection) -> None:
    acting = key(admin, "keys", "read")
    for scopes in (["pay"], ["read", "pay"], ["admin"]):
        assert refusal(over_http, "create_api_key", "new", scopes, acting_key_id=acting) == "WF005"
    made = row(over_http, "create_api_key", "new", ["read", "keys"], acting_key_id=acting)
    assert row(over_http, "create_api_key", "newer", ["read"], acting_key_id=made["id"])["scopes"] == ["read"]


def test_it_is_known_which_key_created_and_revoked_a_key(admin: Connection, over_http: Connection) -> None:
    acting = key(admin, "keys", "read", name="office")
    made = row(over_http, "create_api_key", "new", ["read"], acting_key_id=acting)
    row(over_http, "revoke_api_key", made["id"], acting_key_id=acting)
    office = f"wallet_app, API key {acting} (office)"
    found = rows(over_http, "list_api_keys", acting_key_id=acting)[-1]
    assert (found["created_by"], found["revoked_by"]) == (office, office)


def test_a_key_that_is_asked_for_again_is_the_same_and_its_secret_is_not_told_again(keeper: Connection) -> None:
    asked = ("shop", ["read", "pay"], None, TOMORROW, "books", "a key")
    first = row(keeper, "create_api_key", *asked)
    again = row(keeper, "create_api_key", *asked)
    assert again == first | {"secret": None, "replayed": True}
    assert len(rows(keeper, "list_api_keys")) == 1
    stored = keeper.execute("select request::text from ledger.request as request").fetchall()
    assert first["secret"][7:] not in str(stored)
    for other in (("shop 2", *asked[1:]), (asked[0], ["read"], *asked[2:]), (*asked[:4], None, "a key")):
        assert refusal(keeper, "create_api_key", *other) == "WK003"


def test_a_key_that_has_expired_is_still_the_answer_to_its_request(keeper: Connection) -> None:
    asked = ("shop", ["read"], None, TOMORROW, None, "a key")
    first = row(keeper, "create_api_key", *asked)
    end(keeper, first["id"], "expired")
    assert row(keeper, "create_api_key", *asked)["id"] == first["id"]


def test_one_that_is_revoked_under_a_key_is_revoked_once(keeper: Connection) -> None:
    shop, other = key(keeper, name="shop"), key(keeper, name="other")
    first = row(keeper, "revoke_api_key", shop, "a key")
    assert row(keeper, "revoke_api_key", shop, "a key") == first | {"replayed": True}
    assert refusal(keeper, "revoke_api_key", other, "a key") == "WK003"


# What it may do. Each function that takes a key, with the scope that it needs and arguments that are right.

CALLS: dict[str, tuple[str, list[Any]]] = {
    "capture_hold": ("pay", ["hold_for_one"]),
    "create_account": ("admin", ["new", 0, 1]),
    "create_currency": ("admin", ["NEW", 2]),
    "create_hold": ("pay", ["one", "two", 1]),
    "get_account": ("read", ["one"]),
    "get_balance_curve": ("read", ["one"]),
    "get_hold": ("read", ["hold"]),
    "get_payment": ("read", ["payment"]),
    "get_statement": ("read", ["one"]),
    "get_totals": ("read", []),
    "list_account_changes": ("read", ["one"]),
    "list_accounts": ("read", []),
    "list_counterparties": ("read", ["one"]),
    "list_currencies": ("read", []),
    # An end that is given: the feed looks for none in a transaction that has made changes.
    "list_feed": ("read", [None, None, "feed_end"]),
    "list_holds": ("read", []),
    "list_payments": ("read", []),
    "make_payment": ("pay", ["one", "two", 1]),
    "make_payments": ("pay", [["one"], ["two"], [Decimal(1)]]),
    "refund_payment": ("pay", ["payment"]),
    "set_account_status": ("admin", ["one", "frozen"]),
    "set_credit_limit": ("admin", ["one", 5]),
    "set_currency_scale": ("admin", [1, 14]),
    "sum_payments_by_hour": ("read", []),
    "void_hold": ("pay", ["hold_for_one"]),
}
# Those that are about the whole wallet: no key that is bound to accounts may.
OF_ALL = {"create_account", "create_currency", "get_totals", "set_currency_scale", "sum_payments_by_hour"}
# Those that find something by its own id: that it is there is not told either.
HIDDEN = {
    "capture_hold": "WN003",
    "get_hold": "WN003",
    "get_payment": "WN002",
    "refund_payment": "WN002",
    "void_hold": "WN003",
}


@pytest.fixture
def known(keeper: Connection, one: int, two: int, three: int) -> dict[str, Any]:
    """Accounts, a payment from two to one, a hold of one for two, and one for one."""
    return {
        "one": one,
        "two": two,
        "three": three,
        "payment": paid(keeper, two, one, 10),
        "hold": held(keeper, one, two, 10),
        "hold_for_one": held(keeper, two, one, 10),
        "feed_end": keeper.execute("select '99999.0@' || wallet._feed_server()").fetchall()[0][0],
    }


def meant(known: dict[str, Any], argument: Any) -> Any:
    if isinstance(argument, list):
        return [meant(known, element) for element in argument]
    return known.get(argument, argument) if isinstance(argument, str) else argument


def called(keeper: Connection, known: dict[str, Any], function: str, api_key: int) -> list[Row]:
    return rows(keeper, function, *meant(known, CALLS[function][1]), api_key_id=api_key)


def refused(keeper: Connection, known: dict[str, Any], function: str, api_key: int) -> str | None:
    return refusal(keeper, function, *meant(known, CALLS[function][1]), api_key_id=api_key)


def test_these_are_all_functions_that_take_a_key(keeper: Connection) -> None:
    taking = "select proname from pg_proc where 'p_api_key_id' = any (proargnames) and proname not like '\\_%'"
    assert {name for (name,) in keeper.execute(taking).fetchall()} - {"revoke_api_key"} == set(CALLS)


@pytest.mark.parametrize("function", CALLS)
def test_it_needs_the_scope_and_no_other(keeper: Connection, known: dict[str, Any], function: str) -> None:
    needed = CALLS[function][0]
    others = [scope for scope in SCOPES if scope != needed]
    assert refused(keeper, known, function, key(keeper, *others)) == "WF001"
    assert called(keeper, known, function, key(keeper, needed, name="right"))


@pytest.mark.parametrize("function", CALLS)
@pytest.mark.parametrize("how", ["unknown", "revoked", "expired"])
def test_it_needs_a_key_that_is_valid_at_this_moment(
    keeper: Connection, known: dict[str, Any], function: str, how: str
) -> None:
    api_key = key(keeper) if how != "unknown" else 0
    if how != "unknown":
        end(keeper, api_key, how)
    assert refused(keeper, known, function, api_key) == "WA001"


@pytest.mark.parametrize("function", CALLS)
def test_a_key_that_is_bound_may_for_its_account(keeper: Connection, known: dict[str, Any], function: str) -> None:
    api_key = key(keeper, accounts=[known["one"]])
    if function in OF_ALL:
        assert refused(keeper, known, function, api_key) == "WF002"
    else:
        assert called(keeper, known, function, api_key)


@pytest.mark.parametrize("function", sorted(set(CALLS) - OF_ALL - {"list_currencies"}))
def test_a_key_that_is_bound_to_another_account_may_not(
    keeper: Connection, known: dict[str, Any], function: str
) -> None:
    api_key = key(keeper, accounts=[known["three"]])
    if function in ("list_accounts", "list_holds", "list_payments"):
        ids = [found["id"] for found in called(keeper, known, function, api_key)]
        assert ids == ([known["three"]] if function == "list_accounts" else [])
    elif function == "list_feed":
        events = [found for found in called(keeper, known, function, api_key) if found["event"] is not None]
        assert [event["account_id"] for event in events] == [known["three"]]
    elif function == "make_payments":
        [outcome] = called(keeper, known, function, api_key)
        assert (outcome["id"], outcome["error_code"]) == (None, "WF002")
    else:
        assert refused(keeper, known, function, api_key) == HIDDEN.get(function, "WF002")
    assert ledger_problems(keeper) == []


# It pays only from its accounts, not for who pays it; and what others hold for them, it captures and voids.
@pytest.mark.parametrize("function", ["capture_hold", "void_hold", "create_hold", "make_payment", "refund_payment"])
def test_the_other_side_may_not(keeper: Connection, known: dict[str, Any], function: str) -> None:
    api_key = key(keeper, accounts=[known["two"], known["three"]])
    assert refused(keeper, known, function, api_key) == "WF002"
    assert row(keeper, "get_hold", known["hold_for_one"], api_key_id=api_key)["status"] == "open"
    assert row(keeper, "get_payment", known["payment"], api_key_id=api_key)["refunded_amount"] is None


@pytest.mark.parametrize("buyer_may_void", [True, False, None])
@pytest.mark.parametrize("bound", ["buyer", "seller", "both", "neither", "none"])
def test_who_may_capture_and_void_a_hold(
    keeper: Connection, one: int, two: int, three: int, bound: str, buyer_may_void: bool | None
) -> None:
    """The seller; the buyer only voids, and only what says so. Who is neither does not learn that it is there."""
    buyer, seller = one, two
    accounts = {"buyer": [buyer], "seller": [three, seller], "both": [buyer, seller], "neither": [three], "none": None}
    api_key = key(keeper, accounts=accounts[bound])
    capture = {"neither": "WN003", "buyer": "WF002"}.get(bound)
    void = None if bound == "buyer" and buyer_may_void else capture
    holds = [held(keeper, buyer, seller, 10, buyer_may_void=buyer_may_void) for _ in range(2)]
    for function, refused_with, hold in (("capture_hold", capture, holds[0]), ("void_hold", void, holds[1])):
        if refused_with is None:
            row(keeper, function, hold, idempotency_key="a key", api_key_id=api_key)
            made = row(keeper, function, hold, idempotency_key="a key", api_key_id=api_key)
            assert made["replayed"] is True
        else:
            for asked in ({"api_key_id": api_key}, {"api_key_id": api_key, "idempotency_key": "a key"}):
                assert refusal(keeper, function, hold, **asked) == refused_with
            assert row(keeper, "get_hold", hold)["status"] == "open"
    assert ledger_problems(keeper) == []


LOOKS = """select relname, coalesce(seq_scan, 0), coalesce(idx_scan, 0) from pg_stat_xact_user_tables
           where schemaname = 'ledger' order by 1"""


@pytest.mark.parametrize(
    "function",
    [
        "create_hold",
        "get_account",
        "get_statement",
        "list_account_changes",
        "make_payment",
        "set_account_status",
        "set_credit_limit",
    ],
)
def test_what_is_refused_does_the_same_work_whether_the_account_is_there_or_not(
    keeper: Connection, known: dict[str, Any], function: str
) -> None:
    api_key = key(keeper, accounts=[known["three"]])
    looks = []
    for place in (known["one"], 2**62, known["one"], 2**62):
        before = keeper.execute(LOOKS).fetchall()
        assert refused(keeper, known | {"one": place}, function, api_key) == "WF002"
        after = keeper.execute(LOOKS).fetchall()
        looks.append([(name, a - c, b - d) for (name, a, b), (_, c, d) in zip(after, before, strict=True)])
    assert looks[2] == looks[3]
    assert ("account", 0, 0) in looks[2]


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        ("capture_hold", ["hold", -1]),
        ("create_account", ["", -1, 0]),
        ("create_currency", ["", -1]),
        ("create_hold", ["one", "one", -1]),
        ("get_statement", ["one", None, 0]),
        ("list_account_changes", ["one", None, 0]),
        ("list_accounts", [None, 0]),
        ("list_holds", [None, 0]),
        ("list_payments", [None, 0]),
        ("make_payment", ["one", "one", -1]),
        ("make_payments", [["one"], ["one"], [Decimal(-1)]]),
        ("refund_payment", ["payment", -1]),
        ("set_account_status", ["one", "none"]),
        ("set_credit_limit", ["one", -1]),
    ],
)
def test_a_key_without_permission_learns_nothing_else(
    keeper: Connection, known: dict[str, Any], function: str, arguments: list[Any]
) -> None:
    api_key = key(keeper, *[scope for scope in SCOPES if scope != CALLS[function][0]])
    assert refusal(keeper, function, *meant(known, arguments), api_key_id=api_key) == "WF001"


def test_a_secret_that_is_wrong_is_as_much_work_as_one_that_was_revoked(keeper: Connection) -> None:
    made = row(keeper, "create_api_key", "shop", ["pay"])
    row(keeper, "revoke_api_key", made["id"])
    looks = []
    for secret in (made["secret"], "wallet_none", made["secret"], "wallet_none"):
        before = keeper.execute(LOOKS).fetchall()
        assert refusal(keeper, "authenticate", hash_of(secret)) == "WA001"
        after = keeper.execute(LOOKS).fetchall()
        looks.append([(name, a - c, b - d) for (name, a, b), (_, c, d) in zip(after, before, strict=True)])
    assert looks[2] == looks[3]


# Batches.


def test_of_a_batch_each_payment_has_the_outcome_of_its_own_key(keeper: Connection, known: dict[str, Any]) -> None:
    one, two = known["one"], known["two"]
    every, bound = key(keeper, "pay"), key(keeper, "pay", accounts=[two], name="bound")
    reading, over = key(keeper, "read", name="reading"), key(keeper, "pay", name="over")
    end(keeper, over, "revoked")
    keys = [every, bound, bound, reading, over, None, 0]
    buyers = [one, one, two, one, one, one, one]
    outcomes = rows(
        keeper, "make_payments", buyers, [two + one - buyer for buyer in buyers], [Decimal(1)] * 7, api_key_ids=keys
    )
    assert [outcome["error_code"] for outcome in outcomes] == [None, "WF002", None, "WF001", "WA001", None, "WA001"]
    single = [
        refusal_of_payment(keeper, buyer, two + one - buyer, api_key)
        for buyer, api_key in zip(buyers, keys, strict=True)
    ]
    assert single == [outcome["error_code"] for outcome in outcomes]
    made = [row(keeper, "get_payment", outcome["id"])["made_by"] for outcome in outcomes if outcome["id"]]
    assert made == [
        f"{keeper.info.user}, API key {every} (key)",
        f"{keeper.info.user}, API key {bound} (bound)",
        keeper.info.user,
    ]
    assert ledger_problems(keeper) == []


def test_of_a_batch_a_key_without_permission_learns_nothing_else(keeper: Connection, one: int) -> None:
    [outcome] = rows(keeper, "make_payments", [one], [one], [Decimal(-1)], api_key_ids=[key(keeper, "read")])
    assert outcome["error_code"] == "WF001"


def test_of_a_batch_what_is_not_allowed_waits_for_no_account(admin: Connection, database: str) -> None:
    one, two = account(admin, "one", 100), account(admin, "two", 100)
    bound = key(admin, "pay", accounts=[two])
    with psycopg.connect(database) as other:
        paid(other, one, two, 1)  # and does not commit
        admin.execute("set lock_timeout = '10ms'")
        [outcome] = rows(admin, "make_payments", [one], [two], [Decimal(1)], api_key_ids=[bound])
    assert outcome["error_code"] == "WF002"


@pytest.mark.parametrize("number", [0, 1, 3])
def test_a_batch_has_a_key_for_each_payment(keeper: Connection, known: dict[str, Any], number: int) -> None:
    parties = ([known["one"]] * 2, [known["two"]] * 2, [Decimal(1)] * 2)
    assert refusal(keeper, "make_payments", *parties, api_key_ids=[key(keeper)] * number) == "22023"


def refusal_of_payment(keeper: Connection, buyer: int, seller: int, api_key: int | None) -> str | None:
    try:
        with keeper.transaction():
            paid(keeper, buyer, seller, 1, api_key_id=api_key)
    except Exception as error:
        return getattr(error, "sqlstate", None)
    return None


def test_of_an_atomic_batch_the_first_that_is_not_allowed_is_raised(keeper: Connection, known: dict[str, Any]) -> None:
    api_key = key(keeper, "pay", accounts=[known["one"]])
    parties = ([known["one"], known["two"]], [known["two"], known["one"]], [Decimal(1)] * 2)
    assert refusal(keeper, "make_payments", *parties, True, api_key_ids=[api_key] * 2) == "WF002"
    assert [line["balance"] for line in rows(keeper, "get_statement", known["one"])] == [100, 110]


def test_a_refused_key_learns_nothing_of_idempotency_keys(keeper: Connection, known: dict[str, Any]) -> None:
    one, two = known["one"], known["two"]
    paid(keeper, one, two, 1, idempotency_key="used")
    api_key = key(keeper, "pay", accounts=[known["three"]])
    named = {"idempotency_key": "used", "api_key_id": api_key}
    assert refusal(keeper, "make_payment", one, two, 1, **named) == "WF002"
    [outcome] = rows(
        keeper, "make_payments", [one], [two], [Decimal(1)], idempotency_keys=["used"], api_key_ids=[api_key]
    )
    assert (outcome["id"], outcome["error_code"]) == (None, "WF002")


def test_the_same_payment_with_another_api_key_gets_the_first_one(keeper: Connection, known: dict[str, Any]) -> None:
    first, second = key(keeper, "pay", name="first"), key(keeper, "pay", name="second")
    asked = (known["one"], known["two"], 1)
    payment = paid(keeper, *asked, idempotency_key="used", api_key_id=first)
    again = row(keeper, "make_payment", *asked, idempotency_key="used", api_key_id=second)
    assert (again["id"], again["replayed"]) == (payment, True)
    assert row(keeper, "get_payment", payment)["made_by"] == f"{keeper.info.user}, API key {first} (first)"


# What it sees.


def test_lists_have_what_touches_its_accounts_and_nothing_else(keeper: Connection, known: dict[str, Any]) -> None:
    one, two, three = known["one"], known["two"], known["three"]
    four = account(keeper, "four", 100)
    made = {
        (buyer, seller): paid(keeper, buyer, seller, 1, reference="r")
        for buyer, seller in ((one, two), (two, three), (three, four), (four, one), (three, two), (two, one))
    }
    by_ids = {**{number: parties for parties, number in made.items()}, known["payment"]: (two, one)}
    for bound in ([one], [one, three], [four], [one, two, three, four]):
        api_key = key(keeper, "read", accounts=bound, name=str(bound))
        assert [found["id"] for found in rows(keeper, "list_accounts", api_key_id=api_key)] == sorted(bound)
        for filters in (
            {}, {"account_id": one}, {"buyer_account_id": two}, {"seller_account_id": one}, {"reference": "r"},
            {"buyer_account_id": three, "seller_account_id": two}, {"min": 1, "max": 1}, {"currency": "USD"},
            {"from": TOMORROW - datetime.timedelta(days=2)}, {"to": TOMORROW},
            {"from": TOMORROW}, {"account_id": three, "from": TOMORROW - datetime.timedelta(days=2)},
        ):  # fmt: skip
            every = [found["id"] for found in rows(keeper, "list_payments", **filters)]
            expected = [number for number in every if set(by_ids[number]) & set(bound)]
            assert [found["id"] for found in rows(keeper, "list_payments", **filters, api_key_id=api_key)] == expected
            pages, after = [], None
            while True:
                page = rows(keeper, "list_payments", after, 2, **filters, api_key_id=api_key)
                pages += [found["id"] for found in page if found["amount"] is not None]
                if not (page and page[-1]["more"]):
                    break
                after = page[-1]["id"]
            assert pages == expected
            newest = rows(keeper, "list_payments", **filters, api_key_id=api_key, order="desc")
            assert [found["id"] for found in newest] == expected[::-1]


def test_lists_of_holds_have_what_touches_its_accounts_and_nothing_else(
    keeper: Connection, known: dict[str, Any]
) -> None:
    one, two, three = known["one"], known["two"], known["three"]
    four = account(keeper, "four", 100)
    made = {
        held(keeper, buyer, seller, 1, reference="r"): (buyer, seller)
        for buyer, seller in ((one, two), (two, three), (three, four), (four, one), (three, two), (two, one)) * 2
    }
    for number, hold in enumerate(made):
        if number % 4 == 1:
            row(keeper, "void_hold", hold)
        elif number % 4 == 2:
            as_if_an_hour_ago(keeper, hold)
    made[known["hold"]] = (one, two)
    made[known["hold_for_one"]] = (two, one)
    for bound in ([one], [one, three], [four], [one, two, three, four]):
        api_key = key(keeper, "read", accounts=bound, name=str(bound))
        for filters in (
            {}, {"account_id": one}, {"account_id": three}, {"reference": "r"}, {"status": "open"},
            {"status": "expired"}, {"status": "voided"}, {"reference": "r", "account_id": two},
            {"status": "open", "account_id": two}, {"expires_before": TOMORROW},
            {"expires_before": TOMORROW + datetime.timedelta(days=30), "status": "open"},
        ):  # fmt: skip
            every = [hold | {"made_by": None, "ended_by": None} for hold in rows(keeper, "list_holds", **filters)]
            expected = [hold for hold in every if set(made[hold["id"]]) & set(bound)]
            assert rows(keeper, "list_holds", **filters, api_key_id=api_key) == expected
            pages, after = [], None
            while True:
                page = rows(keeper, "list_holds", after, 2, **filters, api_key_id=api_key)
                pages += [hold | {"more": False} for hold in page if hold["amount"] is not None]
                if not (page and page[-1]["more"]):
                    break
                after = page[-1]["id"]
            assert pages == expected


def test_of_a_reference_of_holds_that_others_use_a_bound_key_is_told_nothing_however_often(
    keeper: Connection, known: dict[str, Any]
) -> None:
    bound = [known["three"], *[account(keeper, f"account {number}") for number in range(99)]]
    for _ in range(40):  # more than the key may look at of its own accounts
        held(keeper, known["one"], known["two"], Decimal("0.1"), reference="theirs")
    api_key = key(keeper, "read", accounts=bound)
    assert rows(keeper, "list_holds", None, 1, reference="theirs", api_key_id=api_key) == []
    own = held(keeper, known["three"], known["one"], 1, reference="theirs")
    [found] = rows(keeper, "list_holds", None, 1, reference="theirs", api_key_id=api_key)
    assert (found["id"], found["amount"], found["more"]) == (own, 1, False)


@pytest.mark.parametrize("filters", [{}, {"reference": "back"}, {"min": 1, "limit": 1}], ids=str)
def test_a_bound_key_lists_the_refunds_of_its_payments_and_no_others(
    keeper: Connection, known: dict[str, Any], filters: dict[str, Any]
) -> None:
    row(keeper, "refund_payment", known["payment"], 1, reference="back")
    number = row(keeper, "refund_payment", known["payment"], 2, reference="back")["id"]
    asked = filters | {"refunded_payment_id": known["payment"]}
    every = rows(keeper, "list_payments", **asked)
    assert every
    for side in ("one", "two"):
        api_key = key(keeper, "read", accounts=[known["three"], known[side]], name=side)
        assert rows(keeper, "list_payments", **asked, api_key_id=api_key) == every
    api_key = key(keeper, "read", accounts=[known["three"]])
    for payment in (known["payment"], number, 2**62):
        assert rows(keeper, "list_payments", **asked | {"refunded_payment_id": payment}, api_key_id=api_key) == []


@pytest.mark.parametrize("filters", [{}, {"buyer_account_id": "one"}, {"min": 1, "limit": 1}], ids=str)
def test_a_bound_key_lists_the_captures_of_its_holds_and_no_others(
    keeper: Connection, known: dict[str, Any], filters: dict[str, Any]
) -> None:
    row(keeper, "capture_hold", known["hold"], 1)
    asked = {name: known.get(value, value) for name, value in filters.items()} | {"hold_id": known["hold"]}
    every = rows(keeper, "list_payments", **asked)
    assert every
    for side in ("one", "two"):
        api_key = key(keeper, "read", accounts=[known["three"], known[side]], name=side)
        assert rows(keeper, "list_payments", **asked, api_key_id=api_key) == every
    api_key = key(keeper, "read", accounts=[known["three"]])
    for hold in (known["hold"], 2**62):
        assert rows(keeper, "list_payments", **asked | {"hold_id": hold}, api_key_id=api_key) == []


def test_of_a_reference_that_others_use_a_bound_key_is_told_nothing_however_often(
    keeper: Connection, known: dict[str, Any]
) -> None:
    one, two = known["one"], known["two"]
    # so many accounts that a page looks at few payments
    bound = [known["three"], *[account(keeper, f"account {number}") for number in range(99)]]
    rows(keeper, "make_payments", [one] * 102, [two] * 102, [Decimal("0.1")] * 102, references=["theirs"] * 102)
    api_key = key(keeper, "read", accounts=bound)
    assert rows(keeper, "list_payments", None, 1, reference="theirs", api_key_id=api_key) == []
    own = paid(keeper, known["three"], one, 1, reference="theirs")
    [found] = rows(keeper, "list_payments", None, 1, reference="theirs", api_key_id=api_key)
    assert (found["id"], found["amount"], found["more"]) == (own, 1, False)


@pytest.mark.parametrize("limit", [None, 10])
def test_a_list_does_the_same_work_whether_another_account_is_there_or_not(
    keeper: Connection, known: dict[str, Any], limit: int | None
) -> None:
    api_key = key(keeper, "read", accounts=[known["three"]])
    looks = []
    for place in (known["one"], 2**62) * 2:
        before = keeper.execute(LOOKS).fetchall()
        filters = {"account_id": place, "from": TOMORROW - datetime.timedelta(days=2), "to": TOMORROW}
        assert rows(keeper, "list_payments", None, limit, **filters, api_key_id=api_key) == []
        assert rows(keeper, "list_holds", None, limit, account_id=place, status="open", api_key_id=api_key) == []
        after = keeper.execute(LOOKS).fetchall()
        looks.append([(name, a - c, b - d) for (name, a, b), (_, c, d) in zip(after, before, strict=True)])
    assert looks[2] == looks[3]


# Who made it.


def test_every_row_records_its_maker(keeper: Connection, known: dict[str, Any]) -> None:
    api_key = key(keeper)
    words = f"{keeper.info.user}, API key {api_key} (key)"
    one, two = known["one"], known["two"]
    payment = paid(keeper, one, two, 1, api_key_id=api_key)
    refund = row(keeper, "refund_payment", payment, api_key_id=api_key)["id"]
    capture = row(keeper, "capture_hold", known["hold"], api_key_id=api_key)["id"]
    for made in (payment, refund, capture):
        assert row(keeper, "get_payment", made)["made_by"] == words
    hold = row(keeper, "get_hold", known["hold"])
    assert (hold["made_by"], hold["ended_by"]) == (keeper.info.user, words)
    voided = row(keeper, "void_hold", held(keeper, one, two, 1, api_key_id=api_key), api_key_id=api_key)
    assert (voided["made_by"], voided["ended_by"]) == (words, words)
    new = row(keeper, "create_account", "new", 5, 1, api_key_id=api_key)["id"]
    row(keeper, "set_credit_limit", new, 7)
    row(keeper, "set_account_status", new, "frozen", api_key_id=api_key)
    row(keeper, "set_credit_limit", new, 9, api_key_id=api_key)
    changes = rows(keeper, "list_account_changes", new)
    assert [(change["status"], change["credit_limit"], change["made_by"]) for change in changes] == [
        ("active", 0, words),
        ("active", 7, keeper.info.user),
        ("frozen", 7, words),
        ("frozen", 9, words),
    ]
    row(keeper, "create_currency", "NEW", 2, api_key_id=api_key)
    assert keeper.execute("select api_key_id, database_role from ledger.currency where name = 'NEW'").fetchall() == [
        (api_key, keeper.info.user)
    ]
    assert ledger_problems(keeper) == []


def test_only_unbound_keys_that_may_administer_see_who_made_something(
    keeper: Connection, known: dict[str, Any]
) -> None:
    row(keeper, "void_hold", known["hold"])
    calls: list[tuple[Any, ...]] = [
        ("get_payment", known["payment"]),
        ("get_hold", known["hold"]),
        ("list_holds", None, None, known["one"], "voided"),
        ("list_account_changes", known["one"]),
    ]
    for scopes, accounts, sees in [
        (("read", "admin"), None, True),
        (SCOPES, None, True),
        (("read", "pay"), None, False),
        (("read", "admin"), [known["one"]], False),
        (("read",), [known["one"], known["two"]], False),
    ]:
        api_key = key(keeper, *scopes, accounts=accounts, name=f"{scopes} {accounts}")
        for function, *arguments in calls:
            [found] = rows(keeper, function, *arguments)
            assert found["made_by"] == keeper.info.user
            hidden = {name: None for name in ("made_by", "ended_by") if name in found and not sees}
            assert rows(keeper, function, *arguments, api_key_id=api_key) == [found | hidden]


def test_the_recorded_role_is_the_one_that_logged_in(admin: Connection, database: str) -> None:
    one, two = account(admin, "one", 100), account(admin, "two")
    said = []
    for role in ("wallet_owner", "wallet_ops", "wallet_app"):
        with admin.transaction():
            admin.execute(f"set local role {role}")
            made = paid(admin, one, two, 1)
            [batched] = rows(admin, "make_payments", [one], [two], [Decimal(1)])
            hold = row(admin, "void_hold", held(admin, one, two, 1))
        payments = [row(admin, "get_payment", number)["made_by"] for number in (made, batched["id"])]
        said.append([*payments, hold["made_by"], hold["ended_by"]])
    assert said == [[admin.info.user] * 4, [admin.info.user] * 4, ["wallet_app"] * 4]


def test_a_payment_of_a_key_that_is_not_there_cannot_be_stored(keeper: Connection, known: dict[str, Any]) -> None:
    made = f"""insert into ledger.payment (currency_id, buyer_account_id, seller_account_id, amount, buyer_balance,
                                           seller_balance, api_key_id)
               values (1, {known["one"]}, {known["two"]}, 1, 99, 101, %s) returning database_role"""
    with pytest.raises(Exception, match="payment_true"), keeper.transaction():
        keeper.execute(made, [0])
    assert keeper.execute(made, [key(keeper)]).fetchall() == [(keeper.info.user,)]


def test_what_a_call_of_the_version_before_writes_while_it_is_migrated_is_stored(
    keeper: Connection, known: dict[str, Any]
) -> None:
    """It has locked its accounts by then, and its row of a payment has no place for a role."""
    keeper.execute(
        f"""insert into ledger.payment (currency_id, buyer_account_id, seller_account_id, amount, buyer_balance,
                                        seller_balance, database_role)
            values (1, {known["one"]}, {known["two"]}, 1, 99, 101, null)"""
    )
    assert rows(keeper, "list_payments")[-1]["amount"] == 1
