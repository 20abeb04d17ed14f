-- wallet.record_ledger_check(p_problems)
--
-- Records the result of a ledger check for monitoring: the number of rows of check_ledger.
--
-- It also counts the payments, for get_totals, up to a payment id below which none is added any more. A transaction that
-- draws a payment id already has a transaction id: see _feed.sql. So each check notes the highest payment id drawn so
-- far, and then takes a transaction id. Once all transactions with lower ids have ended, a later check counts the
-- payments up to what was noted.
--
-- The row is durable only after the ids that it notes, so this holds after a crash, too.
--
-- Returns: the moment
-- Locks:   nothing
-- Writes:  ledger.ledger_check (one row)
-- Raises:  23514 if the number is below zero

create or replace function wallet.record_ledger_check(p_problems bigint)
    returns timestamptz
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_noted ledger.ledger_check;
    v_drawn_id bigint;
    v_xid xid8;
    v_checked_at timestamptz;
begin
    select ledger_check.* into v_noted
    from ledger.ledger_check as ledger_check
    where ledger_check.xid < pg_snapshot_xmin(pg_current_snapshot())
    order by ledger_check.id desc
    limit 1;
    -- In this order, and only with a new transaction id.
    if pg_current_xact_id_if_assigned() is null then
        v_drawn_id := coalesce(pg_sequence_last_value('ledger.payment_id_seq'::regclass), 0);
        v_xid := pg_current_xact_id();
    end if;
    insert into ledger.ledger_check as ledger_check (
        problems, drawn_payment_id, xid, counted_until_id, payment_counts
    )
    values (
        p_problems, v_drawn_id, v_xid, v_noted.drawn_payment_id,
        case when v_noted.id is not null then wallet._payment_counts(v_noted.drawn_payment_id) end
    )
    returning ledger_check.checked_at into v_checked_at;
    return v_checked_at;
end
$$;

comment on function wallet.record_ledger_check(bigint) is
    'Records how many rows check_ledger returned (0 or more), and returns the moment. Also counts the payments, for '
    'get_totals.';

grant execute on function wallet.record_ledger_check(bigint) to wallet_app, wallet_ops;
