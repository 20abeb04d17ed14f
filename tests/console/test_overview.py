"""The overview: what each currency has, how busy it is, what arrives, which holds end soon, and whether the books are proved."""

import re

import httpx2
import pytest
from playwright.sync_api import BrowserContext, Locator, Page, expect

from tests.conftest import Connection
from tests.console import example
from tests.console.example import Example
from tests.console.pages import Problems, cells, table, visit
from tests.sql.calls import row
from tests.support import pay


@pytest.fixture(scope="module", autouse=True)
def filled(keeper: Connection) -> Example:
    return example.fill(keeper)


def test_it_shows_the_sums_of_each_currency(page: Page, api: httpx2.Client) -> None:
    visit(page, "#/", "Overview")
    body = table(page, re.compile("currenc", re.IGNORECASE))
    for total in api.get("/totals").json()["Totals"]:
        shown = cells(body.get_by_role("row").filter(has=page.get_by_text(total["CurrencyName"], exact=True)))
        fields = ("Accounts", "Payments", "Total", "Held")
        assert [text.replace(",", "") for text in shown[-4:]] == [str(total[field]) for field in fields]


def test_the_newest_20_payments_are_on_top(page: Page, api: httpx2.Client) -> None:
    visit(page, "#/", "Overview")
    rows = table(page, re.compile("payments")).get_by_role("row")
    expect(rows).to_have_count(20)
    newest = api.get("/payments?order=desc&limit=20").json()["Payments"]
    for shown, payment in zip(rows.all(), newest, strict=True):
        assert payment["Amount"] in cells(shown)
        expect(shown.locator(f"a[href='#/payment/{payment['ID']}']")).to_be_visible()


def test_a_payment_appears_without_a_reload(page: Page, api: httpx2.Client) -> None:
    main = visit(page, "#/", "Overview")
    rows = table(page, re.compile("payments")).get_by_role("row")
    expect(main.get_by_text("Live", exact=True)).to_be_visible()
    expect(rows).to_have_count(20)
    before = api.get("/totals").json()["Totals"][-1]["Payments"]
    for number in range(3):
        made = pay(api, 8, 2, f"0.{number + 1}").json()
        expect(rows.first.locator(f"a[href='#/payment/{made['ID']}']")).to_be_visible()
        expect(rows.first).to_contain_text("Amina Haddad")
        expect(rows.first).to_contain_text("Café Amsel")
        assert made["Amount"] in cells(rows.first)
        expect(rows).to_have_count(20)
    euro = table(page, re.compile("currenc", re.IGNORECASE)).get_by_role("row").filter(has_text="EUR")
    expect(euro.get_by_role("cell", name=str(before + 3), exact=True)).to_be_visible()


def test_what_arrives_while_the_feed_is_interrupted_appears_later(
    page: Page, context: BrowserContext, api: httpx2.Client, problems: Problems
) -> None:
    problems.expect("/feed")
    main = visit(page, "#/", "Overview")
    expect(main.get_by_text("Live", exact=True)).to_be_visible()
    rows = table(page, re.compile("payments")).get_by_role("row")
    context.route("**/feed?*", lambda route: route.abort("connectionreset"))
    first = pay(api, 8, 2, "0.7").json()["ID"]  # ends the request that waits
    expect(main.get_by_text(re.compile("Reconnecting"))).to_be_visible()
    second = pay(api, 8, 2, "0.8").json()["ID"]
    context.unroute("**/feed?*")
    expect(main.get_by_text("Live", exact=True)).to_be_visible()
    expect(rows.nth(0).locator(f"a[href='#/payment/{second}']")).to_be_visible()
    expect(rows.nth(1).locator(f"a[href='#/payment/{first}']")).to_be_visible()


def test_holds_that_end_within_the_hour_stand_in_the_order_in_which_they_end(page: Page) -> None:
    visit(page, "#/", "Overview")
    rows = table(page, re.compile("hold", re.IGNORECASE)).get_by_role("row")
    expect(rows).to_have_count(3)
    for shown, name in zip(rows.all(), ["Amina Haddad", "Daniel Stein", "Grace Mensah"], strict=True):
        expect(shown).to_contain_text(name)


def test_the_chart_shows_payments_per_hour_and_says_so_in_words(page: Page, api: httpx2.Client) -> None:
    main = visit(page, "#/", "Overview")
    hours = api.get("/payments/hours").json()["Hours"]
    chart = main.get_by_role("img", name=re.compile("hour"))
    expect(chart).to_be_visible()
    main.get_by_text("Show as table").first.click()
    rows = table(page, "Payments per hour").get_by_role("row")
    expect(rows).to_have_count(len(hours))
    shown = [cells(found) for found in rows.all()]
    assert sorted(int(found[1].replace(",", "")) for found in shown) == sorted(hour["Payments"] for hour in hours)


@pytest.mark.parametrize(
    ("problems_found", "age", "said", "is_bad"),
    [
        (0, "1 hour", "Books proved at", False),
        (0, "2 hours 59 minutes", "Books proved at", False),
        (0, "3 hours 1 minute", "late: last proved", True),
        (3, "1 minute", "3 problems found", True),
        (1, "26 hours", "1 problem", True),
        (None, "", "never proved", True),
    ],
)
def test_it_says_when_the_books_were_proved(
    page: Page, keeper: Connection, problems_found: int | None, age: str, said: str, is_bad: bool
) -> None:
    with keeper.transaction():
        keeper.execute("set local session_replication_role = replica")
        keeper.execute("delete from ledger.ledger_check")
        if problems_found is not None:
            row(keeper, "record_ledger_check", problems_found)
            keeper.execute("update ledger.ledger_check set checked_at = now() - %s::interval", [age])
    main = visit(page, "#/", "Overview")
    box = main.locator(".books")
    expect(box).to_contain_text(re.compile(re.escape(said), re.IGNORECASE))
    red, green, blue = colour(box.locator("strong"))
    assert (red > 1.5 * max(green, blue)) == is_bad


def colour(element: Locator) -> tuple[int, ...]:
    """Its red, green and blue."""
    found = element.evaluate("element => getComputedStyle(element).color")
    return tuple(int(part) for part in re.findall(r"\d+", found)[:3])
