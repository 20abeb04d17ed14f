"""Holds: those that are open, end soon or have ended; and the page of one, with its captures."""

import re

import httpx2
import pytest
from playwright.sync_api import Page, expect

from tests.conftest import Connection
from tests.console.pages import cells, facts, table, visit
from tests.sql.calls import as_if_an_hour_ago
from tests.support import open_account, payment_body


@pytest.fixture(scope="module")
def holds(api: httpx2.Client, keeper: Connection) -> dict[str, int]:
    """A hold of each kind."""
    buyer, seller = (open_account(api, name, 1000) for name in ("buyer", "seller"))
    made = {}
    for name, seconds in [
        ("open", 7200),
        ("ending", 600),
        ("captured", 600),
        ("voided", 600),
        ("expired", 600),
        ("partly", 7200),
    ]:
        body = payment_body(buyer, seller, "10.5", ExpiresIn=seconds, Reference=f"order {name}")
        made[name] = api.post("/holds", json=body).json()["ID"]
    api.post(f"/hold/{made['captured']}/capture")
    api.post(f"/hold/{made['voided']}/void")
    for amount in ("1", "2.25"):
        api.post(f"/hold/{made['partly']}/capture", json={"Amount": amount, "Final": False})
    with keeper.transaction():
        as_if_an_hour_ago(keeper, made["expired"])
    return made


@pytest.mark.parametrize(
    ("tab", "names"),
    [
        ("Open", ["partly", "ending", "open"]),
        ("Ending soon", ["ending"]),
        ("Captured", ["captured"]),
        ("Voided", ["voided"]),
        ("Expired", ["expired"]),
    ],
)
def test_a_tab_has_the_holds_of_its_kind(page: Page, holds: dict[str, int], tab: str, names: list[str]) -> None:
    main = visit(page, "#/holds", "Holds")
    main.get_by_role("link", name=tab, exact=True).click()
    expect(main.get_by_role("link", name=tab, exact=True)).to_have_attribute("aria-current", "page")
    expect(table(page, "Holds").locator("tr > td:first-child")).to_have_text([str(holds[name]) for name in names])
    row = table(page, "Holds").get_by_role("row").first
    expect(row).to_contain_text(re.compile(r"buyer \(#\d+\) → seller \(#\d+\)"))
    assert {"10.5", f"order {names[0]}"} <= {*cells(row)}


def test_holds_are_found_by_their_reference(page: Page, holds: dict[str, int]) -> None:
    main = visit(page, "#/holds", "Holds")
    main.get_by_label("Reference").fill("order open")
    page.keyboard.press("Enter")
    expect(table(page, "Holds").locator("tr > td:first-child")).to_have_text([str(holds["open"])])


def test_a_hold_shows_both_sides_what_is_left_and_its_captures(
    page: Page, api: httpx2.Client, holds: dict[str, int]
) -> None:
    main = visit(page, f"#/hold/{holds['partly']}", f"Hold {holds['partly']}")
    for name, value in [
        ("Amount", "10.5 USD"),
        ("Captured", "3.25 USD"),
        ("Still held", "7.25 USD"),
        ("Made by", "wallet_app"),
    ]:
        expect(facts(main, name)).to_have_text(value)
    expect(facts(main, "Buyer")).to_contain_text("buyer (#")
    expect(facts(main, "Seller")).to_contain_text("seller (#")
    rows = table(page, "Captures").get_by_role("row")
    captures = api.get(f"/payments?hold={holds['partly']}").json()["Payments"]
    assert [cells(row)[1:3] for row in rows.all()] == [
        [f"Payment {found['ID']}", found["Amount"]] for found in captures
    ]
    rows.first.get_by_role("link").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(f"Payment {captures[0]['ID']}")
    expect(facts(main, "Capture of")).to_contain_text(f"Hold {holds['partly']} of 10.5 USD")


@pytest.mark.parametrize("name", ["captured", "voided", "expired"])
def test_a_hold_that_has_ended_offers_no_change(page: Page, holds: dict[str, int], name: str) -> None:
    main = visit(page, f"#/hold/{holds[name]}", f"Hold {holds[name]}")
    expect(page.get_by_role("heading", level=1)).to_contain_text(name)
    expect(facts(main, "Released")).to_be_visible()
    expect(main.get_by_role("button", name=re.compile("Capture…|Void…"))).to_have_count(0)
