"""Single payments, which the service batches, and batches that clients send."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from wallet_api.database.batching import Batcher, Call, Full, repeated
from wallet_api.database.pool import Database, Rows
from wallet_api.http import codec, errors, messages, refusals
from wallet_api.http.answers import REPLAYED
from wallet_api.http.authentication import KEY_ID
from wallet_api.http.codec import Fields
from wallet_api.http.fields import Reader
from wallet_api.http.operations import ALL, Operation, idempotency_key
from wallet_api.http.refusals import Error, Refused
from wallet_api.observability import metrics
from wallet_api.observability.record import Record, record_of

MAKE_PAYMENT = ALL["makePayment"]
_IN_BATCH = Reader(MAKE_PAYMENT.body or ())

# A requested payment: the fields of MAKE_PAYMENT in order, the last of them its idempotency key, then the API key.
Payment = tuple[Any, ...]

# How the columns after the amount are written as arrays.
_OPTIONS: list[Callable[..., str]] = [
    codec.text_array if field.type in ("text", "jsonb") else codec.array for field in (MAKE_PAYMENT.body or ())[3:]
]
_OPTIONS.append(codec.array)

_MAKE_PAYMENTS = f"""
    select {", ".join(MAKE_PAYMENT.columns)}, replayed, error_code, error, error_field
    from wallet.make_payments(
        p_buyer_account_ids => %s, p_seller_account_ids => %s, p_amounts => %s, p_descriptions => %s,
        p_references => %s, p_up_to => %s, p_metadata => %s, p_balances => %s, p_idempotency_keys => %s,
        p_api_key_ids => %s, p_atomic => %s, p_wait => %s, p_api_key_id => %s, p_idempotency_key => %s
    )"""  # noqa: S608


class Replayed(str):
    """A payment as a JSON object that an earlier request made under the same idempotency key."""

    __slots__ = ()


# A payment as a JSON object, or its refusal.
Outcome = str | Error


def maker(
    database: Database,
    *,
    atomic: bool = False,
    wait: bool = True,
    api_key_id: int | None = None,
    key: str | None = None,
    record: Record | None = None,
) -> Call[Payment, Outcome]:
    """A function that makes payments in one call. `api_key_id` and the idempotency `key` apply to the whole call.

    Without `wait`, the outcomes of payments with a locked account are `is_blocked`.
    """

    async def make(payments: Sequence[Payment]) -> list[Outcome]:
        buyers, sellers, amounts, *options = zip(*payments, strict=True) if payments else [()] * (3 + len(_OPTIONS))
        arrays: list[str | None] = [codec.array(column) for column in (buyers, sellers, amounts)]
        # NULL for a column without values: most payments have no options
        arrays += [
            None if column.count(None) == len(column) else write(column)
            for write, column in zip(_OPTIONS, options, strict=True)
        ]
        arguments = [*arrays, atomic, wait, api_key_id, key]
        columns, values, _ = await database.call(_MAKE_PAYMENTS, arguments, record, changes=True)
        metrics.batch.observe(len(payments))
        made = iter(codec.objects(Rows(columns[:-4], [row for row in values if row[-3] is None])))
        return [
            _refusal(*row[-4:]) if row[-3] is not None else Replayed(next(made)) if row[-4] else next(made)
            for row in values
        ]

    return make


def _refusal(replayed: str | None, code: str, sentence: str, argument: str | None) -> Error:
    status = 503 if code == errors.LOCKED else refusals.STATUS[code[:2]]
    field = MAKE_PAYMENT.argument_names.get(argument or "", "")
    return Error(status, code, sentence, field, replayed=bool(replayed))


async def make_payment(operation: Operation, request: Request) -> Response:
    """Makes a payment, batched with those of concurrent requests."""
    payments: Batcher[Payment, Outcome] = request.app.state.payments
    client = request.scope.get(KEY_ID)
    if payments.is_full(client):
        raise Full  # before the body is read
    *asked, field = operation.reader.read(codec.decode(await messages.body(request, operation.body_limit)))
    key = idempotency_key(request, field)
    record = record_of(request)
    record.outcome = "failed"
    outcome = await payments.submit((*asked, key, client), client, record)
    record.outcome, record.code = _fate(outcome)
    if isinstance(outcome, Error):
        return errors.answer(request.scope, outcome)
    record.payment_id = outcome[len('{"ID":') : outcome.index(",")]
    return messages.Answer(outcome, REPLAYED) if isinstance(outcome, Replayed) else messages.Answer(outcome)


def repeatable(payment: Payment) -> bool:
    """Whether a payment with an unknown outcome can be retried: only one with an idempotency key."""
    return payment[-2] is not None


def is_blocked(outcome: Outcome) -> bool:
    """Whether an account of the payment is locked, and the call does not wait."""
    return isinstance(outcome, Error) and outcome.code == errors.LOCKED


def is_made(outcome: Outcome) -> bool:
    """Whether an outcome is a payment, new or replayed, and not a refusal."""
    return isinstance(outcome, str)


def _fate(outcome: Outcome) -> metrics.Payment:
    """A payment's outcome for the metrics, and the code of its refusal."""
    if isinstance(outcome, Error):
        return "refused", outcome.code
    return "replayed" if isinstance(outcome, Replayed) else "made", ""


async def make_payments(operation: Operation, request: Request) -> Response:
    """Makes many payments, each with its own outcome; if the batch is atomic, all or none."""
    request.scope[errors.FIELD_NAMES] = MAKE_PAYMENT.argument_names
    listed, atomic, key = (await operation.read(request)).values()
    if listed is None:
        raise Refused(refusals.NOT_AN_ARRAY, "Payments")
    asked = [_payment_or_error(item) for item in listed]
    unreadable = [(index, item) for index, item in enumerate(asked) if isinstance(item, Error)]
    # The database does not see malformed payments, so it could not recognize the batch under a key.
    if unreadable and (atomic or key is not None):
        index, error = unreadable[0]
        return errors.answer(request.scope, replace(error, index=index))
    payments = [item for item in asked if not isinstance(item, Error)]
    record = record_of(request)
    client = request.scope.get(KEY_ID)
    make = maker(request.app.state.database, atomic=atomic or False, api_key_id=client, key=key, record=record)
    record.outcome, record.batch = "failed", len(payments)  # counts as one failure if the call raises
    asks = payments or key is not None
    outcomes = await repeated(make, payments, errors.judge, errors.log_retry) if asks else []
    record.outcome = ""
    metrics.count_payments(Counter(map(_fate, outcomes)))
    rest = iter(outcomes)
    results = [_result(item if isinstance(item, Error) else next(rest)) for item in asked]
    # Replayed if the whole batch is, or if every payment in it that was not refused is.
    told = [
        isinstance(outcome, Replayed | Error) for outcome in outcomes if isinstance(outcome, str) or outcome.replayed
    ]
    headers = [REPLAYED] if told and all(told) else []
    return messages.Answer(f'{{"Results":[{",".join(results)}]}}', *headers)


def _payment_or_error(item: object) -> Payment | Error:
    try:
        if not isinstance(item, Fields):
            raise Refused(refusals.NOT_A_PAYMENT)
        return (*_IN_BATCH.read(item), None)
    except Refused as refused:
        return refused.error


def _result(outcome: Outcome) -> str:
    if isinstance(outcome, str):
        return outcome
    field = {"Field": outcome.field} if outcome.field else {}
    return codec.encode({"Error": outcome.sentence, "Code": outcome.code} | field)
