"""The port that serves the metrics to Prometheus, and the process_* metrics, which are read for each scrape.

Several worker processes write their values to files in a folder. The parent process adds them up for each scrape.
"""

import contextlib
import os
import resource
import socket
import tempfile
import threading
from collections.abc import Callable, Iterable
from http.server import ThreadingHTTPServer
from pathlib import Path

from prometheus_client import CollectorRegistry, MetricsHandler
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from wallet_api.observability import metrics

_PATH = "/metrics"

# How the values of several processes become one. The limit of open files is that of each process: so the files are
# those of the process that has most of them.
_COMBINE: dict[str, Callable[[list[float]], float]] = {
    "process_cpu_seconds": sum,
    "process_resident_memory_bytes": sum,
    "process_virtual_memory_bytes": sum,
    "process_open_fds": max,
    "process_max_fds": min,
    "process_start_time_seconds": min,
}


def serve(host: str, port: int, stack: contextlib.ExitStack, *, has_workers: bool) -> int:
    """Serves the metrics of this process, or of its future workers, until `stack` is closed. Returns the port.

    Raises OSError if it cannot listen.
    """
    registry = metrics.REGISTRY
    if has_workers:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="wallet-metrics-"))
        os.environ[metrics.FOLDER_VARIABLE] = folder
        registry = CollectorRegistry()
        Workers(registry)  # type: ignore[no-untyped-call]
    registry.register(Processes())
    server = _Server(host, port, registry)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    stack.callback(server.server_close)
    stack.callback(server.shutdown)
    return server.server_port


class _Server(ThreadingHTTPServer):
    def __init__(self, host: str, port: int, registry: CollectorRegistry) -> None:
        self.address_family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        super().__init__(address, _Handler.factory(registry))  # type: ignore[arg-type]


class _Handler(MetricsHandler):
    """Answers GET /metrics, without a header that names the versions of the software."""

    timeout = 10  # seconds for a request to arrive

    def do_GET(self) -> None:  # noqa: N802 - as it is in the base class
        """The metrics, or a 404."""
        if self.path.partition("?")[0] == _PATH:
            super().do_GET()
        else:
            self.send_error(404)

    def send_response(self, code: int, message: str | None = None) -> None:
        """The same as in the base class, but for the header Server."""
        self.send_response_only(code, message)
        self.send_header("Date", self.date_time_string())


class Workers(MultiProcessCollector):
    """The sum over all worker processes, which write to the folder that FOLDER_VARIABLE names."""

    def collect(self) -> Iterable[Metric]:
        """Adds up the metrics, without the gauges of ended workers."""
        folder = Path(os.environ[metrics.FOLDER_VARIABLE])
        for file in folder.glob("gauge_live*.db"):
            try:
                os.kill(int(file.stem.rpartition("_")[2]), 0)
            except ProcessLookupError:
                file.unlink(missing_ok=True)
        # A starting worker's file may still be empty.
        files = [str(file) for file in folder.glob("*.db") if file.stat().st_size > 0]
        added_up: Iterable[Metric] = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
        return added_up


class Processes(Collector):
    """The process_* metrics of this process and its children together. On Linux only, like ProcessCollector."""

    _cpu = 0.0

    def collect(self) -> Iterable[Metric]:
        """One metric for each name of _COMBINE."""
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        found: dict[str, list[Metric]] = {}
        for pid in (os.getpid(), *_children()):
            for metric in ProcessCollector(pid=lambda pid=pid: pid, registry=None).collect():  # type: ignore[misc]
                found.setdefault(metric.name, []).append(metric)
        for name, alike in found.items():
            value = _COMBINE[name]([metric.samples[0].value for metric in alike])
            if name == "process_cpu_seconds":
                # It is a counter: a child that ends while this runs must not set it back.
                value = self._cpu = max(self._cpu, value + ended.ru_utime + ended.ru_stime)
            alike[0].samples = [alike[0].samples[0]._replace(value=value)]
            yield alike[0]


def _children() -> Iterable[int]:
    """The ids of the child processes, of whatever thread."""
    for task in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the thread has ended
            yield from map(int, task.read_text().split())
