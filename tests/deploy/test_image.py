"""The image and docker compose: health checks, settings, what is built anew, which Debian release, and people."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml  # type: ignore[import-untyped]

from tests.deploy.environment import assert_time_to_stop, settings_of
from tests.faults.postgres import Postgres, free_port
from tests.faults.test_backup import DOCKER, commands
from tests.support import PROJECT, sentence, serving

DOCKERFILE = (PROJECT / "Dockerfile").read_text()
COMPOSE = (PROJECT / "docker-compose.yml").read_text()
MONITORING = (PROJECT / "docker-compose.monitoring.yml").read_text()

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


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost", "::1", "::"])
def test_a_health_check_asks_where_the_service_listens(http_database: str, host: str) -> None:
    if ":" in host and not has_ipv6():
        pytest.skip("this machine has no IPv6")
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


def services(text: str) -> dict[str, Any]:
    """The services of a compose file that run the program."""
    found = yaml.safe_load(text)["services"]
    return {name: service for name, service in found.items() if name in ("migrate", "wallet", "check")}


@pytest.mark.parametrize("file", [COMPOSE, MONITORING], ids=["wallet", "monitoring"])
def test_every_variable_of_a_service_is_a_setting_with_a_valid_value(tmp_path: Path, file: str) -> None:
    for name in ("postgres_password", "wallet_app_password"):
        (tmp_path / name).write_text("secret\n")
    for service in services(file).values():
        environment = {}
        for name, value in service["environment"].items():
            with_default = re.sub(r"\$\{\w+:-(.*?)\}", r"\1", str(value))
            environment[name] = with_default.replace("/run/secrets", str(tmp_path))
        settings_of(environment)


def test_an_instance_has_time_to_drain_and_to_finish() -> None:
    wallet = services(COMPOSE)["wallet"]
    assert_time_to_stop(
        settings_of({"WALLET_DRAIN_TIME": str(wallet["environment"]["WALLET_DRAIN_TIME"])}),
        float(wallet["stop_grace_period"].removesuffix("s")),
    )


def test_the_check_of_the_ledger_runs_the_image_that_is_built_for_the_instances() -> None:
    check = services(MONITORING)["check"]
    assert ("build" in check, check["image"], check["pull_policy"]) == (
        False,
        "${COMPOSE_PROJECT_NAME}-wallet",
        "never",
    )
    assert services(COMPOSE)["wallet"]["build"] == "."
    assert "image" not in services(COMPOSE)["wallet"]


def test_a_person_with_a_login_of_her_own_is_named_as_the_maker(tmp_path: Path, primary: Postgres) -> None:
    create, enter = commands("People in psql", (PROJECT / "docs/installation.md").read_text())
    docker = tmp_path / "docker"
    docker.write_text(DOCKER)
    docker.chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}:{primary.programs}:{os.environ['PATH']}",
        "PGHOST": "127.0.0.1",
        "PGPORT": str(primary.port),
    }

    def typed(script: str, lines: str = "") -> str:
        quiet = script.rstrip("\n") + " --no-psqlrc --quiet --tuples-only --no-align --set=ON_ERROR_STOP=1"
        done = subprocess.run(
            ["sh", "-ec", quiet], env=environment, input=lines, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    typed(create)
    said = typed(
        enter,
        """select id from create_account('buyer', 10, 1);
           select id from create_account('seller', 0, 1);
           set role wallet_ops;
           select id from make_payment(1, 2, 5);
           select made_by from get_payment(1);
           select made_by from list_account_changes(2);""",
    )
    assert said.split() == ["1", "2", "1", "anna", "anna"]
