"""Payments: one at a time, and those of others with it; and many at once."""

from collections import Counter
from collections.abc import Sequence
from decimal import Decimal

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from wallet_api import errors, messages, metrics, operation, wire
from wallet_api.answers import REPLAYED, REPLAYED_HEADER, Special, component, json
from wallet_api.authentication import key_id
from wallet_api.coalescing import Call, Coalescer, Full, repeated
from wallet_api.fields import AMOUNT, BOOLEAN, INTEGER, TEXT, Field, Shape, array_of, reader
from wallet_api.observing import Record, record_of
from wallet_api.operation import Operation
from wallet_api.pool import Database
from wallet_api.wire import Fields

PATH = "/payments"
BATCH_LIMIT = 4 * 1024 * 1024
MOST_PAYMENTS = 10_000

PARTIES = (
    Field("BuyerAccountID", INTEGER, "buyer_account_id", "the account that pays", 1, required=True),
    Field("SellerAccountID", INTEGER, "seller_account_id", "the account that is paid", 2, required=True),
)
AMOUNT_PAID = Field("Amount", AMOUNT, "amount", "how much, in their currency", "500.1", required=True)
TERMS = (
    Field("Description", TEXT, "description", "what it is for, to be read by people", "Two books"),
    Field(
        "Reference", TEXT, "reference", "what you know it by, an order perhaps; payments can be found by it", "order 17"
    ),
)
FIELDS = (*PARTIES, AMOUNT_PAID, *TERMS)
MADE = Shape(
    "Payment",
    ("id", "currency_id", "amount", "buyer_account_id", "seller_account_id", "operation_timestamp"),
    ("description", "reference"),
)

# A payment that is asked for: buyer, seller, amount, idempotency key, description, reference, API key.
Payment = tuple[int | None, int | None, Decimal | None, str | None, str | None, str | None, int | None]
_FIELDS = (*PARTIES, AMOUNT_PAID, operation.KEY, *TERMS)
_read = reader(_FIELDS)

_MAKE_PAYMENTS = f"""
    select {", ".join(MADE.columns)}, replayed, error_code, error
    from wallet.make_payments(
        p_buyer_account_ids => %s, p_seller_account_ids => %s, p_amounts => %s, p_idempotency_keys => %s,
        p_descriptions => %s, p_references => %s, p_api_key_ids => %s, p_atomic => %s, p_wait => %s, p_api_key_id => %s
    )"""  # noqa: S608


class Replayed(str):
    """A payment as a JSON object, which was made before, under the same idempotency key."""

    __slots__ = ()


# A payment as a JSON object, or the code and the words of its refusal.
Outcome = str | tuple[str, str]


def maker(
    database: Database,
    *,
    atomic: bool = False,
    wait: bool = True,
    api_key_id: int | None = None,
    record: Record | None = None,
) -> Call[Payment, Outcome]:
    """What makes payments in one call on this database; with an `api_key_id`, all for that one."""

    async def make(payments: Sequence[Payment]) -> list[Outcome]:
        buyers, sellers, amounts, *texts, api_key_ids = zip(*payments, strict=True)
        arrays: list[str | None] = [wire.array(column) for column in (buyers, sellers, amounts)]
        # most payments have none of what is text
        arrays += [None if column.count(None) == len(column) else wire.text_array(column) for column in texts]
        arrays.append(None if api_key_ids.count(None) == len(api_key_ids) else wire.array(api_key_ids))
        columns, values, _ = await database.call(_MAKE_PAYMENTS, [*arrays, atomic, wait, api_key_id], record)
        metrics.batch.observe(len(payments))
        # the last three columns: whether it was made before, the code and the words of a refusal
        made = iter(wire.Rows(columns[:-3], [row for row in values if row[-2] is None]).objects())
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
    payments: Coalescer[Payment, Outcome] = request.app.state.payments
    client = key_id(request.scope)
    if payments.is_full(client):
        raise Full  # before its body is looked at
    header = operation.header_key(request)
    asked = _read(wire.decode(await messages.body(request)).get)
    if header is not None:
        asked = (*asked[:3], operation.one_key(header, asked[3]), *asked[4:])
    record = record_of(request)
    record.outcome = "failed"
    outcome = await payments.outcome((*asked, client), client, record)
    record.outcome, record.code = _fate(outcome)
    if not isinstance(outcome, str):
        return errors.refused(*outcome)
    record.payment_id = outcome[len('{"ID":') : outcome.index(",")]
    return _answer(outcome, outcome)


def repeatable(payment: Payment) -> bool:
    """Whether it may be asked for again where nobody knows whether it was made: only its key can tell."""
    return payment[3] is not None


