-- wallet.make_payment(p_buyer_account_id, p_seller_account_id, p_amount, p_idempotency_key, p_description, p_reference,
--                     p_api_key_id, p_up_to, p_metadata, p_balances, p_tenant)
--
-- Makes one payment: the buyer loses the amount, the seller gains it, all or nothing. If p_up_to is true, the amount is
-- what is available to the buyer, at most p_amount. Under an idempotency key, the payment is made once: a repeated call
-- returns the same payment, and no money moves.
--
-- Returns: the payment, one row; replayed is true if it was made before, otherwise NULL. The balances of the accounts
--          after the payment, if p_balances is true and the API key may read them, otherwise NULL
-- Locks:   both accounts FOR NO KEY UPDATE, in id order, before it checks them, until the transaction ends
-- Writes:  ledger.payment (one row), ledger.account (two balances); ledger.hold (expired holds of the accounts)
-- Raises:  refusals of the API key, the idempotency key and the payment

-- For speed, this function does not call _lock_parties and, for a plain payment, _write_payment, but has their
-- statements: a call that passes rows takes PostgreSQL as long as a statement. Conditions of the options stand where a
-- plain payment does not come, or in one with others: each transaction prepares every expression anew. A test in
-- tests/sql/test_make_payments.py proves that the results are the same.
create or replace function wallet.make_payment(
    p_buyer_account_id bigint,
    p_seller_account_id bigint,
    p_amount numeric,
    p_idempotency_key text default null,
    p_description text default null,
    p_reference text default null,
    p_api_key_id bigint default null,
    p_up_to boolean default false,
    p_metadata jsonb default null,
    p_balances boolean default false,
    p_tenant text default null
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
        replayed boolean,
        metadata jsonb,
        buyer_balance numeric,
        seller_balance numeric
    )
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    -- A cached plan may date from when there were few accounts.
    set enable_seqscan = off
as $$
declare
    v_refusal text := wallet._request_refusal(
        p_buyer_account_id, p_seller_account_id, p_amount, p_idempotency_key, p_description, p_reference, p_metadata
    );
    v_up_to numeric;
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
            and p_up_to is not true
        ) is not true then
            v_buyer := wallet._brought_up_to_date(v_buyer);
            v_seller := wallet._brought_up_to_date(v_seller);
            if p_up_to then
                v_up_to := p_amount;
                p_amount := wallet._up_to(
                    v_up_to, v_buyer.currency_scale,
                    wallet._available(v_buyer.balance, v_buyer.credit_limit, v_buyer.held)
                );
            end if;
        end if;
    end if;

    -- After the locks: another call for the same payment keeps them until that payment is visible.
    if p_idempotency_key is not null then
        if p_api_key_id is not null or p_tenant is not null or v_refusal is not null then
            p_idempotency_key := wallet._key_of_tenant(p_idempotency_key, p_api_key_id, p_tenant);
        end if;
        v_payment := wallet._payment_under(p_idempotency_key);
        replayed := nullif(v_payment.id is not null, false);
    end if;
    if replayed then
        v_refusal := wallet._key_refusal(
            v_payment, p_buyer_account_id, p_seller_account_id, coalesce(v_up_to, p_amount), p_description, p_reference,
            p_up_to => v_up_to, p_metadata => p_metadata
        );
    elsif v_refusal is null then
        v_refusal := wallet._parties_refusal(p_amount, v_buyer, v_seller);
    end if;
    if v_refusal is not null then
        perform wallet._refuse(v_refusal, wallet._party_to_blame(v_refusal, v_buyer.id is not null));
    end if;

    if p_idempotency_key is null and v_up_to is null and p_metadata is null and p_balances is not true then
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
    else
        if replayed is null then
            v_payment := wallet._write_payment(
                v_buyer, v_seller, p_amount, p_idempotency_key, p_description, p_reference, p_api_key_id,
                p_up_to => v_up_to, p_metadata => p_metadata
            );
        end if;
        metadata := v_payment.metadata;
        if p_balances then
            buyer_balance := wallet._balance_for(p_api_key_id, p_buyer_account_id, v_payment.buyer_balance);
            seller_balance := wallet._balance_for(p_api_key_id, p_seller_account_id, v_payment.seller_balance);
        end if;
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

comment on function wallet.make_payment(
    bigint, bigint, numeric, text, text, text, bigint, boolean, jsonb, boolean, text
) is
    'Makes one payment of an amount (above 0, at most 15 integer digits and 15 decimals, no more than the currency '
    'has) from the buyer''s account to the seller''s, of the same currency, and returns it, or raises a refusal. Under '
    'an idempotency key of p_tenant (1 to 255 characters) it takes effect once; a repeated call returns the same '
    'payment with replayed true. If p_up_to is true, it pays as much as is available, at most the amount. It may have '
    'a description and a reference, each of 1 to 255 characters, and metadata, a JSON object of at most 4096 bytes. If '
    'p_balances is true, it returns both balances after the payment, those that the API key may read.';

grant execute on function wallet.make_payment(
    bigint, bigint, numeric, text, text, text, bigint, boolean, jsonb, boolean, text
) to wallet_app, wallet_ops;
