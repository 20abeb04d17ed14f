"""The image and docker compose: what the health checks ask, what is built anew, and which Debian release it is."""

import json
import os
import re
import subprocess
import sys
from urllib.parse import urlsplit

import pytest

from tests.faults.postgres import free_port
from tests.support import PROJECT, sentence, serving

DOCKERFILE = (PROJECT / "Dockerfile").read_text()
COMPOSE = (PROJECT / "docker-compose.yml").read_text()

# The two health checks, as words.
[OF_IMAGE] = re.findall(r"^HEALTHCHECK .*\\\n +CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
[OF_COMPOSE] = re.findall(r'^ +test: \["CMD", ("python".*)\]$', COMPOSE, re.MULTILINE)
CHECKS = {"image": json.loads(OF_IMAGE), "compose": json.loads(f"[{OF_COMPOSE}]")}


def checked(check: str, **environment: str) -> tuple[int, str]:
    """The exit code and the output of a health check."""
    done = subprocess.run(
        [sys.executable, *CHECKS[check][1:]],
        cwd=PROJECT,
        env={"PATH": os.environ["PATH"]} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return done.returncode, done.stdout.strip()


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1", "::", "localhost"])
def test_a_health_check_asks_where_the_service_listens(http_database: str, host: str) -> None:
    with serving(DATABASE_URL=http_database, HOST=host, WALLET_AUTH="off", WALLET_HOSTS="pay.example") as server:
        address = {"HOST": host, "PORT": str(urlsplit(server.url).port)}
        assert checked("image", **address) == checked("compose", **address) == (0, "{}")


def test_an_instance_that_is_not_ready_lives() -> None:
    with serving(DATABASE_URL="host=/nonexistent") as server:
        port = str(urlsplit(server.url).port)
        assert checked("image", PORT=port) == (0, "{}")
        assert checked("compose", PORT=port) == (1, json.dumps({"Error": sentence("WU005")}, separators=(",", ":")))


def test_where_none_listens_the_check_fails_and_says_where_it_asked() -> None:
    port = str(free_port())
    code, said = checked("image", PORT=port)
    assert (code, said) == (1, f"No answer from HOST 127.0.0.1, PORT {port}: [Errno 111] Connection refused")


def test_a_change_of_documents_tests_or_tools_builds_nothing_anew() -> None:
    """What the image is built from; and dependencies are installed before the sources are copied."""
    copied = re.findall(r"^COPY (.*) \S+$", DOCKERFILE, re.MULTILINE)
    assert copied == ['"$REQUIREMENTS"', "server.py", "wallet_api", "db"]
    assert DOCKERFILE.index("RUN pip install") < DOCKERFILE.index("COPY server.py")
    assert (PROJECT / ".dockerignore").read_text().split() == [
        *("*", "!server.py", "!wallet_api/", "!db/", "!requirements.lock", "!requirements-tracing.lock"),
        "**/__pycache__",
    ]


def test_all_images_of_debian_name_its_release_and_the_same_one() -> None:
    images = [
        *re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE),
        *re.findall(r"^ +image: (\S+)", COMPOSE, re.MULTILINE),
    ]
    assert images == ["python:3.13-slim-trixie", "postgres:17-trixie", "haproxy:3.0-trixie"]
