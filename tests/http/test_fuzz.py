"""Whatever bytes a client sends, it is answered in valid HTTP, with no 500, or closed: tests/http/fuzz.py, in short."""

import pytest

from tests.http.fuzz import LIMITS, fuzz, wrong
from tests.support import open_account, serving

SECONDS = 8


def test_whatever_bytes_are_sent_are_answered_in_http_or_closed(database: str) -> None:
    with serving(DATABASE_URL=database, **LIMITS) as server, server.client() as api:
        for name in ("one", "two"):
            open_account(api, name, 1_000_000)
        problems, answered = fuzz(server, SECONDS, first_seed=1)
    assert problems == []
    assert {"200", "400", "closed without an answer"} <= set(answered)


CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


@pytest.mark.parametrize("answer", [b"", OK, OK * 2, OK[:-2] + OK, b"HTTP/1.1 100 Continue\r\n\r\n" + OK, CHUNKED + OK])
def test_the_fuzzer_takes_what_is_right(answer: bytes) -> None:
    assert wrong(answer) == ""


@pytest.mark.parametrize(
    "answer",
    [
        b"garbage",
        OK[:10],
        OK[:-1],
        OK + b"more",
        CHUNKED[:-2],
        CHUNKED[:-5],
        CHUNKED + b"more",
        OK.replace(b"{}", b"xx"),
        OK.replace(b"{}", b"{x"),
        OK.replace(b"200 OK", b"500 Internal Server Error"),
        OK.replace(b"200 OK", b"400 Bad Request"),
        OK.replace(b"content-length", b"x"),
    ],
)
def test_the_fuzzer_sees_what_is_wrong(answer: bytes) -> None:
    assert wrong(answer) != ""
