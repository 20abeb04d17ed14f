"""Runs the application: uvicorn, its worker processes and graceful shutdown."""

import contextlib
import gc
import logging
import multiprocessing
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable
from functools import partial

import uvicorn
from starlette.types import ASGIApp
from uvicorn.supervisors import Multiprocess

from wallet_api import settings
from wallet_api.http.application import connections_of_worker, create_app
from wallet_api.observability import log, metrics, scraping
from wallet_api.observability.record import read_with
from wallet_api.serving.protocol import Protocol
from wallet_api.settings import Settings

logger = logging.getLogger(__name__)

_BACKLOG = 2048
# Files a process opens besides connections: the event loop, the log, imports.
_OTHER_FILES = 60


class ServingError(Exception):
    """The service cannot listen. The text gives the reason."""


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        """Handles signals from now on, and not only while it runs: neither early nor late ones interrupt anything."""
        super().__init__(config)
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, self.handle_exit)

    def handle_exit(self, *_: object) -> None:
        """Stops gracefully, even at the second signal: uvicorn would abort everything, or raise the signal again."""
        self.should_exit = True


def serve(configuration: Settings) -> None:
    """Serves until a stop signal, finishes running requests and returns.

    The database is the one that DATABASE_URL names. Raises ServingError if the service cannot listen.
    """
    listener = _listen(configuration)
    config = uvicorn.Config(
        "wallet_api.serving.processes:application",
        factory=True,
        loop="wallet_api.serving.event_loop:Loop",
        workers=configuration.workers,
        http=Protocol,
        ws="none",
        lifespan="on",
        backlog=_BACKLOG,
        access_log=False,
        log_config=None,  # wallet_api.observability.log writes both logs
        server_header=False,
        # for the client's address in the log and in traces
        proxy_headers=configuration.access_log or configuration.otlp_endpoint is not None,
        forwarded_allow_ips=[*configuration.forwarded_allow_ips],
        timeout_keep_alive=configuration.idle_timeout,
        timeout_graceful_shutdown=configuration.shutdown_timeout,
    )
    host, port = listener.getsockname()[:2]
    with listener, contextlib.ExitStack() as stack:
        if configuration.metrics_port is not None:
            _serve_metrics(configuration, configuration.metrics_port, stack)
        run: Callable[[], None]  # of an object that handles signals as soon as it is created
        if configuration.workers > 1:
            run = Multiprocess(config, [listener]).run
        else:
            run = partial(_Server(config).run, [listener])
        logger.info("Serving on %s (Ctrl-C stops)", _url(host, port))
        run()


def _serve_metrics(configuration: Settings, port: int, stack: contextlib.ExitStack) -> None:
    """Serves the metrics of this process, or of its future workers, until `stack` is closed."""
    host = configuration.metrics_host or configuration.host
    try:
        port = scraping.serve(host, port, stack, has_workers=configuration.workers > 1)
    except OSError as error:
        raise ServingError(f"Cannot serve metrics on {host}, WALLET_METRICS_PORT {port}: {error.strerror}") from None
    logger.info("Metrics on %s/metrics", _url(host, port))


def _url(host: str, port: int) -> str:
    """The URL of an address on this machine. That of all addresses is no address that every browser opens."""
    if host in ("0.0.0.0", "::"):  # noqa: S104
        host = "localhost"
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def application() -> ASGIApp:
    """Creates the ASGI application of this process, which may be a spawned worker, from the environment."""
    _stop_with_parent()
    configuration = settings.from_environment()
    log.begin(configuration.log)
    if configuration.access_log:
        read_with(log.write_requests)
    if configuration.metrics_port is not None:
        read_with(metrics.count_requests)
    _limit_clients(configuration)
    is_stopping = _drain(configuration.drain_time)
    traces = None
    if configuration.otlp_endpoint is not None:
        from wallet_api.observability.tracing import Tracing  # OpenTelemetry may not be installed

        traces = Tracing(configuration.coalesce_most, configuration.database_url or "")

    async def finish() -> None:
        await Protocol.abort_all()
        if traces is not None:
            await traces.end()

    watch = traces.add_call if traces is not None else None
    application = create_app(
        settings.conninfo, settings.read_conninfo, configuration, is_stopping, finish, Protocol.clients, watch
    )
    # Objects from start-up live until exit: exclude them from collection, and collect less often than each 700 objects.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    return application


def _drain(seconds: float) -> Callable[[], bool]:
    """Drains after SIGTERM: for `seconds`, the process keeps serving while /readyz reports not ready.

    Without it, the load balancer would send requests on connections that are about to close. A second SIGTERM stops
    immediately. Returns the function that says whether the process is draining.
    """
    draining = threading.Event()
    stop = signal.getsignal(signal.SIGTERM)

    def drain(*_: object) -> None:
        draining.set()
        signal.signal(signal.SIGTERM, stop)
        signal.setitimer(signal.ITIMER_REAL, seconds)

    if seconds > 0:
        signal.signal(signal.SIGALRM, stop)
        signal.signal(signal.SIGTERM, drain)
    return draining.is_set


def _limit_clients(configuration: Settings) -> None:
    """Limits the clients of this process to half of the available files: it accepts twice as many, to refuse them."""
    files = allow_open_files() - _OTHER_FILES - connections_of_worker(configuration)
    Protocol.most_connections = most = max(1, min(configuration.connections, files // 2))
    if most < configuration.connections:
        logger.info(
            "At most %d clients are served, not WALLET_CONNECTIONS: too few open files are allowed (ulimit -n)", most
        )


def allow_open_files() -> int:
    """Raises the soft limit on open files, which include connections, to the hard limit. Returns the limit."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # the hard limit exceeds the system's maximum
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if allowed == resource.RLIM_INFINITY else allowed


def _listen(configuration: Settings) -> socket.socket:
    host, port = configuration.host, configuration.port
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        is_dual = address[0] == "::" and socket.has_dualstack_ipv6()  # all addresses, also those of IPv4
        listener = socket.create_server(address, family=family, backlog=_BACKLOG, dualstack_ipv6=is_dual)
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise ServingError(f"Cannot listen on HOST {host}, PORT {port}: {reason}") from None
    if sys.platform == "linux":
        # The clients' connections inherit it: the kernel drops one that can send nothing for so long.
        milliseconds = int(configuration.reader_timeout * 1000)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
    return listener


def _stop_with_parent() -> None:
    """Stops this worker when its parent process is gone, for example killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:

        def wait() -> None:
            parent.join()
            os.kill(os.getpid(), signal.SIGTERM)

        threading.Thread(target=wait, daemon=True).start()
