"""OpenTelemetry traces of requests, their waits and their database calls. Imported only if traces are on.

Spans follow OpenTelemetry's semantic conventions for HTTP servers and for PostgreSQL clients. Two attributes are left
out: url.query, because references and metadata may be personal, and db.query.text, because the name of the function
says the same.

A batch with payments of many requests is one span in the trace of the first request, linked with the spans of all.
OpenTelemetry reads its other settings from its own variables (OTEL_…).
"""

import asyncio
import functools
import os
import re
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.semconv.attributes import client_attributes as client
from opentelemetry.semconv.attributes import db_attributes as db
from opentelemetry.semconv.attributes import error_attributes as error
from opentelemetry.semconv.attributes import http_attributes as http
from opentelemetry.semconv.attributes import network_attributes as network
from opentelemetry.semconv.attributes import server_attributes as server
from opentelemetry.semconv.attributes import service_attributes as service
from opentelemetry.semconv.attributes import url_attributes as url
from opentelemetry.semconv.attributes import user_agent_attributes as user_agent
from opentelemetry.semconv.schemas import Schemas
from opentelemetry.trace import Link, Span, SpanKind, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from psycopg.conninfo import conninfo_to_dict
from starlette.types import Scope

from wallet_api import __version__
from wallet_api.observability import record as records
from wallet_api.observability.record import GONE, NO_ROUTE, Record

Attributes = dict[str, str | int]

# The conventions name all others _OTHER.
_METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"})
_OTHER = http.HttpRequestMethodValues.OTHER.value
# Longest text from a client, in characters.
_MOST_CHOSEN = 256
_DEFAULT_PORT = "5432"
_SQLSTATE = re.compile("[0-9A-Z]{5}")


class Tracing:
    """Creates spans from the records of requests. A span has at most `most_links` links.

    `conninfo` is the connection string of the database.
    """

    def __init__(self, most_links: int, conninfo: str) -> None:
        # OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME have precedence. The SDK adds service.instance.id.
        ours = Resource.create({service.SERVICE_NAME: "wallet", service.SERVICE_VERSION: __version__})
        self._provider = TracerProvider(
            resource=ours.merge(OTELResourceDetector().detect()), span_limits=SpanLimits(max_links=most_links)
        )
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("wallet_api", __version__, Schemas.V1_44_0.value)
        self._database = _about_database(conninfo)
        # Converts perf_counter(), which records use, to Unix time, in nanoseconds.
        self._epoch = time.time_ns() - time.perf_counter_ns()
        records.begin_span = self._begin_request
        records.read_with(self._end_requests)

    async def end(self) -> None:
        """Sends the remaining spans."""
        await asyncio.to_thread(self._provider.shutdown)

    def _moment(self, seconds: float) -> int:
        return self._epoch + int(seconds * 1e9)

    def _begin_request(self, record: Record, scope: Scope) -> Span | None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        context = TraceContextTextMapPropagator().extract(headers)
        span = self._tracer.start_span(
            _method(record),
            context,
            SpanKind.SERVER,
            _about_request(record, scope, headers),
            start_time=self._moment(record.started),
        )
        return span if span.is_recording() else None

    def _end_requests(self, records: Sequence[Record]) -> None:
        for record in records:
            if (span := record.span) is None:
                continue
            if record.route != NO_ROUTE:
                span.update_name(f"{_method(record)} {record.route}")
                span.set_attribute(http.HTTP_ROUTE, record.route)
            known = {
                "wallet.request_id": record.id,
                "wallet.payment_id": record.payment_id,
                "wallet.code": record.code,
                "wallet.key": record.key,
            }
            span.set_attributes({name: value for name, value in known.items() if value})
            if record.status == GONE:  # no answer was sent
                _fail(span, "client_disconnected")
            else:
                span.set_attribute(http.HTTP_RESPONSE_STATUS_CODE, record.status)
                if record.status >= 500:
                    _fail(span, str(record.status))
            for name, began, ended, failure in record.steps:
                if failure is None:
                    self._tracer.start_span(name, set_span_in_context(span), start_time=self._moment(began)).end(
                        self._moment(ended)
                    )
                else:
                    self._call(name, began, ended, failure, span)
            span.end(self._moment(record.started + record.seconds))

    def _call(
        self, function: str, began: float, ended: float, failure: str, parent: Span, links: Sequence[Link] = ()
    ) -> Span:
        """Creates the span of a database call. `failure` is the SQLSTATE or the type of its error, or ""."""
        about = self._database | {db.DB_QUERY_SUMMARY: function}
        if function.isidentifier():  # not the begin of a transaction
            about[db.DB_STORED_PROCEDURE_NAME] = function
        context = set_span_in_context(parent)
        span = self._tracer.start_span(function, context, SpanKind.CLIENT, about, links, start_time=self._moment(began))
        if failure:
            if _SQLSTATE.fullmatch(failure):
                span.set_attribute(db.DB_RESPONSE_STATUS_CODE, failure)
            _fail(span, failure)
        span.end(self._moment(ended))
        return span

    def add_call(
        self, began: float, ended: float, carried: Sequence[tuple[Record, float]], cause: Exception | None
    ) -> None:
        """Creates the span of a batch. `carried` has its requests, each with the time since when it waited."""
        for record, since in carried:
            record.add_step("wait for a call", since, began)
        spans = [record.span for record, _ in carried if record.span is not None]
        if spans:
            links = [Link(span.get_span_context()) for span in spans]
            failure = "" if cause is None else getattr(cause, "sqlstate", None) or type(cause).__name__
            call = self._call("make_payments", began, ended, failure, spans[0], links)
            for span in spans:
                span.add_link(call.get_span_context())


