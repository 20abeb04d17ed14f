-- wallet._hold_status(p_status, p_expires_at, p_moment), wallet._hold_refusal(p_hold),
-- wallet._end_hold(p_hold, p_status, p_api_key_id)
--
-- Shared by get_hold and list_holds: when a hold has expired. Shared by capture_hold and void_hold: a hold ends once.
--
-- Returns: _hold_status: the status; _hold_refusal: the code of the refusal, or NULL
-- Locks:   nothing; the caller has locked the buyer's account, and so released its expired holds
-- Writes:  _end_hold: ledger.hold (its end), ledger.account (held)
-- Raises:  nothing

-- The stored status is still open until the buyer's account is locked.
create or replace function wallet._hold_status(p_status text, p_expires_at timestamptz, p_moment timestamptz)
    returns text
    language sql immutable
as $$
    select case when p_status = 'open' and p_expires_at <= p_moment then 'expired' else p_status end
$$;

comment on function wallet._hold_status(text, timestamptz, timestamptz) is
    'The status of a hold at a moment: an open one whose time is over has expired.';

create or replace function wallet._hold_refusal(p_hold ledger.hold)
    returns text
    language sql immutable
as $$
    select case p_hold.status
        when 'open' then null
        when 'captured' then 'WC031'
        when 'voided' then 'WC032'
        else 'WC033'
    end
$$;

comment on function wallet._hold_refusal(ledger.hold) is
    'Checks that a hold can still be captured or voided: the code of the refusal, or NULL.';

create or replace function wallet._end_hold(p_hold ledger.hold, p_status text, p_api_key_id bigint)
    returns void
    language plpgsql
as $$
begin
    update ledger.hold as hold
    set status = p_status, ended_at = clock_timestamp(),
        ended_api_key_id = p_api_key_id, ended_database_role = ledger.acting_role()
    where hold.id = p_hold.id;
    perform wallet._change_held(p_hold.buyer_account_id, -p_hold.amount);
end
$$;

comment on function wallet._end_hold(ledger.hold, text, bigint) is
    'Ends an open hold of a locked account, and releases its amount.';
