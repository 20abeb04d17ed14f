"""An empty wallet has no page that breaks: each says that there is nothing yet."""

import re

import httpx2
import pytest
from playwright.sync_api import Page, expect

from tests.console.pages import CONSOLE, loaded, overflow, visit
from tests.support import open_account


@pytest.mark.parametrize(
    ("route", "said"),
    [
        ("#/", "No payments yet|No payment"),
        ("#/accounts", "No account matches."),
        ("#/accounts?at=2026-01-01T00:00:00Z", "No account matches."),
        ("#/payments", "No payment matches."),
        ("#/holds", "No holds."),
        ("#/holds?status=ending", "No holds."),
        ("#/keys", "needs an API key with the scope keys"),
        ("#/try", "Each operation of the API"),
    ],
)
def test_a_page_says_that_there_is_nothing(page: Page, route: str, said: str) -> None:
    main = visit(page, route, re.compile(r"\S"))
    loaded(page)
    expect(main).to_contain_text(re.compile(said))
    expect(main.get_by_role("alert")).to_have_count(0)
    for width in (390, 1600):
        page.set_viewport_size({"width": width, "height": 900})
        assert (width, overflow(page)) == (width, 0)


def test_so_does_a_new_account(page: Page, api: httpx2.Client) -> None:
    new = open_account(api, "new")
    main = visit(page, f"#/account/{new}", "new")
    loaded(page)
    expect(main.get_by_role("alert")).to_have_count(0)
    for said in (
        "No lines in this period.",
        "No open holds.",
        "It has no payments.",
        "Balance before these lines: 0 USD",
    ):
        expect(main).to_contain_text(said)


def test_the_service_leads_a_browser_to_the_console(page: Page) -> None:
    page.goto("/")
    expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
    assert page.url.partition("#")[0].endswith(CONSOLE)
