-- wallet._time_now(), wallet._time_answered(p_moment)
--
-- The time of payments. It is that of the server's clock, but never earlier than what has been told of the past: who was
-- told a balance at a moment is told the same for ever, even if the clock is set back. (All that make payments
-- see to it that the times of one account do not go back either.)
--
-- Returns: the moment
-- Locks:   _time_answered: others that tell of a later moment than any before, for the moment of noting that
-- Writes:  _time_answered: ledger.answered_until
-- Raises:  nothing

-- Asked by a function, not by a query: that is inlined where it is called, and needs no plan.
create or replace function wallet._time_now()
    returns timestamptz
    language sql
as $$
    select greatest(
        clock_timestamp(),
        timestamptz 'epoch'
            + (coalesce(pg_sequence_last_value('ledger.answered_until'::regclass), -1) + 1) * interval '1 microsecond'
    )
$$;

comment on function wallet._time_now() is
    'The time for a payment that is made now: that of the clock, and after all moments that the past was told of.';

-- Of a moment that is still to come, nothing is promised. Where nothing can be written, on a standby or by the role for
-- reports, nothing is promised either. The lock is given up at once, not with the transaction: who looks at the past in a
-- transaction that stays open keeps nobody waiting.
create or replace function wallet._time_answered(p_moment timestamptz)
    returns void
    language plpgsql
as $$
declare
    v_lock constant bigint := bigint '1414090053'; -- 0x54494D45, "TIME"
    v_until bigint;
begin
    if (isfinite(p_moment) and p_moment <= clock_timestamp()) is not true then
        return;
    end if;
    v_until := (extract(epoch from p_moment) * 1000000)::bigint;
    if v_until > coalesce(pg_sequence_last_value('ledger.answered_until'::regclass), -1)
        and current_setting('transaction_read_only') = 'off'
    then
        perform pg_advisory_lock(v_lock);
        begin
            if v_until > coalesce(pg_sequence_last_value('ledger.answered_until'::regclass), -1) then
                perform setval('ledger.answered_until', v_until);
            end if;
        exception when query_canceled or others then
            perform pg_advisory_unlock(v_lock);
            raise;
        end;
        perform pg_advisory_unlock(v_lock);
    end if;
end
$$;

comment on function wallet._time_answered(timestamptz) is
    'Has payments made from now on be after this moment, because the past up to it is told.';
