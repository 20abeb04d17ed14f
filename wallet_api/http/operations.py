"""All HTTP operations of the wallet."""

from wallet_api.http import documents, payments, probes
from wallet_api.http.answers import Few, Listing, One, Place, Statement
from wallet_api.http.fields import AMOUNT, BOOLEAN, INTEGER, MOMENT, TEXT, Field, Shape
from wallet_api.http.operation import Operation

_STORED = (
    "id",
    "currency_id",
    "currency_name",
    "amount",
    "buyer_account_id",
    "seller_account_id",
    "operation_timestamp",
)
_LINKS = ("refunded_payment_id", "hold_id")
_TERMS = ("description", "reference")

_BRIEF_ACCOUNT = Shape("Account", ("id", "name", "currency_id", "currency_name", "amount"))
_ACCOUNT = Shape(
    "Account",
    _BRIEF_ACCOUNT.always,
    ("status", "held", "available", "credit_limit"),
    {"amount": "the balance", "name": "the name, unique among accounts"},
)
_LISTED_PAYMENT = Shape("ListedPayment", _STORED, (*_TERMS, *_LINKS))
_FOUND_PAYMENT = Shape("FoundPayment", _STORED, (*_TERMS, *_LINKS, "refunded_amount"))
_REFUND = Shape("Refund", payments.MADE.always, (*_TERMS, "refunded_payment_id"))
_CAPTURE = Shape("Capture", payments.MADE.always, (*_TERMS, "hold_id"))
_LINE = Shape(
    "Line",
    ("payment_id", "counterparty_account_id", "counterparty_name", "amount", "balance", "operation_timestamp"),
    (*_TERMS, *_LINKS),
    {"amount": "the change of the balance, negative if the account paid"},
)
_HOLD = Shape(
    "Hold",
    (*payments.MADE.always, "expires_at", "status"),
    ("payment_id", "captured_amount", *_TERMS),
    {
        "status": "open, captured, voided or expired",
        "payment_id": "the payment that captured the hold",
        "operation_timestamp": "when the hold was created, in UTC",
    },
)
_CURRENCY = Shape("Currency", ("id", "name", "scale"))

_ACCOUNT_ID = Field("id", INTEGER, "account_id", "the ID of the account", 1, required=True)
_PAYMENT_ID = Field("id", INTEGER, "payment_id", "the ID of the payment", 1, required=True)
_HOLD_ID = Field("id", INTEGER, "hold_id", "the ID of the hold", 1, required=True)

# The first two parameters of every list, in the order that Database.pages expects.
_PAGE = (
    Field("after", INTEGER, "after_id", "only rows after the one with this ID"),
    Field("limit", INTEGER, "limit", "the size of a page; without it, the whole list", 100),
)
_DETAILS = Field("details", BOOLEAN, "", "whether to include Status, Held, Available and CreditLimit")
_CURRENCY_FILTER = Field("currency", TEXT, "currency", "only this currency: its ID or its name")
_FROM = Field("from", MOMENT, "from", "at or after this time")
_TO = Field("to", MOMENT, "to", "before this time")

_LISTS = (
    "With `limit`, the response is one page, and the header `Link` has the URL of the next one. Without `limit`, the "
    "whole list is streamed from one snapshot. If it cannot be completed, the connection is broken off."
)

_ACCOUNTS = (
    Operation(
        name="listAccounts",
        group="Accounts",
        method="GET",
        path="/accounts",
        summary="Lists accounts, by ID",
        about=_LISTS,
        query=(
            *_PAGE,
            Field("name", TEXT, "name", "only the account with this name"),
            Field("name_prefix", TEXT, "name_prefix", "only accounts whose name starts with this"),
            _CURRENCY_FILTER,
            Field("status", TEXT, "status", "only accounts with this status: active, frozen or closed"),
            _DETAILS,
        ),
        function="list_accounts",
        answers=Listing("Accounts", _ACCOUNT, _BRIEF_ACCOUNT),
    ),
    Operation(
        name="createAccount",
        group="Accounts",
        method="POST",
        path="/accounts",
        summary="Creates an account",
        body=(
            Field("Name", TEXT, "name", "the name, unique among accounts", "buyer", required=True),
            Field("Amount", AMOUNT, "amount", "the opening balance, 0 by default", "1000"),
            Field("CurrencyID", INTEGER, "currency_id", "the ID of the currency", 1, required=True),
        ),
        ignored=("ID", "CurrencyName"),
        function="create_account",
        answers=Place("/account/"),
    ),
    Operation(
        name="getAccount",
        group="Accounts",
        method="GET",
        path="/account/{id}",
        summary="Returns an account with its current or a past balance",
        about="With `at`, Amount is the balance after the last payment up to that time, and `details` has no effect.",
        in_path=(_ACCOUNT_ID,),
        query=(Field("at", MOMENT, "at", "the time of the balance, now by default"), _DETAILS),
        function="get_account",
        answers=One(_ACCOUNT, _BRIEF_ACCOUNT),
    ),
    Operation(
        name="getStatement",
        group="Accounts",
        method="GET",
        path="/account/{id}/statement",
        summary="Lists the changes of an account's balance, oldest first",
        about=_LISTS,
        in_path=(_ACCOUNT_ID,),
        query=(*_PAGE, _FROM, _TO),
        function="get_statement",
        answers=Statement("Lines", _LINE),
    ),
    Operation(
        name="setAccountStatus",
        group="Accounts",
        method="POST",
        path="/account/{id}/status",
        summary="Freezes, closes or reactivates an account",
        about="A frozen account receives payments, but makes none. A closed account does neither.",
        in_path=(_ACCOUNT_ID,),
        body=(Field("Status", TEXT, "status", "the new status", "active", required=True),),
        function="set_account_status",
        answers=One(_ACCOUNT),
    ),
    Operation(
        name="setCreditLimit",
        group="Accounts",
        method="POST",
        path="/account/{id}/credit-limit",
        summary="Sets how far below zero an account's balance may go",
        in_path=(_ACCOUNT_ID,),
        body=(Field("Amount", AMOUNT, "amount", "the new credit limit, 0 for none", "100", required=True),),
        function="set_credit_limit",
        answers=One(_ACCOUNT),
    ),
)

