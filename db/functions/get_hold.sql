-- wallet.get_hold(p_hold_id, p_api_key_id)
--
-- Returns one hold, and how it ended.
--
-- Returns: the hold, one row; payment_id, its last capture, and captured_amount, what all of them have paid, are NULL if
--          there is none, made_by and ended_by for API keys that may not see them, buyer_may_void unless it is true
-- Locks:   nothing
-- Raises:  refusals of the API key; no such hold, or the key may not see it

create or replace function wallet.get_hold(p_hold_id bigint, p_api_key_id bigint default null)
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
        metadata jsonb
    )
    language plpgsql stable
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_account_ids bigint[] := wallet._bound_accounts(p_api_key_id, 'read');
    v_sees_makers boolean := wallet._may_see_makers(p_api_key_id);
begin
    return query
        select
            hold.id, hold.currency_id, hold.amount::numeric, hold.buyer_account_id, hold.seller_account_id,
            hold.operation_timestamp, hold.expires_at,
            wallet._hold_status(hold.status, hold.expires_at, clock_timestamp()),
            capture.id, coalesce(hold.captured_amount, capture.amount), hold.description, hold.reference,
            case when v_sees_makers then wallet._made_by(hold.api_key_id, hold.database_role) end,
            case when v_sees_makers then wallet._made_by(hold.ended_api_key_id, hold.ended_database_role) end,
            hold.buyer_may_void, hold.metadata
        from ledger.hold as hold
        left join wallet._last_capture(hold.id) as capture on true
        where hold.id = p_hold_id
            and wallet._may_see(v_account_ids, hold.buyer_account_id, hold.seller_account_id);
    if not found then
        perform wallet._refuse('WN003');
    end if;
end
$$;

comment on function wallet.get_hold(bigint, bigint) is
    'The hold with this id: open, captured, voided or expired. payment_id is its last capture, captured_amount what all '
    'its captures have paid. Raises a refusal if there is none.';

grant execute on function wallet.get_hold(bigint, bigint) to wallet_app, wallet_ops, wallet_reporting;
