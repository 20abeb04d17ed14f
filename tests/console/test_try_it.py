"""Try it: a form for each operation of the OpenAPI document, the same request for curl, and the answer."""

import json
import os
import subprocess
from typing import Any

import httpx2
import pytest
from playwright.sync_api import BrowserContext, Locator, Page, expect

from tests.clients import DOCUMENT
from tests.conftest import Connection
from tests.console.pages import Problems, allow_changes, sign_in, visit
from tests.sql.calls import row
from tests.support import open_account, pay

OPENAPI = json.loads(DOCUMENT.read_text())
OPERATIONS = {
    operation["operationId"]: (method.upper(), path, operation)
    for path, methods in OPENAPI["paths"].items()
    for method, operation in methods.items()
}


@pytest.fixture
def buyer(api: httpx2.Client, request: pytest.FixtureRequest) -> int:
    return open_account(api, f"buyer of {request.node.name}", 100)


@pytest.fixture
def seller(api: httpx2.Client, request: pytest.FixtureRequest) -> int:
    return open_account(api, f"seller of {request.node.name}")


def form(page: Page, operation: str) -> Locator:
    return visit(page, f"#/try/{operation}", OPERATIONS[operation][2]["summary"])


def control(form: Locator, name: str) -> Locator:
    return form.locator(f"[name='{name}']")


def curl(main: Locator) -> str:
    return str(main.get_by_role("group", name="curl").evaluate("element => element.textContent"))


def run(line: str, **environment: str) -> Any:
    """What a shell makes of it."""
    done = subprocess.run(
        ["sh", "-c", f"{line} --silent --show-error"],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def answer(main: Locator, status: int) -> Any:
    """The body that is shown, once the answer has this status."""
    expect(main.get_by_role("heading", name=f"Answer: {status}")).to_be_visible()
    return json.loads(main.get_by_role("group", name="Body of the answer").inner_text())


def fields(operation: dict[str, Any]) -> set[str]:
    """The names of its parameters, and of the fields of its body."""
    names = {parameter["name"] for parameter in operation.get("parameters", [])}
    if "requestBody" in operation:
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        if "$ref" in schema:
            schema = OPENAPI["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        names |= {name for name, found in schema["properties"].items() if not found.get("deprecated")}
    return names


def test_every_operation_has_a_form_with_all_its_fields(page: Page) -> None:
    main = visit(page, "#/try", "Try it")
    links = main.get_by_role("navigation", name="Operations").get_by_role("link")
    expect(links).to_have_count(len(OPERATIONS))
    for name, (method, path, operation) in OPERATIONS.items():
        form(page, name)
        expect(links.and_(page.locator("[aria-current=page]"))).to_have_text(f"{method}{path}")
        named = main.locator("form [name]").evaluate_all("controls => controls.map(control => control.name)")
        assert {*named} == fields(operation), name
        assert len(named) == len({*named}), name
        assert curl(main).startswith("curl")
        expect(main.get_by_role("button", name="Send")).to_be_enabled(enabled=method == "GET")


def test_a_get_shows_the_answer_and_curl_gets_the_same(page: Page, api: httpx2.Client, buyer: int, seller: int) -> None:
    for amount in ("1", "2.5"):
        pay(api, buyer, seller, amount)
    main = form(page, "listPayments")
    control(main, "buyer").fill(str(buyer))
    control(main, "order").select_option("desc")
    control(main, "limit").fill("1")
    line = curl(main)
    main.get_by_role("button", name="Send").click()
    shown = answer(main, 200)
    assert shown == api.get(f"/payments?buyer={buyer}&order=desc&limit=1").json() == run(line)
    expect(main.get_by_role("group", name="Headers of the answer")).to_contain_text('rel="next"')


@pytest.mark.parametrize("text", ["It's \"quoted\" `id` $(id) $HOME \\ % & ' ''", "é🦊\u202e", "two words"])
def test_a_post_shows_the_answer_and_curl_repeats_the_same_request(
    page: Page, api: httpx2.Client, buyer: int, seller: int, text: str
) -> None:
    main = form(page, "makePayment")
    for name, value in [
        ("BuyerAccountID", buyer),
        ("SellerAccountID", seller),
        ("Amount", "12.50"),
        ("Description", text),
    ]:
        control(main, name).fill(str(value))
    control(main, "Metadata").fill('{"number": 10000000000000000000000001}')
    allow_changes(page)
    line = curl(main)
    main.get_by_role("button", name="Send").click()
    shown = answer(main, 200)
    assert (shown["Amount"], shown["Description"]) == ("12.5", text)
    assert run(line) == shown
    assert len(api.get(f"/payments?buyer={buyer}").json()["Payments"]) == 1
    assert api.get(f"/payment/{shown['ID']}").json()["Metadata"] == {"number": 10000000000000000000000001}


def test_a_double_click_pays_once_and_a_changed_form_pays_again(
    page: Page, api: httpx2.Client, buyer: int, seller: int
) -> None:
    main = form(page, "makePayment")
    for name, value in [("BuyerAccountID", buyer), ("SellerAccountID", seller), ("Amount", "1")]:
        control(main, name).fill(str(value))
    allow_changes(page)
    button = main.get_by_role("button", name="Send")
    button.dblclick()
    first = answer(main, 200)["ID"]
    button.click()
    expect(main.get_by_role("group", name="Headers of the answer")).to_contain_text("Idempotency-Replayed: true")
    assert answer(main, 200)["ID"] == first
    control(main, "Amount").fill("2")
    button.click()
    expect(main.get_by_role("group", name="Body of the answer")).to_contain_text('"Amount": "2"')
    assert [found["Amount"] for found in api.get(f"/payments?buyer={buyer}").json()["Payments"]] == ["1", "2"]


def test_a_refusal_is_an_answer(page: Page, problems: Problems, buyer: int) -> None:
    problems.expect("status of 400")
    main = form(page, "makePayment")
    for name in ("BuyerAccountID", "SellerAccountID"):
        control(main, name).fill(str(buyer))
    control(main, "Amount").fill("many")
    allow_changes(page)
    main.get_by_role("button", name="Send").click()
    assert "Error" in answer(main, 400)
    expect(main.get_by_role("group", name="Headers of the answer")).to_contain_text("Error-Code: W")


def test_what_is_missing_in_the_path_or_no_json_is_said_before_anything_is_sent(
    page: Page, context: BrowserContext
) -> None:
    main = form(page, "getPayment")
    asked = []
    context.on("request", lambda request: asked.append(request.url))
    main.get_by_role("button", name="Send").click()
    expect(main.get_by_role("alert")).to_contain_text("id")
    expect(control(main, "id")).to_be_focused()
    main = form(page, "makePayment")
    control(main, "Metadata").fill("{")
    allow_changes(page)
    main.get_by_role("button", name="Send").click()
    expect(main.get_by_role("alert")).to_contain_text("Metadata")
    assert asked == []


def test_the_curl_line_names_the_variable_of_the_key_and_never_the_key(page: Page, keeper: Connection) -> None:
    secret = str(row(keeper, "create_api_key", "for curl", ["read"])["secret"])
    page.goto("/console#/try/listCurrencies")
    page.get_by_role("button", name="Sign in").click()
    sign_in(page, secret)
    main = form(page, "listCurrencies")
    line = curl(main)
    assert "Bearer $WALLET_API_KEY" in line
    assert secret not in page.content()
    main.get_by_role("button", name="Send").click()
    assert run(line, WALLET_API_KEY=secret) == answer(main, 200)