def _fail(span: Span, error_type: str) -> None:
    span.set_status(StatusCode.ERROR)
    span.set_attribute(error.ERROR_TYPE, error_type)


def _method(record: Record) -> str:
    """The method in the name of a span."""
    return record.method if record.method in _METHODS else "HTTP"


def _about_request(record: Record, scope: Scope, headers: dict[str, str]) -> Attributes:
    """The attributes that are known when a request begins."""
    about: Attributes = {
        http.HTTP_REQUEST_METHOD: record.method,
        url.URL_PATH: record.path[:_MOST_CHOSEN],
        url.URL_SCHEME: scope["scheme"],
        network.NETWORK_PROTOCOL_VERSION: scope["http_version"],
        client.CLIENT_ADDRESS: record.client,
        user_agent.USER_AGENT_ORIGINAL: headers.get("user-agent", "")[:_MOST_CHOSEN],
        **_address(headers.get("host", "")),
    }
    if record.method not in _METHODS:
        about |= {http.HTTP_REQUEST_METHOD: _OTHER, http.HTTP_REQUEST_METHOD_ORIGINAL: record.method[:_MOST_CHOSEN]}
    return {name: value for name, value in about.items() if value}


@functools.lru_cache(128)
def _address(host: str) -> Attributes:
    """The attributes of a header Host."""
    try:
        found = urlsplit(f"//{host}")
        about = {server.SERVER_ADDRESS: found.hostname, server.SERVER_PORT: found.port}
    except ValueError:
        return {}
    return {name: value for name, value in about.items() if value}


def _about_database(conninfo: str) -> Attributes:
    """The attributes of all database calls: where the configuration says that the database is."""
    parameters = conninfo_to_dict(conninfo)
    host = str(parameters.get("host") or os.environ.get("PGHOST") or "")
    port = str(parameters.get("port") or os.environ.get("PGPORT") or _DEFAULT_PORT)
    about: Attributes = {
        db.DB_SYSTEM_NAME: db.DbSystemNameValues.POSTGRESQL.value,
        db.DB_NAMESPACE: str(parameters.get("dbname") or os.environ.get("PGDATABASE") or ""),
        server.SERVER_ADDRESS: host,
    }
    if host and port != _DEFAULT_PORT and port.isdecimal():  # several hosts may have several ports
        about[server.SERVER_PORT] = int(port)
    return {name: value for name, value in about.items() if value}
