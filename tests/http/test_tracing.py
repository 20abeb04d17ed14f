"""Traces: a request, what it waited for, what it called; a call that carried many is linked with all of them."""

import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from psycopg.conninfo import conninfo_to_dict

from tests.conftest import Connection
from tests.support import PROJECT, Server, account, pay, serving, waiting_for_locks
from wallet_api import __version__

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"


class Collector:
    """What OpenTelemetry's collector is for the service: it takes spans."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.resources: list[dict[str, object]] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    collector.resources.append(values(resource.resource.attributes))
                    for scope in resource.scope_spans:
                        collector.spans += scope.spans
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self.server.server_port}",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
        }

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    thread = threading.Thread(target=collector.server.serve_forever)
    thread.start()
    yield collector
    collector.server.shutdown()
    collector.server.server_close()
    thread.join()


def values(items: Iterable[KeyValue]) -> dict[str, object]:
    return {
        item.key: item.value.string_value if item.value.HasField("string_value") else item.value.int_value
        for item in items
    }


def attributes(span: Span) -> dict[str, object]:
    return values(span.attributes)


def is_error(span: Span) -> bool:
    return span.status.code == Status.STATUS_CODE_ERROR


def children(collector: Collector, span: Span) -> list[str]:
    """Their names, in order; each lies within its parent."""
    found = [child for child in collector.spans if child.parent_span_id == span.span_id]
    for child in found:
        assert child.trace_id == span.trace_id
        assert span.start_time_unix_nano <= child.start_time_unix_nano
        assert child.start_time_unix_nano <= child.end_time_unix_nano <= span.end_time_unix_nano
    return [child.name for child in sorted(found, key=lambda child: child.start_time_unix_nano)]


def test_a_request_is_a_part_of_its_client_s_trace(admin: Connection, database: str, collector: Collector) -> None:
    ids = account(admin, "buyer", 10), account(admin, "seller")
    with serving(DATABASE_URL=database, **collector.environment) as server, server.client() as api:
        api.headers |= {"traceparent": f"00-{TRACE}-{PARENT}-01", "User-Agent": "the shop/1.0"}
        api.headers["X-Forwarded-For"] = "192.0.2.7"
        payment = pay(api, *ids, 1).json()["ID"]
        assert api.get(f"/account/{ids[0]}").status_code == 200
        assert api.get("/payments").status_code == 200
        assert pay(api, *ids, 100).status_code == 400
    # All have been sent when the service has stopped.
    [account_span] = collector.named("GET /account/{id}")
    [list_span] = collector.named("GET /payments")
    [made, refused] = collector.named("POST /payments")
    for span in (account_span, list_span, made, refused):
        assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
        assert span.kind == Span.SPAN_KIND_SERVER
    assert children(collector, account_span) == ["wait for a connection", "get_account"]
    assert children(collector, list_span)[-1] == "list_payments"
    assert children(collector, made) == ["wait for a call", "make_payments"]
    assert attributes(made) == {
        "http.request.method": "POST",
        "http.route": "/payments",
        "http.response.status_code": 200,
        "url.path": "/payments",
        "url.scheme": "http",
        "network.protocol.version": "1.1",
        "server.address": "127.0.0.1",
        "server.port": urlsplit(server.url).port,
        "client.address": "192.0.2.7",
        "user_agent.original": "the shop/1.0",
        "wallet.request_id": TRACE,
        "wallet.payment_id": str(payment),
    }
    assert attributes(refused)["wallet.code"] == "WB006"
    assert not any(map(is_error, (account_span, list_span, made, refused)))
    [call, *_] = collector.named("make_payments")
    assert call.kind == Span.SPAN_KIND_CLIENT
    place = conninfo_to_dict(database)
    assert attributes(call) == {
        "db.system.name": "postgresql",
        "db.namespace": place["dbname"],
        "db.query.summary": "make_payments",
        "db.stored_procedure.name": "make_payments",
        "server.address": place["host"],
    }
    assert {span.kind for span in collector.named("wait for a call")} == {Span.SPAN_KIND_INTERNAL}


def test_what_fails_is_an_error_of_the_type_that_the_conventions_name(
    admin: Connection, database: str, collector: Collector
) -> None:
    pair = account(admin, "buyer", 10), account(admin, "seller")
    admin.execute("alter function wallet.get_account rename to gone")
    admin.execute("alter function wallet.make_payments rename to gone_too")
    with serving(DATABASE_URL=database, **collector.environment) as server, server.client() as api:
        assert api.get("/account/1?at=hunter2").status_code == 400
        assert api.get("/account/1").status_code == 503
        assert pay(api, *pair, 1).status_code == 503
        assert api.get("/payment/1").status_code == 404
        assert api.request("PROPFIND", "/nowhere").status_code == 404
    refused, unavailable = collector.named("GET /account/{id}")
    assert not is_error(refused)
    assert "hunter2" not in str(collector.spans)
    assert (is_error(unavailable), attributes(unavailable)["error.type"]) == (True, "503")
    for function in ("get_account", "make_payments"):
        [call] = collector.named(function)
        assert (is_error(call), attributes(call)["error.type"]) == (True, "42883")
        assert attributes(call)["db.response.status_code"] == "42883"
    [missed] = collector.named("get_payment")
    assert attributes(missed)["error.type"] == "WN002"
    [unknown] = collector.named("HTTP")
    assert (attributes(unknown)["http.request.method"], "http.route" in attributes(unknown)) == ("_OTHER", False)
    assert attributes(unknown)["http.request.method_original"] == "PROPFIND"


def test_the_spans_are_those_of_this_version_of_the_service(database: str, collector: Collector) -> None:
    with serving(DATABASE_URL=database, **collector.environment) as server, server.client() as api:
        assert api.get("/livez").status_code == 200
    [resource] = collector.resources
    assert (resource["service.name"], resource["service.version"]) == ("wallet", __version__)
    assert resource["service.instance.id"]


def test_opentelemetry_s_own_variables_have_precedence(database: str, collector: Collector) -> None:
    theirs = {"OTEL_RESOURCE_ATTRIBUTES": "service.name=till,service.version=7,deployment.environment.name=staging"}
    with serving(DATABASE_URL=database, **theirs, **collector.environment) as server, server.client() as api:
        assert api.get("/livez").status_code == 200
    [resource] = collector.resources
    assert (resource["service.name"], resource["service.version"]) == ("till", "7")
    assert resource["deployment.environment.name"] == "staging"
    collector.spans.clear()
    off = {"OTEL_TRACES_SAMPLER": "always_off"}
    with serving(DATABASE_URL=database, **off, **collector.environment) as server, server.client() as api:
        assert api.get("/livez").status_code == 200
    assert collector.spans == []


def test_one_call_is_linked_with_all_requests_that_it_carried(
    admin: Connection, database: str, collector: Collector
) -> None:
    ids = account(admin, "buyer", 100), account(admin, "seller")
    patient = {"WALLET_COALESCE_LOCK_TIMEOUT": "20", "WALLET_LOCK_TIMEOUT": "20", "WALLET_COALESCE_WAITING": "200"}
    with (
        serving(DATABASE_URL=database, **patient, **collector.environment) as server,
        server.client() as api,
        psycopg.connect(database) as holder,
        ThreadPoolExecutor(32) as clients,
    ):
        holder.execute("select from ledger.account where id = %s for update", [ids[0]])
        payments = [clients.submit(pay, api, *ids, 1)]
        waiting_for_locks(admin, 1)
        payments += [clients.submit(pay, api, *ids, 1) for _ in range(30)]
        assert api.get("/livez").status_code == 200
        holder.rollback()
        assert {payment.result().status_code for payment in payments} == {200}
    requests = {span.span_id: span for span in collector.named("POST /payments")}
    calls = collector.named("make_payments")
    assert len(requests) == 31
    assert len(calls) < 31
    carried = [link.span_id for call in calls for link in call.links]
    assert sorted(carried) == sorted(requests)
    for call in calls:
        for link in call.links:
            assert call.span_id in {back.span_id for back in requests[link.span_id].links}
            assert call.end_time_unix_nano <= requests[link.span_id].end_time_unix_nano
    assert len(collector.named("wait for a call")) == 31


def test_a_collector_that_is_away_is_no_reason_not_to_serve(database: str) -> None:
    away = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
    with serving(DATABASE_URL=database, **away) as server, server.client() as api:
        assert api.get("/livez").status_code == 200


def test_without_the_packages_it_is_one_line_and_exit_code_2(database: str, tmp_path: Path) -> None:
    (tmp_path / "opentelemetry").mkdir()
    (tmp_path / "opentelemetry/__init__.py").touch()  # which hides the one that is installed
    server = Server(
        PROJECT, DATABASE_URL=database, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1", PYTHONPATH=str(tmp_path)
    )
    assert server.wait() == 2
    [line] = server.lines
    assert line.startswith("server.py: OTEL_EXPORTER_OTLP_ENDPOINT should be unset if OpenTelemetry is not installed")


def test_without_traces_nothing_of_it_is_imported() -> None:
    program = "import sys, server; assert not [name for name in sys.modules if name.startswith('opentelemetry')]"
    subprocess.run([sys.executable, "-c", program], cwd=PROJECT, check=True)
