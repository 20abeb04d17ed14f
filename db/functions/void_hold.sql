-- wallet.void_hold(p_hold_id, p_idempotency_key, p_api_key_id)
--
-- Voids a hold: releases its amount, and makes no payment.
--
-- Returns: the hold, one row, as get_hold does; replayed is true if the call was made before, under the same
--          idempotency key, otherwise NULL
-- Locks:   the buyer's account FOR NO KEY UPDATE, before it checks the hold, until the transaction ends
-- Writes:  ledger.hold (its end, and expired holds of the account), ledger.account (held); ledger.request (one row,
--          under a key)
-- Raises:  refusals of the API key, the idempotency key and the hold

create or replace function wallet.void_hold(
    p_hold_id bigint,
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
        expires_at timestamptz,
        status text,
        payment_id bigint,
        captured_amount numeric,
        description text,
        reference text,
        made_by text,
        ended_by text,
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
    if wallet._request_answer('void_hold', p_idempotency_key, jsonb_build_array(p_hold_id), p_api_key_id) is not null then
        v_replayed := true;
    else
        perform wallet._lock_account(v_hold.buyer_account_id);
        -- read again: no other call can end it now
        select hold.* into v_hold from ledger.hold as hold where hold.id = p_hold_id;
        v_refusal := wallet._hold_refusal(v_hold);
        if v_refusal is not null then
            perform wallet._refuse(v_refusal);
        end if;
        perform wallet._end_hold(v_hold, 'voided', p_api_key_id);
        perform wallet._request_keep_answer('void_hold', p_idempotency_key, jsonb '{}');
    end if;
    return query select hold.*, v_replayed from wallet.get_hold(v_hold.id) as hold;
end
$$;

comment on function wallet.void_hold(bigint, text, bigint) is
    'Voids a hold, and returns it. Under an idempotency key (1 to 255 characters) it takes effect once; a repeated '
    'call returns the hold with replayed true.';

grant execute on function wallet.void_hold(bigint, text, bigint) to wallet_app, wallet_ops;
