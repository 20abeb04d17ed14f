-- wallet.make_payment(p_buyer_account_id, p_seller_account_id, p_amount, p_idempotency_key)
--
-- Makes one payment: the buyer loses the amount, the seller gains it. All or nothing. Under a key, it is made once,
-- however often it is asked for: who asks again gets the payment that was made, and nothing moves.
--
-- Returns: the payment, one row; replayed is true where it was made before, and else NULL
-- Locks:   both accounts FOR NO KEY UPDATE, in id order, before it looks at them, until the transaction ends
-- Writes:  ledger.payment (one row), ledger.account (two balances)
-- Raises:  WB008 no key, WK001 the key belongs to another payment, WB001 to self, WB002 not positive,
--          WB003 not an amount, WB004 no such account, WB005 currencies differ, WB006 buyer has too little,
--          WB007 seller would have too much

create or replace function wallet.make_payment(
    p_buyer_account_id bigint,
    p_seller_account_id bigint,
    p_amount numeric,
    p_idempotency_key text default null
)
    returns table (
        id bigint,
        currency_id bigint,
        amount numeric,
        buyer_account_id bigint,
        seller_account_id bigint,
        operation_timestamp timestamptz,
        replayed boolean
    )
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_refusal text := wallet._request_refusal(
        p_buyer_account_id, p_seller_account_id, p_amount, p_idempotency_key
    );
    v_account ledger.account;
    v_buyer ledger.account;
    v_seller ledger.account;
    v_payment ledger.payment;
begin
    if v_refusal is null then
        for v_account in
            select locked.* from wallet._lock_accounts(array[p_buyer_account_id, p_seller_account_id]) as locked
        loop
            if v_account.id = p_buyer_account_id then
                v_buyer := v_account;
            else
                v_seller := v_account;
            end if;
        end loop;
    end if;

    -- After the locks: whoever makes the same payment holds them until it is there to be seen.
    if p_idempotency_key is not null then
        select payment.* into v_payment
        from ledger.payment as payment
        where payment.idempotency_key = p_idempotency_key;
    end if;
    if v_payment.id is not null then
        replayed := true;
        v_refusal := wallet._key_refusal(v_payment, p_buyer_account_id, p_seller_account_id, p_amount);
    elsif v_refusal is null then
        v_refusal := wallet._payment_refusal(
            p_amount, v_buyer.currency_id, v_seller.currency_id, v_buyer.balance, v_seller.balance
        );
    end if;
    if v_refusal is not null then
        perform wallet._refuse(v_refusal);
    end if;

    if replayed is not true then
        -- trim_scale: what is stored, and so what every door shows, has no needless zeros.
        insert into ledger.payment as payment
            (currency_id, buyer_account_id, seller_account_id, amount, buyer_balance, seller_balance, idempotency_key)
        values (
            v_buyer.currency_id, v_buyer.id, v_seller.id, trim_scale(p_amount),
            trim_scale(v_buyer.balance - p_amount), trim_scale(v_seller.balance + p_amount), p_idempotency_key
        )
        on conflict (idempotency_key) where idempotency_key is not null do nothing
        returning payment.* into v_payment;
        -- Somebody made a payment of other accounts, which we have not locked, under this key, at this moment.
        if v_payment.id is null then
            perform wallet._refuse('WK001');
        end if;
        update ledger.account as account set balance = v_payment.buyer_balance where account.id = v_buyer.id;
        update ledger.account as account set balance = v_payment.seller_balance where account.id = v_seller.id;
    end if;

    id := v_payment.id;
    currency_id := v_payment.currency_id;
    amount := v_payment.amount;
    buyer_account_id := v_payment.buyer_account_id;
    seller_account_id := v_payment.seller_account_id;
    operation_timestamp := v_payment.operation_timestamp;
    return next;
end
$$;

comment on function wallet.make_payment(bigint, bigint, numeric, text) is
    'Makes one payment of an amount (above 0, at most 15 integer digits and 15 decimals) from the buyer''s '
    'account to the seller''s, of the same currency, and returns it; or raises the refusal: WB001 to WB008, WK001. Under '
    'an idempotency key (1 to 255 characters) it is made once; asked for again, it is returned with replayed true.';
