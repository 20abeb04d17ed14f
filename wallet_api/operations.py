"""All operations of the wallet, over HTTP."""

from wallet_api import docs, payments, probes
from wallet_api.answers import Listing, One, Place
from wallet_api.fields import AMOUNT, INTEGER, TEXT, Field, Shape
from wallet_api.operation import Operation

_ID = Field("id", INTEGER, "account_id", "the number of the account", 1, required=True)

_ACCOUNT = Shape("Account", ("id", "name", "currency_id", "currency_name", "amount"))
_LISTED_PAYMENT = Shape(
    "ListedPayment",
    ("id", "currency_id", "currency_name", "amount", "buyer_account_id", "seller_account_id", "operation_timestamp"),
)

ALL = (
    Operation(
        name="listAccounts",
        group="Accounts",
        method="GET",
        path="/accounts",
        summary="Lists all accounts, by their numbers",
        function="list_accounts",
        answers=Listing("Accounts", _ACCOUNT),
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
        function="create_account",
        answers=Place("/account/"),
    ),
    Operation(
        name="getAccount",
        group="Accounts",
        method="GET",
        path="/account/{id}",
        summary="One account, with its balance now",
        in_path=(_ID,),
        function="get_account",
        answers=One(_ACCOUNT),
    ),
    Operation(
        name="listPayments",
        group="Payments",
        method="GET",
        path=payments.PATH,
        summary="Lists all payments, oldest first",
        function="list_payments",
        answers=Listing("Payments", _LISTED_PAYMENT),
    ),
    *payments.OPERATIONS,
    *probes.OPERATIONS,
    *docs.OPERATIONS,
)
