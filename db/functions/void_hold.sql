-- wallet.void_hold(p_hold_id, p_idempotency_key, p_api_key_id, p_tenant)
--
-- Voids a hold: releases its amount, or what captures have left of it, and makes no payment. A key that is bound to the
-- buyer and not to the seller may do so only if the hold allows it (buyer_may_void).
--
-- Returns: the hold, one row, as get_hold does; replayed is true if the call was made before, under the same
--          idempotency key, otherwise NULL
-- Locks:   the buyer's account FOR NO KEY UPDATE, before it checks the hold, until the transaction ends
-- Writes:  ledger.hold (its end, and expired holds of the account), ledger.account (held); ledger.request (one row,
--          under a key)
-- Raises:  refusals of the API key, the idempotency key and the hold

create or replace function wallet._void_refusal(p_account_ids bigint[], p_hold ledger.hold)
    returns text
    language sql immutable
as $$
    select case
        when p_hold.buyer_may_void and p_hold.buyer_account_id = any (p_account_ids) then null
        else wallet._party_refusal(p_account_ids, p_hold.seller_account_id, p_hold.buyer_account_id, 'WN003')
    end
$$;

comment on function wallet._void_refusal(bigint[], ledger.hold) is
    'Checks that a key bound to these accounts (NULL: unbound) may void a hold, all NULL if it was not found: the code '
    'of the refusal, or NULL.';

create or replace function wallet.void_hold(
    p_hold_id bigint,
    p_idempotency_key text default null,
    p_api_key_id bigint default null,
    p_tenant text default null
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
        buyer_may_void boolean,
        metadata jsonb,
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
    v_refusal := wallet._void_refusal(v_account_ids, v_hold);
    if v_refusal is not null then
        perform wallet._refuse(v_refusal);
    end if;
    if p_idempotency_key is not null then
        p_idempotency_key := wallet._key_of_tenant(p_idempotency_key, p_api_key_id, p_tenant);
    end if;
    if wallet._request_first_answer(
        'void_hold', p_idempotency_key, jsonb_build_array(p_hold_id), p_api_key_id
    ) is not null then
        v_replayed := true;
    else
        perform wallet._lock_account(v_hold.buyer_account_id);
        -- read again: no other call can end it now
        select hold.* into v_hold from ledger.hold as hold where hold.id = p_hold_id;
        v_refusal := wallet._hold_refusal(v_hold);
        if v_refusal is not null then
            perform wallet._refuse(v_refusal);
        end if;
        perform wallet._reduce_hold(v_hold, 0, 'voided', p_api_key_id);
        perform wallet._request_keep_answer('void_hold', p_idempotency_key, jsonb '{}');
    end if;
    return query select hold.*, v_replayed from wallet.get_hold(v_hold.id) as hold;
end
$$;

comment on function wallet.void_hold(bigint, text, bigint, text) is
    'Voids a hold: releases its amount, or what captures have left of it, and returns the hold. Under an idempotency '
    'key of p_tenant (1 to 255 characters) it takes effect once; a repeated call returns the hold with replayed true.';

grant execute on function wallet.void_hold(bigint, text, bigint, text) to wallet_app, wallet_ops;
