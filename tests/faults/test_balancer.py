"""The load balancer that is shipped: to whom it passes requests on, and which."""

import http.client
import json
import re
from pathlib import Path

import httpx2
import pytest

from tests.faults.postgres import Postgres
from tests.faults.recorder import Recorder, open_accounts
from tests.faults.scene import Scene, scene
from tests.support import PROJECT, assert_refused, wait_until

LOAD = 100


def skip_without_haproxy(stage: Scene) -> None:
    if stage.address in [instance.address for instance in stage.instances]:
        pytest.skip("HAProxy is not installed")


def test_payments_go_on_when_the_database_is_migrated_and_no_instance_is_replaced_yet(
    tmp_path: Path, primary: Postgres, stage: Scene
) -> None:
    skip_without_haproxy(stage)
    with primary.admin() as admin, Recorder(stage.addresses, open_accounts(admin), repeat=False) as clients:
        clients.wait_for_answers(LOAD)
        [(version,)] = admin.execute("select wallet.schema_version()").fetchall()
        admin.execute("insert into ledger.rulebook (version) values ('of tomorrow')")
        log = tmp_path / "haproxy.log"
        wait_until(lambda: all(f"Server wallet/wallet-{number} is DOWN" in log.read_text() for number in (1, 2)))
        clients.wait_for_answers(LOAD)
        admin.execute("insert into ledger.rulebook (version) values (%s)", [version])
        wait_until(stage.is_ready)
        clients.wait_for_answers(LOAD)
        clients.stop()
    assert {attempt.status for order in clients.orders for attempt in order.attempts} <= {200, 400}


def test_metrics_are_on_a_port_that_it_does_not_know(tmp_path: Path, primary: Postgres) -> None:
    with scene(tmp_path, primary.conninfo(), 1, WALLET_METRICS_PORT="0") as stage:
        skip_without_haproxy(stage)
        url = re.search(r"Metrics on (http://[^ \"]+)", stage.instances[0].log)
        assert url is not None
        assert httpx2.get(url[1]).status_code == 200
        host, port = stage.address
        assert_refused(httpx2.get(f"http://{host}:{port}/metrics"), "WH002")


def logged_client(stage: Scene, source: str, **headers: str) -> str:
    """The address of the client in the log, of a request that comes to the load balancer from this address."""
    connection = http.client.HTTPConnection(*stage.address, timeout=10, source_address=(source, 0))
    connection.request("GET", "/currencies", headers=headers)
    request_id = connection.getresponse().headers["X-Request-ID"]
    connection.close()
    [instance] = stage.instances
    wait_until(lambda: request_id in instance.log)
    [line] = [line for line in instance.log.splitlines() if request_id in line]
    return str(json.loads(line)["client"])


def test_the_log_names_the_client_whatever_the_client_says(
    tmp_path: Path, primary: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WALLET_PROXIES", "10.0.0.0/8 127.0.0.3")
    [believed] = re.findall(r'FORWARDED_ALLOW_IPS: "(.*)"', (PROJECT / "docker-compose.yml").read_text())
    settings = {"WALLET_ACCESS_LOG": "on", "FORWARDED_ALLOW_IPS": believed}
    with scene(tmp_path, primary.conninfo(), 1, **settings) as stage:
        skip_without_haproxy(stage)
        pretended = {"X-Forwarded-For": "192.0.2.1"}
        assert logged_client(stage, "127.0.0.2") == "127.0.0.2"
        assert logged_client(stage, "127.0.0.2", **pretended) == "127.0.0.2"
        # a proxy that adds its client's address to what the client has sent
        assert logged_client(stage, "127.0.0.3", **{"X-Forwarded-For": "192.0.2.1, 192.0.2.2"}) == "192.0.2.2"
        assert logged_client(stage, "127.0.0.3", **{"X-Forwarded-For": "unknown"}) == "127.0.0.3"
        assert logged_client(stage, "127.0.0.3") == "127.0.0.3"
