"""The operations: each decodes its request, calls one function, and encodes the rows."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import LiteralString

import psycopg
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from wallet_api import errors, messages, migrations, payments, wire
from wallet_api.coalescing import Coalescer
from wallet_api.pool import ConnectionLost, Database, Line
from wallet_api.settings import Settings
from wallet_api.shortcut import Shortcut

# Calls that carry payments at a time. While the answers of a third of the clients are written, one call waits
# for the disk and another one for the processor: at 256 clients 1.25 times the payments of a single call.
_LINES = 2

# Seconds, beyond the wait for a lock, after which a call whose connection broke has ended, one way or the other.
_MARGIN = 0.1

_LIST_ACCOUNTS: LiteralString = "select id, name, currency_id, currency_name, amount from wallet.list_accounts(%s, %s)"
_GET_ACCOUNT: LiteralString = "select id, name, currency_id, currency_name, amount from wallet.get_account(%s)"
_CREATE_ACCOUNT: LiteralString = "select * from wallet.create_account(%s, %s, %s)"
_READINESS: LiteralString = "select wallet.schema_version(), current_setting('transaction_read_only')"


class Accounts(HTTPEndpoint):
    """/accounts"""

    async def get(self, request: Request) -> Response:
        """Lists all accounts."""
        return await messages.listed("Accounts", request.app.state.lists.pages(_LIST_ACCOUNTS), request)

    async def post(self, request: Request) -> Response:
        """Creates an account and says where it is."""
        fields = wire.decode(await messages.body(request))
        arguments = [fields.text("Name"), fields.decimal("Amount"), fields.integer("CurrencyID")]
        [(account_id, *_)] = (await _database(request).call(_CREATE_ACCOUNT, arguments)).values
        return messages.Answer("{}", location=f"/account/{account_id}")


class Account(HTTPEndpoint):
    """/account/{id}"""

    async def get(self, request: Request) -> Response:
        """One account, with its balance now."""
        account_id = wire.path_id(request.path_params["id"])
        [account] = (await _database(request).call(_GET_ACCOUNT, [account_id])).objects()
        return messages.Answer(account)


class Live(HTTPEndpoint):
    """/livez"""

    async def get(self, request: Request) -> Response:
        """The process answers, whatever the state of the database."""
        return messages.Answer("{}")


class Ready(HTTPEndpoint):
    """/readyz"""

    async def get(self, request: Request) -> Response:
        """The database answers, accepts changes, and is at the version of this process."""
        state = request.app.state
        if state.is_stopping():
            return errors.unavailable("The instance is about to stop")
        try:
            [(version, read_only)] = (await state.readiness.call(_READINESS)).values
        except (psycopg.Error, ConnectionLost):
            return errors.unavailable("The database does not answer, or there is no wallet in it")
        if read_only == "on":
            # A standby, perhaps, or what was the primary: the next connection may be to another server.
            state.stale = True
            await state.readiness.renew()
            return errors.unavailable("The database accepts no changes at the moment")
        if state.stale:
            state.stale = False
            for database in state.databases:
                await database.renew()
        if version != state.version:
            return errors.unavailable("The database is not at this version of the wallet")
        return messages.Answer("{}")


def create_app(
    conninfo: str, settings: Settings, is_stopping: Callable[[], bool], finish: Callable[[], Awaitable[None]]
) -> ASGIApp:
    """The ASGI application, for a database that is at this version, or will be.

    While `is_stopping`, it is not ready. `finish` is called at the end, when nothing is under way any more.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        app.state.settings = settings
        app.state.version = migrations.version()
        app.state.is_stopping = is_stopping
        app.state.database = Database(conninfo, settings)
        # Connections of their own: for lists, whose readers may be slow; for the load balancer, that a busy service
        # is not taken for dead; for payments, which have less patience with locks while they are together.
        app.state.lists = Database(conninfo, replace(settings, pool_size=max(1, settings.pool_size // 2)))
        app.state.readiness = Database(conninfo, replace(settings, pool_size=1, pool_timeout=2))
        patience = min(settings.lock_timeout, settings.coalesce_lock_timeout)
        impatient = replace(settings, pool_size=1, lock_timeout=patience)
        *lines, aside = [Line(conninfo, impatient) for _ in range(_LINES + 1)]
        app.state.payments = Coalescer(
            [payments.maker(line) for line in lines],
            payments.maker_without_waiting(aside),
            payments.maker(aside),
            errors.judge,
            payments.repeatable,
            payments.is_made,
            most_together=settings.coalesce_most,
            most_waiting=settings.coalesce_waiting,
            longest_wait=settings.coalesce_timeout,
            patience=settings.lock_timeout,
            # a call that was lost waits for no lock any more by then
            pause=patience + _MARGIN,
        )
        app.state.databases = [app.state.database, app.state.lists, *lines, aside]
        # Whether there may be connections that accept no changes, or tell what is old.
        app.state.stale = False
        async with contextlib.AsyncExitStack() as stack:
            for resource in (*app.state.databases, app.state.readiness, app.state.payments):
                await stack.enter_async_context(resource)
            yield
        await finish()

    routes = [
        Route("/accounts", Accounts),
        Route("/account/{id}", Account),
        Route(payments.PATH, payments.Payments),
        Route(f"{payments.PATH}/batch", payments.Batch),
        Route("/livez", Live),
        Route("/readyz", Ready),
    ]
    app = Starlette(
        routes=routes,
        middleware=[Middleware(errors.AnswerWhenCancelled)],
        exception_handlers=errors.HANDLERS,
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    return Shortcut(app, "POST", payments.PATH, payments.make_payment, lambda: app.state.payments.is_full)


def _database(request: Request) -> Database:
    database: Database = request.app.state.database
    return database
