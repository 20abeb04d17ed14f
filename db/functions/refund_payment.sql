-- wallet.refund_payment(p_payment_id, p_amount, p_idempotency_key, p_description, p_reference, p_api_key_id, p_metadata,
--                       p_balances, p_tenant)
--
-- Refunds a payment, in full or in part: makes a payment from its seller to its buyer, linked to it. The refunds of a
-- payment together never exceed it. Without an amount, it refunds all that is left.
--
-- Returns: the refund, one row; replayed is true if it was made before, otherwise NULL. The balances as in make_payment:
--          the buyer is the refund's
-- Locks:   both accounts FOR NO KEY UPDATE, in id order, before it checks them, until the transaction ends; refunds of
--          one payment take turns
-- Writes:  as make_payment
-- Raises:  refusals of the API key, the idempotency key, the refund and its payment

-- The rules of a refund, in the order in which they are checked. p_request_refusal is the result of _request_refusal.
create or replace function wallet._refund_refusal(
    p_refunded_payment_id bigint,
    p_amount numeric,
    p_left numeric,
    p_request_refusal text
)
    returns text
    language sql immutable
as $$
    select case
        when (p_refunded_payment_id is null) is not true then 'WB022'
        when p_request_refusal is not null then p_request_refusal
        when (p_left > 0 and coalesce(p_amount, p_left) <= p_left) is not true then 'WB021'
    end
$$;

comment on function wallet._refund_refusal(bigint, numeric, numeric, text) is
    'The rules of a refund of a payment of which p_left is left: the code of the first violated rule, or NULL.';

-- A refund is a payment from the original's seller to its buyer. Its refusals use these roles.
create or replace function wallet._refund_code(p_code text)
    returns text
    language sql immutable
as $$
    select case p_code
        when 'WB006' then 'WB023'
        when 'WB010' then 'WB024'
        when 'WB014' then 'WB025'
        when 'WB015' then 'WB026'
        when 'WB042' then 'WB044'
        when 'WB043' then 'WB045'
        when 'WB007' then 'WB027'
        else p_code
    end
$$;

comment on function wallet._refund_code(text) is
    'The code of a refund''s refusal, by the code that refuses the payment from the original''s seller to its buyer.';

create or replace function wallet.refund_payment(
    p_payment_id bigint,
    p_amount numeric default null,
    p_idempotency_key text default null,
    p_description text default null,
    p_reference text default null,
    p_api_key_id bigint default null,
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
        refunded_payment_id bigint,
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
    v_account_ids bigint[] := wallet._bound_accounts(p_api_key_id, 'pay');
    v_original ledger.payment;
    v_parties ledger.account[];
    v_payment ledger.payment;
    v_left numeric;
    v_amount numeric;
    v_refusal text;
    v_replayed boolean;
begin
    select payment.* into v_original from ledger.payment as payment where payment.id = p_payment_id;
    v_refusal := wallet._party_refusal(
        v_account_ids, v_original.seller_account_id, v_original.buyer_account_id, 'WN002'
    );
    if v_refusal is not null then
        perform wallet._refuse(v_refusal);
    end if;
    if p_idempotency_key is not null then
        p_idempotency_key := wallet._key_of_tenant(p_idempotency_key, p_api_key_id, p_tenant);
    end if;
    v_parties := wallet._lock_parties(v_original.seller_account_id, v_original.buyer_account_id);

    -- After the locks, which all refunds of this payment take: the refunded amount cannot grow now.
    v_payment := wallet._payment_under(p_idempotency_key);
    v_replayed := case when v_payment.id is not null then true end;
    select v_original.amount - coalesce(sum(refund.amount), 0) into v_left
    from ledger.payment as refund
    where refund.refunded_payment_id = v_original.id and (refund.id < v_payment.id or v_payment.id is null);
    v_amount := coalesce(p_amount, v_left);

    if v_replayed then
        v_refusal := wallet._key_refusal(
            v_payment, v_original.seller_account_id, v_original.buyer_account_id, v_amount, p_description, p_reference,
            v_original.id, p_metadata => p_metadata
        );
    else
        v_refusal := wallet._refund_refusal(v_original.refunded_payment_id, p_amount, v_left, wallet._request_refusal(
            v_original.seller_account_id, v_original.buyer_account_id, coalesce(p_amount, v_original.amount),
            null, p_description, p_reference, p_metadata
        ));
        v_refusal := coalesce(
            v_refusal, wallet._refund_code(wallet._parties_refusal(v_amount, v_parties[1], v_parties[2]))
        );
    end if;
    if v_refusal is not null then
        perform wallet._refuse(v_refusal);
    end if;

    if v_replayed is not true then
        v_payment := wallet._write_payment(
            v_parties[1], v_parties[2], v_amount, p_idempotency_key, p_description, p_reference, p_api_key_id,
            p_refunded_payment_id => v_original.id, p_metadata => p_metadata
        );
    end if;

    return query
        select
            made.id, made.currency_id, made.amount, made.buyer_account_id, made.seller_account_id,
            made.operation_timestamp, made.description, made.reference, v_payment.refunded_payment_id, v_replayed,
            made.metadata, made.buyer_balance, made.seller_balance
        from wallet._payment_row(v_payment, p_balances, p_api_key_id) as made;
end
$$;

comment on function wallet.refund_payment(bigint, numeric, text, text, text, bigint, jsonb, boolean, text) is
    'Refunds an amount of a payment (above 0; NULL: all that is left) from its seller to its buyer, and returns the '
    'refund, a payment itself. Under an idempotency key of p_tenant (1 to 255 characters) it takes effect once; a '
    'repeated call returns the same refund with replayed true. It may have metadata, as in make_payment. If p_balances '
    'is true, it returns both balances after the refund, those that the API key may read.';

grant execute on function wallet.refund_payment(
    bigint, numeric, text, text, text, bigint, jsonb, boolean, text
) to wallet_app, wallet_ops;
