"""docker-compose.monitoring.yml: what it publishes, and that its files know each other."""

import json
import re

from tests.monitoring.test_alerts import MONITORING
from tests.support import PROJECT

COMPOSE = (PROJECT / "docker-compose.monitoring.yml").read_text()


def test_its_pages_are_for_this_machine_alone() -> None:
    published = re.findall(r"^ +ports:\n((?: +- .*\n)+)", COMPOSE, re.MULTILINE)
    assert [ports.strip() for ports in published] == ['- "127.0.0.1:9090:9090"', '- "127.0.0.1:3000:3000"']


def test_grafana_has_no_password_of_ours() -> None:
    assert re.findall(r"GF_SECURITY_ADMIN_PASSWORD: (.*)", COMPOSE) == [
        "${GRAFANA_PASSWORD:?set it in the environment or in a file .env}"
    ]


def test_prometheus_asks_where_the_instances_tell() -> None:
    told = re.findall(r"WALLET_METRICS_PORT: (\d+)", COMPOSE)
    assert told == re.findall(r"^ +port: (\d+)", (MONITORING / "prometheus.yml").read_text(), re.MULTILINE)
    assert len(told) == 1


def test_the_dashboard_asks_the_data_source_that_there_is() -> None:
    panels = json.loads((MONITORING / "dashboard.json").read_text())["panels"]
    source = (MONITORING / "grafana/datasources/prometheus.yml").read_text()
    assert {panel["datasource"]["uid"] for panel in panels} == set(re.findall(r"uid: (\w+)", source))


def test_what_is_mounted_is_there() -> None:
    mounted = re.findall(r"- \./(\S+):/", COMPOSE)
    assert len(mounted) == 4
    assert [path for path in mounted if not (PROJECT / path).exists()] == []


def test_what_its_services_need_is_in_one_of_the_two_files() -> None:
    both = (PROJECT / "docker-compose.yml").read_text() + COMPOSE
    secrets = {
        name for names in re.findall(r"^ +secrets: \[(.*)\]", COMPOSE, re.MULTILINE) for name in names.split(", ")
    }
    needed = re.findall(r"^ +depends_on:\n((?: {6}.*\n)+)", COMPOSE, re.MULTILINE)
    services = {name for lines in needed for name in re.findall(r"^ {6}(?:- )?(\w+):?$", lines, re.MULTILINE)}
    assert (secrets, services) == ({"wallet_app_password"}, {"migrate", "prometheus"})
    assert [name for name in secrets | services if f"\n  {name}:\n" not in both] == []
