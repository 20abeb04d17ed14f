-- wallet.void_hold(p_hold_id, p_idempotency_key, p_api_key_id)
--
-- Gives up a hold: what it held is free again, and no payment is made.
--
-- Returns: the hold, one row, as get_hold does; replayed is true where the call was made before, under the same
--          idempotency key, and else NULL
-- Locks:   the buyer's account FOR NO KEY UPDATE, before it looks at the hold, until the transaction ends
-- Writes:  ledger.hold (its end, and what has expired of the account), ledger.account (what is held); ledger.request (one
--          row, under a key)
-- Raises:  WA001 no such API key, WF001 not its scope, WN003 no such hold, or none of its accounts', WF002 not the
--          buyer's; WB008 no idempotency key, WK003 the key belongs to another request; it ends once: WC031 was
--          captured, WC032 was voided, WC033 has expired

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
    -- A plan is made once a session, perhaps when there are few accounts.
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
        perform wallet._lock_accounts(array[v_hold.buyer_account_id]);
        -- as it is now that nobody else can end it
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
    'Gives up a hold, and returns it; or raises the refusal: WB008, WC031 to WC033, WK003, WN003. Under an idempotency key '
    '(1 to 255 characters) it takes effect once; asked for again, it is answered as before, with replayed true.';

grant execute on function wallet.void_hold(bigint, text, bigint) to wallet_app, wallet_ops;
