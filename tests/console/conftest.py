"""A wallet and a page of a browser. Whatever a test does, no page may ask elsewhere, report an error or break the policy."""

import shutil
from collections.abc import Iterator

import httpx2
import psycopg
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.conftest import Connection, clone
from tests.console.pages import Problems
from tests.support import TIMEOUT, Server, serving

expect.set_options(timeout=TIMEOUT * 1000)


@pytest.fixture(scope="session")
def browser(cluster: str) -> Iterator[Browser]:
    # Playwright's event loop runs in this thread from here on, and migrations would have another one: hence the cluster.
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def ledger(cluster: str) -> Iterator[str]:
    """A database of the module's own: its superuser's connection string."""
    yield from clone(cluster, "wallet")


@pytest.fixture(scope="module")
def keeper(ledger: str) -> Iterator[Connection]:
    """A superuser's connection to it."""
    with psycopg.connect(ledger, autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="module")
def server(ledger: str) -> Iterator[Server]:
    with serving(DATABASE_URL=ledger) as server:
        yield server


@pytest.fixture(scope="module")
def api(server: Server) -> Iterator[httpx2.Client]:
    with server.client() as client:
        yield client


@pytest.fixture(scope="module")
def url(server: Server) -> str:
    """Where the browser asks."""
    return server.url


@pytest.fixture
def problems(url: str) -> Iterator[Problems]:
    """What went wrong in the browser. The test fails unless it has said to expect it."""
    problems = Problems(url)
    yield problems
    assert problems.unexpected() == []


@pytest.fixture
def context(browser: Browser, url: str, problems: Problems) -> Iterator[BrowserContext]:
    with browser.new_context(base_url=url, viewport={"width": 1600, "height": 1000}) as context:
        context.set_default_timeout(TIMEOUT * 1000)
        problems.watch(context)
        yield context


@pytest.fixture
def page(context: BrowserContext) -> Page:
    return context.new_page()
