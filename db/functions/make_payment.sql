-- wallet.make_payment(p_buyer_account_id, p_seller_account_id, p_amount)
--
-- Makes one payment: the buyer loses the amount, the seller gains it. All or nothing.
--
-- Returns: the payment, one row
-- Locks:   both accounts FOR NO KEY UPDATE, in id order, before it looks at them, until the transaction ends
-- Writes:  ledger.account (two balances), ledger.payment (one row)
-- Raises:  WB001 to self, WB002 not positive, WB003 not an amount, WB004 no such account,
--          WB005 currencies differ, WB006 buyer has too little, WB007 seller would have too much

-- The rules of a payment, in the order in which they are looked for; each of the two functions returns the code of
-- the first one that refuses it, or NULL. "(…) is not true" holds what is allowed, and refuses all else, NULL
-- included.

-- Rules that need no account, and so wait for no lock.
create or replace function wallet._request_refusal(
    p_buyer_account_id bigint,
    p_seller_account_id bigint,
    p_amount numeric
)
    returns text
    language sql immutable
as $$
    select case
        when p_buyer_account_id = p_seller_account_id then 'WB001'
        when (p_amount > 0) is not true then 'WB002'
        when wallet._is_amount(p_amount) is not true then 'WB003'
    end
$$;

comment on function wallet._request_refusal(bigint, bigint, numeric) is
    'The rules of a payment that need no account: the code of the first one that refuses it, or NULL.';

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
create or replace function wallet._lock_accounts(p_account_ids bigint[])
    returns setof ledger.account
    language plpgsql
as $$
begin
    return query
        select account.*
        from ledger.account as account
        where account.id = any (p_account_ids)
        order by account.id
        for no key update;
end
$$;

comment on function wallet._lock_accounts(bigint[]) is
    'Locks those of the accounts that exist, in id order, until the transaction ends, and returns them.';

create or replace function wallet.make_payment(
    p_buyer_account_id bigint,
    p_seller_account_id bigint,
    p_amount numeric
)
    returns table (
        id bigint,
        currency_id bigint,
        amount numeric,
        buyer_account_id bigint,
        seller_account_id bigint,
        operation_timestamp timestamptz
    )
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_refusal text := wallet._request_refusal(p_buyer_account_id, p_seller_account_id, p_amount);
    v_account ledger.account;
    v_buyer ledger.account;
    v_seller ledger.account;
begin
    if v_refusal is not null then
        perform wallet._refuse(v_refusal);
    end if;

    for v_account in
        select locked.* from wallet._lock_accounts(array[p_buyer_account_id, p_seller_account_id]) as locked
    loop
        if v_account.id = p_buyer_account_id then
            v_buyer := v_account;
        else
            v_seller := v_account;
        end if;
    end loop;

    v_refusal := wallet._payment_refusal(
        p_amount, v_buyer.currency_id, v_seller.currency_id, v_buyer.balance, v_seller.balance
    );
    if v_refusal is not null then
        perform wallet._refuse(v_refusal);
    end if;

    -- trim_scale: what is stored, and so what every door shows, has no needless zeros.
    v_buyer.balance := trim_scale(v_buyer.balance - p_amount);
    v_seller.balance := trim_scale(v_seller.balance + p_amount);

    update ledger.account as account set balance = v_buyer.balance where account.id = v_buyer.id;
    update ledger.account as account set balance = v_seller.balance where account.id = v_seller.id;

    return query
        insert into ledger.payment as payment
            (currency_id, buyer_account_id, seller_account_id, amount, buyer_balance, seller_balance)
        values
            (v_buyer.currency_id, v_buyer.id, v_seller.id, trim_scale(p_amount), v_buyer.balance, v_seller.balance)
        returning
            payment.id, payment.currency_id, payment.amount::numeric,
            payment.buyer_account_id, payment.seller_account_id, payment.operation_timestamp;
end
$$;

comment on function wallet.make_payment(bigint, bigint, numeric) is
    'Makes one payment of an amount (above 0, at most 15 integer digits and 15 decimals) from the buyer''s '
    'account to the seller''s, of the same currency, and returns it; or raises the refusal: WB001 to WB007.';
