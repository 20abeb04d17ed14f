"""The files of the console, as a browser gets them. tests/console opens them in one."""

import re

import httpx2
import pytest

from tests.support import PROJECT, assert_refused, serving
from wallet_api.http.console import PATH

FILES = sorted(path.name for path in (PROJECT / "wallet_api/console").iterdir())
TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript"}


def test_the_page_is_there(api: httpx2.Client) -> None:
    page = api.get(PATH)
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert page.text.startswith("<!doctype html>")
    head = api.head(PATH)
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(page.content)))


@pytest.mark.parametrize("name", FILES)
def test_each_file_is_there_with_its_type(api: httpx2.Client, name: str) -> None:
    answer = api.get(f"{PATH}/{name}")
    assert answer.content == (PROJECT / "wallet_api/console" / name).read_bytes()
    assert answer.headers["content-type"] == f"{TYPES[name.rpartition('.')[2]]}; charset=utf-8"


@pytest.mark.parametrize("name", ["", *(f"/{name}" for name in FILES)])
def test_a_strict_policy_goes_with_each(api: httpx2.Client, name: str) -> None:
    headers = api.get(f"{PATH}{name}").headers
    policy = dict(part.strip().partition(" ")[::2] for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert {policy[kind] for kind in ("script-src", "style-src", "connect-src")} == {"'self'"}
    assert (policy["frame-ancestors"], policy["base-uri"], policy["form-action"]) == ("'none'",) * 3
    assert (policy["require-trusted-types-for"], policy["trusted-types"]) == ("'script'", "'none'")
    assert "unsafe" not in headers["content-security-policy"]
    assert (headers["x-content-type-options"], headers["cache-control"]) == ("nosniff", "no-cache")


@pytest.mark.parametrize("name", FILES)
def test_no_file_names_another_place(name: str) -> None:
    text = (PROJECT / "wallet_api/console" / name).read_text()
    places = re.findall(r"(?:https?:)?//[\w.-]+\.\w+", re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE))
    assert [place for place in places if not place.endswith("www.w3.org")] == []


def test_the_books_are_late_when_the_alert_says_so() -> None:
    [late] = re.findall(r"LATE_HOURS = (\d+);", (PROJECT / "wallet_api/console/overview.js").read_text())
    alerts = (PROJECT / "deploy/monitoring/alerts.yml").read_text()
    assert f"wallet_ledger_check_timestamp_seconds) > {late} * 3600" in alerts


def test_with_a_slash_it_leads_to_the_page_without(api: httpx2.Client) -> None:
    answer = api.get(f"{PATH}/")
    assert (answer.status_code, answer.headers["location"]) == (307, PATH)


@pytest.mark.parametrize(
    "path", ["/none.js", "/../settings.py", "/%2e%2e/settings.py", "/main.js/", "/index", "//", "x"]
)
def test_anything_else_is_not_found(api: httpx2.Client, path: str) -> None:
    assert_refused(api.request("GET", str(api.base_url).rstrip("/") + PATH + path), "WH002")


def test_it_can_only_be_read(api: httpx2.Client) -> None:
    for path in (PATH, f"{PATH}/main.js"):
        answer = api.post(path)
        assert_refused(answer, "WH003")
        assert answer.headers["allow"] == "GET, HEAD"


def test_it_needs_no_key_and_no_database() -> None:
    with serving(DATABASE_URL="postgresql://wallet_app@127.0.0.1:1/none", WALLET_AUTH="required") as server:
        assert httpx2.get(f"{server.url}{PATH}").status_code == 200
