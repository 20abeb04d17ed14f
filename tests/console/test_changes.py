"""Changes: none unless they are allowed, each shown exactly before it is sent, and made once, however often one sends it."""

import re
from itertools import count

import httpx2
import pytest
from playwright.sync_api import BrowserContext, Locator, Page, Request, Route, expect

from tests.console.pages import Problems, ShownRequest, action, allow_changes, facts, loaded, visit
from tests.support import open_account, pay, payment_body

numbers = count(1)


@pytest.fixture
def buyer(api: httpx2.Client) -> int:
    return open_account(api, f"buyer {next(numbers)}", 100)


@pytest.fixture
def seller(api: httpx2.Client) -> int:
    return open_account(api, f"seller {next(numbers)}", 100)


@pytest.fixture
def payment(api: httpx2.Client, buyer: int, seller: int) -> int:
    return int(pay(api, buyer, seller, "10.5").json()["ID"])


@pytest.fixture
def hold(api: httpx2.Client, buyer: int, seller: int) -> int:
    return int(api.post("/holds", json=payment_body(buyer, seller, "40.25")).json()["ID"])


def refunds(api: httpx2.Client, payment: int) -> list[str]:
    """The amounts that were refunded of a payment."""
    return [found["Amount"] for found in api.get(f"/payments?refunded={payment}").json().get("Payments", [])]


def opened(page: Page, route: str, button: str) -> Locator:
    """The dialog of a change that was allowed."""
    visit(page, route, re.compile(r"\S"))
    allow_changes(page)
    page.get_by_role("main").get_by_role("button", name=button).click()
    return page.get_by_role("dialog")


def send(dialog: Locator) -> None:
    """Sends it, and waits until it was done."""
    action(dialog).click()
    expect(dialog.get_by_role("button", name="Close")).to_be_focused()


def test_a_payment_is_refunded_in_full(page: Page, api: httpx2.Client, payment: int) -> None:
    dialog = opened(page, f"#/payment/{payment}", "Refund…")
    expect(dialog.get_by_label("Amount")).to_have_value("10.5")
    send(dialog)
    assert refunds(api, payment) == ["10.5"]
    [refund] = api.get(f"/payments?refunded={payment}").json()["Payments"]
    dialog.locator(f"a[href='#/payment/{refund['ID']}']").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(str(refund["ID"]))
    expect(page.get_by_role("main").locator(f"a[href='#/payment/{payment}']").first).to_be_visible()


def test_without_an_amount_nothing_is_sent(page: Page, api: httpx2.Client, payment: int, posted: list[Request]) -> None:
    dialog = opened(page, f"#/payment/{payment}", "Refund…")
    dialog.get_by_label("Amount").fill("")
    action(dialog).click()
    expect(dialog.get_by_label("Amount")).to_be_focused()
    assert (posted, refunds(api, payment)) == ([], [])


def test_what_is_left_is_filled_in(page: Page, api: httpx2.Client, payment: int) -> None:
    api.post(f"/payment/{payment}/refund", json={"Amount": "2.25"})
    dialog = opened(page, f"#/payment/{payment}", "Refund…")
    expect(dialog.get_by_label("Amount")).to_have_value("8.25")
    send(dialog)
    assert refunds(api, payment) == ["2.25", "8.25"]


def test_a_key_that_is_pressed_twice_by_mistake_sends_nothing(page: Page, payment: int, posted: list[Request]) -> None:
    visit(page, f"#/payment/{payment}", re.compile(r"\S"))
    allow_changes(page)
    page.get_by_role("main").get_by_role("button", name="Refund…").focus()
    for _ in range(3):
        page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("heading").first).to_be_focused()
    loaded(page)
    assert posted == []
    expect(action(dialog)).to_be_visible()


