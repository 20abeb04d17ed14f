"""Each promise of docs/guarantees.md names the tests that prove it, and the limits that it speaks of are there."""

import re

import pytest

from tests.support import PROJECT
from wallet_api import settings

PROMISES = dict(
    part.split("\n", 1) for part in (PROJECT / "docs/guarantees.md").read_text().split("\n## ")[1:]
)  # by their headings
TEST = re.compile(r"`(tests/\w+/\w+\.py)::(\w+)`")


def test_there_are_ten() -> None:
    assert [heading.partition(" ")[0] for heading in PROMISES] == [f"{number}." for number in range(1, 11)]


@pytest.mark.parametrize("heading", PROMISES)
def test_a_promise_names_tests_that_are_there(heading: str) -> None:
    named = TEST.findall(PROMISES[heading])
    assert named
    for file, name in named:
        assert re.search(rf"^def {name}\(", (PROJECT / file).read_text(), re.MULTILINE), f"{file}::{name}"


@pytest.mark.parametrize("heading", PROMISES)
def test_the_settings_that_a_promise_names_are_there(heading: str) -> None:
    for variable in re.findall(r"`(WALLET_\w+)`", PROMISES[heading]):
        assert f"  {variable} " in settings.describe(), variable
