"""The Prometheus metrics; docs/operations.md explains each.

Labels have few values: routes instead of paths, and "other" for a method that a client makes up.
"""

import functools
import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

import prometheus_client
from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from wallet_api.observability.record import Record

# Names the folder of the worker processes. prometheus-client reads it at import.
FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

# The metrics of this process, if it has no workers.
REGISTRY = CollectorRegistry()

_METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_PAYMENTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)
_FUNCTION = re.compile(r"wallet\.(\w+)\(")

T = TypeVar("T", bound=MetricWrapperBase)

# A payment's outcome, and the SQLSTATE of its refusal.
Payment = tuple[str, str]


_counter = functools.partial(prometheus_client.Counter, registry=REGISTRY)
_histogram = functools.partial(prometheus_client.Histogram, registry=REGISTRY, buckets=_SECONDS)
# Over the live workers: a sum, unless the metric says otherwise.
_gauge = functools.partial(prometheus_client.Gauge, registry=REGISTRY, multiprocess_mode="livesum")

prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]

_requests = _counter("wallet_requests", "Answered requests", ["route", "method", "status"])
_durations = _histogram("wallet_request_duration_seconds", "Total duration of requests", ["route", "method"])
_payments = _counter(
    "wallet_payments", "Requested payments: made, replayed, refused (with a code) or failed", ["outcome", "code"]
)
batch = _histogram("wallet_batch_payments", "Payments per batch, which is one call of make_payments", buckets=_PAYMENTS)
_calls = _histogram("wallet_call_duration_seconds", "Duration of database function calls", ["function"])
queue = _gauge("wallet_queue_payments", "Payments waiting for a batch")
queue_full = _counter("wallet_queue_full", "Requests refused because too many were waiting")
retries = _counter("wallet_retries", "Repeated database calls, by SQLSTATE of the failure", ["sqlstate"])
pool_connections = _gauge("wallet_pool_connections", "Database connections", ["pool", "state"])
pool_waiting = _gauge("wallet_pool_waiting", "Requests waiting for a database connection", ["pool"])
_lock_waits = _histogram("wallet_lock_wait_seconds", "Time that payments waited for a locked account, if they met one")
clients = _gauge("wallet_clients", "Client connections")
feed_blocked = _gauge("wallet_feed_blocked", "1 if an open transaction keeps new events out of the feed, else 0")
standby_reads = _counter(
    "wallet_standby_reads",
    "Reads with DATABASE_READ_URL: answered by a standby; or by the primary, as it was behind, failed or was left out",
    ["outcome"],
)

_least = functools.partial(_gauge, multiprocess_mode="livemin")
database_up = _least("wallet_database_up", "1 if the database answers, else 0")
standby_usable = _least("wallet_standby_usable", "1 if standbys answer reads, 0 if they are left out")
database_writable = _least("wallet_database_writable", "1 if the database accepts writes, else 0")

_most = functools.partial(_gauge, multiprocess_mode="livemax")
info = _most("wallet_info", "Always 1; the labels are the versions of the wallet and of db/", ["version", "db_version"])
ledger_check_problems = _most("wallet_ledger_check_problems", "Problems found by the last recorded ledger check")
ledger_check_moment = _most("wallet_ledger_check_timestamp_seconds", "Time of the last recorded ledger check; 0: never")


@functools.cache
def _labelled(metric: T, *labels: str) -> T:
    return metric.labels(*labels)


def count_requests(records: Iterable[Record]) -> None:
    """Counts ended requests and their payments."""
    for record in records:
        method = record.method if record.method in _METHODS else "other"
        _labelled(_requests, record.route, method, str(record.status)).inc()
        _labelled(_durations, record.route, method).observe(record.seconds)
        if record.outcome:
            count_payments({(record.outcome, record.code): 1})
        if record.locked:
            _lock_waits.observe(record.locked)


def count_payments(payments: Mapping[Payment, int]) -> None:
    """Counts payments by outcome and code."""
    for (outcome, code), number in payments.items():
        _labelled(_payments, outcome, code if outcome == "refused" else "").inc(number)


def observe_call(query: str, seconds: float) -> str:
    """Observes a query's duration if it calls a wallet function. Returns the function's name, or ""."""
    if name := _function(query):
        _labelled(_calls, name).observe(seconds)
    return name


@functools.cache
def _function(query: str) -> str:
    found = _FUNCTION.search(query)
    return found[1] if found else ""