def test_a_payment_is_refunded_in_part_and_the_page_shows_what_is_left(
    page: Page, api: httpx2.Client, payment: int
) -> None:
    dialog = opened(page, f"#/payment/{payment}", "Refund…")
    dialog.get_by_label("Amount").fill("4.5")
    dialog.get_by_label("Description").fill("One was “torn”\\")
    send(dialog)
    [refund] = api.get(f"/payments?refunded={payment}").json()["Payments"]
    assert (refund["Amount"], refund["Description"]) == ("4.5", "One was “torn”\\")
    dialog.get_by_role("button", name="Close").click()
    expect(dialog).to_have_count(0)
    main = page.get_by_role("main")
    expect(facts(main, "Left to refund")).to_have_text("6 USD")
    expect(main.locator(f"a[href='#/payment/{refund['ID']}']").first).to_be_visible()


def test_a_hold_is_captured_in_parts_and_the_rest_is_voided(page: Page, api: httpx2.Client, hold: int) -> None:
    dialog = opened(page, f"#/hold/{hold}", "Capture…")
    dialog.get_by_label("Amount").fill("10")
    dialog.get_by_label(re.compile("keep the rest held", re.IGNORECASE)).check()
    send(dialog)
    dialog.get_by_role("button", name="Close").click()
    found = api.get(f"/hold/{hold}").json()
    assert (found["Status"], found["CapturedAmount"]) == ("open", "10")
    [captured] = api.get(f"/payments?hold={hold}").json()["Payments"]
    expect(page.get_by_role("main").locator(f"a[href='#/payment/{captured['ID']}']").first).to_be_visible()
    page.get_by_role("main").get_by_role("button", name="Void…").click()
    send(dialog)
    found = api.get(f"/hold/{hold}").json()
    assert (found["Status"], found["CapturedAmount"]) == ("voided", "10")
    dialog.get_by_role("button", name="Close").click()
    expect(page.get_by_role("main")).to_contain_text("voided")


def test_a_hold_is_captured_in_full(page: Page, api: httpx2.Client, hold: int) -> None:
    send(opened(page, f"#/hold/{hold}", "Capture…"))
    found = api.get(f"/hold/{hold}").json()
    assert (found["Status"], found["CapturedAmount"]) == ("captured", "40.25")


def test_a_hold_is_voided(page: Page, api: httpx2.Client, hold: int) -> None:
    send(opened(page, f"#/hold/{hold}", "Void…"))
    assert api.get(f"/hold/{hold}").json()["Status"] == "voided"


@pytest.mark.parametrize(("kind", "button"), [("payment", "Refund…"), ("hold", "Capture…"), ("hold", "Void…")])
def test_nothing_can_be_changed_unless_it_is_allowed(
    page: Page, request: pytest.FixtureRequest, kind: str, button: str
) -> None:
    visit(page, f"#/{kind}/{request.getfixturevalue(kind)}", re.compile(r"\S"))
    change = page.get_by_role("main").get_by_role("button", name=button)
    expect(change).to_be_disabled()
    expect(change).to_have_accessible_description(re.compile("Allow changes"))
    allow_changes(page)
    expect(change).to_be_enabled()
    page.get_by_role("switch", name="Allow changes").click()
    expect(change).to_be_disabled()
    allow_changes(page)
    page.reload()
    expect(page.get_by_role("switch", name="Allow changes")).not_to_be_checked()
    expect(change).to_be_disabled()


def test_no_page_changes_anything_by_itself(page: Page, context: BrowserContext, payment: int, hold: int) -> None:
    asked: list[Request] = []
    context.on("request", lambda request: asked.append(request))
    for route in (
        "#/",
        "#/accounts",
        f"#/payment/{payment}",
        f"#/hold/{hold}",
        "#/holds",
        "#/keys",
        "#/try/makePayment",
    ):
        visit(page, route, re.compile(r"\S"))
        loaded(page)
    assert {request.method for request in asked} == {"GET"}


