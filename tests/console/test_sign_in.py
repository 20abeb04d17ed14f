"""A wallet that requires API keys: the console asks for one, keeps it in memory alone, and asks again once it is of no use."""

import re
from collections.abc import Callable, Iterator
from itertools import count

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.conftest import Connection
from tests.console.pages import CONSOLE, PAGES, Problems, action, allow_changes, loaded, menu, sign_in, visit
from tests.sql.calls import row
from tests.support import Server, account, serving

SCOPES = ["read", "pay", "admin"]
numbers = count(1)


@pytest.fixture(scope="module")
def server(ledger: str) -> Iterator[Server]:
    with serving(DATABASE_URL=ledger, WALLET_AUTH="required") as server:
        yield server


@pytest.fixture(scope="module")
def accounts(keeper: Connection) -> list[int]:
    return [account(keeper, name, 100) for name in ("mine", "other")]


@pytest.fixture
def key(keeper: Connection) -> dict[str, object]:
    """A new key for everything."""
    return new_key(keeper)


def new_key(keeper: Connection) -> dict[str, object]:
    return row(keeper, "create_api_key", f"key {next(numbers)}", SCOPES)


@pytest.fixture(autouse=True)
def refused(problems: Problems) -> None:
    """Every test begins without a key."""
    problems.expect("status of 401")


def expire(keeper: Connection, key_id: object) -> None:
    with keeper.transaction():
        keeper.execute("set local session_replication_role = replica")  # no trigger keeps it as it is
        keeper.execute("update ledger.api_key set expires_at = statement_timestamp() where id = %s", [key_id])


def revoke(keeper: Connection, key_id: object) -> None:
    row(keeper, "revoke_api_key", key_id)


@pytest.mark.parametrize("route", PAGES)
def test_every_page_asks_for_a_key_and_is_shown_with_it(
    page: Page, key: dict[str, object], accounts: list[int], problems: Problems, route: str
) -> None:
    problems.expect("status of 403")  # keys are for those with their scope
    page.goto(f"{CONSOLE}{route}")
    if route == "#/try":  # what it shows is public
        page.get_by_role("banner").get_by_role("button", name="Sign in").click()
    if route != "#/keys":  # which begins with what one needs
        expect(page.get_by_label("API key", exact=True)).to_be_focused()
    expect(page.get_by_label("API key", exact=True)).to_have_attribute("type", "password")
    sign_in(page, str(key["secret"]))
    expect(page.get_by_role("heading", level=1)).to_have_text(PAGES[route])
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()


def test_the_key_is_in_no_storage_url_or_element(
    page: Page, context: BrowserContext, key: dict[str, object], accounts: list[int]
) -> None:
    secret = str(key["secret"])
    urls = []
    context.on("request", lambda request: urls.append(request.url))
    visit(page, f"#/account/{accounts[0]}", "Sign in")
    sign_in(page, secret)
    for route in (f"#/account/{accounts[0]}", "#/", "#/try/makePayment"):
        visit(page, route, re.compile(r"\S"))
        loaded(page)
        kept = page.evaluate(
            """async () => JSON.stringify([
                document.documentElement.outerHTML, [...document.querySelectorAll("input")].map(input => input.value),
                {...localStorage}, {...sessionStorage}, document.cookie, location.href, history.state, name,
                await indexedDB.databases(), await caches.keys(), Object.values(window).filter(value => typeof value === "string"),
            ])"""
        )
        assert secret not in kept
        assert "wallet_" not in kept.replace("wallet_api", "")
    assert context.cookies() == []
    assert not any(secret in url for url in urls)


def test_a_reload_forgets_the_key(page: Page, key: dict[str, object], accounts: list[int]) -> None:
    visit(page, "#/accounts", "Sign in")
    sign_in(page, str(key["secret"]))
    expect(page.get_by_role("main")).to_contain_text("mine")
    page.reload()
    expect(page.get_by_label("API key", exact=True)).to_be_visible()


def test_signing_out_forgets_the_key(page: Page, key: dict[str, object], accounts: list[int]) -> None:
    visit(page, "#/accounts", "Sign in")
    sign_in(page, str(key["secret"]))
    expect(page.get_by_role("main")).to_contain_text("mine")
    allow_changes(page)
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("API key", exact=True)).to_be_visible()
    expect(page.get_by_role("main")).not_to_contain_text("mine")
    expect(page.get_by_role("switch", name="Allow changes")).not_to_be_checked()


