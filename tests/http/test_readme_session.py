"""The README's session with curl gives, on a new database, what the README shows, byte for byte."""

import re
import shlex
from collections.abc import Iterator

import httpx2
import pytest

from tests.support import PROJECT, serving

# "$ curl …" and the answer on the line below it
STEPS = re.findall(r"^\$ (curl .*)\n(.+)$", (PROJECT / "README.md").read_text(), re.MULTILINE)
MOMENT = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


def curl(client: httpx2.Client, command: str) -> httpx2.Response:
    """Does what curl would do, for the few options that the session uses."""
    words = iter(shlex.split(command)[1:])
    url, data, headers = "", None, {}
    for word in words:
        if word == "-d":
            data = next(words).encode()
        elif word == "-H":
            name, _, value = next(words).partition(": ")
            headers[name] = value
        else:
            url = word.removeprefix("http://localhost:8080")
    if data is None:
        return client.get(url)
    return client.post(url, content=data, headers={"Content-Type": "application/x-www-form-urlencoded"} | headers)


@pytest.fixture
def client(database: str) -> Iterator[httpx2.Client]:
    with serving(DATABASE_URL=database) as server, server.client() as client:
        yield client


def test_the_session(client: httpx2.Client) -> None:
    assert len(STEPS) == 8
    shown_moments: dict[bytes, bytes] = {}
    for command, shown in STEPS:
        response = curl(client, command)
        answer = response.content
        # The moment is the only thing that differs; it is the same one wherever the README shows the same.
        for then, now in zip(MOMENT.findall(shown.encode()), MOMENT.findall(answer), strict=True):
            assert shown_moments.setdefault(then, now) == now
            answer = answer.replace(now, then)
        assert (response.status_code, answer) == (200, shown.encode()), command
        assert response.headers["content-type"] == "application/json"
    assert shown_moments
