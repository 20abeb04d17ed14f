"""docs/installation.md: commands for Kubernetes and systemd that need neither, and what it tells Prometheus."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from tests.deploy.environment import assert_it_migrates
from tests.deploy.test_kubernetes import DEPLOYMENT, RESOURCES, container, environment, words
from tests.faults.postgres import Postgres
from tests.support import PROJECT

DOCUMENT = (PROJECT / "docs/installation.md").read_text()


def block(section: str, beginning: str) -> str:
    """The block of a section that begins so."""
    text = DOCUMENT.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    [found] = [block for block in re.findall(r"```\w*\n(.*?)```", text, re.DOTALL) if block.startswith(beginning)]
    return str(found)


def run(script: str, **variables: str) -> str:
    done = subprocess.run(
        ["bash", "-ec", script], cwd=PROJECT, env=variables, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def migrated(primary: Postgres, secrets: Path) -> Postgres:
    assert_it_migrates(primary, words("migrate"), environment("migrate", secrets))
    return primary


def assert_it_is_a_key(primary: Postgres, secret: str) -> None:
    with primary.admin() as admin:
        [(name, scopes)] = admin.execute("select name, scopes from wallet.list_api_keys()").fetchall()
    assert (name, set(scopes)) == ("admin", {"read", "pay", "admin"})
    assert len(secret.split()) == 1


def test_the_first_key_is_made_in_a_pod_although_it_serves_as_wallet_app(
    migrated: Postgres, secrets: Path, tmp_path: Path
) -> None:
    program = tmp_path / "bin"
    program.mkdir()
    (program / "python").symlink_to(sys.executable)
    (tmp_path / "password").write_text("of owner\n")
    inside = block("On Kubernetes", "kubectl exec").replace("kubectl exec --stdin deploy/wallet -- ", "")
    url = "postgresql://postgres@db/wallet?sslmode=verify-full&sslrootcert=/run/secrets/app/ca.crt"
    assert url in inside
    inside = inside.replace(url, (secrets / "owner-url").read_text().strip()).replace("< password", "< $PASSWORD")
    variables = environment("wallet", secrets) | {"PASSWORD": str(tmp_path / "password")}
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    assert_it_is_a_key(migrated, run(inside, **variables, PATH=path))


def test_the_first_key_is_made_with_the_files_of_systemd(migrated: Postgres, secrets: Path) -> None:
    command = block("With systemd", "DATABASE_URL_FILE=")
    command = command.replace("/opt/wallet/bin/wallet", f"{sys.executable} server.py")
    assert_it_is_a_key(migrated, run(command.replace("/etc/wallet", str(secrets)), PATH="/usr/bin:/bin"))


def test_prometheus_finds_each_pod_as_the_job_of_the_rules() -> None:
    [job] = yaml.safe_load(block("On Kubernetes", "- job_name"))
    rules = (PROJECT / "deploy/monitoring/alerts.yml").read_text()
    assert set(re.findall(r'job="(\w+)"', rules)) == {job["job_name"]}
    [found] = job["dns_sd_configs"]
    service = RESOURCES["Service", "wallet-metrics"]
    assert found["names"] == [f"{service['metadata']['name']}.NAMESPACE.svc"]
    assert [found["port"]] == [port["port"] for port in service["spec"]["ports"]]
    # What a ServiceMonitor takes as the job.
    label, port = re.findall(r"`jobLabel: (\S+)`, and the endpoint `port: (\w+)`", DOCUMENT)[0]
    assert service["metadata"]["labels"][label] == job["job_name"]
    assert [port] == [port["name"] for port in service["spec"]["ports"]]


def test_a_rollout_has_not_failed_while_an_instance_may_still_wait_for_its_database() -> None:
    probe = container("wallet")["startupProbe"]
    assert DEPLOYMENT["spec"]["progressDeadlineSeconds"] > probe["failureThreshold"] * probe["periodSeconds"]
