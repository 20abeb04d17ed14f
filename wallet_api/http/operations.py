"""All operations of the wallet, over HTTP."""

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
    {"amount": "its balance", "name": "the name that no other account has"},
)
_LISTED_PAYMENT = Shape("ListedPayment", _STORED, (*_TERMS, *_LINKS))
_FOUND_PAYMENT = Shape("FoundPayment", _STORED, (*_TERMS, *_LINKS, "refunded_amount"))
_REFUND = Shape("Refund", payments.MADE.always, (*_TERMS, "refunded_payment_id"))
_CAPTURE = Shape("Capture", payments.MADE.always, (*_TERMS, "hold_id"))
_LINE = Shape(
    "Line",
    ("payment_id", "counterparty_account_id", "counterparty_name", "amount", "balance", "operation_timestamp"),
    (*_TERMS, *_LINKS),
    {"amount": "how much it changed the balance: below zero where the account paid"},
)
_HOLD = Shape(
    "Hold",
    (*payments.MADE.always, "expires_at", "status"),
    ("payment_id", "captured_amount", *_TERMS),
    {
        "status": "open, captured, voided or expired",
        "payment_id": "the payment that was made from it",
        "operation_timestamp": "when it was created, in UTC",
    },
)
_CURRENCY = Shape("Currency", ("id", "name", "scale"))

_ACCOUNT_ID = Field("id", INTEGER, "account_id", "the number of the account", 1, required=True)
_PAYMENT_ID = Field("id", INTEGER, "payment_id", "the number of the payment", 1, required=True)
_HOLD_ID = Field("id", INTEGER, "hold_id", "the number of the hold", 1, required=True)

# A list's first two, in the order in which Database.pages wants them.
_PAGE = (
    Field("after", INTEGER, "after_id", "what comes after the one with this number"),
    Field("limit", INTEGER, "limit", "a page of at most so many; without it, all", 100),
)
_DETAILS = Field("details", BOOLEAN, "", "whether to tell Status, Held, Available and CreditLimit too")
_CURRENCY_FILTER = Field("currency", TEXT, "currency", "of this currency: its number or its name")
_FROM = Field("from", MOMENT, "from", "from this moment on")
_TO = Field("to", MOMENT, "to", "before this moment")

_LISTS = (
    "With `limit`, it is a page, and the header `Link` says where the next one is. Without it, the list is written "
    "while it is read, all of one moment, however long it is; one that cannot be finished is cut off."
)

