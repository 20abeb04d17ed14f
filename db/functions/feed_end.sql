-- wallet.feed_end(p_looks)
--
-- Finds the position up to which the feed is complete, for a reader that calls it again and again, some times a second,
-- and passes back what it got. Each call notes how far events have been drawn (a look), and finds which earlier looks
-- are complete. So a reader sees an event soon after its transaction ends, even if others are always under way.
--
-- It also releases holds that have expired, so that their ends are events without another call for their accounts.
--
-- Returns: one row. feed_end: the end, for p_until of list_feed; NULL if no look is complete yet. looks: for the next
--          call. waits_for: which transactions the end has waited for, for more than a second, as text, or NULL
-- Locks:   accounts with expired holds, FOR NO KEY UPDATE, if no other transaction has locked them
-- Writes:  ledger.hold (expired holds), ledger.account (held)
-- Raises:  the transaction has made changes; 25006 on a standby; an error if p_looks is not from this function

create or replace function wallet._release_all_expired()
    returns void
    language plpgsql
as $$
declare
    v_now timestamptz := clock_timestamp();
    v_account ledger.account;
begin
    for v_account in
        select account.*
        from ledger.account as account
        where account.id in (
            select hold.buyer_account_id
            from ledger.hold as hold
            where hold.status = 'open' and hold.expires_at <= v_now
            order by hold.expires_at
            limit 100
        )
        order by account.id
        for no key update skip locked
    loop
        perform wallet._release_expired_holds(v_account.id, v_account.held);
    end loop;
end
$$;

comment on function wallet._release_all_expired() is
    'Ends expired holds of accounts that no other transaction has locked, up to 100 holds at a time.';

-- p_looks: {"server": …, "end": […] or null, "looks": [[payment id, event id, transaction id, seconds since 1970], …]},
-- the oldest look first.
create or replace function wallet.feed_end(p_looks jsonb default null)
    returns table (feed_end text, looks jsonb, waits_for text)
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
as $$
declare
    v_most_looks constant integer := 20;
    v_now numeric := extract(epoch from clock_timestamp());
    v_end jsonb;
    v_looks jsonb := jsonb '[]';
    v_waited numeric := numeric '0';
    v_look record;
begin
    if p_looks ->> 'server' = wallet._feed_server() then
        v_end := p_looks -> 'end';
        v_looks := p_looks -> 'looks';
    end if;
    while jsonb_array_length(v_looks) > 0 loop
        v_waited := v_now - (v_looks -> 0 ->> 3)::numeric;
        exit when not wallet._feed_is_complete((v_looks -> 0 ->> 2)::xid8, v_waited > 0.1);
        v_end := (v_looks -> 0) - 3 - 2;
        v_looks := v_looks - 0;
        v_waited := numeric '0';
    end loop;
    if v_waited > 1 then
        waits_for := (
            select string_agg(writer, '; ') from wallet._feed_writers((v_looks -> 0 ->> 2)::xid8) as writer
        );
    end if;

    -- Nothing to look for if nothing was drawn since the last look.
    if to_jsonb(wallet._feed_drawn()) is distinct from coalesce((v_looks -> -1) - 3 - 2, v_end)
        and jsonb_array_length(v_looks) < v_most_looks
    then
        v_look := wallet._feed_look();
        v_looks := v_looks || jsonb_build_array(to_jsonb(v_look.drawn) || jsonb_build_array(v_look.xid::text, v_now));
    end if;
    -- After the look, which takes the transaction's id.
    if current_setting('transaction_read_only') = 'off' then
        perform wallet._release_all_expired();
    end if;
    feed_end := wallet._feed_cursor((v_end ->> 0)::bigint, (v_end ->> 1)::bigint) || '@' || wallet._feed_server();
    looks := jsonb_build_object('server', wallet._feed_server(), 'end', v_end, 'looks', v_looks);
    return next;
end
$$;

comment on function wallet.feed_end(jsonb) is
    'The position up to which the feed is complete, for p_until of list_feed, and the looks to pass to the next call. '
    'To be called again and again: the end moves past an event soon after its transaction ends. waits_for: the '
    'transactions that have kept the end from moving for more than a second. Ends expired holds.';

grant execute on function wallet.feed_end(jsonb) to wallet_app, wallet_ops;
