"""Whatever bytes a client sends, it is answered in valid HTTP, with no 500, or closed; no client hangs.

`make fuzz` sends for as long as is asked, to a service on a PostgreSQL of its own; tests/http/test_fuzz.py in short.
"""

import argparse
import json
import re
import select
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

from tests.support import TIMEOUT, Server, open_account, serving
from wallet_api.database import embedded, migrations
from wallet_api.http.operations import ALL

# The service's own limits, short, so that a client that waits for one does not wait long.
LIMITS = {"WALLET_IDLE_TIMEOUT": "1", "WALLET_BODY_TIMEOUT": "0.3", "WALLET_READER_TIMEOUT": "1"}
CUT_OFF = "an answer that ends early"
# Connections at a time: most of them wait for one of these limits.
_TOGETHER = 50

_PAYMENT = b'{"BuyerAccountID":1,"SellerAccountID":2,"Amount":"0.01"}'
# What goes wrong in programs that read HTTP.
_WORDS = [
    *[b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b";", b",", b"\xff", "ä".encode(), b"\r\n ", b"\r\n\r\n", b"0\r\n\r\n"],
    *[b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Content-Length: -1\r\n", b"Content-Length: 99999999999999999999\r\n"],
    *[b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: identity\r\n", b"Transfer-Encoding : chunked\r\n"],
    *[b"Connection: close\r\n", b"Connection: keep-alive\r\n", b"Connection: Upgrade\r\nUpgrade: h2c\r\n"],
    *[b"Expect: 100-continue\r\n", b"Idempotency-Key: a\r\n", b"X: " + b"x" * 70_000, b"X\xff: x\r\n", b": x\r\n", b"x\r\n"],
    *[b"FFFFFFFFFFFFFFFF\r\n", b"7fffffff\r\n", b"-1\r\n", b"1;x=y\r\n", b"0", b"00000000000000000005\r\n"],
    *[b"HTTP/1.0", b"HTTP/2.0", b"HTTP/0.9", b"HTTP/11", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00"],
    *[b"GET ", b"HEAD ", b"CONNECT ", b"OPTIONS * ", b"*", b"http://x/", b"//", b"/../", b"?", b"#", b"%00", b"%ff", b"[::1"],
    *[b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"],
]  # fmt: skip


def _valid(chance: Random) -> bytes:
    """A request as it should be."""
    operation = chance.choice(list(ALL.values()))
    path = operation.path.replace("{id}", str(chance.randint(0, 3))).encode()
    target = chance.choice([path, path, path + b"?limit=1", b"http://localhost" + path])
    lines = [b"%b %b HTTP/1.%d" % (operation.method.encode(), target, chance.random() < 0.9), b"Host: localhost"]
    if operation.body is None:
        return b"\r\n".join(lines) + b"\r\n\r\n"
    body = b'{"Payments":[%b]}' % _PAYMENT if operation.name == "makePayments" else _PAYMENT
    if chance.random() < 0.5:
        return b"\r\n".join([*lines, b"Content-Length: %d" % len(body), b"", body])
    middle = chance.randint(1, len(body) - 1)
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:middle], body[middle:], b""))
    return b"\r\n".join([*lines, b"Transfer-Encoding: chunked", b"", chunks])


def _insert(chance: Random, data: bytes) -> bytes:
    place = chance.randint(0, len(data))
    return data[:place] + chance.choice(_WORDS) + data[place:]


def _insert_line(chance: Random, data: bytes) -> bytes:
    lines = data.split(b"\r\n")
    lines.insert(chance.randint(0, len(lines)), chance.choice(_WORDS).strip(b"\r\n"))
    return b"\r\n".join(lines)


def _double_line(chance: Random, data: bytes) -> bytes:
    lines = data.split(b"\r\n")
    line = chance.choice(lines)
    lines.insert(chance.randint(0, len(lines)), line)
    return b"\r\n".join(lines)


def _cut(chance: Random, data: bytes) -> bytes:
    begin, end = sorted(chance.choices(range(len(data) + 1), k=2))
    return chance.choice([data[:begin], data[:begin] + data[end:]])


def _replace_byte(chance: Random, data: bytes) -> bytes:
    place = chance.randrange(len(data) or 1)
    return data[:place] + bytes([chance.randrange(256)]) + data[place + 1 :]


def _replace_number(chance: Random, data: bytes) -> bytes:
    numbers = list(re.finditer(rb"[0-9]+", data))
    if not numbers:
        return data
    number = chance.choice(numbers)
    return data[: number.start()] + str(chance.choice([0, 1, 5, 99, 2**31, 2**64])).encode() + data[number.end() :]


def _bare_line_ends(chance: Random, data: bytes) -> bytes:
    return data.replace(b"\r\n", chance.choice([b"\n", b"\r"]), chance.choice([-1, 1, 2]))


_MUTATIONS: list[Callable[[Random, bytes], bytes]] = [
    _insert, _insert_line, _double_line, _cut, _replace_byte, _replace_number, _bare_line_ends
]  # fmt: skip


def pieces(seed: int) -> tuple[list[bytes], bool]:
    """What a client sends, one piece after the other, and whether it says then that this was all (a half-close)."""
    chance = Random(seed)
    data = b"".join(_valid(chance) for _ in range(chance.choice([1, 1, 2, 3, 20])))
    for _ in range(chance.choice([0, 1, 1, 1, 2, 5])):
        data = chance.choice(_MUTATIONS)(chance, data)
    ends = sorted(chance.choices(range(len(data) + 1), k=chance.choice([0, 0, 1, 3])))
    parts = [data[begin:end] for begin, end in zip([0, *ends], [*ends, len(data)], strict=True)]
    return parts, chance.random() < 0.3


def wrong(answer: bytes) -> str:
    """What is wrong with all that a connection has answered; "" for nothing."""
    while answer:
        head, end, rest = answer.partition(b"\r\n\r\n")
        match = re.match(rb"HTTP/1\.1 (\d\d\d) [A-Za-z -]+\r\n", head + end)
        if not end and head.startswith(b"HTTP/1.1 "):
            return CUT_OFF
        if match is None:
            return "an answer that is no HTTP"
        status = int(match[1])
        headers = dict(line.lower().partition(b": ")[::2] for line in head.split(b"\r\n")[1:])
        if status == 100:
            answer = rest
            continue
        if status >= 500 and status != 503:
            return f"status {status}"
        body, answer = _split(headers, rest)
        if body is None:
            return CUT_OFF
        if (
            body
            and headers.get(b"content-type") != b"text/html; charset=utf-8"
            and (error := _wrong_json(status, body))
        ):
            return error
    return ""


def _split(headers: dict[bytes, bytes], rest: bytes) -> tuple[bytes | None, bytes]:
    """The body of an answer, None for one that ends early, and what follows it."""
    # The answer to HEAD tells of a body that it does not have.
    if not rest or rest.startswith(b"HTTP/1.1 "):
        return b"", rest
    if headers.get(b"transfer-encoding") != b"chunked":
        length = int(headers.get(b"content-length", 0))
        return rest[:length] if len(rest) >= length else None, rest[length:]
    body = b""
    while match := re.match(rb"([0-9a-f]+)\r\n", rest):
        end = match.end() + int(match[1], 16)
        body += rest[match.end() : end]
        if rest[end : end + 2] != b"\r\n":
            break
        rest = rest[end + 2 :]
        if match[1] == b"0":
            return body, rest
    return None, b""


def _wrong_json(status: int, body: bytes) -> str:
    try:
        found = json.loads(body)
    except ValueError:
        return "an answer that is no JSON"
    return "" if status == 200 or "Error" in found else f"status {status} without an error"


class _Client:
    """A connection over which the pieces of a seed are sent, without waiting for answers."""

    def __init__(self, address: tuple[str, int], seed: int) -> None:
        self.seed = seed
        self.answer = b""
        self.was_reset = False
        self.begun = time.monotonic()
        self.socket = socket.create_connection(address, TIMEOUT)
        self.socket.setblocking(False)
        parts, self._says_so = pieces(seed)
        self._parts = parts[::-1]

    def go_on(self) -> bool:
        """Sends and reads what can be without waiting; returns whether the connection is still there."""
        try:
            if self._parts:
                part = self._parts.pop()
                sent = self.socket.send(part) if part else 0
                if sent < len(part):
                    self._parts.append(part[sent:])
                elif not self._parts and self._says_so:
                    self.socket.shutdown(socket.SHUT_WR)
            while chunk := self.socket.recv(65536):
                self.answer += chunk
        except BlockingIOError:
            return True
        except OSError:
            self.was_reset = True  # it had read enough, and there was more; what was under way is lost
        return False


def fuzz(server: Server, seconds: float, first_seed: int) -> tuple[list[str], Counter[str]]:
    """Sends what seeds from the first one on give, for so long; what is wrong, and how often what was answered."""
    url = urlsplit(server.url)
    address = (str(url.hostname), int(url.port or 0))
    end = time.monotonic() + seconds
    seed, problems = first_seed, list[str]()
    answered: Counter[str] = Counter()
    clients: set[_Client] = set()
    while clients or time.monotonic() < end:
        while len(clients) < _TOGETHER and time.monotonic() < end:
            clients.add(_Client(address, seed))
            seed += 1
        select.select([client.socket for client in clients], [], [], 0.01)
        for client in list(clients):
            hangs = time.monotonic() > client.begun + TIMEOUT
            if client.go_on() and not hangs:
                continue
            clients.remove(client)
            client.socket.close()
            error = "it hangs" if hangs else wrong(client.answer)
            if error and not (error == CUT_OFF and client.was_reset):
                problems.append(f"seed {client.seed}: {error}: {client.answer[-300:]!r}")
            answered.update(status.decode() for status in re.findall(rb"HTTP/1\.1 (\d+)", client.answer))
            answered["closed without an answer"] += not client.answer
    with server.client() as api:
        if api.get("/readyz").status_code != 200:
            problems.append("it is not ready any more")
    return problems + [line for line in server.lines if "Traceback" in line], answered


def main() -> int:
    """Returns the exit code: 0 all well, 1 if something was answered that should not be."""
    parser = argparse.ArgumentParser(prog="python -m tests.http.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=600, help="how long bytes are sent (600)")
    parser.add_argument("--seed", type=int, default=time.time_ns() // 1000, help="where to begin, to see it again")
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="wallet-fuzz-") as folder,
        embedded.running(Path(folder) / "postgres", None) as conninfo,
    ):
        migrations.migrate(conninfo)
        with serving(DATABASE_URL=conninfo, **LIMITS) as server, server.client() as api:
            for name in ("one", "two"):
                open_account(api, name, 1_000_000)
            problems, answered = fuzz(server, arguments.seconds, arguments.seed)
    print(
        f"Seeds from {arguments.seed}:",
        ", ".join(f"{number:,} times {what}" for what, number in answered.most_common()),
    )
    print("\n".join(problems))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
