"""Payments: one at a time, and those of others with it; many at once; all there are."""

from collections.abc import Sequence
from decimal import Decimal
from typing import LiteralString

from starlette.endpoints import HTTPEndpoint
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from wallet_api import errors, messages, wire
from wallet_api.coalescing import Call, repeated
from wallet_api.pool import Database

PATH = "/payments"
BATCH_LIMIT = 4 * 1024 * 1024
MOST_PAYMENTS = 10_000

_LIST_PAYMENTS: LiteralString = "select * from wallet.list_payments(%s, %s)"
_MAKE_PAYMENTS: LiteralString = "select * from wallet.make_payments(%s, %s, %s, %s, %s)"

Payment = tuple[int | None, int | None, Decimal | None]
# A payment as a JSON object, or the code and the words of its refusal.
Outcome = str | tuple[str, str]


def maker(database: Database, *, atomic: bool = False, wait: bool = True) -> Call[Payment, Outcome]:
    """What makes payments in one call on this database."""

    async def make(payments: Sequence[Payment]) -> list[Outcome]:
        arguments = [*(wire.array(column) for column in zip(*payments, strict=True)), atomic, wait]
        columns, values, _ = await database.call(_MAKE_PAYMENTS, arguments)
        # the last two columns are the code and the words of a refusal
        made = iter(wire.Rows(columns[:-2], [row[:-2] for row in values if row[-2] is None]).objects())
        return [next(made) if row[-2] is None else row[-2:] for row in values]

    return make


def maker_without_waiting(database: Database) -> Call[Payment, Outcome | None]:
    """The same, for those payments whose accounts nobody else has locked; None for the others."""
    make = maker(database, wait=False)

    async def make_unlocked(payments: Sequence[Payment]) -> list[Outcome | None]:
        return [None if outcome[0] == errors.LOCKED else outcome for outcome in await make(payments)]

    return make_unlocked


async def make_payment(request: Request) -> Response:
    """Makes a payment, in a call that it may share with others."""
    payment = _payment(wire.decode(await messages.body(request)))
    outcome = await request.app.state.payments.outcome(payment)
    return messages.Answer(outcome) if isinstance(outcome, str) else errors.refused(*outcome)


def _payment(fields: wire.Fields) -> Payment:
    return fields.integer("BuyerAccountID"), fields.integer("SellerAccountID"), fields.decimal("Amount")


class Payments(HTTPEndpoint):
    """/payments"""

    async def get(self, request: Request) -> Response:
        """Lists all payments, oldest first."""
        return await messages.listed("Payments", request.app.state.lists.pages(_LIST_PAYMENTS), request)

    async def post(self, request: Request) -> Response:
        """Makes a payment. (wallet_api.shortcut usually spares it the way to here.)"""
        return await make_payment(request)


class Batch(HTTPEndpoint):
    """/payments/batch"""

    async def post(self, request: Request) -> Response:
        """Makes many payments, each with its outcome; or, if they are atomic, all or none."""
        fields = wire.decode(await messages.body(request, BATCH_LIMIT))
        asked = [_payment_or_error(item) for item in fields.array("Payments", MOST_PAYMENTS)]
        atomic = fields.boolean("Atomic") or False
        unreadable = [index for index, item in enumerate(asked) if isinstance(item, str)]
        if atomic and unreadable:
            return errors.answer(400, str(asked[unreadable[0]]), index=unreadable[0])
        payments = [item for item in asked if not isinstance(item, str)]
        make = maker(request.app.state.database, atomic=atomic)
        outcomes = iter(await repeated(make, payments, errors.judge) if payments else [])
        results = [wire.encode({"Error": item}) if isinstance(item, str) else _result(next(outcomes)) for item in asked]
        return messages.Answer(f'{{"Results":[{",".join(results)}]}}')


def _payment_or_error(item: object) -> Payment | str:
    if not isinstance(item, wire.Fields):
        return "A payment should be a JSON object"
    try:
        return _payment(item)
    except HTTPException as error:
        return error.detail


def _result(outcome: Outcome) -> str:
    return outcome if isinstance(outcome, str) else wire.encode({"Error": outcome[1]})
