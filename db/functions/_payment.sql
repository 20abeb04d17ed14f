-- wallet._key_form_refusal(p_idempotency_key), wallet._request_refusal(…), wallet._payment_under(p_idempotency_key),
-- wallet._key_refusal(…), wallet._up_to(…), wallet._payment_refusal(…), wallet._parties_refusal(…),
-- wallet._party_to_blame(…), wallet._write_payment(…), wallet._balance_for(…), wallet._payment_row(…)
--
-- Shared by all functions that move money: the rules of a payment, and how a single payment is written. (make_payments
-- applies the same rules, and writes many payments in its own way.)
--
-- Returns: the code of the refusal, or NULL; the amount; the argument to blame; the payment; a balance
-- Locks:   nothing; for rules about accounts, and for writing, the caller has locked both accounts
-- Writes:  _write_payment: ledger.payment (one row), ledger.account (two balances)
-- Raises:  _write_payment: the idempotency key belongs to another payment

-- The rules of a payment, in the order in which they are checked. Each function returns the code of the first violated
-- rule, or NULL. "(…) is not true" contains what is allowed, and refuses everything else, NULL included.

-- WB028 comes first: a key that begins with U+001F, whatever its length, must not be looked up as it is.
create or replace function wallet._key_form_refusal(p_idempotency_key text)
    returns text
    language sql immutable
as $$
    select case
        when (p_idempotency_key is null or not starts_with(p_idempotency_key, chr(31))) is not true then 'WB028'
        when (p_idempotency_key is null or char_length(p_idempotency_key) between 1 and 255) is not true then 'WB008'
    end
$$;

comment on function wallet._key_form_refusal(text) is
    'The rules of an idempotency key as a client sends it: the code of the first violated rule, or NULL.';

-- Rules that need no account, and so no lock.
create or replace function wallet._request_refusal(
    p_buyer_account_id bigint,
    p_seller_account_id bigint,
    p_amount numeric,
    p_idempotency_key text,
    p_description text,
    p_reference text,
    p_metadata jsonb
)
    returns text
    language sql immutable
as $$
    select coalesce(wallet._key_form_refusal(p_idempotency_key), case
        when p_buyer_account_id = p_seller_account_id then 'WB001'
        when (p_amount > 0) is not true then 'WB002'
        when wallet._is_amount(p_amount) is not true then 'WB003'
        when (p_description is null or char_length(p_description) between 1 and 255) is not true then 'WB016'
        when (p_reference is null or char_length(p_reference) between 1 and 255) is not true then 'WB017'
        when (p_metadata is null or wallet._is_metadata(p_metadata)) is not true then 'WB020'
    end)
$$;

comment on function wallet._request_refusal(bigint, bigint, numeric, text, text, text, jsonb) is
    'The rules of a payment that need no account: the code of the first violated rule, or NULL.';

create or replace function wallet._payment_under(p_idempotency_key text)
    returns ledger.payment
    language plpgsql stable
as $$
declare
    v_payment ledger.payment;
begin
    if p_idempotency_key is not null then
        select payment.* into v_payment
        from ledger.payment as payment
        where payment.idempotency_key = p_idempotency_key;
    end if;
    return v_payment;
end
$$;

comment on function wallet._payment_under(text) is
    'The payment made under an idempotency key; all NULL if there is none.';

-- The rule for a key that was used before precedes all others: the same request gets the same answer, and a different
-- request under the key is a mistake of the caller.
create or replace function wallet._key_refusal(
    p_payment ledger.payment,
    p_buyer_account_id bigint,
    p_seller_account_id bigint,
    p_amount numeric,
    p_description text,
    p_reference text,
    p_refunded_payment_id bigint default null,
    p_hold_id bigint default null,
    p_up_to numeric default null,
    p_metadata jsonb default null
)
    returns text
    language sql immutable
