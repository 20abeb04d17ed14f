"""The operations: each decodes its request, calls one function, and encodes the rows."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import LiteralString

import psycopg
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from wallet_api import errors, migrations, wire
from wallet_api.coalescing import Call, Coalescer
from wallet_api.pool import ConnectionLost, Database, Line
from wallet_api.settings import Settings
from wallet_api.shortcut import Shortcut

BODY_LIMIT = 64 * 1024

# Calls that carry payments at a time. While the answers of a third of the clients are written, one call waits
# for the disk and another one for the processor: at 256 clients 1.25 times the payments of a single call.
_LINES = 2
_JSON = (b"content-type", b"application/json")

_LIST_ACCOUNTS: LiteralString = "select * from wallet.list_accounts()"
_GET_ACCOUNT: LiteralString = "select * from wallet.get_account(%s)"
_CREATE_ACCOUNT: LiteralString = "select * from wallet.create_account(%s, %s, %s)"
_LIST_PAYMENTS: LiteralString = "select * from wallet.list_payments()"
_MAKE_PAYMENTS: LiteralString = "select * from wallet.make_payments(%s, %s, %s)"
_SCHEMA_VERSION: LiteralString = "select wallet.schema_version()"


class Accounts(HTTPEndpoint):
    """/accounts"""

    async def get(self, request: Request) -> Response:
        """Lists all accounts."""
        accounts = (await _database(request).call(_LIST_ACCOUNTS)).objects()
        return _Answer(f'{{"Accounts":[{",".join(accounts)}]}}' if accounts else "{}")

    async def post(self, request: Request) -> Response:
        """Creates an account and says where it is."""
        fields = await _fields(request)
        arguments = [fields.text("Name"), fields.decimal("Amount"), fields.integer("CurrencyID")]
        [(account_id, *_)] = (await _database(request).call(_CREATE_ACCOUNT, arguments)).values
        return _Answer("{}", {"Location": f"/account/{account_id}"})


class Account(HTTPEndpoint):
    """/account/{id}"""

    async def get(self, request: Request) -> Response:
        """One account, with its balance now."""
        account_id = wire.path_id(request.path_params["id"])
        [account] = (await _database(request).call(_GET_ACCOUNT, [account_id])).objects()
        return _Answer(account)


Payment = tuple[int | None, int | None, Decimal | None]
# A payment as a JSON object, or the code and the words of its refusal.
Outcome = str | tuple[str, str]


def _payment(fields: wire.Fields) -> Payment:
    return fields.integer("BuyerAccountID"), fields.integer("SellerAccountID"), fields.decimal("Amount")


def _make_payments(database: Database) -> Call[Payment, Outcome]:
    async def call(payments: Sequence[Payment]) -> list[Outcome]:
        arguments = [wire.array(column) for column in zip(*payments, strict=True)]
        columns, values = await database.call(_MAKE_PAYMENTS, arguments)
        # the last two columns are the code and the words of a refusal
        made = iter(wire.Rows(columns[:-2], [row[:-2] for row in values if row[-2] is None]).objects())
        return [next(made) if row[-2] is None else row[-2:] for row in values]

    return call


async def _make_payment(request: Request) -> Response:
    fields = wire.decode(await _body(request))
    outcome = await request.app.state.payments.outcome(_payment(fields))
    return _Answer(outcome) if isinstance(outcome, str) else errors.refused(*outcome)


class Payments(HTTPEndpoint):
    """/payments"""

    async def get(self, request: Request) -> Response:
        """Lists all payments, oldest first."""
        payments = (await _database(request).call(_LIST_PAYMENTS)).objects()
        return _Answer(f'{{"Payments":[{",".join(payments)}]}}' if payments else "{}")

    async def post(self, request: Request) -> Response:
        """Makes a payment."""
        return await _make_payment(request)


class Live(HTTPEndpoint):
    """/livez"""

    async def get(self, request: Request) -> Response:
        """The process answers, whatever the state of the database."""
        return _Answer("{}")


class Ready(HTTPEndpoint):
    """/readyz"""

    async def get(self, request: Request) -> Response:
        """The database answers, and is at the version of this process."""
        try:
            [(version,)] = (await request.app.state.readiness.call(_SCHEMA_VERSION)).values
        except (psycopg.Error, ConnectionLost):
            return errors.unavailable("The database does not answer, or there is no wallet in it")
        if version != request.app.state.version:
            return errors.unavailable("The database is not at this version of the wallet")
        return _Answer("{}")


def create_app(conninfo: str, settings: Settings) -> ASGIApp:
    """The ASGI application, for a database that is at this version, or will be."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        app.state.settings = settings
        app.state.version = migrations.version()
        app.state.database = Database(conninfo, settings)
        # A connection of its own: however many payments wait for theirs, a load balancer gets its answer.
        app.state.readiness = Database(conninfo, replace(settings, pool_size=1, pool_timeout=2))
        # Likewise, so that payments go on while others read; and these have less patience with locks.
        impatient = replace(
            settings, pool_size=1, lock_timeout=min(settings.lock_timeout, settings.coalesce_lock_timeout)
        )
        lines = [Line(conninfo, impatient) for _ in range(_LINES)]
        app.state.payments = Coalescer(
            [_make_payments(line) for line in lines],
            _make_payments(app.state.database),
            passing=errors.passing,
            personal=errors.personal,
            most_together=settings.coalesce_most,
            most_alone=max(1, settings.pool_size // 2),
            most_waiting=settings.coalesce_waiting,
        )
        async with contextlib.AsyncExitStack() as stack:
            for resource in (app.state.database, app.state.readiness, *lines, app.state.payments):
                await stack.enter_async_context(resource)
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
    return Shortcut(app, "POST", "/payments", _make_payment)


def _database(request: Request) -> Database:
    database: Database = request.app.state.database
    return database


async def _fields(request: Request) -> wire.Fields:
    return wire.decode(await _body(request))


async def _body(request: Request) -> bytes:
    """Reads a body of at most BODY_LIMIT bytes. (That it arrives in time is seen to by wallet_api.protocol.)"""
    if int(request.headers.get("content-length", 0)) > BODY_LIMIT:
        raise _too_large()
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_LIMIT:
            raise _too_large()
    return body


def _too_large() -> HTTPException:
    # The connection goes with it: the rest of the body is not waited for.
    return HTTPException(413, f"The body should have at most {BODY_LIMIT} bytes", {"Connection": "close"})


class _Answer(Response):
    """An answer of JSON."""

    def __init__(self, json: str, headers: dict[str, str] | None = None) -> None:
        self.status_code = 200
        self.background = None
        self.body = json.encode()
        self.raw_headers = [(b"content-length", b"%d" % len(self.body)), _JSON]
        for name, value in (headers or {}).items():
            self.raw_headers.append((name.lower().encode(), value.encode()))
