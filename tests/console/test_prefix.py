"""Below a prefix, which a proxy removes from the URLs of requests, the console finds all that it needs."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx2
import pytest
from playwright.sync_api import Page, expect

from tests.console.pages import CONSOLE, PAGES, action, allow_changes, loaded, menu
from tests.support import TIMEOUT, Server, open_account, pay, serving

PREFIX = "/wallet"


@pytest.fixture(scope="module")
def server(ledger: str) -> Iterator[Server]:
    with serving(DATABASE_URL=ledger, WALLET_ROOT_PATH=PREFIX) as server:
        yield server


@pytest.fixture(scope="module")
def url(server: Server) -> Iterator[str]:
    """The proxy, which has nothing where the prefix is missing."""

    class Proxy(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if not self.path.startswith(f"{PREFIX}/"):
                self.send_error(404)
                return
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            to = server.url + self.path.removeprefix(PREFIX)
            answer = httpx2.request(self.command, to, headers=dict(self.headers), content=body, timeout=2 * TIMEOUT)
            self.send_response_only(answer.status_code)
            for name, value in answer.headers.items():
                if name not in ("content-length", "transfer-encoding", "connection"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        do_POST = do_GET  # noqa: N815

        def log_message(self, *said: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as proxy:
        threading.Thread(target=proxy.serve_forever).start()
        yield f"http://127.0.0.1:{proxy.server_port}"
        proxy.shutdown()


def test_each_page_finds_what_it_needs(page: Page) -> None:
    page.goto(f"{PREFIX}{CONSOLE}")
    for route, heading in PAGES.items():
        menu(page).get_by_role("link", name=heading).click()
        expect(page.get_by_role("heading", level=1)).to_have_text(heading)
        loaded(page)
        expect(page.get_by_role("alert")).to_have_count(0)
        assert page.url.partition("#")[2] == route.removeprefix("#")


def test_a_refund_goes_there_too(page: Page, api: httpx2.Client) -> None:
    buyer, seller = open_account(api, "buyer", 10), open_account(api, "seller")
    payment = pay(api, buyer, seller, 5).json()["ID"]
    page.goto(f"{PREFIX}{CONSOLE}#/payment/{payment}")
    allow_changes(page)
    page.get_by_role("button", name="Refund…").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("group", name="The request")).to_contain_text(f"POST {PREFIX}/payment/{payment}/refund")
    action(dialog).click()
    expect(dialog.get_by_role("button", name="Close")).to_be_visible()
    assert api.get(f"/payment/{payment}").json()["RefundedAmount"] == "5"