def is_made(outcome: Outcome) -> bool:
    """Whether it is a payment, made now or before, and not a refusal."""
    return isinstance(outcome, str)


def _fate(outcome: Outcome) -> metrics.Payment:
    """What became of a payment, and the code of its refusal."""
    if not isinstance(outcome, str):
        return "refused", outcome[0]
    return "replayed" if isinstance(outcome, Replayed) else "made", ""


def _answer(text: str, *made: Outcome) -> messages.Answer:
    """An answer; it says so if all payments made that it tells of were made before."""
    answer = messages.Answer(text)
    if made and all(isinstance(outcome, Replayed) for outcome in made):
        answer.raw_headers.append(REPLAYED)
    return answer


async def make_payments(request: Request) -> Response:
    """Makes many payments, each with its outcome; or, if they are atomic, all or none."""
    if operation.header_key(request) is not None:
        raise HTTPException(400, NO_KEY)
    listed, atomic = _read_batch(wire.decode(await messages.body(request, BATCH_LIMIT)).get)
    if listed is None:
        raise HTTPException(400, f"Payments {_PAYMENTS.wrong[0]}")
    asked = [_payment_or_error(item) for item in listed]
    unreadable = [index for index, item in enumerate(asked) if isinstance(item, str)]
    if atomic and unreadable:
        return errors.answer(400, str(asked[unreadable[0]]), index=unreadable[0])
    payments = [item for item in asked if not isinstance(item, str)]
    record = record_of(request)
    make = maker(operation.database(request), atomic=atomic or False, api_key_id=key_id(request.scope), record=record)
    record.outcome, record.batch = "failed", len(payments)  # as one, unless each has an outcome
    outcomes = await repeated(make, payments, errors.judge, errors.tell_repeated) if payments else []
    record.outcome = ""
    metrics.count_payments(Counter(map(_fate, outcomes)))
    rest = iter(outcomes)
    results = [wire.encode({"Error": item}) if isinstance(item, str) else _result(next(rest)) for item in asked]
    made = [outcome for outcome in outcomes if isinstance(outcome, str)]
    return _answer(f'{{"Results":[{",".join(results)}]}}', *made)


NO_KEY = "Each payment of a batch has a key of its own, its field IdempotencyKey"
NO_PAYMENT = "A payment should be a JSON object"


def _payment_or_error(item: object) -> Payment | str:
    if not isinstance(item, Fields):
        return NO_PAYMENT
    try:
        return (*_read(item.get), None)
    except HTTPException as error:
        return error.detail


def _result(outcome: Outcome) -> str:
    return outcome if isinstance(outcome, str) else wire.encode({"Error": outcome[1]})


_PAYMENTS = array_of(component("MakePaymentRequest"), MOST_PAYMENTS)
_EXAMPLE = {asked.name: asked.example for asked in (*PARTIES, AMOUNT_PAID)}
_BATCH = (
    Field("Payments", _PAYMENTS, "", "the payments, in the order in which they are made", [_EXAMPLE], required=True),
    Field("Atomic", BOOLEAN, "", "whether none is to be made if one is refused", True),
)
_read_batch = reader(_BATCH)


MAKE_PAYMENT = Operation(
    name="makePayment",
    group="Payments",
    method="POST",
    path=PATH,
    summary="Makes a payment",
    about="Payments that arrive at the same time share one transaction.",
    body=FIELDS,
    keyed=True,
    function="make_payments",
    answers=Special(make_payment, json(component(MADE.name)), (MADE,), REPLAYED_HEADER),
)

OPERATIONS = (
    MAKE_PAYMENT,
    Operation(
        name="makePayments",
        group="Payments",
        method="POST",
        path=f"{PATH}/batch",
        summary="Makes many payments, each with its outcome; or all or none",
        about="One after another, in order. One that is refused stops none of the others; but if they are atomic, then "
        "none is made, and the answer is the first refusal, with its Index, counted from 0. Each payment may have "
        "a key of its own, its field IdempotencyKey.",
        body=_BATCH,
        body_limit=BATCH_LIMIT,
        function="make_payments",
        refusals={
            400: (NO_KEY, NO_PAYMENT, *(f"{asked.name} {wrong}" for asked in _FIELDS for wrong in asked.kind.wrong))
        },
        error="BatchError",
        answers=Special(
            make_payments,
            json(
                {
                    "type": "object",
                    "properties": {
                        "Results": {"type": "array", "items": {"anyOf": [component(MADE.name), component("Error")]}}
                    },
                    "required": ["Results"],
                }
            ),
            (MADE,),
            REPLAYED_HEADER,
        ),
    ),
)
