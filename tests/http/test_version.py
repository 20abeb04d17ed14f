"""The version is the same wherever a user meets it."""

import re
import subprocess
import sys
import tomllib

import httpx2

from tests.support import PROJECT, serving, wait_until
from wallet_api import __version__


def test_the_command_prints_it() -> None:
    command = [sys.executable, "server.py", "--version"]
    assert subprocess.run(command, cwd=PROJECT, capture_output=True, text=True).stdout == f"wallet {__version__}\n"


def test_the_package_takes_it_from_the_code() -> None:
    package = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    assert "version" in package["project"]["dynamic"]
    assert package["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "wallet_api.__version__"}


def test_the_openapi_document_has_it(api: httpx2.Client) -> None:
    assert api.get("/openapi.json").json()["info"]["version"] == __version__


def test_the_metrics_have_it(database: str) -> None:
    with serving(DATABASE_URL=database, WALLET_METRICS_PORT="0") as server:
        assert server.url
        [metrics] = re.findall(r"Metrics on (\S+/metrics)", server.log)
        wait_until(lambda: f',version="{__version__}"}} 1.0\n' in httpx2.get(metrics).text)


def test_the_newest_changes_are_of_it() -> None:
    newest = re.search(r"^## (\S+)", (PROJECT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest[1] == __version__


def test_a_tag_of_this_commit_is_of_it() -> None:
    tags = subprocess.run(["git", "tag", "--points-at", "HEAD"], cwd=PROJECT, capture_output=True, text=True).stdout
    assert {tag for tag in tags.split() if tag.startswith("v")} <= {f"v{__version__}"}
