-- wallet._time_now(), wallet._time_answered(p_moment)
--
-- The time of a payment is that of the server's clock, but always later than the moments that answers were about. So an
-- answer about the past stays true even if the clock is set back. (Functions that make payments also keep the times of
-- one account from going back.)
--
-- Returns: _time_now: the moment
-- Locks:   _time_answered: an advisory lock, while it records a moment later than all before
-- Writes:  _time_answered: ledger.answered_until
-- Raises:  nothing

-- Reads the sequence through a function, not a query: so _time_now is inlined, and needs no plan.
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
    'The time of a payment made now: the clock''s, but after every past moment that an answer has covered.';

-- Answers about the future are not recorded, nor are those that cannot write: on a standby, and for the reporting role.
-- The lock is released immediately, not at the end of the transaction, so that a long transaction that reads the past
-- blocks no other.
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
    'Makes later payments have times after this moment, because an answer now covers the past up to it.';
