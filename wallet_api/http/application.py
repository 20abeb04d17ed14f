"""The application: its operations by path, and what they need."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from wallet_api.database import migrations
from wallet_api.database.batching import Coalescer, Watch
from wallet_api.database.pool import Database, Line
from wallet_api.http import documents, errors, openapi, operations, payments
from wallet_api.http.authentication import Keys
from wallet_api.http.operation import Operation
from wallet_api.http.origins import AllowedOrigins, OwnPagesOnly
from wallet_api.http.sampling import look_on
from wallet_api.http.shortcut import Shortcut
from wallet_api.observability.record import Observer, record_of
from wallet_api.settings import Settings

# Seconds, beyond the wait for a lock, after which a call whose connection broke has ended, one way or the other.
_MARGIN = 0.1


def connections_of_worker(settings: Settings) -> int:
    """How many connections to the database a process has: for calls, lists, payments, API keys, and /readyz."""
    return settings.pool_size + _list_connections(settings) + 2 + 2


def _list_connections(settings: Settings) -> int:
    return max(1, settings.pool_size // 2)


def create_app(
    conninfo: Callable[[], str],
    settings: Settings,
    is_stopping: Callable[[], bool],
    finish: Callable[[], Awaitable[None]],
    clients: Callable[[], int],
    watch: Watch | None,
) -> ASGIApp:
    """The ASGI application, for a database that is at this version, or will be.

    `conninfo` returns the connection string, for each connection that is made. While `is_stopping`, it is not ready.
    `finish` is called at the end, when nothing is under way any more. `clients` are how many are connected. Calls of
    make_payments are told to `watch`.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        app.state.settings = settings
        app.state.version = migrations.version()
        app.state.is_stopping = is_stopping
        app.state.documents = documents.Documents(openapi.document(operations.ALL))
        app.state.database = Database("calls", conninfo, settings)
        # Connections of their own: for lists, whose readers may be slow; for the load balancer, that a busy service
        # is not taken for dead; for API keys, that who has none takes nothing from those who have; for payments, which
        # have less patience with locks while they are together.
        app.state.lists = Database("lists", conninfo, replace(settings, pool_size=_list_connections(settings)))
        app.state.key_database = Database("keys", conninfo, replace(settings, pool_size=1))
        app.state.keys = Keys(app.state.key_database, required=settings.auth == "required")
        app.state.readiness = Database("readiness", conninfo, replace(settings, pool_size=1, pool_timeout=2))
        patience = min(settings.lock_timeout, settings.coalesce_lock_timeout)
        impatient = replace(settings, pool_size=1, lock_timeout=patience)
        # One call at a time: two at once carry half as much each, and wait for each other's accounts and processors.
        line, aside = [Line("payments", conninfo, impatient) for _ in range(2)]
        app.state.payments = Coalescer(
            payments.maker(line),
            payments.maker_without_waiting(aside),
            payments.maker(aside),
            errors.judge,
            payments.repeatable,
            payments.is_made,
            errors.tell_repeated,
            watch,
            most_together=settings.coalesce_most,
            most_waiting=settings.coalesce_waiting,
            longest_wait=settings.coalesce_timeout,
            patience=settings.lock_timeout,
            # a call that was lost waits for no lock any more by then
            pause=patience + _MARGIN,
        )
        app.state.databases = [app.state.database, app.state.lists, app.state.key_database, line, aside]
        # Whether there may be connections that accept no changes, or tell what is old.
        app.state.stale = False
        async with contextlib.AsyncExitStack() as stack:
            for resource in (*app.state.databases, app.state.readiness, app.state.payments):
                await stack.enter_async_context(resource)
            sampling = asyncio.create_task(look_on(app.state, clients)) if settings.metrics_port is not None else None
            yield
            if sampling is not None:
                sampling.cancel()
                await asyncio.gather(sampling, return_exceptions=True)
        await finish()

    app = Starlette(
        routes=_routes(),
        middleware=[Middleware(errors.AnswerWhenCancelled)],
        exception_handlers=errors.HANDLERS,
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    application: ASGIApp = Shortcut(app, "POST", payments.PATH, payments.MAKE_PAYMENT.handle)
    if settings.auth != "required":
        application = OwnPagesOnly(application, settings.hosts)
    elif settings.cors_origins:
        application = AllowedOrigins(application, settings.cors_origins)
    return Observer(application)


def _routes() -> list[Route]:
    """A route for each path, whatever its methods: so that another method is 405, with all of them in Allow."""
    by_path: dict[str, dict[str, Operation]] = {}
    for operation in operations.ALL:
        by_path.setdefault(operation.path, {})[operation.method] = operation
    return [Route(path, _endpoint(path, by_method), methods=list(by_method)) for path, by_method in by_path.items()]


def _endpoint(path: str, by_method: dict[str, Operation]) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        record_of(request).route = path
        method = "GET" if request.method == "HEAD" else request.method
        return await by_method[method].handle(request)

    return endpoint
