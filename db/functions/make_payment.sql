-- wallet.make_payment(p_buyer_account_id, p_seller_account_id, p_amount, p_idempotency_key, p_description, p_reference,
--                     p_api_key_id)
--
-- Makes one payment: the buyer loses the amount, the seller gains it, all or nothing. Under an idempotency key, it is
-- made once: a repeated call returns the same payment, and no money moves.
--
-- Returns: the payment, one row; replayed is true if it was made before, otherwise NULL
-- Locks:   both accounts FOR NO KEY UPDATE, in id order, before it checks them, until the transaction ends
-- Writes:  ledger.payment (one row), ledger.account (two balances); ledger.hold (expired holds of the accounts)
-- Raises:  refusals of the API key, the idempotency key and the payment

-- For speed, this function does not call _lock_parties and, without a key, _write_payment, but has their statements: a
-- call that passes rows takes PostgreSQL as long as a statement. A test in tests/sql/test_make_payments.py proves that
-- the results are the same.
create or replace function wallet.make_payment(
    p_buyer_account_id bigint,
    p_seller_account_id bigint,
    p_amount numeric,
    p_idempotency_key text default null,
    p_description text default null,
    p_reference text default null,
    p_api_key_id bigint default null
)
    returns table (
        id bigint,
        currency_id bigint,
        amount numeric,
        buyer_account_id bigint,
        seller_account_id bigint,
        operation_timestamp timestamptz,
        description text,
        reference text,
        replayed boolean
    )
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    -- A cached plan may date from when there were few accounts.
    set enable_seqscan = off
as $$
declare
    v_refusal text := wallet._request_refusal(
        p_buyer_account_id, p_seller_account_id, p_amount, p_idempotency_key, p_description, p_reference
    );
    v_buyer ledger.account;
    v_seller ledger.account;
    v_payment ledger.payment;
begin
    if p_api_key_id is not null then
        perform wallet._allow(p_api_key_id, 'pay', p_buyer_account_id);
    end if;

    if v_refusal is null then
        if p_buyer_account_id < p_seller_account_id then
            select account.* into v_buyer
            from ledger.account as account where account.id = p_buyer_account_id for no key update;
            select account.* into v_seller
            from ledger.account as account where account.id = p_seller_account_id for no key update;
        else
            select account.* into v_seller
            from ledger.account as account where account.id = p_seller_account_id for no key update;
            select account.* into v_buyer
            from ledger.account as account where account.id = p_buyer_account_id for no key update;
        end if;
        if (
            v_buyer.held = 0 and v_seller.held = 0 and v_buyer.changed_at is not null and v_seller.changed_at is not null
        ) is not true then
            v_buyer := wallet._brought_up_to_date(v_buyer);
            v_seller := wallet._brought_up_to_date(v_seller);
        end if;
    end if;

    -- After the locks: another call for the same payment keeps them until that payment is visible.
    if p_idempotency_key is not null then
        v_payment := wallet._payment_under(p_idempotency_key);
        replayed := nullif(v_payment.id is not null, false);
    end if;
    if replayed then
        v_refusal := wallet._key_refusal(
            v_payment, p_buyer_account_id, p_seller_account_id, p_amount, p_description, p_reference
        );
    elsif v_refusal is null then
        v_refusal := wallet._parties_refusal(p_amount, v_buyer, v_seller);
    end if;
    if v_refusal is not null then
        perform wallet._refuse(v_refusal, wallet._party_to_blame(v_refusal, v_buyer.id is not null));
    end if;

    if p_idempotency_key is null then
        insert into ledger.payment as payment (
            currency_id, buyer_account_id, seller_account_id, amount, buyer_balance, seller_balance, operation_timestamp,
            description, reference, api_key_id
        )
        values (
            v_buyer.currency_id, p_buyer_account_id, p_seller_account_id, trim_scale(p_amount),
            trim_scale(v_buyer.balance - p_amount), trim_scale(v_seller.balance + p_amount),
            greatest(wallet._time_now(), v_buyer.changed_at, v_seller.changed_at), p_description, p_reference, p_api_key_id
        )
        returning payment.* into v_payment;
        update ledger.account as account
        set balance = case account.id when p_buyer_account_id then v_payment.buyer_balance else v_payment.seller_balance end,
            changed_at = v_payment.operation_timestamp
        where account.id in (p_buyer_account_id, p_seller_account_id);
    elsif replayed is null then
        v_payment := wallet._write_payment(
            v_buyer, v_seller, p_amount, p_idempotency_key, p_description, p_reference, p_api_key_id
        );
    end if;
    id := v_payment.id;
    currency_id := v_payment.currency_id;
    amount := v_payment.amount;
    buyer_account_id := v_payment.buyer_account_id;
    seller_account_id := v_payment.seller_account_id;
    operation_timestamp := v_payment.operation_timestamp;
    description := v_payment.description;
    reference := v_payment.reference;
    return next;
end
$$;

comment on function wallet.make_payment(bigint, bigint, numeric, text, text, text, bigint) is
    'Makes one payment of an amount (above 0, at most 15 integer digits and 15 decimals, no more than the currency '
    'has) from the buyer''s account to the seller''s, of the same currency, and returns it, or raises a refusal. '
    'Under an idempotency key (1 to 255 characters) it takes effect once; a repeated call returns the same payment '
    'with replayed true. It may have a description and a reference, each of 1 to 255 characters.';

grant execute on function wallet.make_payment(bigint, bigint, numeric, text, text, text, bigint) to wallet_app, wallet_ops;
