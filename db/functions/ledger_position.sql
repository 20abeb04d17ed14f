-- wallet.ledger_position(p_mark)
--
-- How far this server has the ledger, as a number that only grows: on a primary, after all changes so far; on a standby,
-- after those that it has replayed. A client that has made a change asks the primary for its position. A standby whose
-- position is not lower shows that change to each statement that begins afterwards.
--
-- The number is one of bytes of write-ahead log. Its last records may not be on disk yet: standbys receive them with the
-- next commit. So if nothing else happens, no standby reaches this position for a while. With p_mark, this transaction
-- takes an id, and its commit is that next one.
--
-- After a failover that loses changes, the number may be lower than before. Two numbers can only be compared if
-- ledger_identity() is the same.
--
-- Returns: the position
-- Locks:   nothing
-- Raises:  nothing

create or replace function wallet.ledger_position(p_mark boolean default false)
    returns bigint
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    if pg_is_in_recovery() then
        return (pg_last_wal_replay_lsn() - pg_lsn '0/0')::bigint;
    end if;
    if p_mark then
        perform pg_current_xact_id();
    end if;
    return (pg_current_wal_insert_lsn() - pg_lsn '0/0')::bigint;
end
$$;

comment on function wallet.ledger_position(boolean) is
    'How far this server has the ledger: on a primary, after all changes; on a standby, after those that it has replayed. A '
    'standby whose position is not lower than that of the primary after a change shows the change to the next statement. '
    'p_mark: standbys reach this position soon, even if nothing else happens.';

grant execute on function wallet.ledger_position(boolean) to wallet_app, wallet_ops, wallet_reporting;