_ACCOUNTS = (
    Operation(
        name="listAccounts",
        group="Accounts",
        method="GET",
        path="/accounts",
        summary="Lists accounts, by their numbers",
        about=_LISTS,
        query=(
            *_PAGE,
            Field("name", TEXT, "name", "the one with this name"),
            Field("name_prefix", TEXT, "name_prefix", "those whose names begin with this"),
            _CURRENCY_FILTER,
            Field("status", TEXT, "status", "those that are active, frozen or closed"),
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
            Field("Name", TEXT, "name", "a name that no other account has", "buyer", required=True),
            Field("Amount", AMOUNT, "amount", "what it has to begin with; 0 if it is left out", "1000"),
            Field("CurrencyID", INTEGER, "currency_id", "the number of its currency", 1, required=True),
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
        summary="One account, with its balance now, or at a moment",
        about="At a moment, the Amount is the balance after the last payment until then; there are no details.",
        in_path=(_ACCOUNT_ID,),
        query=(Field("at", MOMENT, "at", "the moment; now, if it is left out"), _DETAILS),
        function="get_account",
        answers=One(_ACCOUNT, _BRIEF_ACCOUNT),
    ),
    Operation(
        name="getStatement",
        group="Accounts",
        method="GET",
        path="/account/{id}/statement",
        summary="What moved an account's balance, line by line",
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
        summary="Freezes an account, closes it, or makes it active again",
        about="A frozen account can be paid, but pays nothing. A closed one does neither.",
        in_path=(_ACCOUNT_ID,),
        body=(Field("Status", TEXT, "status", "what it is to be", "active", required=True),),
        function="set_account_status",
        answers=One(_ACCOUNT),
    ),
    Operation(
        name="setCreditLimit",
        group="Accounts",
        method="POST",
        path="/account/{id}/credit-limit",
        summary="Lets an account's balance go below zero, or no more",
        in_path=(_ACCOUNT_ID,),
        body=(Field("Amount", AMOUNT, "amount", "how far below zero it may go", "100", required=True),),
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
        about=f"{_LISTS} Where it takes long to find payments, a page ends with fewer than its limit, perhaps with "
        "none, and there is a next one nevertheless.",
        query=(
            *_PAGE,
            Field("account", INTEGER, "account_id", "those of this account, which pays or is paid"),
            Field("buyer", INTEGER, "buyer_account_id", "those that this account paid"),
            Field("seller", INTEGER, "seller_account_id", "those that this account was paid"),
            _CURRENCY_FILTER,
            _FROM,
            _TO,
            Field("min", AMOUNT, "min", "of this amount or more"),
            Field("max", AMOUNT, "max", "of this amount or less"),
            Field("reference", TEXT, "reference", "those with this reference"),
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
        summary="One payment, and how much of it has been given back",
        in_path=(_PAYMENT_ID,),
        function="get_payment",
        answers=One(_FOUND_PAYMENT),
    ),
    Operation(
        name="refundPayment",
        group="Payments",
        method="POST",
        path="/payment/{id}/refund",
        summary="Gives a payment back, in all or in part",
        about="That is a payment from its seller to its buyer.",
        in_path=(_PAYMENT_ID,),
        body=(
            Field("Amount", AMOUNT, "amount", "how much; all that is left of the payment, if it is left out", "0.1"),
            *payments.TERMS,
        ),
        function="refund_payment",
        answers=One(_REFUND, pays=True),
    ),
)

_HOLDS = (
    Operation(
        name="createHold",
        group="Holds",
        method="POST",
        path="/holds",
        summary="Holds an amount for a payment to come",
        about="Nothing else can be paid with it, until it is captured, voided, or expires.",
        body=(
            *payments.PARTIES,
            payments.AMOUNT_PAID,
            Field(
                "ExpiresIn",
                INTEGER,
                "expires_in",
                "after how many seconds it ends by itself; a week, if it is left out",
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
        summary="One hold, and what became of it",
        in_path=(_HOLD_ID,),
        function="get_hold",
        answers=One(_HOLD),
    ),
    Operation(
        name="captureHold",
        group="Holds",
        method="POST",
        path="/hold/{id}/capture",
        summary="Makes the payment that was held for, of all of it or of a part",
        about="The rest can be paid with again.",
        in_path=(_HOLD_ID,),
        body=(Field("Amount", AMOUNT, "amount", "how much; all of it, if it is left out", "0.1"),),
        function="capture_hold",
        answers=One(_CAPTURE, pays=True),
    ),
    Operation(
        name="voidHold",
        group="Holds",
        method="POST",
        path="/hold/{id}/void",
        summary="Gives a hold up: no payment is made",
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
        summary="Lists all currencies, by their numbers",
        function="list_currencies",
        answers=Few("Currencies", _CURRENCY),
    ),
    Operation(
        name="createCurrency",
        group="Currencies",
        method="POST",
        path="/currencies",
        summary="Creates a currency, for good",
        body=(
            Field("Name", TEXT, "name", "a name that no other currency has", "EUR", required=True),
            Field("Scale", INTEGER, "scale", "how many decimals its amounts may have", 2, required=True),
        ),
        function="create_currency",
        answers=One(_CURRENCY),
    ),
)

ALL = (*_ACCOUNTS, *_PAYMENTS, *_HOLDS, *_CURRENCIES, *probes.OPERATIONS, *documents.OPERATIONS)
