"""The files that `make generate` writes are up to date."""

import pytest

from tests.support import PROJECT
from tools import generate

pytestmark = pytest.mark.once


@pytest.mark.parametrize("make", [generate.from_database, generate.from_files])
def test_a_generated_file_is_up_to_date(make: generate.Make) -> None:
    for path, text in make():
        assert (PROJECT / path).read_text() == text, f"{path} is out of date: run make generate"
