"""What the tests of the console do in a browser."""

import re
from pathlib import Path

from playwright.sync_api import BrowserContext, ConsoleMessage, Locator, Page, Request, WebError, expect

CONSOLE = "/console"
# The pages of the navigation, with their headings.
PAGES = {
    "#/": "Overview",
    "#/accounts": "Accounts",
    "#/payments": "Payments",
    "#/holds": "Holds",
    "#/keys": "Keys",
    "#/try": "Try it",
}
# A page that is left cancels what it has asked for.
_CANCELLED = "net::ERR_ABORTED"
_LOCAL = ("data:", "blob:")
AXE = Path(__file__).parents[2] / ".console/node_modules/axe-core/axe.min.js"


class Problems:
    """Errors that Chromium reports, among them those of the Content-Security-Policy, and requests to another origin."""

    def __init__(self, url: str) -> None:
        self._origin = f"{url}/"
        self._found: list[str] = []
        # Only a key with the scope keys may list keys, also where none is required.
        self._expected = [r"401 \(Unauthorized\) \(\S+/keys\)"]

    def watch(self, context: BrowserContext) -> None:
        """Collects those of all pages of a context."""
        context.on("console", self._message)
        context.on("weberror", self._error)
        context.on("request", self._request)
        context.on("requestfailed", self._failure)

    def expect(self, text: str) -> None:
        """Says that the test causes problems in which this occurs."""
        self._expected.append(re.escape(text))

    def unexpected(self) -> list[str]:
        return [problem for problem in self._found if not any(re.search(known, problem) for known in self._expected)]

    def _message(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning", "assert"):
            self._found.append(f"{message.type}: {message.text} ({message.location['url']})")

    def _error(self, error: WebError) -> None:
        self._found.append(f"uncaught: {error.error}")

    def _request(self, request: Request) -> None:
        if not request.url.startswith((self._origin, *_LOCAL)):
            self._found.append(f"asked elsewhere: {request.url}")

    def _failure(self, request: Request) -> None:
        if request.failure != _CANCELLED:
            self._found.append(f"failed: {request.method} {request.url} {request.failure}")


def visit(page: Page, route: str, heading: str | re.Pattern[str]) -> Locator:
    """Opens a page of the console by its URL, and returns its main part once it has this heading."""
    page.goto(f"{CONSOLE}{route}")
    expect(page.get_by_role("heading", level=1, name=heading)).to_be_visible()
    return page.get_by_role("main")


def menu(page: Page) -> Locator:
    """The links to all pages."""
    return page.get_by_role("navigation", name="Pages")


def loaded(page: Page) -> None:
    """Waits until no part of the page is loading."""
    expect(page.locator("[aria-busy=true]")).to_have_count(0)


def table(page: Page, name: str | re.Pattern[str]) -> Locator:
    """The body of a table."""
    return page.get_by_role("table", name=name).locator("tbody")


def cells(row: Locator) -> list[str]:
    """What a row of a table shows."""
    return [text.strip() for text in row.locator("td, th").all_inner_texts()]


def facts(main: Locator, name: str) -> Locator:
    """The value of a fact, such as the buyer of a payment."""
    return main.locator("dl > div").filter(has=main.page.get_by_text(name, exact=True)).locator("dd")


def allow_changes(page: Page) -> None:
    switch = page.get_by_role("switch", name="Allow changes")
    switch.click()
    expect(switch).to_be_checked()


def sign_in(page: Page, secret: str) -> None:
    page.get_by_label("API key", exact=True).fill(secret)
    page.get_by_role("button", name="Sign in").last.click()


def action(dialog: Locator) -> Locator:
    """The button of a dialog that sends the change, and names it."""
    return dialog.get_by_role("button", name=re.compile("^(Refund|Capture|Void hold|Create key|Revoke key)$"))


class ShownRequest:
    """The request as a dialog shows it before it is sent."""

    def __init__(self, dialog: Locator) -> None:
        shown = dialog.get_by_role("group", name="The request")
        head, self.body = shown.evaluate("element => element.textContent").split("\n\n", 1)
        [first, *lines] = head.split("\n")
        self.method, self.path = first.split(" ", 1)
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}


def overflow(page: Page) -> int:
    """By how many pixels the document can be scrolled to the side, once charts are drawn for the width of the window."""
    return int(
        page.evaluate(
            """async () => {
                for (const frame of [1, 2]) await new Promise(requestAnimationFrame);
                scrollTo(10_000, 0);
                const right = scrollX;
                scrollTo(0, 0);
                return right;
            }"""
        )
    )
