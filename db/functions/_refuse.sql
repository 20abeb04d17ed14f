-- wallet._refusals(), wallet._refuse(p_code, p_argument)
--
-- The registry of all refusals, and the one place that raises them. list_refusals() shows the registry, and
-- docs/errors.md is made from it.
--
-- The class of a code, its first two characters, says what kind of refusal it is. The HTTP layer knows only the class:
--
--   WA  no valid API key                            WF  the API key does not allow it
--   WB  the request cannot be granted               WN  there is no such thing
--   WC  taken, or the present state forbids it      WK  the idempotency key belongs to another request
--
-- The argument is the one that is to blame, named without its p_. It is NULL where no single argument is.
--
-- A new rule needs an entry here, the condition where it belongs, and a test that raises it.

create or replace function wallet._refusals()
    returns jsonb
    language sql immutable
as $$
    select $registry${
    "WA001": {"message": "API key is not valid", "argument": null,
        "cause": "No key has this secret, or the key is revoked or expired.",
        "cure": "Send the secret of a valid key. list_api_keys() shows the keys, create_api_key() makes one."},
    "WB001": {"message": "Could not make payment to self", "argument": "seller_account_id",
        "cause": "The buyer and the seller are the same account.",
        "cure": "Name two accounts."},
    "WB002": {"message": "Amount should be positive", "argument": "amount",
        "cause": "The amount is zero, below zero, or missing.",
        "cure": "Send an amount above zero."},
    "WB003": {"message": "Amount should be a number of at most 15 integer digits and 15 decimals", "argument": "amount",
        "cause": "The amount is not a number, is infinite, or has too many digits. Amounts are never rounded.",
        "cure": "Round the amount yourself, and send decimal digits."},
    "WB004": {"message": "Account not found", "argument": "buyer_account_id",
        "cause": "The account of the buyer or of the seller is missing or does not exist. The field says which.",
        "cure": "Look the account up by its name, or create it."},
    "WB005": {"message": "Payment allowed only when account currencies match", "argument": null,
        "cause": "The two accounts have different currencies. The wallet does not exchange currencies.",
        "cure": "Pay between two accounts of one currency."},
    "WB006": {"message": "Buyer account does not have sufficient balance", "argument": null,
        "cause": "The balance of the buyer, plus the credit limit, minus what is held, is less than the amount.",
        "cure": "Pay less, pay in first, or raise the credit limit."},
    "WB007": {"message": "Seller account balance would have more than 15 integer digits", "argument": null,
        "cause": "The balance of the seller would be 1,000,000,000,000,000 or more.",
        "cure": "Pay to another account."},
    "WB008": {"message": "Idempotency key should have 1 to 255 characters", "argument": "idempotency_key",
        "cause": "The idempotency key is empty or too long.",
        "cure": "Use a random key for each request, a UUID for example."},
    "WB009": {"message": "Amount should have no more decimals than its currency has", "argument": "amount",
        "cause": "The scale of the currency allows fewer decimals.",
        "cure": "Round the amount yourself. list_currencies() shows the scales."},
    "WB010": {"message": "Buyer account is frozen", "argument": "buyer_account_id",
        "cause": "A frozen account receives payments and makes none.",
        "cure": "Make the account active: set_account_status()."},
    "WB011": {"message": "Name should have 1 to 255 characters", "argument": "name",
        "cause": "The name of the account is missing, empty or too long.",
        "cure": "Send a name of 1 to 255 characters."},
    "WB012": {"message": "Amount should not be negative", "argument": "amount",
        "cause": "An opening balance or a credit limit is below zero.",
        "cure": "Send zero or more."},
    "WB013": {"message": "Currency not found", "argument": "currency_id",
        "cause": "The currency is missing or does not exist.",
        "cure": "list_currencies() shows the currencies, create_currency() makes one."},
    "WB014": {"message": "Buyer account is closed", "argument": "buyer_account_id",
        "cause": "A closed account makes and receives no payments.",
        "cure": "Make the account active: set_account_status()."},
    "WB015": {"message": "Seller account is closed", "argument": "seller_account_id",
        "cause": "A closed account makes and receives no payments.",
        "cure": "Make the account active: set_account_status()."},
    "WB016": {"message": "Description should have 1 to 255 characters", "argument": "description",
        "cause": "The description is empty or too long.",
        "cure": "Shorten it, or leave it out."},
    "WB017": {"message": "Reference should have 1 to 255 characters", "argument": "reference",
        "cause": "The reference is empty or too long.",
        "cure": "Shorten it, or leave it out."},
    "WB018": {"message": "Name should have a visible character, and no control or format characters", "argument": "name",
        "cause": "The name is blank, or holds characters that show nothing or do something to a terminal.",
        "cure": "Remove line breaks, zero-width characters and direction marks from the name."},
    "WB021": {"message": "Refunds should not exceed the payment", "argument": "amount",
        "cause": "Less than this amount of the payment is left to refund, or nothing is.",
        "cure": "get_payment() shows how much has been refunded."},
    "WB022": {"message": "A refund cannot be refunded", "argument": "payment_id",
        "cause": "The payment is a refund itself.",
        "cure": "Make a new payment."},
    "WB023": {"message": "Seller account does not have sufficient balance for this refund", "argument": null,
        "cause": "The seller of the payment pays the refund. Its balance, plus its credit limit, minus what is held, is less than the amount.",
        "cure": "Refund less, pay in to the seller's account first, or raise its credit limit."},
    "WB024": {"message": "Seller account is frozen and cannot refund", "argument": null,
        "cause": "The seller of the payment pays the refund, and a frozen account makes no payments.",
        "cure": "Make the account active: set_account_status()."},
    "WB025": {"message": "Seller account is closed and cannot refund", "argument": null,
        "cause": "The seller of the payment pays the refund, and a closed account makes no payments.",
        "cure": "Make the account active: set_account_status()."},
    "WB026": {"message": "Buyer account is closed and cannot be refunded", "argument": null,
        "cause": "The buyer of the payment receives the refund, and a closed account receives no payments.",
        "cure": "Make the account active: set_account_status()."},
    "WB027": {"message": "Buyer account balance would have more than 15 integer digits", "argument": null,
        "cause": "The balance of the buyer of the payment would be 1,000,000,000,000,000 or more.",
        "cure": "Refund less."},
    "WB031": {"message": "ExpiresIn should be 1 to 31536000 seconds", "argument": "expires_in",
        "cause": "The time is zero, below zero, missing, or more than a year.",
        "cure": "Send 1 to 31536000 seconds."},
    "WB032": {"message": "Amount should not exceed the hold", "argument": "amount",
        "cause": "A capture pays at most the amount that is held.",
        "cure": "Capture less, and pay the rest with a payment."},
    "WB041": {"message": "Status should be active, frozen or closed", "argument": "status",
        "cause": "There is no such status.",
        "cure": "Send one of the three."},
    "WB051": {"message": "Name should have 1 to 16 characters", "argument": "name",
        "cause": "The name of the currency is missing, empty or too long.",
        "cure": "Send a name of 1 to 16 characters."},
    "WB052": {"message": "Scale should be 0 to 15", "argument": "scale",
        "cause": "The scale is the number of decimals that amounts of the currency may have.",
        "cure": "Send 0 to 15."},
    "WB061": {"message": "Limit should be 1 to 1000", "argument": "limit",
        "cause": "A page has 1 to 1000 rows.",
        "cure": "Send 1 to 1000, or leave the limit out for the whole list."},
    "WB062": {"message": "Min and max should be amounts", "argument": null,
        "cause": "One of the two is not a number, or has too many digits.",
        "cure": "Send amounts of at most 15 integer digits and 15 decimals."},
    "WB071": {"message": "Name should have 1 to 64 characters", "argument": "name",
        "cause": "The name of the API key is missing, empty or too long.",
        "cure": "Send a name of 1 to 64 characters."},
    "WB072": {"message": "Scopes should be some of read, pay and admin", "argument": "scopes",
        "cause": "There is no such scope, or none is named.",
        "cure": "Name one to three of the scopes."},
    "WB073": {"message": "Accounts should be 1 to 100 that exist, each once", "argument": "account_ids",
        "cause": "An account does not exist or is named twice, or there are none or too many.",
        "cure": "Name 1 to 100 accounts, or leave them out for all accounts."},
    "WB074": {"message": "Expiry should be in the future", "argument": "expires_at",
        "cause": "The key would be of no use.",
        "cure": "Send a later moment, or leave it out for a key that does not expire."},
    "WC011": {"message": "Account name already exists", "argument": "name",
        "cause": "Another account has this name.",
        "cure": "Choose another name. list_accounts(p_name => …) shows the account that has it."},
    "WC031": {"message": "Hold was captured already", "argument": "hold_id",
        "cause": "A hold ends once, and its payment was made.",
        "cure": "get_hold() shows the payment."},
    "WC032": {"message": "Hold was voided already", "argument": "hold_id",
        "cause": "A hold ends once, and this one was voided.",
        "cure": "Make a new hold or a payment."},
    "WC033": {"message": "Hold has expired", "argument": "hold_id",
        "cause": "The time of the hold is over, and its amount is free again.",
        "cure": "Make a new hold or a payment."},
    "WC041": {"message": "Account should have a balance of 0 to be closed", "argument": null,
        "cause": "There is money on the account, or it is overdrawn.",
        "cure": "Pay the balance out or in first."},
    "WC042": {"message": "Account should have nothing held to be closed", "argument": null,
        "cause": "The account has open holds.",
        "cure": "Capture or void them first."},
    "WC043": {"message": "Credit limit should cover what is used of it", "argument": "amount",
        "cause": "The balance, or the balance minus what is held, is further below zero than the new limit allows.",
        "cure": "Choose a higher limit, or pay in first."},
    "WC051": {"message": "Currency name already exists", "argument": "name",
        "cause": "Another currency has this name.",
        "cure": "Choose another name. list_currencies() shows the currencies."},
    "WC071": {"message": "API key name already exists", "argument": "name",
        "cause": "Another API key has this name, perhaps a revoked one.",
        "cure": "Choose another name. list_api_keys() shows the keys."},
    "WF001": {"message": "API key does not have the scope for this", "argument": null,
        "cause": "The key lacks the scope read, pay or admin that the operation needs.",
        "cure": "Use a key that has the scope."},
    "WF002": {"message": "API key is bound to other accounts", "argument": null,
        "cause": "The key is bound to accounts, and the operation is for another account or for all.",
        "cure": "Use a key that is bound to the account, or to none."},
    "WK001": {"message": "Idempotency key belongs to another payment", "argument": "idempotency_key",
        "cause": "A payment with other content was made under the key before.",
        "cure": "Use a new key for each new payment. Repeat a request with its content unchanged."},
    "WK002": {"message": "Idempotency key belongs to another hold", "argument": "idempotency_key",
        "cause": "A hold with other content was made under the key before.",
        "cure": "Use a new key for each new hold. Repeat a request with its content unchanged."},
    "WK003": {"message": "Idempotency key belongs to another request", "argument": "idempotency_key",
        "cause": "A request with other content was made under the key before, by the same operation.",
        "cure": "Use a new key for each new request. Repeat a request with its content unchanged."},
    "WN001": {"message": "Account not found", "argument": "account_id",
        "cause": "There is no account with this ID.",
        "cure": "Look the account up by its name: list_accounts(p_name => …)."},
    "WN002": {"message": "Payment not found", "argument": "payment_id",
        "cause": "There is no payment with this ID, or it touches none of the accounts that the API key is bound to.",
        "cure": "list_payments() shows the payments."},
    "WN003": {"message": "Hold not found", "argument": "hold_id",
        "cause": "There is no hold with this ID, or it touches none of the accounts that the API key is bound to.",
        "cure": "Check the ID that create_hold() returned."},
    "WN004": {"message": "API key not found", "argument": "api_key_id",
        "cause": "There is no API key with this ID.",
        "cure": "list_api_keys() shows the keys."},
    "55P03": {"message": "An account is locked by somebody else", "argument": null,
        "cause": "Another transaction holds the account for longer than the lock timeout. Nothing was done.",
        "cure": "Try again. docs/operations.md shows how to find who holds it."}
    }$registry$::jsonb
$$;

comment on function wallet._refusals() is
    'The registry of refusals: by code (SQLSTATE), the message, the argument to blame (null: none), cause and cure.';

create or replace function wallet._refuse(p_code text, p_argument text default null)
    returns void
    language plpgsql
as $$
declare
    v_refusal constant jsonb := wallet._refusals() -> p_code;
begin
    raise exception using
        errcode = p_code,
        message = v_refusal ->> 'message',
        column = coalesce(p_argument, v_refusal ->> 'argument', '');
end
$$;

comment on function wallet._refuse(text, text) is
    'Raises the refusal with this code (SQLSTATE), and names the argument to blame as COLUMN: p_argument, or that of the '
    'registry.';