as $$
    select case
        when (
            p_buyer_account_id = p_payment.buyer_account_id
            and p_seller_account_id = p_payment.seller_account_id
            and p_amount = coalesce(p_payment.up_to, p_payment.amount)
            and p_up_to is not distinct from p_payment.up_to
            and p_metadata is not distinct from p_payment.metadata
            and p_description is not distinct from p_payment.description
            and p_reference is not distinct from p_payment.reference
            and p_refunded_payment_id is not distinct from p_payment.refunded_payment_id
            and p_hold_id is not distinct from p_payment.hold_id
        ) is not true then 'WK001'
    end
$$;

comment on function wallet._key_refusal(
    ledger.payment, bigint, bigint, numeric, text, text, bigint, bigint, numeric, jsonb
) is
    'Checks that the payment made under a key is the one requested now: the code of the refusal, or NULL. p_up_to is the '
    'amount again if the request is for what is available, otherwise NULL.';

-- Nothing available is refused like any other amount above it, and so is an amount with too many decimals.
create or replace function wallet._up_to(p_amount numeric, p_currency_scale smallint, p_available numeric)
    returns numeric
    language sql immutable
as $$
    select case
        when p_available > 0 and min_scale(p_amount) <= p_currency_scale then least(p_amount, p_available)
        else p_amount
    end
$$;

comment on function wallet._up_to(numeric, smallint, numeric) is
    'What a payment of up to an amount pays: as much of it as is available.';

-- Rules about the locked accounts. An account that does not exist has NULL as its currency.
create or replace function wallet._payment_refusal(
    p_amount numeric,
    p_buyer_currency_id bigint,
    p_seller_currency_id bigint,
    p_currency_scale smallint,
    p_buyer_status text,
    p_seller_status text,
    p_buyer_available numeric,
    p_seller_balance numeric
)
    returns text
    language sql immutable
as $$
    select case
        when (p_buyer_currency_id is not null and p_seller_currency_id is not null) is not true then 'WB004'
        when (p_buyer_currency_id = p_seller_currency_id) is not true then 'WB005'
        when (min_scale(p_amount) <= p_currency_scale) is not true then 'WB009'
        when (p_buyer_status = 'active') is not true then
            case p_buyer_status when 'frozen' then 'WB010' when 'blocked' then 'WB042' else 'WB014' end
        when (p_seller_status in ('active', 'frozen')) is not true then
            case p_seller_status when 'blocked' then 'WB043' else 'WB015' end
        when (p_buyer_available >= p_amount) is not true then 'WB006'
        when wallet._is_amount(p_seller_balance + p_amount) is not true then 'WB007'
    end
$$;

comment on function wallet._payment_refusal(numeric, bigint, bigint, smallint, text, text, numeric, numeric) is
    'The rules of a payment about its two accounts: the code of the first violated rule, or NULL.';

create or replace function wallet._parties_refusal(p_amount numeric, p_buyer ledger.account, p_seller ledger.account)
    returns text
    language sql immutable
as $$
    select wallet._payment_refusal(
        p_amount, p_buyer.currency_id, p_seller.currency_id, p_buyer.currency_scale, p_buyer.status, p_seller.status,
        wallet._available(p_buyer.balance, p_buyer.credit_limit, p_buyer.held), p_seller.balance
    )
$$;

comment on function wallet._parties_refusal(numeric, ledger.account, ledger.account) is
    'Applies _payment_refusal to two accounts as they are stored: the code of the first violated rule, or NULL.';

-- "Account not found" has one code for both accounts.
create or replace function wallet._party_to_blame(p_code text, p_buyer_exists boolean)
    returns text
    language sql immutable
as $$
    select case when p_code = 'WB004' and p_buyer_exists then 'seller_account_id' end
$$;

comment on function wallet._party_to_blame(text, boolean) is
    'The argument to blame for a refused payment, if it is not the registry''s: a seller that does not exist.';