@pytest.mark.parametrize("secret", ["wallet_none", "not a key", "né", "x" * 10_000])
def test_a_wrong_key_is_refused_with_the_reason(page: Page, accounts: list[int], secret: str) -> None:
    visit(page, "#/accounts", "Sign in")
    sign_in(page, secret)
    expect(page.get_by_role("alert").filter(has_text="API key")).to_be_visible()
    expect(page.get_by_label("API key", exact=True)).to_be_visible()


@pytest.mark.parametrize("end", [expire, revoke])
def test_a_key_that_ends_in_the_middle_of_work_leads_back_to_the_same_page(
    page: Page,
    keeper: Connection,
    key: dict[str, object],
    accounts: list[int],
    end: Callable[[Connection, object], None],
) -> None:
    visit(page, f"#/payments?account={accounts[0]}", "Sign in")
    sign_in(page, str(key["secret"]))
    expect(page.get_by_role("heading", level=1)).to_have_text("Payments")
    loaded(page)
    end(keeper, key["id"])
    menu(page).get_by_role("link", name="Accounts").click()
    expect(page.get_by_role("alert").filter(has_text="API key")).to_be_visible()
    sign_in(page, str(new_key(keeper)["secret"]))
    expect(page.get_by_role("heading", level=1)).to_have_text("Accounts")
    expect(page.get_by_role("main")).to_contain_text("mine")
    page.go_back()
    expect(page.get_by_role("heading", level=1)).to_have_text("Payments")
    expect(page.get_by_label("API key", exact=True)).to_have_count(0)


def test_a_key_that_ends_before_a_change_is_said_in_the_dialog_and_nothing_is_changed(
    page: Page, keeper: Connection, key: dict[str, object], accounts: list[int]
) -> None:
    payment = row(keeper, "make_payment", *accounts, 5)["id"]
    page.goto(f"{CONSOLE}#/payment/{payment}")
    sign_in(page, str(key["secret"]))
    allow_changes(page)
    page.get_by_role("button", name="Refund…").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("group", name="The request")).to_contain_text("Authorization: Bearer (your key)")
    expire(keeper, key["id"])
    action(dialog).click()
    expect(page.get_by_role("alert").filter(has_text="API key").first).to_be_visible()
    assert row(keeper, "get_payment", payment)["refunded_amount"] is None


def test_a_key_that_is_bound_to_accounts_sees_these_and_says_what_it_may_not(
    page: Page, keeper: Connection, accounts: list[int], problems: Problems
) -> None:
    problems.expect("status of 403")
    made = row(keeper, "create_api_key", "bound", ["read"], accounts[:1])
    row(keeper, "make_payment", *accounts, 5)
    visit(page, "#/", "Sign in")
    sign_in(page, str(made["secret"]))
    expect(page.get_by_text("Not shown to this API key.").first).to_be_visible()
    loaded(page)
    expect(page.get_by_role("main").get_by_role("alert")).to_have_count(0)
    main = visit(page, f"#/payments?account={accounts[0]}", "Payments")
    expect(main.get_by_text(f"#{accounts[1]}", exact=True).first).to_be_visible()
    expect(main).to_contain_text("mine")
    expect(main).not_to_contain_text("other (")
    page.goto(f"{CONSOLE}#/account/{accounts[1]}")
    expect(page.get_by_role("alert").first).to_contain_text("API key is bound to other accounts")
    expect(page.get_by_role("link", name="overview").first).to_be_visible()


def test_what_one_key_has_read_is_not_shown_to_the_next(
    page: Page, keeper: Connection, problems: Problems, key: dict[str, object], accounts: list[int]
) -> None:
    problems.expect("status of 403")  # for the name of the other account
    made = row(keeper, "create_api_key", "next", ["read"], accounts[:1])
    row(keeper, "make_payment", *accounts, 5)
    main = visit(page, f"#/payments?account={accounts[0]}", "Sign in")
    sign_in(page, str(key["secret"]))
    expect(main.get_by_text(f"other (#{accounts[1]})").first).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    sign_in(page, str(made["secret"]))
    expect(main.get_by_text(f"mine (#{accounts[0]})").first).to_be_visible()
    loaded(page)
    expect(main).not_to_contain_text("other (")