@pytest.mark.parametrize(
    ("kind", "button", "fields"),
    [
        ("payment", "Refund…", {}),
        ("payment", "Refund…", {"Amount": "1.50", "Description": 'é "quoted" \\ 🦊'}),
        ("hold", "Capture…", {"Amount": "007.250"}),
        ("hold", "Void…", {}),
    ],
)
def test_the_request_that_is_shown_is_the_one_that_is_sent(
    page: Page, request: pytest.FixtureRequest, kind: str, button: str, fields: dict[str, str]
) -> None:
    dialog = opened(page, f"#/{kind}/{request.getfixturevalue(kind)}", button)
    for label, value in fields.items():
        dialog.get_by_label(label).fill(value)
    shown = ShownRequest(dialog)
    with page.expect_request(lambda sent: sent.method == "POST") as sending:
        send(dialog)
    sent = sending.value
    headers = sent.all_headers()
    assert (sent.method, sent.url.partition("://")[2].partition("/")[2]) == (shown.method, shown.path[1:])
    assert sent.post_data_buffer == shown.body.encode()
    assert {name: headers[name] for name in shown.headers} == shown.headers
    assert {"content-type", "idempotency-key"} <= shown.headers.keys()


def keys_of(requests: list[Request]) -> set[str]:
    return {request.headers["idempotency-key"] for request in requests}


@pytest.fixture
def posted(context: BrowserContext) -> list[Request]:
    """The changes that the browser has sent."""
    requests: list[Request] = []
    context.on("request", lambda request: requests.append(request) if request.method == "POST" else None)
    return requests


def test_a_double_click_pays_once(page: Page, api: httpx2.Client, payment: int, posted: list[Request]) -> None:
    dialog = opened(page, f"#/payment/{payment}", "Refund…")
    dialog.get_by_label("Amount").fill("1")
    action(dialog).dblclick()
    expect(dialog.get_by_role("button", name="Close")).to_be_visible()
    loaded(page)
    assert refunds(api, payment) == ["1"]
    assert len(keys_of(posted)) == 1


def test_a_click_while_the_first_is_under_way_pays_once(
    page: Page, context: BrowserContext, api: httpx2.Client, payment: int, posted: list[Request]
) -> None:
    held: list[Route] = []
    context.route("**/refund", lambda route: held.append(route))
    dialog = opened(page, f"#/payment/{payment}", "Refund…")
    dialog.get_by_label("Amount").fill("1")
    button = action(dialog)
    button.click()
    button.click(force=True)
    dialog.get_by_label("Amount").press("Enter")
    page.evaluate("0")  # both have come by now
    for route in held:
        route.continue_()
    expect(dialog.get_by_role("button", name="Close")).to_be_visible()
    assert refunds(api, payment) == ["1"]
    assert len(keys_of(posted)) == 1


@pytest.mark.parametrize("lost", ["answer", "request", "gateway"])
def test_what_was_lost_is_sent_again_and_pays_once(
    page: Page,
    context: BrowserContext,
    api: httpx2.Client,
    payment: int,
    posted: list[Request],
    problems: Problems,
    lost: str,
) -> None:
    problems.expect("/refund")
    losses = iter([True, True])

    def lose(route: Route) -> None:
        """Twice, the service's answer, or the request; or a proxy answers in its place."""
        if not next(losses, False):
            route.continue_()
            return
        if lost != "request":
            assert route.fetch().status == 200
        if lost == "gateway":
            route.fulfill(status=504, content_type="text/html", body="<h1>Gateway Timeout</h1>")
        else:
            route.abort("connectionreset")

    context.route("**/refund", lose)
    dialog = opened(page, f"#/payment/{payment}", "Refund…")
    dialog.get_by_label("Amount").fill("1")
    for number in (1, 2):
        action(dialog).click()
        expect(dialog.get_by_role("alert")).to_be_visible()
        assert len(posted) == number
    send(dialog)
    assert refunds(api, payment) == ["1"]
    assert (len(posted), len(keys_of(posted))) == (3, 1)


