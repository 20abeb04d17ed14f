-- wallet._feed_cursor(p_payment_id, p_event_id), wallet._feed_position(p_cursor), wallet._feed_server(),
-- wallet._feed_drawn(), wallet._feed_look(), wallet._feed_writers(p_xid), wallet._feed_is_complete(p_xid, p_is_late)
--
-- The order of the feed, and up to where it is complete.
--
-- A position is two numbers, a payment id and an event id. A payment is at (its id, 0). Any other event is at (the
-- highest payment id drawn before it, its own id): after that payment, and before the next one. Positions before (0, 0)
-- belong to what is older than the table of events: see _feed_candidates.
--
-- A transaction draws positions in order, but they become visible when it commits, in any order. So the feed must not
-- show a position while a lower one may still appear. A transaction that draws positions has an id by then, because it
-- has locked accounts. So a look notes the positions drawn so far, and then takes a transaction id itself. Transactions
-- with a higher id draw higher positions. Once all transactions with lower ids have ended, the feed is complete up to
-- what was noted. This costs payments nothing: no column, no table, no lock.
--
-- Returns: a cursor, a position, or true or false; _feed_look: a position and a transaction id; _feed_writers: a text for
--          each transaction
-- Locks:   nothing
-- Raises:  _feed_position: the text is no cursor; _feed_look: the transaction has made changes; 25006 on a standby, which
--          has no transaction ids of its own

create or replace function wallet._feed_cursor(p_payment_id bigint, p_event_id bigint)
    returns text
    language sql immutable
as $$
    select p_payment_id || '.' || p_event_id
$$;

comment on function wallet._feed_cursor(bigint, bigint) is 'A position as a cursor, a text for clients.';

create or replace function wallet._feed_position(p_cursor text)
    returns bigint[]
    language plpgsql immutable
as $$
begin
    if (p_cursor is null or p_cursor ~ '^(-[1-9]|[0-9]{1,18})[.][0-9]{1,18}$') is not true then
        perform wallet._refuse('WB063');
    end if;
    return coalesce(string_to_array(p_cursor, '.')::bigint[], array[-9, 0]);
end
$$;

comment on function wallet._feed_position(text) is
    'The position of a cursor, a payment id and an event id; for NULL, one before all others. Raises a refusal for any '
    'other text.';

-- After a crash or a failover, positions may be drawn again that no committed transaction has used. So what one start of
-- a server has found to be complete says nothing about the next.
create or replace function wallet._feed_server()
    returns text
    language sql stable
as $$
    select extract(epoch from pg_postmaster_start_time())::text
$$;

comment on function wallet._feed_server() is 'Identifies this start of the server, as text.';

-- The event id after the payment id: an event with this payment id that is drawn later has a higher event id.
create or replace function wallet._feed_drawn()
    returns bigint[]
    language sql
as $$
    select array[
        coalesce(pg_sequence_last_value('ledger.payment_id_seq'::regclass), 0),
        coalesce(pg_sequence_last_value('ledger.event_id_seq'::regclass), 0)
    ]
$$;

comment on function wallet._feed_drawn() is 'A position that no later event precedes.';

-- The order counts: a transaction with a higher id draws higher positions. So the id must be a new one.
create or replace function wallet._feed_look(out drawn bigint[], out xid xid8)
    language plpgsql
as $$
begin
    if pg_is_in_recovery() then
        raise exception using
            errcode = 'read_only_sql_transaction',
            message = 'The feed cannot be read on a standby';
    elsif pg_current_xact_id_if_assigned() is not null then
        perform wallet._refuse('WC063');
    end if;
    drawn := wallet._feed_drawn();
    xid := pg_current_xact_id();
end
$$;

comment on function wallet._feed_look() is
    'The positions drawn so far, and the id that this transaction takes. The feed is complete up to there once all '
    'transactions with lower ids have ended.';

-- A transaction that draws positions has locked the table of accounts in one of these modes before, and keeps the lock
-- until it ends.
create or replace function wallet._feed_writers(p_xid xid8)
    returns setof text
    language sql
    set enable_seqscan = on
as $$
    with held as materialized (select held.* from pg_locks as held where held.granted)
    select distinct concat_ws(
        ' ', case when writer.pid is null then 'a prepared transaction' else 'process ' || writer.pid end,
        'of ' || activity.usename, nullif(activity.application_name, '')
    )
    from held as writer
    join held as its_table on its_table.virtualtransaction = writer.virtualtransaction
    left join pg_stat_activity as activity on activity.pid = writer.pid
    where writer.locktype = 'transactionid' and writer.mode = 'ExclusiveLock'
        and age(writer.transactionid) > age(p_xid::xid)
        and its_table.locktype = 'relation' and its_table.mode in ('RowShareLock', 'RowExclusiveLock')
        and its_table.relation = 'ledger.account'::regclass
        and its_table.database = (
            select database.oid from pg_database as database where database.datname = current_database()
        )
$$;

comment on function wallet._feed_writers(xid8) is
    'Which transactions with an id below this one may still add events: a description of each.';

-- Other transactions of the server, of any database, delay the first condition too. The second one, which looks at all
-- locks, is for them.
create or replace function wallet._feed_is_complete(p_xid xid8, p_is_late boolean)
    returns boolean
    language plpgsql
as $$
begin
    if pg_snapshot_xmin(pg_current_snapshot()) >= p_xid then
        return true;
    end if;
    return p_is_late and not exists (select from wallet._feed_writers(p_xid));
end
$$;

comment on function wallet._feed_is_complete(xid8, boolean) is
    'Whether all events drawn before a transaction took this id are visible to the next statement. If p_is_late is '
    'false, transactions that add no events count, too: that is cheaper to find out.';
