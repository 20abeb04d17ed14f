-- wallet.make_payment(p_buyer_account_id, p_seller_account_id, p_amount)
--
-- Makes one payment: the buyer loses the amount, the seller gains it. All or nothing.
--
-- Returns: the payment, one row
-- Locks:   both accounts FOR NO KEY UPDATE, in id order, before it looks at them, until the transaction ends
-- Writes:  ledger.account (two balances), ledger.payment (one row)
-- Raises:  WB001 to self, WB002 not positive, WB003 not an amount, WB004 no such account,
--          WB005 currencies differ, WB006 buyer has too little, WB007 seller would have too much

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
