"""Names, descriptions, metadata and amounts are data: shown as they are, with all their digits, in a layout that holds."""

import re
from collections.abc import Iterator
from functools import partial

import httpx2
import pytest
from playwright.sync_api import BrowserContext, Page, Route, expect

from tests.console.pages import PAGES, cells, facts, loaded, overflow, table, visit
from tests.support import open_account, payment_body

SCRIPT, IMAGE = "<script>alert(1)</script>", "<img src=x onerror=alert(1)>"
RTL, EMOJI = "مطعم الشام (7)", "🦊🍎 & Söhne"
LONG, WIDE = "x" * 255, "Ŵ" * 254 + "!"
NAMES = [SCRIPT, IMAGE, RTL, EMOJI, LONG, WIDE]
# What a description may be, besides.
TEXTS = ["\u202eright to left", "a\n\tb", "=1+1", '"; quoted', LONG]
MOST = "999999999999999.999999999999999"
AMOUNTS = [MOST, "0.000000000000001", "5", "12.5", "100000000000000"]


@pytest.fixture(scope="module")
def accounts(api: httpx2.Client) -> dict[str, int]:
    """An account of each name, which has paid the next one, with each description."""
    opened = {name: open_account(api, name, "1000.25") for name in NAMES}
    ids = list(opened.values())
    for number, text in enumerate([*NAMES, *TEXTS]):
        sides = ids[number % len(ids)], ids[(number + 1) % len(ids)]
        more = {"Description": text, "Reference": text, "Metadata": {text: [text, {"deep": text}], "number": 10**30}}
        assert api.post("/payments", json=payment_body(*sides, "0.125", **more)).status_code == 200
        assert api.post("/holds", json=payment_body(*sides, "0.5", ExpiresIn=600, **more)).status_code == 200
    return opened


def all_pages(accounts: dict[str, int]) -> Iterator[str]:
    yield from PAGES
    yield "#/try/makePayment"
    yield from (f"#/account/{id_}" for id_ in accounts.values())
    for number in range(1, len(NAMES) + len(TEXTS) + 1):
        yield f"#/payment/{number}"
        yield f"#/hold/{number}"


@pytest.mark.parametrize("width", [390, 1600])
def test_no_page_is_wider_than_the_window(page: Page, accounts: dict[str, int], width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    for route in all_pages(accounts):
        visit(page, route, re.compile(r"\S"))
        loaded(page)
        assert (route, overflow(page)) == (route, 0)


@pytest.mark.parametrize("name", NAMES, ids=["script", "image", "rtl", "emoji", "long", "wide"])
def test_a_name_is_shown_as_it_is(page: Page, accounts: dict[str, int], name: str) -> None:
    main = visit(page, f"#/account/{accounts[name]}", name)
    visit(page, f"#/accounts?prefix={name[:5].replace('&', '%26')}", "Accounts")
    link = main.get_by_role("link", name=name)
    expect(link).to_be_visible()
    assert name in link.inner_text()
    assert main.locator("script, img").count() == 0


def test_a_name_does_not_turn_its_line_round(page: Page, accounts: dict[str, int]) -> None:
    """It stands apart for the bidirectional algorithm, so that its ID remains behind it."""
    main = visit(page, f"#/payments?account={accounts[RTL]}", "Payments")
    expect(main.get_by_text(RTL).first).to_be_visible()
    assert {
        found.evaluate("element => element.closest('bdi, [dir=auto]') !== null")
        for found in main.get_by_text(RTL).all()
    } == {True}


@pytest.mark.parametrize("text", TEXTS)
def test_a_description_is_shown_as_it_is(page: Page, accounts: dict[str, int], text: str) -> None:
    main = visit(page, f"#/payment/{1 + len(NAMES) + TEXTS.index(text)}", re.compile("Payment"))
    expect(main).to_contain_text(text)


def test_metadata_keep_their_digits(page: Page, accounts: dict[str, int]) -> None:
    main = visit(page, "#/payment/1", re.compile("Payment"))
    expect(main).to_contain_text("1" + "0" * 30)


def test_amounts_keep_all_digits_and_align_at_the_point(page: Page, api: httpx2.Client) -> None:
    for number, amount in enumerate(AMOUNTS):
        open_account(api, f"digits {number}", amount)
    visit(page, "#/accounts?prefix=digits", "Accounts")
    rows = table(page, "Accounts").get_by_role("row")
    expect(rows).to_have_count(len(AMOUNTS))
    for row, amount in zip(rows.all(), AMOUNTS, strict=True):
        assert amount in cells(row)
    columns = page.evaluate(
        """() => {
            const columns = {};
            for (const amount of document.querySelectorAll("tbody td .amount")) {
                const text = document.createTreeWalker(amount, NodeFilter.SHOW_TEXT).nextNode();
                const whole = document.createRange();
                whole.setStart(text, 0);
                whole.setEnd(text, (text.data + ".").indexOf("."));
                (columns[amount.closest("td").cellIndex] ??= []).push(whole.getBoundingClientRect().right);
            }
            return Object.values(columns);
        }"""
    )
    assert [len(points) for points in columns] == [len(AMOUNTS)] * 4
    for points in columns:
        assert max(points) - min(points) < 0.5


def test_an_amount_is_copied_without_what_aligns_it(page: Page, api: httpx2.Client) -> None:
    visit(page, "#/accounts?prefix=digits%202", "Accounts")
    row = table(page, "Accounts").get_by_role("row").filter(has_text="digits 2")
    row.click()
    row.evaluate("row => getSelection().selectAllChildren(row)")
    assert "5" in page.evaluate("getSelection().toString()").split()


def test_an_id_beyond_the_numbers_of_javascript_keeps_its_digits(
    page: Page, context: BrowserContext, api: httpx2.Client, accounts: dict[str, int]
) -> None:
    large = 2**53 + 1
    for path in ("/payments?limit=1", "/payment/1"):
        text = api.get(path).text.replace('"ID":1,', f'"ID":{large},')
        pattern = "**/payments?order=*" if "limit" in path else f"**/payment/{large}?*"
        context.route(pattern, partial(Route.fulfill, body=text, content_type="application/json"))
    main = visit(page, "#/payments", "Payments")
    main.get_by_role("link", name=str(large), exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(f"Payment {large}")
    expect(facts(main, "Amount")).to_have_text("0.125 USD")
