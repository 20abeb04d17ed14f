-- wallet.void_hold(p_hold_id)
--
-- Gives up a hold: what it held is free again, and no payment is made.
--
-- Returns: the hold, one row, as get_hold does
-- Locks:   the buyer's account FOR NO KEY UPDATE, before it looks at the hold, until the transaction ends
-- Writes:  ledger.hold (its end, and what has expired of the account), ledger.account (what is held)
-- Raises:  WN003 no such hold; it ends once: WC031 was captured, WC032 was voided, WC033 has expired

create or replace function wallet.void_hold(p_hold_id bigint)
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
        reference text
    )
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_hold ledger.hold;
    v_refusal text;
begin
    perform wallet._lock_accounts(array(
        select hold.buyer_account_id from ledger.hold as hold where hold.id = p_hold_id
    ));
    select hold.* into v_hold from ledger.hold as hold where hold.id = p_hold_id;
    v_refusal := case when v_hold.id is null then 'WN003' else wallet._hold_refusal(v_hold) end;
    if v_refusal is not null then
        perform wallet._refuse(v_refusal);
    end if;
    perform wallet._end_hold(v_hold, 'voided');
    return query select hold.* from wallet.get_hold(v_hold.id) as hold;
end
$$;

comment on function wallet.void_hold(bigint) is
    'Gives up a hold, and returns it; or raises the refusal: WC031 to WC033, WN003.';
