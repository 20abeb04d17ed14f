"""`python server.py key`, for people at a terminal; and where WALLET_AUTH has to be set."""

import httpx2
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.conftest import Connection
from tests.support import account, command, sentence, serving


@pytest.fixture
def as_ops(database: str) -> str:
    return make_conninfo(database, user="wallet_ops")


def test_a_key_is_created_used_listed_and_revoked(database: str, as_ops: str) -> None:
    created = command("key", "create", "shop", "--scopes", "read,pay", DATABASE_URL=as_ops)
    assert (created.returncode, created.stderr) == (0, "The secret of the key (shown only once):\n")
    secret = created.stdout.strip()
    with serving(DATABASE_URL=database, WALLET_AUTH="required") as server:
        headers = {"Authorization": f"Bearer {secret}"}
        assert httpx2.get(f"{server.url}/accounts", headers=headers).status_code == 200
        assert secret not in server.log
        [_, line] = command("key", "list", DATABASE_URL=as_ops).stdout.splitlines()
        assert line.split()[:6] == ["1", "shop", "read,pay", "all", "-", "-"]
        revoked = command("key", "revoke", "1", DATABASE_URL=as_ops)
        assert revoked.stdout.startswith("API key 1 (shop) was revoked at 20")
        assert httpx2.get(f"{server.url}/accounts", headers=headers).status_code == 401


def test_a_key_may_be_bound_and_expire_and_have_a_tenant(admin: Connection, as_ops: str) -> None:
    one, two = account(admin, "one"), account(admin, "two")
    arguments = ("--scopes", "read", "--accounts", f"{one},{two}", "--expires", "2999-01-31", "--tenant", "e\u0301 Co.")
    assert command("key", "create", "report", *arguments, DATABASE_URL=as_ops).returncode == 0
    assert command("key", "list", DATABASE_URL=as_ops).stdout.splitlines() == [
        "id  name    scopes  accounts  tenant  expires            last used  revoked",
        "1   report  read    1,2       é Co.   2999-01-31 00:00Z  -          -",
    ]


def test_a_name_from_before_the_rule_forges_no_line(admin: Connection, as_ops: str) -> None:
    assert command("key", "create", "shop", "--scopes", "read", DATABASE_URL=as_ops).returncode == 0
    admin.execute("set session_replication_role = replica")
    admin.execute("update ledger.api_key set name = E'a\n7  admin\x1b[2J'")
    [_, line] = command("key", "list", DATABASE_URL=as_ops).stdout.splitlines()
    assert line.startswith("1   a\\n7  admin\\x1b[2J  read")
    assert command("key", "revoke", "1", DATABASE_URL=as_ops).stdout.startswith("API key 1 (a\\n7  admin\\x1b[2J) was")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["create", "", "--scopes", "read"], "WB071"),
        (["create", "key", "--scopes", "read,write"], "WB072"),
        (["create", "key", "--scopes", "read", "--accounts", "7"], "WB073"),
        (["create", "key", "--scopes", "read", "--expires", "2020-01-31"], "WB074"),
        (["create", "key", "--scopes", "read", "--tenant", ""], "WB075"),
        (["revoke", "7"], "WN004"),
    ],
)
def test_a_refusal_is_a_sentence_and_exit_code_1(as_ops: str, arguments: list[str], code: str) -> None:
    result = command("key", *arguments, DATABASE_URL=as_ops)
    assert (result.returncode, result.stdout, result.stderr) == (1, "", f"server.py: {sentence(code)}\n")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["create", "key"],
        ["create", "key", "--scopes", "read", "--accounts", "x"],
        ["revoke", "shop"],
        ["revoke", "1_0"],
    ],
)
def test_a_mistake_is_exit_code_2(as_ops: str, arguments: list[str]) -> None:
    assert command("key", *arguments, DATABASE_URL=as_ops).returncode == 2


def test_the_service_s_own_role_makes_no_keys(database: str) -> None:
    as_app = make_conninfo(database, user="wallet_app")
    result = command("key", "create", "key", "--scopes", "read", DATABASE_URL=as_app)
    assert (result.returncode, result.stdout) == (1, "")
    reason = "wallet_app manages API keys only over HTTP (docs/configuration.md has the users)"
    assert result.stderr == f"server.py: {reason}\n"


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_on_other_addresses_the_authentication_has_to_be_set(bare_database: str, host: str) -> None:
    result = command("serve", DATABASE_URL=bare_database, HOST=host, PORT="0")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == (
        f"server.py: WALLET_AUTH should be required or off when HOST is not a loopback address; HOST is '{host}'\n"
    )
    with psycopg.connect(bare_database) as connection:
        assert connection.execute("select to_regnamespace('ledger')").fetchone() == (None,), "before anything is done"


@pytest.mark.parametrize(("auth", "status"), [("off", 200), ("required", 401)])
def test_once_decided_it_serves_everywhere(database: str, auth: str, status: int) -> None:
    with serving(DATABASE_URL=database, HOST="0.0.0.0", WALLET_AUTH=auth) as server:
        url = server.url.replace("0.0.0.0", "127.0.0.1")
        assert httpx2.get(f"{url}/accounts").status_code == status


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.2"])
def test_on_loopback_no_key_is_needed(database: str, host: str) -> None:
    with serving(DATABASE_URL=database, HOST=host) as server, server.client() as api:
        assert api.get("/accounts").status_code == 200
