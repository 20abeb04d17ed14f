"""The operations: each decodes its request, calls one function, and encodes the rows."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import LiteralString

import psycopg
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from wallet_api import errors, migrations, wire
from wallet_api.pool import ConnectionLost, Database
from wallet_api.settings import Settings

BODY_LIMIT = 64 * 1024

_LIST_ACCOUNTS: LiteralString = "select * from wallet.list_accounts()"
_GET_ACCOUNT: LiteralString = "select * from wallet.get_account(%s)"
_CREATE_ACCOUNT: LiteralString = "select * from wallet.create_account(%s, %s, %s)"
_LIST_PAYMENTS: LiteralString = "select * from wallet.list_payments()"
_MAKE_PAYMENT: LiteralString = "select * from wallet.make_payment(%s, %s, %s)"
_SCHEMA_VERSION: LiteralString = "select wallet.schema_version()"


class Accounts(HTTPEndpoint):
    """/accounts"""

    async def get(self, request: Request) -> Response:
        """Lists all accounts."""
        accounts = await _database(request).call(_LIST_ACCOUNTS)
        return _answer({"Accounts": accounts} if accounts else {})

    async def post(self, request: Request) -> Response:
        """Creates an account and says where it is."""
        fields = await _fields(request)
        arguments = [fields.text("Name"), fields.decimal("Amount"), fields.integer("CurrencyID")]
        [account] = await _database(request).call(_CREATE_ACCOUNT, arguments)
        return _answer({}, {"Location": f"/account/{account['ID']}"})


class Account(HTTPEndpoint):
    """/account/{id}"""

    async def get(self, request: Request) -> Response:
        """One account, with its balance now."""
        [account] = await _database(request).call(_GET_ACCOUNT, [wire.path_id(request.path_params["id"])])
        return _answer(account)


class Payments(HTTPEndpoint):
    """/payments"""

    async def get(self, request: Request) -> Response:
        """Lists all payments, oldest first."""
        payments = await _database(request).call(_LIST_PAYMENTS)
        return _answer({"Payments": payments} if payments else {})

    async def post(self, request: Request) -> Response:
        """Makes a payment."""
        fields = await _fields(request)
        arguments = [fields.integer("BuyerAccountID"), fields.integer("SellerAccountID"), fields.decimal("Amount")]
        [payment] = await _database(request).call(_MAKE_PAYMENT, arguments)
        return _answer(payment)


class Live(HTTPEndpoint):
    """/livez"""

    async def get(self, request: Request) -> Response:
        """The process answers, whatever the state of the database."""
        return _answer({})


class Ready(HTTPEndpoint):
    """/readyz"""

    async def get(self, request: Request) -> Response:
        """The database answers, and is at the version of this process."""
        try:
            [row] = await request.app.state.readiness.call(_SCHEMA_VERSION)
        except (psycopg.Error, ConnectionLost):
            return errors.unavailable("The database does not answer, or there is no wallet in it")
        if row["SchemaVersion"] != request.app.state.version:
            return errors.unavailable("The database is not at this version of the wallet")
        return _answer({})


def create_app(conninfo: str, settings: Settings) -> Starlette:
    """The ASGI application, for a database that is at this version, or will be."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        app.state.settings = settings
        app.state.version = migrations.version()
        app.state.database = Database(conninfo, settings)
        # A connection of its own: however many payments wait for theirs, a load balancer gets its answer.
        app.state.readiness = Database(conninfo, replace(settings, pool_size=1, pool_timeout=2))
        async with app.state.database, app.state.readiness:
            yield

    routes = [
        Route("/accounts", Accounts),
        Route("/account/{id}", Account),
        Route("/payments", Payments),
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
    return app


def _database(request: Request) -> Database:
    database: Database = request.app.state.database
    return database


async def _fields(request: Request) -> wire.Fields:
    """Reads a body of at most BODY_LIMIT bytes that arrives in time, and its fields."""
    limit = request.app.state.settings.body_timeout
    if int(request.headers.get("content-length", 0)) > BODY_LIMIT:
        raise _too_large()
    body = bytearray()
    try:
        async with asyncio.timeout(limit):
            async for chunk in request.stream():
                body += chunk
                if len(body) > BODY_LIMIT:
                    raise _too_large()
    except TimeoutError:
        raise HTTPException(408, f"The body did not arrive within {limit:g} seconds", {"Connection": "close"}) from None
    return wire.decode(bytes(body))


def _too_large() -> HTTPException:
    # The connection goes with it: the rest of the body is not waited for.
    return HTTPException(413, f"The body should have at most {BODY_LIMIT} bytes", {"Connection": "close"})


def _answer(value: object, headers: dict[str, str] | None = None) -> Response:
    return Response(wire.encode(value), headers=headers, media_type="application/json")
