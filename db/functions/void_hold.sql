-- wallet.void_hold(p_hold_id, p_api_key_id)
--
-- Gives up a hold: what it held is free again, and no payment is made.
--
-- Returns: the hold, one row, as get_hold does
-- Locks:   the buyer's account FOR NO KEY UPDATE, before it looks at the hold, until the transaction ends
-- Writes:  ledger.hold (its end, and what has expired of the account), ledger.account (what is held)
-- Raises:  WA001 no such API key, WF001 not its scope, WN003 no such hold, or none of its accounts', WF002 not the
--          buyer's; it ends once: WC031 was captured, WC032 was voided, WC033 has expired
-- Roles:   wallet_app, wallet_ops

create or replace function wallet.void_hold(p_hold_id bigint, p_api_key_id bigint default null)
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
        ended_by text
    )
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_account_ids bigint[] := wallet._bound_accounts(p_api_key_id, 'pay');
    v_hold ledger.hold;
    v_refusal text;
begin
    select hold.* into v_hold from ledger.hold as hold where hold.id = p_hold_id;
    v_refusal := wallet._payer_refusal(
        v_account_ids, v_hold.buyer_account_id, v_hold.seller_account_id, 'WN003'
    );
    if v_refusal is not null then
        perform wallet._refuse(v_refusal);
    end if;
    perform wallet._lock_accounts(array[v_hold.buyer_account_id]);
    -- as it is now that nobody else can end it
    select hold.* into v_hold from ledger.hold as hold where hold.id = p_hold_id;
    v_refusal := wallet._hold_refusal(v_hold);
    if v_refusal is not null then
        perform wallet._refuse(v_refusal);
    end if;
    perform wallet._end_hold(v_hold, 'voided', p_api_key_id);
    return query select hold.* from wallet.get_hold(v_hold.id) as hold;
end
$$;

comment on function wallet.void_hold(bigint, bigint) is
    'Gives up a hold, and returns it; or raises the refusal: WC031 to WC033, WN003.';
