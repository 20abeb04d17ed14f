"""make screenshots: pictures of each page of the console, with the data of tests/console/example.py.

Those that README.md shows are in docs/screenshots, all others in .screenshots. The same every time but for the moments.
"""

import re
import shutil
import tempfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Literal

import psycopg
from PIL import Image
from playwright.sync_api import Browser, Page, ViewportSize, expect, sync_playwright

from tests.console import example
from tests.console.example import Example
from tests.console.pages import allow_changes, loaded, sign_in, visit
from tests.sql.calls import row
from tests.support import PROJECT, serving
from wallet_api.database import embedded, migrations

SHOWN = PROJECT / "docs/screenshots"
OTHERS = PROJECT / ".screenshots"
IN_README = ("overview", "account")
WIDE: ViewportSize = {"width": 1600, "height": 1000}
PHONE: ViewportSize = {"width": 390, "height": 844}


def main() -> None:
    for folder in (SHOWN, OTHERS):
        folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as data, embedded.running(Path(data) / "postgres", None) as conninfo:
        migrations.migrate(conninfo)
        with psycopg.connect(conninfo, autocommit=True) as keeper:
            filled = example.fill(keeper)
            secret = row(keeper, "create_api_key", "anna", ["read", "pay", "admin", "keys"])["secret"]
        with serving(DATABASE_URL=conninfo) as server, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
            for path in take(browser, server.url, filled, secret):
                print(f"{path.relative_to(PROJECT)} ({path.stat().st_size // 1000} kB)")
            browser.close()


def take(browser: Browser, url: str, filled: Example, secret: str) -> Iterator[Path]:
    """Takes all pictures. Returns their files."""
    wide = opened(browser, url, secret, "light")
    for name, route in {
        "overview": "#/",
        "account": f"#/account/{filled.account}",
        "accounts": "#/accounts",
        "payments": "#/payments",
        "payment": f"#/payment/{filled.payment}",
        "holds": "#/holds",
        "hold": f"#/hold/{filled.hold}",
        "keys": "#/keys",
        "try-it": "#/try/makePayment",
    }.items():
        yield picture(wide, route, name)
    visit(wide, f"#/payment/{filled.payment}", "Payment")
    allow_changes(wide)
    wide.get_by_role("button", name="Refund…").click()
    yield save(wide, "refund")
    phone = opened(browser, url, secret, "dark")
    phone.set_viewport_size(PHONE)
    yield picture(phone, "#/", "overview-phone")
    yield picture(phone, f"#/account/{filled.account}", "account-phone")


def opened(browser: Browser, url: str, secret: str, scheme: Literal["light", "dark"]) -> Page:
    """A page that is signed in, so that it shows who made what."""
    page = browser.new_page(base_url=url, viewport=WIDE, color_scheme=scheme, reduced_motion="reduce")
    visit(page, "#/keys", "Keys")
    sign_in(page, secret)
    page.get_by_role("button", name="Sign out").wait_for()
    return page


def picture(page: Page, route: str, name: str) -> Path:
    visit(page, route, "")
    loaded(page)
    expect(page.locator("a.account", has_text=re.compile(r"^#\d+$"))).to_have_count(0)  # all names are there
    if route == "#/":
        expect(page.get_by_text("Live", exact=True)).to_be_visible()
    page.mouse.move(0, 0)
    return save(page, name)


def save(page: Page, name: str) -> Path:
    path = (SHOWN if name in IN_README else OTHERS) / f"{name}.png"
    with Image.open(BytesIO(page.screenshot())) as image:
        image.quantize(128).save(path, optimize=True)  # a quarter of the size, and no visible difference
    return path


if __name__ == "__main__":
    main()
