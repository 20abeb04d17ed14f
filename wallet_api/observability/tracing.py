"""OpenTelemetry traces of requests, their waits and their database calls. Imported only if traces are on.

A batch with payments of many requests is one span in the trace of the first request, linked with the spans of all.
OpenTelemetry reads its other settings from its own variables (OTEL_…).
"""

import asyncio
import os
import time
from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, Span, SpanKind, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import Scope

from wallet_api.observability import record as records
from wallet_api.observability.record import Record


class Tracing:
    """Creates spans from the records of requests. A span has at most `most_links` links."""

    def __init__(self, most_links: int) -> None:
        os.environ.setdefault("OTEL_SERVICE_NAME", "wallet")
        self._provider = TracerProvider(span_limits=SpanLimits(max_links=most_links))
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("wallet_api")
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
        began = self._moment(record.started)
        span = self._tracer.start_span(record.method, context, SpanKind.SERVER, start_time=began)
        return span if span.is_recording() else None

    def _end_requests(self, records: Sequence[Record]) -> None:
        for record in records:
            if (span := record.span) is None:
                continue
            span.update_name(f"{record.method} {record.route}")
            known = {
                "http.request.method": record.method,
                "http.route": record.route,
                "http.response.status_code": record.status,
                "url.path": record.path,
                "client.address": record.client,
                "wallet.request_id": record.id,
                "wallet.payment_id": record.payment_id,
                "wallet.code": record.code,
                "wallet.key": record.key,
            }
            span.set_attributes({name: value for name, value in known.items() if value})
            if record.status >= 500:
                span.set_status(StatusCode.ERROR)
            for name, began, ended in record.steps:
                self._span(name, began, ended, span)
            span.end(self._moment(record.started + record.seconds))

    def _span(self, name: str, began: float, ended: float, parent: Span, links: Sequence[Link] = ()) -> Span:
        context = set_span_in_context(parent)
        span = self._tracer.start_span(name, context, links=links, start_time=self._moment(began))
        span.end(self._moment(ended))
        return span

    def add_call(self, began: float, ended: float, carried: Sequence[tuple[Record, float]]) -> None:
        """Creates the span of a batch. `carried` has its requests, each with the time since when it waited."""
        for record, since in carried:
            record.add_step("wait for a call", since, began)
        spans = [record.span for record, _ in carried if record.span is not None]
        if spans:
            links = [Link(span.get_span_context()) for span in spans]
            call = self._span("make_payments", began, ended, spans[0], links)
            for span in spans:
                span.add_link(call.get_span_context())
