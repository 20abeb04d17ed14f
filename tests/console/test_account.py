"""The page of an account: what it has, how that came to be, who it trades with, and a file of its statement."""

import csv
import io
import re
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import BrowserContext, Page, Route, expect

from tests.conftest import Connection
from tests.console.pages import Problems, cells, table, visit
from tests.support import open_account, pay, payment_body

numbers = count(1)


@pytest.fixture
def buyer(api: httpx2.Client) -> int:
    return open_account(api, f"buyer {next(numbers)}", 100)


@pytest.fixture
def seller(api: httpx2.Client) -> int:
    return open_account(api, f"seller {next(numbers)}")


def lines(page: Page) -> list[list[str]]:
    """The lines of the statement."""
    return [cells(row) for row in table(page, "Statement").get_by_role("row").all()]


def test_it_says_why_the_available_amount_is_what_it_is(
    page: Page, api: httpx2.Client, buyer: int, seller: int
) -> None:
    api.post(f"/account/{buyer}/credit-limit", json={"Amount": "50.5"})
    pay(api, buyer, seller, "30.25")
    api.post("/holds", json=payment_body(buyer, seller, "20"))
    main = visit(page, f"#/account/{buyer}", "buyer")
    sums = main.get_by_role("region", name="Amounts")
    expect(sums).to_contain_text(
        re.compile(r"Available\s*100\.25\s*=\s*Balance\s*69\.75\s*\+\s*Credit limit\s*50\.5\s*−\s*Held\s*20")
    )
    expect(page.get_by_role("heading", level=1)).to_contain_text(f"(#{buyer})")
    expect(page.get_by_role("heading", level=1)).to_contain_text("active")


def test_each_line_of_the_statement_explains_itself(page: Page, api: httpx2.Client, buyer: int, seller: int) -> None:
    paid = pay(api, buyer, seller, "30.25", Description="Two books", Reference="order 17").json()["ID"]
    refund = api.post(f"/payment/{paid}/refund", json={"Amount": "10"}).json()["ID"]
    hold = api.post("/holds", json=payment_body(buyer, seller, "20")).json()["ID"]
    captured = api.post(f"/hold/{hold}/capture", json={"Amount": "5"}).json()["ID"]
    main = visit(page, f"#/account/{buyer}", "buyer")
    expect(table(page, "Statement").get_by_role("row")).to_have_count(3)
    shown = [line[1:] for line in lines(page)]
    name = api.get(f"/account/{seller}").json()["Name"]
    assert shown == [
        [str(captured), f"to {name} (#{seller})", f"Capture of hold {hold}", "-5", "74.75"],
        [str(refund), f"from {name} (#{seller})", f"Refund of payment {paid}", "10", "79.75"],
        [str(paid), f"to {name} (#{seller})", "Two books · order 17", "-30.25", "69.75"],
    ]
    expect(main).to_contain_text("Balance before these lines: 100 USD")
    main.get_by_role("link", name=f"Refund of payment {paid}").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(f"Payment {paid}")


def test_a_long_statement_has_pages_and_a_period(
    page: Page, api: httpx2.Client, keeper: Connection, buyer: int, seller: int
) -> None:
    batch = {"Payments": [payment_body(buyer, seller, "0.5") for _ in range(120)]}
    first = api.post("/payments/batch", json=batch).json()["Results"][0]["ID"]
    with keeper.transaction():
        keeper.execute("set local session_replication_role = replica")
        keeper.execute(
            """update ledger.payment set operation_timestamp = timestamptz '2026-01-01 00:00+00' + (id - %s) * interval '1 hour'
               where buyer_account_id = %s""", [first, buyer],
        )  # fmt: skip
    main = visit(page, f"#/account/{buyer}", "buyer")
    rows = table(page, "Statement").get_by_role("row")
    for number, balance in ((50, "40"), (50, "65"), (20, "90")):
        expect(rows.first).to_contain_text(balance)
        expect(rows).to_have_count(number)
        if number == 50:
            main.get_by_role("button", name="Next").click()
    expect(main).to_contain_text("Balance before these lines: 100 USD")
    main.get_by_role("button", name="First").click()
    expect(rows).to_have_count(50)
    main.get_by_label("From", exact=True).fill("2026-01-02T00:00:00")
    main.get_by_label("To", exact=True).fill("2026-01-02T03:00:00")
    page.keyboard.press("Enter")
    expect(rows).to_have_count(3)
    assert [line[0] for line in lines(page)] == [f"2026-01-02 0{hour}:00:00" for hour in (2, 1, 0)]
    expect(main).to_contain_text("Balance before these lines: 88 USD")


