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

_LIST_PAYMENTS: LiteralString = """
    select id, currency_id, currency_name, amount, buyer_account_id, seller_account_id, operation_timestamp
    from wallet.list_payments(%s, %s)"""
_MAKE_PAYMENTS: LiteralString = """
    select id, currency_id, amount, buyer_account_id, seller_account_id, operation_timestamp,
        replayed, error_code, error
    from wallet.make_payments(%s, %s, %s, %s, %s, %s)"""

# buyer, seller, amount, idempotency key
Payment = tuple[int | None, int | None, Decimal | None, str | None]


class Replayed(str):
    """A payment as a JSON object, which was made before, under the same idempotency key."""

    __slots__ = ()


# A payment as a JSON object, or the code and the words of its refusal.
Outcome = str | tuple[str, str]

_KEY_HEADER = b"idempotency-key"
_REPLAYED = (b"idempotency-replayed", b"true")


def maker(database: Database, *, atomic: bool = False, wait: bool = True) -> Call[Payment, Outcome]:
    """What makes payments in one call on this database."""

    async def make(payments: Sequence[Payment]) -> list[Outcome]:
        buyers, sellers, amounts, keys = zip(*payments, strict=True)
        arrays = [wire.array(column) for column in (buyers, sellers, amounts)]
        keyed = wire.text_array(keys) if any(key is not None for key in keys) else None
        columns, values, _ = await database.call(_MAKE_PAYMENTS, [*arrays, atomic, wait, keyed])
        # the last three columns: whether it was made before, the code and the words of a refusal
        made = iter(wire.Rows(columns[:-3], [row[:-3] for row in values if row[-2] is None]).objects())
        return [row[-2:] if row[-2] is not None else Replayed(next(made)) if row[-3] else next(made) for row in values]

    return make


def maker_without_waiting(database: Database) -> Call[Payment, Outcome | None]:
    """The same, for those payments whose accounts nobody else has locked; None for the others."""
    make = maker(database, wait=False)

    async def make_unlocked(payments: Sequence[Payment]) -> list[Outcome | None]:
        return [None if outcome[0] == errors.LOCKED else outcome for outcome in await make(payments)]

    return make_unlocked


async def make_payment(request: Request) -> Response:
    """Makes a payment, in a call that it may share with others."""
    header = _key(request)
    buyer, seller, amount, key = _payment(wire.decode(await messages.body(request)))
    if header is not None and key not in (None, header):
        raise HTTPException(400, "Idempotency-Key and IdempotencyKey should be the same")
    outcome = await request.app.state.payments.outcome((buyer, seller, amount, key if header is None else header))
    return _answer(outcome, outcome) if isinstance(outcome, str) else errors.refused(*outcome)


def repeatable(payment: Payment) -> bool:
    """Whether it may be asked for again where nobody knows whether it was made: only its key can tell."""
    return payment[3] is not None


def is_made(outcome: Outcome) -> bool:
    """Whether it is a payment, made now or before, and not a refusal."""
    return isinstance(outcome, str)


def _payment(fields: wire.Fields) -> Payment:
    return (
        fields.integer("BuyerAccountID"),
        fields.integer("SellerAccountID"),
        fields.decimal("Amount"),
        fields.text("IdempotencyKey"),
    )


def _key(request: Request) -> str | None:
    """The key in the request's head, if any. Refuses more than one, and one that is not UTF-8."""
    values = [value for name, value in request.scope["headers"] if name == _KEY_HEADER]
    if len(values) > 1:
        raise HTTPException(400, "Idempotency-Key should be given once")
    try:
        return values[0].strip(b" \t").decode() if values else None
    except UnicodeDecodeError:
        raise HTTPException(400, "Idempotency-Key should be valid UTF-8") from None


def _answer(json: str, *made: Outcome) -> messages.Answer:
    """An answer; it says so if all payments made that it tells of were made before."""
    answer = messages.Answer(json)
    if made and all(isinstance(outcome, Replayed) for outcome in made):
        answer.raw_headers.append(_REPLAYED)
    return answer


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
        if _key(request) is not None:
            raise HTTPException(400, "Each payment of a batch has a key of its own, its field IdempotencyKey")
        fields = wire.decode(await messages.body(request, BATCH_LIMIT))
        asked = [_payment_or_error(item) for item in fields.array("Payments", MOST_PAYMENTS)]
        atomic = fields.boolean("Atomic") or False
        unreadable = [index for index, item in enumerate(asked) if isinstance(item, str)]
        if atomic and unreadable:
            return errors.answer(400, str(asked[unreadable[0]]), index=unreadable[0])
        payments = [item for item in asked if not isinstance(item, str)]
        make = maker(request.app.state.database, atomic=atomic)
        outcomes = await repeated(make, payments, errors.judge) if payments else []
        rest = iter(outcomes)
        results = [wire.encode({"Error": item}) if isinstance(item, str) else _result(next(rest)) for item in asked]
        made = [outcome for outcome in outcomes if isinstance(outcome, str)]
        return _answer(f'{{"Results":[{",".join(results)}]}}', *made)


def _payment_or_error(item: object) -> Payment | str:
    if not isinstance(item, wire.Fields):
        return "A payment should be a JSON object"
    try:
        return _payment(item)
    except HTTPException as error:
        return error.detail


def _result(outcome: Outcome) -> str:
    return outcome if isinstance(outcome, str) else wire.encode({"Error": outcome[1]})