-- The caller has locked the accounts, found no payment under the key, and checked all rules.
create or replace function wallet._write_payment(
    p_buyer ledger.account,
    p_seller ledger.account,
    p_amount numeric,
    p_idempotency_key text,
    p_description text,
    p_reference text,
    p_api_key_id bigint,
    p_refunded_payment_id bigint default null,
    p_hold_id bigint default null,
    p_up_to numeric default null,
    p_metadata jsonb default null
)
    returns ledger.payment
    language plpgsql
as $$
declare
    v_payment ledger.payment;
begin
    -- trim_scale: stored amounts, and so all answers, have no trailing zeros.
    insert into ledger.payment as payment (
        currency_id, buyer_account_id, seller_account_id, amount, buyer_balance, seller_balance, operation_timestamp,
        idempotency_key, description, reference, api_key_id, refunded_payment_id, hold_id, up_to, metadata
    )
    values (
        p_buyer.currency_id, p_buyer.id, p_seller.id, trim_scale(p_amount),
        trim_scale(p_buyer.balance - p_amount), trim_scale(p_seller.balance + p_amount),
        greatest(wallet._time_now(), p_buyer.changed_at, p_seller.changed_at),
        p_idempotency_key, p_description, p_reference, p_api_key_id, p_refunded_payment_id, p_hold_id,
        trim_scale(p_up_to), p_metadata
    )
    on conflict (idempotency_key) where idempotency_key is not null do nothing
    returning payment.* into v_payment;
    -- A concurrent call, which has locked other accounts, has used the key.
    if v_payment.id is null then
        perform wallet._refuse('WK001');
    end if;
    update ledger.account as account
    set balance = case account.id when p_buyer.id then v_payment.buyer_balance else v_payment.seller_balance end,
        changed_at = v_payment.operation_timestamp
    where account.id in (p_buyer.id, p_seller.id);
    return v_payment;
end
$$;

comment on function wallet._write_payment(
    ledger.account, ledger.account, numeric, text, text, text, bigint, bigint, bigint, numeric, jsonb
) is
    'Writes an accepted payment between two locked accounts, and returns it. p_up_to: the most that was asked for; NULL: '
    'p_amount was. Raises a refusal if another payment has the key.';

create or replace function wallet._balance_for(p_api_key_id bigint, p_account_id bigint, p_balance numeric)
    returns numeric
    language plpgsql stable
as $$
begin
    return case
        when p_api_key_id is null or exists (
            select from ledger.api_key as api_key
            where api_key.id = p_api_key_id
                and 'read' = any (api_key.scopes)
                and wallet._binding_refusal(api_key.account_ids, p_account_id) is null
        ) then p_balance
    end;
end
$$;

comment on function wallet._balance_for(bigint, bigint, numeric) is
    'The balance of an account after a payment, if the API key may read the account; otherwise NULL.';

create or replace function wallet._payment_row(p_payment ledger.payment, p_balances boolean, p_api_key_id bigint)
    returns table (
        id bigint,
        currency_id bigint,
        amount numeric,
        buyer_account_id bigint,
        seller_account_id bigint,
        operation_timestamp timestamptz,
        description text,
        reference text,
        metadata jsonb,
        buyer_balance numeric,
        seller_balance numeric
    )
    language sql stable
as $$
    select
        p_payment.id, p_payment.currency_id, p_payment.amount::numeric, p_payment.buyer_account_id,
        p_payment.seller_account_id, p_payment.operation_timestamp, p_payment.description, p_payment.reference,
        p_payment.metadata,
        case when p_balances
            then wallet._balance_for(p_api_key_id, p_payment.buyer_account_id, p_payment.buyer_balance) end,
        case when p_balances
            then wallet._balance_for(p_api_key_id, p_payment.seller_account_id, p_payment.seller_balance) end
$$;

comment on function wallet._payment_row(ledger.payment, boolean, bigint) is
    'The columns of a payment that the functions which make one return; with p_balances, the balances after it that the '
    'API key may read.';