def test_open_holds_counterparties_and_changes_are_there(
    page: Page, api: httpx2.Client, buyer: int, seller: int
) -> None:
    payment = pay(api, buyer, seller, "30.25").json()["ID"]
    pay(api, seller, buyer, "0.25")
    hold = api.post("/holds", json=payment_body(buyer, seller, "20")).json()["ID"]
    api.post(f"/account/{buyer}/status", json={"Status": "frozen"})
    visit(page, f"#/account/{buyer}", "buyer")
    holds = table(page, "Open holds")
    expect(holds.locator(f"a[href='#/hold/{hold}']")).to_be_visible()
    expect(holds.locator(f"a[href='#/account/{seller}']")).to_be_visible()
    assert "20" in cells(holds.get_by_role("row"))
    traded = cells(table(page, "Who it trades with").get_by_role("row"))
    assert (traded[1:4], f"(#{seller})" in traded[0]) == (["2", "30.25", "0.25"], True)
    expect(table(page, "Who it trades with").locator(f"a[href='#/payment/{payment + 1}']")).to_be_visible()
    changes = table(page, re.compile("Changes")).get_by_role("row")
    expect(changes).to_have_count(2)
    assert [cells(row)[1:] for row in changes.all()] == [["frozen", "0", "wallet_app"], ["active", "0", "wallet_app"]]


def test_the_curve_shows_the_balance_over_the_period_and_says_it_in_words(
    page: Page, api: httpx2.Client, buyer: int, seller: int
) -> None:
    for amount in ("70", "12.5"):
        pay(api, buyer, seller, amount)
    main = visit(page, f"#/account/{buyer}", "buyer")
    chart = main.get_by_role("img", name=re.compile("Balance from"))
    expect(chart).to_have_accessible_name(re.compile(r"ends at 17\.5 USD; lowest (0|17\.5), highest 100"))
    main.get_by_text("Show as table").click()
    rows = table(page, re.compile("Balance")).get_by_role("row")
    points = api.get(f"/account/{buyer}/curve").json()["Points"]
    for period in ("24 hours", "7 days", "30 days", "all"):
        main.get_by_label("Period of the curve").select_option(period)
        expect(page.locator("[aria-busy=true]")).to_have_count(0)
        expect(chart).to_be_visible()
    expect(rows).to_have_count(len(points))
    assert [cells(row)[1] for row in rows.all()] == [point["Amount"] for point in points]


def download(page: Page, path: Path) -> str:
    """The file of the statement that is shown, and its name."""
    with page.expect_download() as loading:
        page.get_by_role("button", name="Download CSV").click()
    loading.value.save_as(path / loading.value.suggested_filename)
    return loading.value.suggested_filename


def read(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_bytes().decode(), newline=""), strict=True))


FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"]
QUOTED = ['a "quoted", text', "two\r\nlines", "semi;colon", " blanks ", "é🦊", "'"]


def test_the_file_has_each_line_and_no_text_that_a_spreadsheet_would_run(
    page: Page, api: httpx2.Client, tmp_path: Path, buyer: int, seller: int
) -> None:
    for text in [*FORMULAS, *QUOTED]:
        assert pay(api, buyer, seller, "0.125", Description=text).status_code == 200
    visit(page, f"#/account/{buyer}", "buyer")
    name = download(page, tmp_path)
    assert name == f"account-{buyer}-statement.csv"
    found = read(tmp_path / name)
    statement = api.get(f"/account/{buyer}/statement").json()["Lines"]
    assert [line["Description"] for line in found] == [*(f"'{text}" for text in FORMULAS), *QUOTED]
    for field in ("OperationTimestamp", "PaymentID", "CounterpartyAccountID", "CounterpartyName", "Amount", "Balance"):
        assert [line[field] for line in found] == [str(line[field]) for line in statement], field
    assert (tmp_path / name).read_bytes().count(b"\r\n") == len(statement) + 1 + 1  # one is in a text