_PAYMENTS = (
    Operation(
        name="listPayments",
        group="Payments",
        method="GET",
        path=payments.PATH,
        summary="Lists payments, oldest first",
        about=f"{_LISTS} If a filter matches few payments, a page may have fewer than `limit`, even none, and still "
        "have a next page.",
        query=(
            *_PAGE,
            Field("account", INTEGER, "account_id", "only payments from or to this account"),
            Field("buyer", INTEGER, "buyer_account_id", "only payments from this account"),
            Field("seller", INTEGER, "seller_account_id", "only payments to this account"),
            _CURRENCY_FILTER,
            _FROM,
            _TO,
            Field("min", AMOUNT, "min", "only this amount or more"),
            Field("max", AMOUNT, "max", "only this amount or less"),
            Field("reference", TEXT, "reference", "only payments with this reference"),
        ),
        function="list_payments",
        answers=Listing("Payments", _LISTED_PAYMENT),
    ),
    *payments.OPERATIONS,
    Operation(
        name="getPayment",
        group="Payments",
        method="GET",
        path="/payment/{id}",
        summary="Returns a payment and how much of it has been refunded",
        in_path=(_PAYMENT_ID,),
        function="get_payment",
        answers=One(_FOUND_PAYMENT),
    ),
    Operation(
        name="refundPayment",
        group="Payments",
        method="POST",
        path="/payment/{id}/refund",
        summary="Refunds a payment, fully or partly",
        about="A refund is a payment from the seller to the buyer.",
        in_path=(_PAYMENT_ID,),
        body=(
            Field("Amount", AMOUNT, "amount", "the amount, all that has not been refunded by default", "0.1"),
            *payments.TERMS,
        ),
        function="refund_payment",
        # The original payment has two accounts of one currency; refusals of the accounts have codes of a refund.
        impossible=frozenset({"WB001", "WB004", "WB005", "WB006", "WB007", "WB010", "WB014", "WB015"}),
        answers=One(_REFUND, pays=True),
    ),
)

_HOLDS = (
    Operation(
        name="createHold",
        group="Holds",
        method="POST",
        path="/holds",
        summary="Creates a hold: reserves an amount for a later payment",
        about="The buyer cannot spend the amount until the hold is captured, voided or expired.",
        body=(
            *payments.PARTIES,
            payments.AMOUNT_PAID,
            Field(
                "ExpiresIn",
                INTEGER,
                "expires_in",
                "seconds until the hold expires, a week by default",
                3600,
                defaults=True,
            ),
            *payments.TERMS,
        ),
        function="create_hold",
        answers=One(_HOLD),
    ),
    Operation(
        name="getHold",
        group="Holds",
        method="GET",
        path="/hold/{id}",
        summary="Returns a hold and its status",
        in_path=(_HOLD_ID,),
        function="get_hold",
        answers=One(_HOLD),
    ),
    Operation(
        name="captureHold",
        group="Holds",
        method="POST",
        path="/hold/{id}/capture",
        summary="Captures a hold: pays its amount, fully or partly",
        about="The rest is released.",
        in_path=(_HOLD_ID,),
        body=(Field("Amount", AMOUNT, "amount", "the amount, all of the hold by default", "0.1"),),
        function="capture_hold",
        # The hold was checked for these.
        impossible=frozenset({"WB001", "WB004", "WB005", "WB016", "WB017"}),
        answers=One(_CAPTURE, pays=True),
    ),
    Operation(
        name="voidHold",
        group="Holds",
        method="POST",
        path="/hold/{id}/void",
        summary="Voids a hold: releases its amount without a payment",
        in_path=(_HOLD_ID,),
        body=(),
        function="void_hold",
        answers=One(_HOLD),
    ),
)

_CURRENCIES = (
    Operation(
        name="listCurrencies",
        group="Currencies",
        method="GET",
        path="/currencies",
        summary="Lists all currencies, by ID",
        function="list_currencies",
        answers=Few("Currencies", _CURRENCY),
    ),
    Operation(
        name="createCurrency",
        group="Currencies",
        method="POST",
        path="/currencies",
        summary="Creates a currency",
        about="A currency cannot be changed or deleted.",
        body=(
            Field("Name", TEXT, "name", "the name, unique among currencies", "EUR", required=True),
            Field("Scale", INTEGER, "scale", "the number of decimals that amounts may have", 2, required=True),
        ),
        function="create_currency",
        answers=One(_CURRENCY),
    ),
)

ALL = (*_ACCOUNTS, *_PAYMENTS, *_HOLDS, *_CURRENCIES, *probes.OPERATIONS, *documents.OPERATIONS)
