-- wallet.ledger_position()
--
-- How far this server has the ledger, as a number that only grows: on a primary, after all changes that a session has
-- committed so far; on a standby, after those that it has replayed. A client that has made a change asks the primary for
-- its position. A standby whose position is not lower shows that change to each statement that begins afterwards.
--
-- The number is one of bytes of write-ahead log. After a failover that loses changes, it may be lower than before.
--
-- Two positions can only be compared if ledger_identity() is the same.
--
-- Returns: the position
-- Locks:   nothing
-- Raises:  nothing

create or replace function wallet.ledger_position()
    returns bigint
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_written numeric;
    v_inserted numeric;
begin
    if pg_is_in_recovery() then
        return pg_last_wal_replay_lsn() - pg_lsn '0/0';
    end if;
    -- Not only what is written: an asynchronous commit of another session may not be.
    v_inserted := pg_current_wal_insert_lsn() - pg_lsn '0/0';
    v_written := pg_current_wal_lsn() - pg_lsn '0/0';
    -- At the start of a block, what is not written may be only the block's header, which no standby replays before a
    -- record follows. The smallest record and a header are larger than 40 bytes.
    if v_written % current_setting('wal_block_size')::integer = 0 and v_inserted - v_written <= 40 then
        return v_written;
    end if;
    return v_inserted;
end
$$;

comment on function wallet.ledger_position() is
    'How far this server has the ledger: on a primary, after all committed changes; on a standby, after those that it has '
    'replayed. A standby whose position is not lower than that of the primary after a change shows the change to the next '
    'statement.';

grant execute on function wallet.ledger_position() to wallet_app, wallet_ops, wallet_reporting;
