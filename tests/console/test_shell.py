"""What all pages share: where one is, what cannot be found, a wallet that does not answer, and a wallet below a prefix."""

import re

import httpx2
import pytest
from playwright.sync_api import BrowserContext, Page, Route, expect

from tests.console.pages import CONSOLE, PAGES, Problems, menu, visit
from tests.support import open_account


@pytest.fixture(scope="module")
def patient(api: httpx2.Client) -> int:
    """An account."""
    return open_account(api, "patient", 7)


@pytest.mark.parametrize(("route", "heading"), PAGES.items())
def test_a_page_says_where_one_is(page: Page, route: str, heading: str) -> None:
    visit(page, route, heading)
    expect(page).to_have_title(re.compile(rf"^{heading}\b.*Wallet$"))
    current = menu(page).locator("[aria-current=page]")
    expect(current).to_have_text(heading)


def test_a_click_leads_to_each_page_and_its_heading_gets_the_focus(page: Page) -> None:
    visit(page, "#/", "Overview")
    for route, heading in [*list(PAGES.items())[1:], ("#/", "Overview")]:
        menu(page).get_by_role("link", name=heading).click()
        expect(page.get_by_role("heading", level=1, name=heading)).to_be_focused()
        assert page.evaluate("location.hash") == route
    page.go_back()
    expect(page.get_by_role("heading", level=1)).to_have_text("Try it")


def test_the_skip_link_leads_to_the_content_of_the_same_page(page: Page) -> None:
    visit(page, "#/holds", "Holds")
    link = page.get_by_role("link", name="Skip to the content")
    link.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Holds")
    assert page.evaluate("document.querySelector('main').contains(document.activeElement)")


@pytest.mark.parametrize("route", ["#/nothing", "#/account", "#/account/x/y", "#//", "#/try/nothing"])
def test_an_unknown_page_says_so_and_leads_back(page: Page, problems: Problems, route: str) -> None:
    problems.expect("status of 40")
    page.goto(f"{CONSOLE}{route}")
    expect(page.get_by_role("main")).to_contain_text(re.compile(r"\bno\b|\bnot\b|unknown", re.IGNORECASE))
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    menu(page).get_by_role("link", name="Overview").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Overview")


@pytest.mark.parametrize("route", ["#/account/999", "#/payment/999", "#/hold/999"])
def test_what_does_not_exist_is_said_in_the_words_of_the_api(page: Page, problems: Problems, route: str) -> None:
    problems.expect("status of 404")
    page.goto(f"{CONSOLE}{route}")
    expect(page.get_by_role("alert")).to_contain_text("not found")
    expect(page.get_by_role("main").get_by_role("link").first).to_be_visible()


def test_a_wallet_that_is_unavailable_is_asked_again_until_it_answers(
    page: Page, context: BrowserContext, problems: Problems, patient: int
) -> None:
    problems.expect("status of 503")
    refusals = iter([True, True])

    def answer(route: Route) -> None:
        """Twice 503, then what the wallet says."""
        if next(refusals, False):
            route.fulfill(status=503, headers={"Retry-After": "1"}, json={"Error": "Come back later"})
        else:
            route.continue_()

    context.route(re.compile(r"/account/\d+\?"), answer)
    page.goto(f"{CONSOLE}#/account/{patient}")
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("Come back later")
    expect(alert.get_by_role("button", name="Try again")).to_be_visible()
    expect(page.get_by_role("heading", level=1)).to_contain_text("patient")
    expect(alert).to_have_count(0)


def test_what_was_shown_stays_while_the_wallet_is_unavailable(
    page: Page, context: BrowserContext, problems: Problems, patient: int
) -> None:
    problems.expect("status of 503")
    problems.expect("ERR_")
    main = visit(page, "#/accounts", "Accounts")
    expect(main).to_contain_text("patient")
    pattern = re.compile(r"/accounts\?")
    context.route(pattern, lambda route: route.abort("connectionrefused"))
    main.get_by_label("Name").fill("pat")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_be_visible()
    context.unroute(pattern)
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("alert")).to_have_count(0)
    expect(main).to_contain_text("patient")
