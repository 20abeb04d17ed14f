"""API keys: the list, a new one whose secret is shown once, and the end of one. For those whose key has the scope keys."""

import re
from collections.abc import Iterator
from itertools import count

import httpx2
import pytest
from playwright.sync_api import BrowserContext, Locator, Page, expect

from tests.conftest import Connection
from tests.console.pages import CONSOLE, Problems, ShownRequest, action, allow_changes, menu, sign_in, table
from tests.sql.calls import row
from tests.support import TIMEOUT, Server, account

numbers = count(1)


@pytest.fixture(scope="module")
def master(keeper: Connection) -> str:
    """The secret of a key for everything."""
    return str(row(keeper, "create_api_key", "master", ["read", "pay", "admin", "keys"])["secret"])


@pytest.fixture(scope="module")
def master_api(server: Server, master: str) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.url, headers={"Authorization": f"Bearer {master}"}, timeout=TIMEOUT) as client:
        yield client


@pytest.fixture
def keys(page: Page, master: str, problems: Problems) -> Page:
    """The page of keys, signed in, with changes allowed."""
    problems.expect("status of 401")
    page.goto(f"{CONSOLE}#/keys")
    if page.get_by_label("API key", exact=True).count() == 0:
        page.get_by_role("banner").get_by_role("button", name="Sign in").click()
    sign_in(page, master)
    expect(page.get_by_role("heading", level=1)).to_have_text("Keys")
    expect(rows_of(page).first).to_be_visible()
    allow_changes(page)
    return page


def rows_of(page: Page) -> Locator:
    return table(page, re.compile("keys", re.IGNORECASE)).get_by_role("row")


def of(page: Page, name: str) -> Locator:
    """The row of a key."""
    return rows_of(page).filter(has=page.get_by_text(name, exact=True))


def found(api: httpx2.Client, name: str) -> dict[str, object]:
    [key] = [key for key in api.get("/keys").json()["Keys"] if key["Name"] == name]
    return dict(key)


def test_the_list_shows_what_each_key_may_do_and_whether_it_is_valid(keys: Page, keeper: Connection) -> None:
    bound = account(keeper, "till")
    row(keeper, "create_api_key", "till key", ["pay", "read"], [bound], tenant="tills")
    expired = row(keeper, "create_api_key", "expired key", ["read"])["id"]
    revoked = row(keeper, "create_api_key", "revoked key", ["read"])["id"]
    row(keeper, "revoke_api_key", revoked)
    with keeper.transaction():
        keeper.execute("set local session_replication_role = replica")
        keeper.execute("update ledger.api_key set expires_at = '2026-01-02 03:04:05+00' where id = %s", [expired])
    menu(keys).get_by_role("link", name="Overview").click()
    menu(keys).get_by_role("link", name="Keys").click()
    for text in ("read", "pay", "tills", f"#{bound}", "never", "valid"):
        expect(of(keys, "till key")).to_contain_text(text)
    expect(of(keys, "expired key")).to_contain_text("expired")
    expect(of(keys, "expired key")).to_contain_text("2026-01-02 03:04:05")
    expect(of(keys, "revoked key")).to_contain_text("revoked")
    expect(of(keys, "revoked key").get_by_role("button", name="Revoke…")).to_have_count(0)


def test_a_new_key_works_and_its_secret_is_shown_once(
    keys: Page, context: BrowserContext, server: Server, master_api: httpx2.Client
) -> None:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    name = f"made {next(numbers)}"
    keys.get_by_role("main").get_by_role("button", name="Create a key…").click()
    dialog = keys.get_by_role("dialog")
    dialog.get_by_label("Name").fill(name)
    dialog.get_by_role("checkbox", name=re.compile("^pay:")).check()
    shown = ShownRequest(dialog)
    assert name in shown.body
    action(dialog).click()
    shown_once = dialog.get_by_label("Secret, shown only now")
    expect(shown_once).to_have_value(re.compile("^wallet_"))
    secret = shown_once.input_value()
    dialog.get_by_role("button", name="Copy").click()
    keys.wait_for_function("async secret => await navigator.clipboard.readText() === secret", arg=secret)
    with httpx2.Client(base_url=server.url, headers={"Authorization": f"Bearer {secret}"}) as api:
        assert api.get("/currencies").status_code == 200
        assert api.post("/currencies", json={"Name": "NEW"}).status_code == 403
    dialog.get_by_role("button", name="Close").click()
    expect(dialog).to_have_count(0)
    expect(of(keys, name)).to_contain_text("valid")
    assert secret not in keys.content()
    assert sorted(found(master_api, name)["Scopes"]) == ["pay", "read"]  # type: ignore[call-overload]


def test_a_new_key_may_be_bound_and_end(keys: Page, master_api: httpx2.Client, keeper: Connection) -> None:
    name, bound = f"made {next(numbers)}", [account(keeper, f"bound {number}") for number in (1, 2)]
    keys.get_by_role("main").get_by_role("button", name="Create a key…").click()
    dialog = keys.get_by_role("dialog")
    dialog.get_by_label("Name").fill(name)
    dialog.get_by_label("Account IDs").fill(", ".join(map(str, bound)))
    dialog.get_by_label("Expires").fill("2099-12-31T23:59:59")
    dialog.get_by_label("Tenant").fill("tills")
    action(dialog).click()
    expect(dialog.get_by_label("Secret, shown only now")).to_have_value(re.compile("^wallet_"))
    made = found(master_api, name)
    assert {field: made[field] for field in ("AccountIDs", "Tenant")} == {"AccountIDs": bound, "Tenant": "tills"}
    assert str(made["ExpiresAt"]).startswith("2099-12-31T23:59:59")


def test_a_key_is_revoked(keys: Page, server: Server, master_api: httpx2.Client, keeper: Connection) -> None:
    made = row(keeper, "create_api_key", "to revoke", ["read"])
    menu(keys).get_by_role("link", name="Overview").click()
    menu(keys).get_by_role("link", name="Keys").click()
    of(keys, "to revoke").get_by_role("button", name=re.compile("Revoke")).click()
    dialog = keys.get_by_role("dialog")
    action(dialog).click()
    expect(of(keys, "to revoke")).to_contain_text("revoked")
    assert "RevokedAt" in found(master_api, "to revoke")
    refused = httpx2.get(f"{server.url}/currencies", headers={"Authorization": f"Bearer {made['secret']}"})
    assert refused.status_code == 401


def test_without_the_scope_the_page_says_how_to_get_it(page: Page, problems: Problems, keeper: Connection) -> None:
    problems.expect("status of 40")
    page.goto(f"{CONSOLE}#/keys")
    main = page.get_by_role("main")
    expect(main).to_contain_text("server.py key create")
    expect(main).to_contain_text("read,pay,admin,keys")
    lesser = row(keeper, "create_api_key", "lesser", ["read", "pay", "admin"])["secret"]
    if page.get_by_label("API key", exact=True).count() == 0:
        page.get_by_role("banner").get_by_role("button", name="Sign in").click()
    sign_in(page, str(lesser))
    expect(page.get_by_role("heading", level=1)).to_have_text("Keys")
    expect(main).to_contain_text("server.py key create")
