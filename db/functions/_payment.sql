-- wallet._request_refusal(…), wallet._key_refusal(…), wallet._payment_refusal(…),
-- wallet._lock_accounts(p_account_ids, p_wait)
--
-- What make_payment and make_payments share: the rules of a payment, and how its accounts are locked.
--
-- Returns: the code of the rule that refuses; the locked accounts
-- Locks:   _lock_accounts: the accounts FOR NO KEY UPDATE, in id order, until the transaction ends
-- Raises:  nothing

-- The rules of a payment, in the order in which they are looked for; each of the functions returns the code of
-- the first one that refuses it, or NULL. "(…) is not true" holds what is allowed, and refuses all else, NULL
-- included.

-- Rules that need no account, and so wait for no lock.
create or replace function wallet._request_refusal(
    p_buyer_account_id bigint,
    p_seller_account_id bigint,
    p_amount numeric,
    p_idempotency_key text
)
    returns text
    language sql immutable
as $$
    select case
        when (p_idempotency_key is null or char_length(p_idempotency_key) between 1 and 255) is not true then 'WB008'
        when p_buyer_account_id = p_seller_account_id then 'WB001'
        when (p_amount > 0) is not true then 'WB002'
        when wallet._is_amount(p_amount) is not true then 'WB003'
    end
$$;

comment on function wallet._request_refusal(bigint, bigint, numeric, text) is
    'The rules of a payment that need no account: the code of the first one that refuses it, or NULL.';

-- The rule of a payment whose key was used before, which stands before all others: the answer to a request stays
-- what it was, and another request is none that the caller can have meant.
create or replace function wallet._key_refusal(
    p_payment ledger.payment,
    p_buyer_account_id bigint,
    p_seller_account_id bigint,
    p_amount numeric
)
    returns text
    language sql immutable
as $$
    select case
        when (
            p_buyer_account_id = p_payment.buyer_account_id
            and p_seller_account_id = p_payment.seller_account_id
            and p_amount = p_payment.amount
        ) is not true then 'WK001'
    end
$$;

comment on function wallet._key_refusal(ledger.payment, bigint, bigint, numeric) is
    'Whether the payment that was made under a key is the one asked for now: the code of the refusal, or NULL.';

-- Rules about the accounts; their currencies and balances are NULL where there is no such account.
create or replace function wallet._payment_refusal(
    p_amount numeric,
    p_buyer_currency_id bigint,
    p_seller_currency_id bigint,
    p_buyer_balance numeric,
    p_seller_balance numeric
)
    returns text
    language sql immutable
as $$
    select case
        when (p_buyer_currency_id is not null and p_seller_currency_id is not null) is not true then 'WB004'
        when (p_buyer_currency_id = p_seller_currency_id) is not true then 'WB005'
        when (p_buyer_balance >= p_amount) is not true then 'WB006'
        when wallet._is_amount(p_seller_balance + p_amount) is not true then 'WB007'
    end
$$;

comment on function wallet._payment_refusal(numeric, bigint, bigint, numeric, numeric) is
    'The rules of a payment that look at its two accounts: the code of the first one that refuses it, or NULL.';

-- The only place that locks accounts. In id order, so that two callers never wait for each other crosswise. FOR
-- NO KEY UPDATE is as much as changing a balance needs; FOR UPDATE would also make everybody wait who only
-- refers to the account, by a foreign key.
create or replace function wallet._lock_accounts(p_account_ids bigint[], p_wait boolean default true)
    returns setof ledger.account
    language plpgsql
as $$
begin
    if p_wait is not false then
        return query
            select account.*
            from ledger.account as account
            where account.id = any (p_account_ids)
            order by account.id
            for no key update;
    else
        return query
            select account.*
            from ledger.account as account
            where account.id = any (p_account_ids)
            order by account.id
            for no key update skip locked;
    end if;
end
$$;

comment on function wallet._lock_accounts(bigint[], boolean) is
    'Locks those of the accounts that exist, in id order, until the transaction ends, and returns them. Without '
    'p_wait, those that somebody else has locked are left out.';
