"""Traces: a request, what it waited for, what it called; a call that carried many is linked with all of them."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psycopg
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.conftest import Connection
from tests.support import PROJECT, Server, account, pay, serving, waiting_for_locks

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"


class Collector:
    """What OpenTelemetry's collector is for the service: it takes spans."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    [service] = [item.value for item in resource.resource.attributes if item.key == "service.name"]
                    assert service.string_value == "wallet"
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


def attributes(span: Span) -> dict[str, object]:
    return {
        item.key: item.value.string_value if item.value.HasField("string_value") else item.value.int_value
        for item in span.attributes
    }


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
        api.headers["traceparent"] = f"00-{TRACE}-{PARENT}-01"
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
        "client.address": "127.0.0.1",
        "wallet.request_id": TRACE,
        "wallet.payment_id": str(payment),
    }
    assert attributes(refused)["wallet.code"] == "WB006"


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
    server = Server(DATABASE_URL=database, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1", PYTHONPATH=str(tmp_path))
    assert server.wait() == 2
    [line] = server.lines
    assert line.startswith("server.py: OTEL_EXPORTER_OTLP_ENDPOINT should be unset if OpenTelemetry is not installed")


def test_without_traces_nothing_of_it_is_imported() -> None:
    program = "import sys, server; assert not [name for name in sys.modules if name.startswith('opentelemetry')]"
    subprocess.run([sys.executable, "-c", program], cwd=PROJECT, check=True)