def test_the_file_has_all_pages_and_those_of_the_period_alone(
    page: Page, api: httpx2.Client, tmp_path: Path, buyer: int, seller: int
) -> None:
    batch = {"Payments": [payment_body(buyer, seller, "0.01") for _ in range(2100)]}
    assert api.post("/payments/batch", json=batch).status_code == 200
    main = visit(page, f"#/account/{buyer}", "buyer")
    found = read(tmp_path / download(page, tmp_path))
    assert [line["Balance"] for line in (found[0], found[-1])] == ["99.99", "79"]
    assert len({line["PaymentID"] for line in found}) == len(found) == 2100
    expect(main).to_contain_text("2100 lines")
    tomorrow, after = ((datetime.now(UTC) + timedelta(days=days)).strftime("%Y-%m-%d") for days in (1, 2))
    main.get_by_label("From", exact=True).fill(f"{tomorrow}T00:00:00")
    main.get_by_label("To", exact=True).fill(f"{after}T00:00:00")
    # The period is that of the fields, also before one searches for it.
    name = download(page, tmp_path)
    assert (name, read(tmp_path / name)) == (f"account-{buyer}-statement-{tomorrow}-{after}.csv", [])
    expect(main).to_contain_text("0 lines saved")
    main.get_by_label("To", exact=True).press("Enter")
    expect(main).to_contain_text("No lines in this period.")
    expect(main).not_to_contain_text("lines saved")


def test_a_download_stops_when_told_to(
    page: Page, context: BrowserContext, api: httpx2.Client, buyer: int, seller: int
) -> None:
    pay(api, buyer, seller, 1)
    waiting: list[Route] = []
    main = visit(page, f"#/account/{buyer}", "buyer")
    expect(table(page, "Statement").get_by_role("row")).to_have_count(1)
    context.route("**/statement?limit=1000*", lambda route: waiting.append(route))
    main.get_by_role("button", name="Download CSV").click()
    main.get_by_role("button", name="Stop").click()
    expect(main).to_contain_text("Stopped.")
    expect(main.get_by_role("button", name="Download CSV")).to_be_enabled()


def test_a_download_goes_on_once_the_wallet_answers_again(
    page: Page, context: BrowserContext, api: httpx2.Client, problems: Problems, tmp_path: Path, buyer: int, seller: int
) -> None:
    problems.expect("status of 503")
    batch = {"Payments": [payment_body(buyer, seller, "0.01") for _ in range(1500)]}
    assert api.post("/payments/batch", json=batch).status_code == 200
    visit(page, f"#/account/{buyer}", "buyer")
    expect(table(page, "Statement").get_by_role("row")).to_have_count(50)
    unavailable = partial(Route.fulfill, status=503, headers={"Retry-After": "1"}, json={"Error": "Come back later"})
    context.route("**/statement?limit=1000&after=*", unavailable, times=2)
    assert len(read(tmp_path / download(page, tmp_path))) == 1500


def test_a_download_that_fails_says_so_and_saves_nothing(
    page: Page, context: BrowserContext, api: httpx2.Client, problems: Problems, buyer: int, seller: int
) -> None:
    problems.expect("status of 500")
    pay(api, buyer, seller, 1)
    main = visit(page, f"#/account/{buyer}", "buyer")
    expect(table(page, "Statement").get_by_role("row")).to_have_count(1)
    failed = partial(Route.fulfill, status=500, json={"Error": "Internal error"})
    context.route("**/statement?limit=1000*", failed)
    main.get_by_role("button", name="Download CSV").click()
    expect(main.get_by_role("alert")).to_contain_text("Internal error")
    expect(main.get_by_role("alert")).to_contain_text("Nothing was saved.")
