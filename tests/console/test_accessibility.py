"""axe-core finds nothing on any page, in light and dark, wide and narrow; and all can be done by keyboard."""

import re
from decimal import Decimal
from typing import Literal

import httpx2
import pytest
from playwright.sync_api import BrowserContext, Locator, Page, expect

from tests.conftest import Connection
from tests.console import example
from tests.console.example import Example
from tests.console.pages import (
    AXE,
    CONSOLE,
    PAGES,
    Problems,
    action,
    allow_changes,
    loaded,
    menu,
    overflow,
    sign_in,
    visit,
)
from tests.sql.calls import row

_RUN = """
    async (rules) => (await axe.run({resultTypes: ["violations"], ...rules})).violations.flatMap(({id, help, nodes}) =>
        nodes.map(({target, failureSummary}) => `${id}: ${help}: ${target}: ${failureSummary}`))
"""


# In dark, only colours differ.
SCHEMES: dict[Literal["light", "dark"], dict[str, list[str]]] = {
    "light": {},
    "dark": {"runOnly": ["color-contrast", "link-in-text-block"]},
}


@pytest.fixture(scope="module")
def filled(keeper: Connection) -> Example:
    return example.fill(keeper)


def violations(page: Page) -> list[str]:
    """What axe-core finds in light and dark, wide and narrow."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE.read_text())
    found = []
    for width in (1600, 390):
        page.set_viewport_size({"width": width, "height": 900})
        found += [f"{width} px: {by} px too wide" for by in [overflow(page)] if by]
        for scheme, rules in SCHEMES.items():
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            found += [f"{scheme}, {width} px: {violation}" for violation in page.evaluate(_RUN, rules)]
    return found


@pytest.mark.parametrize(
    "route", [*PAGES, "#/holds?status=captured", "#/try/makePayment", "#/try/listPayments", "#/nothing"]
)
def test_no_page_has_a_violation(page: Page, filled: Example, route: str) -> None:
    visit(page, route, re.compile(r"\S"))
    loaded(page)
    assert violations(page) == []


@pytest.mark.parametrize("kind", ["account", "payment", "hold"])
def test_no_page_of_one_thing_has_a_violation(page: Page, filled: Example, kind: str) -> None:
    main = visit(page, f"#/{kind}/{getattr(filled, kind)}", re.compile(r"\S"))
    loaded(page)
    for tables in main.get_by_text("Show as table").all():
        tables.click()
    assert violations(page) == []


@pytest.mark.parametrize(("kind", "button"), [("payment", "Refund…"), ("hold", "Capture…"), ("hold", "Void…")])
def test_no_dialog_has_a_violation(
    page: Page, context: BrowserContext, problems: Problems, filled: Example, kind: str, button: str
) -> None:
    """Neither while it asks, nor when it was refused, nor when it was done."""
    problems.expect("status of 503")
    main = visit(page, f"#/{kind}/{getattr(filled, kind)}", re.compile(r"\S"))
    allow_changes(page)
    main.get_by_role("button", name=button).click()
    dialog = page.get_by_role("dialog")
    found = violations(page)
    context.route("**/*", lambda route: route.fulfill(status=503, json={"Error": "Come back later"}), times=1)
    action(dialog).click()
    expect(dialog.get_by_role("alert")).to_be_visible()
    found += violations(page)
    context.route(
        re.compile("/(refund|capture|void)$"),
        lambda route: route.fulfill(json={"ID": 1, "Amount": "1", "Status": "voided"}),
    )
    action(dialog).click()
    expect(dialog.get_by_role("button", name="Close")).to_be_visible()
    assert found + violations(page) == []


def test_the_page_of_keys_and_its_dialog_have_no_violation(
    page: Page, problems: Problems, keeper: Connection, filled: Example
) -> None:
    secret = row(keeper, "create_api_key", "of axe", ["read", "keys"])["secret"]
    visit(page, "#/keys", "Keys")
    sign_in(page, str(secret))
    expect(page.get_by_role("main").get_by_text("of axe")).to_be_visible()
    found = violations(page)
    allow_changes(page)
    found += violations(page)
    page.get_by_role("button", name="Create a key…").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("made with axe")
    found += violations(page)
    action(dialog).click()
    expect(dialog.get_by_label("Secret, shown only now")).to_be_visible()
    assert found + violations(page) == []


def test_alerts_and_the_form_for_the_key_have_no_violation(
    page: Page, context: BrowserContext, problems: Problems
) -> None:
    problems.expect("status of ")
    visit(page, "#/", "Overview")
    page.get_by_role("button", name="Sign in").click()
    found = violations(page)
    sign_in(page, "wallet_none")
    expect(page.get_by_role("alert").filter(has_text="API key")).to_be_visible()
    found += violations(page)
    context.route("**/holds?*", lambda route: route.fulfill(status=503, json={"Error": "Come back later"}))
    page.goto(f"{CONSOLE}#/holds")
    expect(page.get_by_role("button", name="Try again")).to_be_visible()
    assert found + violations(page) == []


def test_an_answer_has_no_violation(page: Page, filled: Example) -> None:
    main = visit(page, "#/try/listPayments", re.compile(r"\S"))
    main.get_by_role("button", name="Send").click()
    expect(main.get_by_role("heading", name="Answer: 200")).to_be_visible()
    assert violations(page) == []


def tab_to(page: Page, target: Locator) -> None:
    """Presses Tab until the target has the focus. Whatever has it on the way shows so."""
    for _ in range(300):
        page.keyboard.press("Tab")
        if target.evaluate("element => element === document.activeElement"):
            outline = target.evaluate("element => getComputedStyle(element).outlineStyle")
            assert outline != "none", target
            return
    raise AssertionError(f"Tab does not lead to {target}")


def test_half_of_a_payment_is_given_back_without_the_mouse(page: Page, api: httpx2.Client, filled: Example) -> None:
    payment = api.get("/payments?reference=order%201400").json()["Payments"][0]
    half = f"{Decimal(payment['Amount']) / 2:.2f}"
    main = visit(page, "#/", "Overview")
    tab_to(page, page.get_by_role("switch", name="Allow changes"))
    page.keyboard.press("Space")
    tab_to(page, menu(page).get_by_role("link", name="Payments"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Payments")
    tab_to(page, main.get_by_label("Reference"))
    page.keyboard.type("order 1400")
    page.keyboard.press("Enter")
    link = main.get_by_role("link", name=str(payment["ID"]), exact=True)
    expect(main.get_by_role("table", name="Payments").locator("tbody tr")).to_have_count(1)
    tab_to(page, link)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_be_focused()
    tab_to(page, main.get_by_role("button", name="Refund…"))
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    tab_to(page, dialog.get_by_label("Amount"))
    page.keyboard.press("Control+A")
    page.keyboard.type(half)
    tab_to(page, action(dialog))
    page.keyboard.press("Enter")
    expect(dialog.get_by_role("button", name="Close")).to_be_focused()
    page.keyboard.press("Enter")
    expect(dialog).to_have_count(0)
    expect(main.get_by_role("button", name="Refund…")).to_be_focused()
    [refund] = api.get(f"/payments?refunded={payment['ID']}").json()["Payments"]
    assert Decimal(refund["Amount"]) == Decimal(half)
