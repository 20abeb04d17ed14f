"""deploy/kubernetes: the manifests are valid, belong together, and what they say works when it is run."""

import re
from pathlib import Path
from typing import Any

import httpx2
import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml  # type: ignore[import-untyped]
from kubernetes_validate.utils import all_versions  # type: ignore[import-untyped]

from tests.deploy.environment import (
    assert_it_checks,
    assert_it_migrates,
    assert_it_serves,
    assert_time_to_stop,
    settings_of,
    write_secrets,
)
from tests.faults.postgres import Postgres
from tests.support import PROJECT, serving, wait_until
from wallet_api import __version__

FOLDER = PROJECT / "deploy/kubernetes"
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
RESOURCES: dict[tuple[str, str], Any] = {
    (found["kind"], found["metadata"]["name"]): found
    for name in KUSTOMIZATION["resources"]
    for found in yaml.safe_load_all((FOLDER / name).read_text())
}
DEPLOYMENT = RESOURCES["Deployment", "wallet"]
# The pods, by the name of their container.
PODS: dict[str, Any] = {
    "wallet": DEPLOYMENT["spec"]["template"],
    "migrate": RESOURCES["Job", "wallet-migrate"]["spec"]["template"],
    "check": RESOURCES["CronJob", "wallet-check"]["spec"]["jobTemplate"]["spec"]["template"],
}
each_pod = pytest.mark.parametrize("name", PODS)


def container(name: str) -> Any:
    [found] = PODS[name]["spec"]["containers"]
    assert found["name"] == name
    return found


def environment(name: str, secrets: Path) -> dict[str, str]:
    """The environment of a container, with the files of this folder as its secrets."""
    mounts = {mount["mountPath"]: mount["name"] for mount in container(name)["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in PODS[name]["spec"]["volumes"]}
    found = {entry["name"]: entry["value"] for entry in container(name)["env"]}
    for variable, value in found.items():
        if variable.endswith("_FILE"):
            folder, _, key = value.rpartition("/")
            secret = volumes[mounts[folder]]["secret"]["secretName"]
            found[variable] = str(secrets / f"{secret.removeprefix('wallet-')}-{key}")
    return found


def words(name: str) -> list[str]:
    """The arguments of server.py in a container."""
    python, program, *arguments = container(name)["command"]
    assert (python, program) == ("python", "server.py")
    return list(arguments)


def probe(name: str) -> str:
    """The path that a probe of an instance asks for."""
    asked = container("wallet")[f"{name}Probe"]["httpGet"]
    assert asked["port"] == "http"
    return str(asked["path"])


@pytest.mark.parametrize("version", ["1.27.0", all_versions()[-1]])
@pytest.mark.parametrize("key", RESOURCES, ids="/".join)
def test_a_manifest_is_valid(key: tuple[str, str], version: str) -> None:
    """unhealthyPodEvictionPolicy is on by default since 1.27."""
    assert kubernetes_validate.validate(RESOURCES[key], version, strict=True) == version.removesuffix(".0")


def test_the_kustomization_names_every_file_and_the_image_of_this_version() -> None:
    files = {path.name for path in FOLDER.glob("*.yaml")} - {"kustomization.yaml"}
    assert set(KUSTOMIZATION["resources"]) == files
    [image] = KUSTOMIZATION["images"]
    assert (image["name"], str(image["newTag"])) == ("wallet", __version__)
    assert {container(name)["image"] for name in PODS} == {"wallet"}


@each_pod
def test_every_variable_is_a_setting_with_a_valid_value(tmp_path: Path, name: str) -> None:
    write_secrets(tmp_path / "secrets", "postgresql://db.example/wallet")
    settings_of(environment(name, tmp_path / "secrets"))


@each_pod
def test_a_pod_may_do_nothing_that_it_need_not(name: str) -> None:
    spec, contained = PODS[name]["spec"], container(name)
    assert (spec["automountServiceAccountToken"], spec["enableServiceLinks"]) == (False, False)
    [user] = re.findall(r"^USER (\d+):\1$", (PROJECT / "Dockerfile").read_text(), re.MULTILINE)
    assert spec["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": int(user),
        "runAsGroup": int(user),
        "fsGroup": int(user),
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert contained["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {volume["secret"]["defaultMode"] for volume in spec["volumes"] if "secret" in volume} == {0o440}


def test_an_instance_has_time_to_drain_and_to_finish(tmp_path: Path) -> None:
    write_secrets(tmp_path / "secrets", "postgresql://db.example/wallet")
    configuration = settings_of(environment("wallet", tmp_path / "secrets"))
    assert configuration.drain_time > 0
    assert_time_to_stop(configuration, PODS["wallet"]["spec"]["terminationGracePeriodSeconds"])
    assert DEPLOYMENT["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


def test_selectors_and_ports_are_those_of_the_instances(tmp_path: Path) -> None:
    labels = PODS["wallet"]["metadata"]["labels"]
    assert [name for name in ("migrate", "check") if PODS[name]["metadata"]["labels"] == labels] == []
    policy, budget = RESOURCES["NetworkPolicy", "wallet"]["spec"], RESOURCES["PodDisruptionBudget", "wallet"]["spec"]
    services = [RESOURCES["Service", name]["spec"] for name in ("wallet", "wallet-metrics")]
    [spread] = PODS["wallet"]["spec"]["topologySpreadConstraints"]
    selectors = [
        found["matchLabels"]
        for found in (
            DEPLOYMENT["spec"]["selector"],
            budget["selector"],
            policy["podSelector"],
            spread["labelSelector"],
        )
    ]
    assert [found for found in [*selectors, *[service["selector"] for service in services]] if found != labels] == []

    ports = {port["name"]: port["containerPort"] for port in container("wallet")["ports"]}
    assert [port["targetPort"] for service in services for port in service["ports"]] == ["http", "metrics"]
    assert [port["port"] for rule in policy["ingress"] for port in rule["ports"]] == ["http", "metrics"]
    write_secrets(tmp_path / "secrets", "postgresql://db.example/wallet")
    configuration = settings_of(environment("wallet", tmp_path / "secrets"))
    assert ports == {"http": configuration.port, "metrics": configuration.metrics_port}


def test_a_job_migrates_an_instance_serves_and_a_cron_job_checks(primary: Postgres, secrets: Path) -> None:
    assert "command" not in container("wallet")
    assert 'CMD ["python", "server.py"]' in (PROJECT / "Dockerfile").read_text()
    assert_it_migrates(primary, words("migrate"), environment("migrate", secrets))
    assert_it_serves(primary, environment("wallet", secrets), probe("readiness"))
    assert_it_checks(words("check"), environment("check", secrets))


def test_old_instances_stay_in_the_service_after_a_migration_and_new_ones_join_it_when_they_are_at_its_version(
    primary: Postgres, secrets: Path
) -> None:
    here = {"HOST": "127.0.0.1", "PORT": "0", "WALLET_METRICS_PORT": "0", "WALLET_DRAIN_TIME": "0"}
    with primary.admin() as admin, serving(**environment("wallet", secrets) | here) as server:

        def asked(name: str) -> int:
            return httpx2.get(server.url + probe(name)).status_code

        wait_until(lambda: [asked(name) for name in ("startup", "readiness", "liveness")] == [200, 200, 200])
        admin.execute("insert into ledger.rulebook (version) values ('of tomorrow')")
        assert [asked(name) for name in ("startup", "readiness", "liveness")] == [503, 200, 200]
