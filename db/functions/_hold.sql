-- wallet._hold_status(p_status, p_expires_at, p_moment), wallet._hold_refusal(p_hold),
-- wallet._last_capture(p_hold_id), wallet._reduce_hold(p_hold, p_captured, p_status, p_api_key_id)
--
-- Shared by get_hold and list_holds: when a hold has expired, and its last capture. Shared by capture_hold and void_hold:
-- a hold ends once.
--
-- Returns: _hold_status: the status; _hold_refusal: the code of the refusal, or NULL; _last_capture: a payment
-- Locks:   nothing; the caller has locked the buyer's account, and so released its expired holds
-- Writes:  _reduce_hold: ledger.hold (what was captured, its end), ledger.account (held)
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

-- Row comparisons, as in _history.sql: a single index gives this order.
create or replace function wallet._last_capture(p_hold_id bigint)
    returns table (id bigint, amount numeric)
    language sql stable
as $$
    select payment.id, payment.amount::numeric
    from ledger.payment as payment
    where (payment.hold_id, payment.id) > (p_hold_id, 0) and payment.hold_id <= p_hold_id
    order by payment.hold_id desc, payment.id desc
    limit 1
$$;

comment on function wallet._last_capture(bigint) is
    'The id and the amount of the last payment that captured a hold; no row if there is none.';

create or replace function wallet._reduce_hold(
    p_hold ledger.hold,
    p_captured numeric,
    p_status text,
    p_api_key_id bigint
)
    returns void
    language plpgsql
as $$
declare
    v_ends boolean := p_status <> 'open';
begin
    update ledger.hold as hold
    set captured_amount = nullif(trim_scale(coalesce(hold.captured_amount, 0) + p_captured), 0),
        status = p_status,
        ended_at = case when v_ends then clock_timestamp() end,
        ended_api_key_id = case when v_ends then p_api_key_id end,
        ended_database_role = case when v_ends then ledger.acting_role() end
    where hold.id = p_hold.id;
    perform wallet._add_to_held(
        p_hold.buyer_account_id,
        -case when v_ends then wallet._hold_left(p_hold.amount, p_hold.captured_amount) else p_captured end
    );
end
$$;

comment on function wallet._reduce_hold(ledger.hold, numeric, text, bigint) is
    'Takes what a capture pays (0: no capture) from an open hold of a locked account. The hold then has the status '
    'p_status: open keeps the rest held, any other ends the hold and releases the rest.';
