-- wallet.capture_hold(p_hold_id, p_amount, p_idempotency_key, p_api_key_id)
--
-- Captures a hold: pays its amount or a part of it, and releases the rest. The payment has the hold's description and
-- reference.
--
-- Returns: the payment, one row; replayed is true if it was made before, otherwise NULL
-- Locks:   both accounts FOR NO KEY UPDATE, in id order, before it checks the hold, until the transaction ends
-- Writes:  as make_payment; ledger.hold (its end), ledger.account (held)
-- Raises:  refusals of the API key, the idempotency key, the hold and the payment

create or replace function wallet._capture_refusal(p_hold ledger.hold, p_amount numeric, p_request_refusal text)
    returns text
    language sql immutable
as $$
    select case
        when p_request_refusal = 'WB008' then p_request_refusal
        when wallet._hold_refusal(p_hold) is not null then wallet._hold_refusal(p_hold)
        when p_request_refusal is not null then p_request_refusal
        when (p_amount <= p_hold.amount) is not true then 'WB032'
    end
$$;

comment on function wallet._capture_refusal(ledger.hold, numeric, text) is
    'The rules of a capture, with those of any request (p_request_refusal) in their place: the code of the first '
    'violated rule, or NULL.';

create or replace function wallet.capture_hold(
    p_hold_id bigint,
    p_amount numeric default null,
    p_idempotency_key text default null,
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
        hold_id bigint,
        replayed boolean
    )
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    -- A cached plan may date from when there were few accounts.
    set enable_seqscan = off
as $$
declare
    v_account_ids bigint[] := wallet._bound_accounts(p_api_key_id, 'pay');
    v_hold ledger.hold;
    v_parties ledger.account[];
    v_buyer ledger.account;
    v_payment ledger.payment;
    v_amount numeric;
    v_refusal text;
    v_replayed boolean;
begin
    select hold.* into v_hold from ledger.hold as hold where hold.id = p_hold_id;
    v_refusal := wallet._payer_refusal(
        v_account_ids, v_hold.buyer_account_id, v_hold.seller_account_id, 'WN003'
    );
    if v_refusal is not null then
        perform wallet._refuse(v_refusal);
    end if;
    v_parties := wallet._lock_parties(v_hold.buyer_account_id, v_hold.seller_account_id);
    -- read again: no other call can end it now
    select hold.* into v_hold from ledger.hold as hold where hold.id = p_hold_id;
    v_amount := coalesce(p_amount, v_hold.amount);

    v_payment := wallet._payment_under(p_idempotency_key);
    if v_payment.id is not null then
        v_replayed := true;
        v_refusal := wallet._key_refusal(
            v_payment, v_hold.buyer_account_id, v_hold.seller_account_id, v_amount, v_hold.description,
            v_hold.reference, p_hold_id => v_hold.id, p_metadata => v_hold.metadata
        );
    else
        v_refusal := wallet._capture_refusal(v_hold, v_amount, wallet._request_refusal(
            v_hold.buyer_account_id, v_hold.seller_account_id, v_amount, p_idempotency_key, v_hold.description,
            v_hold.reference, v_hold.metadata
        ));
        v_buyer := v_parties[1];
        v_buyer.held := v_buyer.held - v_hold.amount;
        v_refusal := coalesce(v_refusal, wallet._parties_refusal(v_amount, v_buyer, v_parties[2]));
    end if;
    if v_refusal is not null then
        perform wallet._refuse(v_refusal);
    end if;

    if v_replayed is not true then
        perform wallet._end_hold(v_hold, 'captured', p_api_key_id);
        v_payment := wallet._write_payment(
            v_buyer, v_parties[2], v_amount, p_idempotency_key, v_hold.description, v_hold.reference,
            p_api_key_id, p_hold_id => v_hold.id, p_metadata => v_hold.metadata
        );
    end if;

    return query
        select
            made.id, made.currency_id, made.amount, made.buyer_account_id, made.seller_account_id,
            made.operation_timestamp, made.description, made.reference, v_payment.hold_id, v_replayed
        from wallet._payment_row(v_payment, false, p_api_key_id) as made;
end
$$;

comment on function wallet.capture_hold(bigint, numeric, text, bigint) is
    'Captures a hold: pays its amount or a part of it (above 0; NULL: all), releases the rest, and returns the '
    'payment. Under an idempotency key (1 to 255 characters) it takes effect once; a repeated call returns the same '
    'payment with replayed true.';

grant execute on function wallet.capture_hold(bigint, numeric, text, bigint) to wallet_app, wallet_ops;
