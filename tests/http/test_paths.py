"""A path with a slash at its end is the same as without; and the address that is printed shows a browser something."""

from typing import Any

import httpx2
import pytest

from tests.http.examples import example
from tests.support import assert_refused, open_account
from wallet_api.http.operations import ALL, Operation

# What browsers send for the address that a person enters.
BROWSERS = [
    "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8",
    "text/html",
]
PROGRAMS = ["*/*", "application/json", "application/json, text/html;q=0.9", "text/html;q=0", "text/plain, */*", ""]


def seen(response: httpx2.Response) -> tuple[int, str, dict[str, str]]:
    kept = ("content-type", "error-code", "error-field", "allow", "link", "location")
    headers = {name: value for name, value in response.headers.items() if name in kept}
    return response.status_code, response.text, headers


@pytest.mark.parametrize("operation", ALL.values(), ids=lambda operation: operation.name)
def test_a_slash_at_the_end_of_a_path_does_not_count(api: httpx2.Client, operation: Operation) -> None:
    """Whatever the answer is: here, that an ID or a field is none; of the others, the success."""
    path = operation.path.replace("{id}", "x")
    if operation.body is not None:
        asked: dict[str, Any] = {"json": example(operation) | {"Unknown": 1}}
        assert api.request(operation.method, f"{path}/", **asked).status_code == 400
    else:
        asked = {}
    assert seen(api.request(operation.method, f"{path}/", **asked)) == seen(
        api.request(operation.method, path, **asked)
    )
    assert seen(api.request("TRACE", f"{path}/")) == seen(api.request("TRACE", path))
    assert_refused(api.request(operation.method, f"{path}//", **asked), "WH002")


def test_an_id_before_a_slash_is_read(api: httpx2.Client) -> None:
    id_ = open_account(api, "slash", 5)
    assert api.get(f"/account/{id_}/").json()["Amount"] == "5"
    assert api.get(f"/account/{id_}/statement/?limit=1").json()["AccountID"] == id_
    assert api.post("/payments/batch/", json={"Payments": []}).json() == {"Results": []}


@pytest.mark.parametrize("path", ["//", "/nothing/", "/account/", "/accounts//", "//accounts"])
def test_other_slashes_count(api: httpx2.Client, path: str) -> None:
    assert_refused(api.request("GET", str(api.base_url).rstrip("/") + path), "WH002")


@pytest.mark.parametrize("accept", BROWSERS)
def test_a_browser_at_the_address_of_the_service_gets_the_console(api: httpx2.Client, accept: str) -> None:
    for method in ("GET", "HEAD"):
        response = api.request(method, "/", headers={"Accept": accept, "Sec-Fetch-Site": "none"})
        assert (response.status_code, response.headers["location"], response.content) == (307, "/console", b"")
    shown = api.get("/", headers={"Accept": accept}, follow_redirects=True)
    assert (shown.status_code, shown.headers["content-type"]) == (200, "text/html; charset=utf-8")


@pytest.mark.parametrize("accept", PROGRAMS)
def test_every_other_client_gets_the_404_there(api: httpx2.Client, accept: str) -> None:
    assert_refused(api.get("/", headers={"Accept": accept}), "WH002")


def test_only_a_page_is_redirected_and_only_there(api: httpx2.Client) -> None:
    headers = {"Accept": BROWSERS[0]}
    assert_refused(api.post("/", headers=headers), "WH002")
    assert_refused(api.get("/nothing", headers=headers), "WH002")
    assert_refused(api.get("/", headers=headers | {"Sec-Fetch-Site": "cross-site"}), "WF003")
