"""Payments: who paid whom, when and why; and the page of one, with all that belongs to it."""

import re
from datetime import UTC, datetime, timedelta

import httpx2
import pytest
from playwright.sync_api import Page, expect

from tests.conftest import Connection
from tests.console.pages import Problems, cells, facts, table, visit
from tests.support import open_account, pay, payment_body

NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def accounts(api: httpx2.Client) -> list[int]:
    return [open_account(api, name, 1000) for name in ("Amina", "Bakery", "Cinema")]


@pytest.fixture(scope="module")
def days(api: httpx2.Client, keeper: Connection, accounts: list[int]) -> dict[str, int]:
    """Payments of several days."""
    amina, bakery, cinema = accounts
    made = {}
    for name, days, buyer, seller, amount, more in [
        ("last month", 30, amina, cinema, "9", {}),
        ("a week ago", 7, cinema, amina, "8", {}),
        ("six days ago", 6, bakery, amina, "7", {}),
        ("yesterday", 1, amina, bakery, "12.5", {"Reference": "order 17", "Description": "Cake"}),
        ("also yesterday", 1, bakery, cinema, "3", {}),
        ("today", 0, amina, cinema, "20", {}),
    ]:
        made[name] = pay(api, buyer, seller, amount, **more).json()["ID"]
        noon = (NOW - timedelta(days=days)).replace(hour=0, minute=0, second=0, microsecond=len(made))
        with keeper.transaction():
            keeper.execute("set local session_replication_role = replica")
            keeper.execute("update ledger.payment set operation_timestamp = %s where id = %s", [noon, made[name]])
    return made


def shown(page: Page, days: dict[str, int], *expected: str) -> None:
    """Waits until these payments are shown, newest first."""
    links = table(page, "Payments").locator("tr > td:nth-child(5)")
    expect(links).to_have_text([str(days[name]) for name in expected])


def test_one_finds_who_paid_whom_yesterday(page: Page, days: dict[str, int], accounts: list[int]) -> None:
    main = visit(page, "#/", "Overview")
    page.get_by_role("link", name="Payments", exact=True).click()
    main.get_by_role("button", name="Yesterday").click()
    shown(page, days, "also yesterday", "yesterday")
    row = table(page, "Payments").get_by_role("row").nth(1)
    expect(row).to_contain_text(f"Amina (#{accounts[0]}) → Bakery (#{accounts[1]})")
    expect(row).to_contain_text("Cake")
    assert {"12.5", "USD"} <= {*cells(row)}
    for button, names in [
        ("Today", ["today"]),
        ("Last 7 days", ["today", "also yesterday", "yesterday", "six days ago"]),
    ]:
        main.get_by_role("button", name=button).click()
        shown(page, days, *names)


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"Account ID": 0}, ["today", "yesterday", "six days ago", "a week ago", "last month"]),
        ({"Buyer ID": 0}, ["today", "yesterday", "last month"]),
        ({"Seller ID": 2}, ["today", "also yesterday", "last month"]),
        ({"Buyer ID": 0, "Seller ID": 1}, ["yesterday"]),
        ({"Reference": "order 17"}, ["yesterday"]),
        ({"Minimum amount": "8", "Maximum amount": "12.5"}, ["yesterday", "a week ago", "last month"]),
        ({"Reference": "order 18"}, []),
    ],
    ids=lambda value: " ".join(value),
)
def test_filters_find_payments_and_are_in_the_url(
    page: Page, days: dict[str, int], accounts: list[int], fields: dict[str, object], names: list[str]
) -> None:
    main = visit(page, "#/payments", "Payments")
    for label, value in fields.items():
        main.get_by_label(label).fill(str(value if isinstance(value, str) else accounts[int(str(value))]))
    page.keyboard.press("Enter")
    for _ in range(2):
        if names:
            shown(page, days, *names)
        else:
            expect(main).to_contain_text("No payment matches.")
        page.reload()


def test_a_period_is_asked_for_in_utc(page: Page, days: dict[str, int]) -> None:
    yesterday = (NOW - timedelta(days=1)).strftime("%Y-%m-%d")
    main = visit(page, "#/payments", "Payments")
    main.get_by_label("From", exact=True).fill(f"{yesterday}T00:00:00")
    main.get_by_label("To", exact=True).fill(f"{yesterday}T00:00:01")
    with page.expect_request(re.compile(r"/payments\?.*from=")) as asking:
        page.keyboard.press("Enter")
    assert f"from={yesterday}T00%3A00%3A00Z" in asking.value.url
    shown(page, days, "also yesterday", "yesterday")


def test_what_the_api_refuses_is_said_in_its_words(page: Page, problems: Problems, days: dict[str, int]) -> None:
    problems.expect("status of 400")
    main = visit(page, "#/payments", "Payments")
    main.get_by_label("Buyer ID").fill("Amina")
    page.keyboard.press("Enter")
    expect(main.get_by_role("alert")).to_contain_text("buyer")
    main.get_by_label("Buyer ID").fill("")
    page.keyboard.press("Enter")
    expect(main.get_by_role("alert")).to_have_count(0)
    expect(table(page, "Payments").get_by_role("row").first).to_be_visible()


def test_a_payment_shows_both_sides_its_refunds_and_who_made_it(
    page: Page, api: httpx2.Client, accounts: list[int]
) -> None:
    buyer, seller, _ = accounts
    more = {"Description": "Two books", "Reference": "order 18", "Metadata": {"order": {"lines": [1, 2]}}}
    paid = api.post("/payments", json=payment_body(buyer, seller, "10.5", **more)).json()
    refunds = [
        api.post(f"/payment/{paid['ID']}/refund", json={"Amount": amount}).json()["ID"] for amount in ("1", "2.25")
    ]
    main = visit(page, f"#/payment/{paid['ID']}", f"Payment {paid['ID']}")
    expect(facts(main, "Buyer")).to_have_text(f"Amina (#{buyer})")
    expect(facts(main, "Seller")).to_have_text(f"Bakery (#{seller})")
    for name, value in [
        ("Amount", "10.5 USD"),
        ("Description", "Two books"),
        ("Reference", "order 18"),
        ("Refunded so far", "3.25 USD"),
        ("Left to refund", "7.25 USD"),
        ("Made by", "wallet_app"),
    ]:
        expect(facts(main, name)).to_have_text(value)
    expect(facts(main, "Metadata")).to_contain_text('"lines"')
    expect(facts(main, "Time").locator("time")).to_have_attribute("datetime", paid["OperationTimestamp"])
    rows = table(page, "Refunds").get_by_role("row")
    expect(rows).to_have_count(2)
    assert [cells(row)[1:3] for row in rows.all()] == [
        [f"Payment {refunds[0]}", "1"],
        [f"Payment {refunds[1]}", "2.25"],
    ]
    rows.nth(1).get_by_role("link").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(f"Payment {refunds[1]}")
    expect(facts(main, "Refund of")).to_have_text(f"Payment {paid['ID']}")
    facts(main, "Refund of").get_by_role("link").click()
    facts(main, "Seller").get_by_role("link").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Bakery")
