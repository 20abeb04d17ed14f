"""The files of deploy/ha fit each other, and the service."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from tests.deploy.environment import assert_time_to_stop, settings_of
from tests.ha.cluster import SHIPPED
from tests.support import PROJECT

DOCUMENT = (PROJECT / "docs/high-availability.md").read_text()
SERVICES: dict[str, Any] = yaml.safe_load((SHIPPED / "services.yml").read_text())["services"]


def test_all_images_name_the_same_debian_release() -> None:
    images = re.findall(
        r"(?:^FROM|image:) (\S+)", "".join(path.read_text() for path in SHIPPED.iterdir()), re.MULTILINE
    )
    assert set(images) == {"debian:trixie-slim", "haproxy:3.0-trixie"}


@pytest.mark.parametrize("name", ["migrate", "wallet", "check"])
def test_every_variable_of_a_service_is_a_setting_with_a_valid_value(tmp_path: Path, name: str) -> None:
    for secret in SERVICES[name]["secrets"]:
        (tmp_path / secret).write_text("secret\n")
    environment = {
        variable: re.sub(r"\$\{\w+:-(.*?)\}", r"\1", str(value)).replace("/run/secrets", str(tmp_path))
        for variable, value in SERVICES[name]["environment"].items()
    }
    settings_of(environment)


def test_an_instance_has_time_to_drain_and_to_finish() -> None:
    wallet = SERVICES["wallet"]
    settings = settings_of({"WALLET_DRAIN_TIME": str(wallet["environment"]["WALLET_DRAIN_TIME"])})
    assert_time_to_stop(settings, float(wallet["stop_grace_period"].removesuffix("s")))


def test_the_times_of_patroni_obey_its_rule() -> None:
    dcs = yaml.safe_load((SHIPPED / "patroni.yml").read_text())["bootstrap"]["dcs"]
    assert dcs["loop_wait"] + 2 * dcs["retry_timeout"] <= dcs["ttl"]


def test_the_variables_of_a_host_are_set_for_it() -> None:
    without_default = set(re.findall(r"\$\{(\w+)(?:\}|:\?)", (SHIPPED / "host.yml").read_text()))
    assert without_default <= set(re.findall(r"^(\w+)=", (SHIPPED / "host.env").read_text(), re.MULTILINE))


def test_both_files_have_every_service() -> None:
    for name in ("docker-compose.yml", "host.yml"):
        services = yaml.safe_load((SHIPPED / name).read_text())["services"].values()
        assert {service["extends"]["service"] for service in services} == SERVICES.keys()


def test_every_patronictl_of_the_document_ends() -> None:
    """Also without etcd. test_cluster.py runs the one that switches over."""
    calls = re.findall(r"exec (.*) patronictl (\S+)", DOCUMENT)
    assert {name for _, name in calls} == {"list", "switchover", "reinit", "edit-config"}
    assert {before for before, _ in calls} == {"db with-passwords timeout 60"}
    assert "patronictl switchover wallet --force\n" in DOCUMENT