def test_a_refund_whose_answer_was_lost_is_not_made_again_in_a_new_dialog(
    page: Page, context: BrowserContext, api: httpx2.Client, payment: int, posted: list[Request], problems: Problems
) -> None:
    problems.expect("/refund")

    def lose(route: Route) -> None:
        assert route.fetch().status == 200
        route.abort("connectionreset")

    context.route("**/refund", lose, times=1)
    dialog = opened(page, f"#/payment/{payment}", "Refund…")
    dialog.get_by_label("Amount").fill("5.25")
    action(dialog).click()
    expect(dialog.get_by_role("alert")).to_be_visible()
    dialog.get_by_role("button", name="Cancel").click()
    main = page.get_by_role("main")
    expect(facts(main, "Left to refund")).to_have_text("5.25 USD")  # the page behind shows what has become of it
    for _ in range(2):
        main.get_by_role("button", name="Refund…").click()
        dialog.get_by_label("Amount").fill("5.25")
        if len(posted) == 1:
            expect(dialog).to_contain_text("may have taken effect")
        send(dialog)
        dialog.get_by_role("button", name="Close").click()
        expect(dialog).to_have_count(0)
        if len(posted) == 2:
            assert (refunds(api, payment), len(keys_of(posted))) == (["5.25"], 1)
    # An answer came, so that what is asked for after it is another refund.
    assert (refunds(api, payment), len(keys_of(posted))) == (["5.25", "5.25"], 2)


def test_after_a_refusal_the_page_behind_shows_what_is_true_now(
    page: Page, api: httpx2.Client, payment: int, problems: Problems
) -> None:
    problems.expect("status of 400")
    dialog = opened(page, f"#/payment/{payment}", "Refund…")
    api.post(f"/payment/{payment}/refund", json={"Amount": "10"})
    action(dialog).click()
    expect(dialog.get_by_role("alert")).to_contain_text("Refunds should not exceed the payment")
    expect(dialog.get_by_text("Left to refund")).to_be_hidden()
    dialog.get_by_role("button", name="Cancel").click()
    expect(facts(page.get_by_role("main"), "Left to refund")).to_have_text("0.5 USD")


def test_a_changed_request_and_a_new_dialog_have_keys_of_their_own(
    page: Page, api: httpx2.Client, payment: int, posted: list[Request], problems: Problems
) -> None:
    problems.expect("status of 400")
    dialog = opened(page, f"#/payment/{payment}", "Refund…")
    first = ShownRequest(dialog).headers["idempotency-key"]
    dialog.get_by_label("Amount").fill("11")
    action(dialog).click()
    expect(dialog.get_by_role("alert")).to_contain_text("Refunds should not exceed the payment")
    dialog.get_by_label("Amount").fill("1")
    send(dialog)
    dialog.get_by_role("button", name="Close").click()
    page.get_by_role("main").get_by_role("button", name="Refund…").click()
    dialog.get_by_label("Amount").fill("1")
    send(dialog)
    assert refunds(api, payment) == ["1", "1"]
    assert len(keys_of(posted)) == 3
    assert first in keys_of(posted)


def test_a_refusal_is_shown_in_the_words_of_the_api_and_changes_nothing(
    page: Page, api: httpx2.Client, payment: int, seller: int, problems: Problems
) -> None:
    problems.expect("status of 400")
    api.post(f"/account/{seller}/status", json={"Status": "frozen"})
    dialog = opened(page, f"#/payment/{payment}", "Refund…")
    action(dialog).click()
    expect(dialog.get_by_role("alert")).to_contain_text("Seller account is frozen")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    assert refunds(api, payment) == []


def test_where_there_is_no_random_uuid_the_keys_are_as_good(page: Page, context: BrowserContext, payment: int) -> None:
    """Plain HTTP, other than on localhost, has none."""
    context.add_init_script("crypto.randomUUID = undefined")
    keys = set()
    for _ in range(3):
        dialog = opened(page, f"#/payment/{payment}", "Refund…")
        keys.add(ShownRequest(dialog).headers["idempotency-key"])
        page.reload()
    assert len(keys) == 3
    for key in keys:
        assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", key)
