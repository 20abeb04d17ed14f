"""100,000 accounts: a page asks for those that it shows."""

import re
from collections.abc import Iterator
from urllib.parse import SplitResult, parse_qs, urlsplit

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.conftest import Connection
from tests.console.pages import table, visit
from tests.support import Server

NUMBER, SHOWN = 100_000, 25
FILL = f"""
    insert into ledger.account (name, currency_id, opening_balance, balance, created_at, status)
    select
        case when n % 1000 = 0 then 'shop ' else 'customer ' end || n, 1 + n % 3, n, n, '2026-01-01',
        case n % 500 when 0 then 'frozen' else 'active' end
    from generate_series(1, {NUMBER}) as n;
"""


@pytest.fixture(scope="module")
def server(server: Server, keeper: Connection) -> Server:
    """One with that many."""
    with keeper.transaction():
        keeper.execute("set local session_replication_role = replica")
        keeper.execute(FILL)
    keeper.execute("vacuum analyze ledger.account")
    return server


@pytest.fixture
def asked(page: Page) -> Iterator[list[SplitResult]]:
    """What the page asks of accounts. It never asks for a list of more than it shows."""
    urls: list[SplitResult] = []
    page.on("request", lambda request: urls.append(urlsplit(request.url)))
    accounts: list[SplitResult] = []
    yield accounts
    accounts += [url for url in urls if re.fullmatch(r"/account/\d+", url.path)]
    lists = [url for url in urls if url.path == "/accounts"]
    assert lists != []
    assert {limit for url in lists for limit in parse_qs(url.query).get("limit", ["none"])} == {str(SHOWN)}


def rows(page: Page) -> Locator:
    return table(page, "Accounts").get_by_role("row")


def names(page: Page, first: str) -> list[str]:
    """The names on the page that begins with this one."""
    expect(rows(page).first.get_by_role("link")).to_have_text(first)
    return rows(page).get_by_role("link").all_inner_texts()


def test_one_goes_forward_and_back(page: Page, asked: list[SplitResult]) -> None:
    main = visit(page, "#/accounts", "Accounts")
    for first in (1, 26, 51):
        assert names(page, f"customer {first}") == [f"customer {first + number}" for number in range(SHOWN)]
        main.get_by_role("button", name="Next").click()
    names(page, "customer 76")
    page.reload()
    names(page, "customer 76")
    for first in (51, 26, 1):
        main.get_by_role("button", name="Previous").click()
        assert len(names(page, f"customer {first}")) == SHOWN
    expect(main.get_by_role("button", name="Previous")).to_be_disabled()
    page.go_back()
    names(page, "customer 26")


def test_they_are_found_by_the_begin_of_their_name_their_status_and_their_currency(
    page: Page, asked: list[SplitResult]
) -> None:
    main = visit(page, "#/accounts", "Accounts")
    main.get_by_label("Name begins with").fill("customer 9999")
    page.keyboard.press("Enter")
    assert names(page, "customer 9999") == [
        "customer 9999",
        *(f"customer {number}" for number in range(99990, 100_000)),
    ]
    main.get_by_label("Name begins with").fill("shop")
    main.get_by_label("Status").select_option("frozen")
    page.keyboard.press("Enter")
    assert len(names(page, "shop 1000")) == SHOWN
    main.get_by_label("Currency").select_option("BTC")
    main.get_by_role("button", name="Search").click()
    assert names(page, "shop 2000")[:2] == ["shop 2000", "shop 5000"]
    main.get_by_role("button", name="Next").click()
    assert names(page, "shop 77000")[-1] == "shop 98000"
    main.get_by_label("Status").select_option("blocked")
    main.get_by_role("button", name="Search").click()
    expect(main).to_contain_text("No account matches.")


def test_a_link_leads_to_what_was_found(page: Page, asked: list[SplitResult]) -> None:
    main = visit(page, "#/accounts?prefix=shop&status=frozen&currency=2", "Accounts")
    assert names(page, "shop 1000")[1] == "shop 4000"
    expect(main.get_by_label("Name begins with")).to_have_value("shop")
    expect(main.get_by_label("Status")).to_have_value("frozen")
    expect(main.get_by_label("Currency").locator("option:checked")).to_have_text("RUB")


def test_balances_at_a_moment_are_asked_of_those_on_the_page(page: Page, asked: list[SplitResult]) -> None:
    main = visit(page, "#/accounts", "Accounts")
    main.get_by_label("Balances at").fill("2026-06-01T12:30:00")
    page.keyboard.press("Enter")
    expect(main).to_contain_text("Balances at 2026-06-01 12:30:00")
    assert rows(page).locator(".amount").all_inner_texts() == [str(number) for number in range(1, 1 + SHOWN)]
    main.get_by_label("Balances at").fill("2025-12-31T00:00:00")
    page.keyboard.press("Enter")
    expect(main).to_contain_text("Balances at 2025-12-31 00:00:00")
    assert {*rows(page).locator(".amount").all_inner_texts()} == {"0"}


def test_no_other_page_asks_for_all_of_them(page: Page, asked: list[SplitResult]) -> None:
    for route in ("#/", "#/payments", "#/holds", "#/account/7", "#/accounts"):
        visit(page, route, re.compile(r"\S"))
        expect(page.locator("[aria-busy=true]")).to_have_count(0)
