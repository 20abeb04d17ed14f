-- wallet.list_feed(p_after, p_limit, p_until, p_api_key_id)
--
-- Returns what has happened: payments, holds and their ends, accounts and their changes. Each event comes exactly once,
-- in an order that never changes, and none is left out: after a cursor, no event ever appears before it. To a key bound
-- to accounts, only the events that involve them.
--
-- What happened before the table of events (0011) comes first: accounts, their changes, holds, ends of holds, and then
-- payments, each by id. From then on, the order is that of their positions: see _feed.sql.
--
-- Without p_until, it finds the end itself: it waits up to a second for transactions that may still add earlier events.
-- If one of them takes longer, it returns nothing, and a notice says what it has waited for. It does the same with a
-- p_until that was found before the server was restarted.
--
-- After the cursor 'now', there are only the events that happen from now on. The call returns the cursor of the present.
--
-- Returns: events, in order, with the columns that their kind has, all others NULL. more, the same in all rows: whether
--          further events follow, after p_after => the last row's cursor. After 'now', and if the page of a bound key
--          ends after events that it may not see, the last row is not an event: all columns but cursor and more are NULL
-- Locks:   nothing
-- Raises:  refusals of the API key, the cursors and the limit; the transaction has made changes; 25006 on a standby

-- Old events have negative positions: a number for their kind, and the id of the subject. There, "not exists" leaves out
-- what was written by transactions that began before the table of events was there, and have events.
create or replace function wallet._feed_candidates(p_after bigint[], p_until bigint[], p_limit bigint)
    returns table (
        payment_id bigint,
        event_id bigint,
        is_payment boolean,
        account_id bigint,
        account_change_id bigint,
        hold_id bigint,
        ended_hold_id bigint
    )
    language sql stable
as $$
    select candidate.*
    from (
        (
            select -4::bigint, account.id, false, account.id, null::bigint, null::bigint, null::bigint
            from ledger.account as account
            where p_after[1] <= -4
                and account.id > case when p_after[1] = -4 then p_after[2] else 0 end
                and account.id <= (select origin.account_id from ledger.feed_origin as origin where origin.id = 1)
                and not exists (select from ledger.event as event where event.account_id = account.id)
            order by account.id
            limit p_limit
        )
        union all
        (
            select -3, change.id, false, null, change.id, null, null
            from ledger.account_change as change
            where p_after[1] <= -3
                and change.id > case when p_after[1] = -3 then p_after[2] else 0 end
                and change.id <= (select origin.account_change_id from ledger.feed_origin as origin where origin.id = 1)
                and not wallet._is_opening(change)
            order by change.id
            limit p_limit
        )
        union all
        (
            select -2, hold.id, false, null, null, hold.id, null
            from ledger.hold as hold
            where p_after[1] <= -2
                and hold.id > case when p_after[1] = -2 then p_after[2] else 0 end
                and hold.id <= (select origin.hold_id from ledger.feed_origin as origin where origin.id = 1)
                and not exists (select from ledger.event as event where event.hold_id = hold.id)
            order by hold.id
            limit p_limit
        )
        union all
        (
            select -1, hold.id, false, null, null, null, hold.id
            from ledger.hold as hold
            where p_after[1] <= -1
                and hold.id > case when p_after[1] = -1 then p_after[2] else 0 end
                and hold.id <= (select origin.hold_id from ledger.feed_origin as origin where origin.id = 1)
                and hold.status <> 'open'
                and not exists (select from ledger.event as event where event.ended_hold_id = hold.id)
            order by hold.id
            limit p_limit
        )
        union all
        (
            select payment.id, 0, true, null, null, null, null
            from ledger.payment as payment
            where payment.id > greatest(p_after[1], 0) and payment.id <= p_until[1]
            order by payment.id
            limit p_limit
        )
        union all
        (
            select
                event.after_payment_id, event.id, false,
                event.account_id, event.account_change_id, event.hold_id, event.ended_hold_id
            from ledger.event as event
            where (event.after_payment_id, event.id) > (p_after[1], p_after[2])
                and (event.after_payment_id, event.id) <= (p_until[1], p_until[2])
            order by event.after_payment_id, event.id
            limit p_limit
        )
    ) as candidate (payment_id, event_id, is_payment, account_id, account_change_id, hold_id, ended_hold_id)
    where (candidate.payment_id, candidate.event_id) <= (p_until[1], p_until[2])
    order by candidate.payment_id, candidate.event_id
    limit p_limit
$$;

comment on function wallet._feed_candidates(bigint[], bigint[], bigint) is
    'The positions after one and up to another, in order, at most p_limit, and what happened at each.';

create or replace function wallet._feed_end_now()
    returns bigint[]
    language plpgsql
as $$
declare
    v_most_waited constant interval := interval '1 second';
    v_begin timestamptz := clock_timestamp();
    v_look record;
begin
    v_look := wallet._feed_look();
    while not wallet._feed_is_complete(v_look.xid, clock_timestamp() > v_begin + interval '50 milliseconds') loop
        if clock_timestamp() > v_begin + v_most_waited then
            raise notice 'The feed waits for the end of a transaction: %', (
                select string_agg(writer, '; ') from wallet._feed_writers(v_look.xid) as writer
            );
            return null;
        end if;
        perform pg_sleep(0.002);
    end loop;
    return v_look.drawn;
end
$$;

comment on function wallet._feed_end_now() is
    'The position up to which the feed is complete, noted at the start of the call. Waits up to a second for '
    'transactions that may still add events, then returns NULL.';

create or replace function wallet.list_feed(
    p_after text default null,
    p_limit bigint default null,
    p_until text default null,
    p_api_key_id bigint default null
)
    returns table (
        cursor text,
        event text,
        operation_timestamp timestamptz,
        payment_id bigint,
        hold_id bigint,
        account_id bigint,
        name text,
        currency_id bigint,
        amount numeric,
        buyer_account_id bigint,
        seller_account_id bigint,
        description text,
        reference text,
        refunded_payment_id bigint,
        expires_at timestamptz,
        status text,
        credit_limit numeric,
        more boolean,
        metadata jsonb
    )
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    -- Indexes always serve, however many rows PostgreSQL expects.
    set enable_seqscan = off
    set enable_hashjoin = off
    set enable_mergejoin = off
as $$
declare
    v_bound_ids bigint[] := wallet._bound_accounts(p_api_key_id, 'read');
    v_limit bigint := coalesce(p_limit, 1000);
    v_is_now constant boolean := coalesce(p_after = 'now', false);
    v_after bigint[] := wallet._feed_position(case when not v_is_now then p_after end);
    v_until bigint[];
    -- The events of a bound key are picked from so many.
    v_look_at bigint := case when v_bound_ids is null then v_limit + 1 else 10000 end;
begin
    if wallet._page_refusal(p_limit) is not null then
        perform wallet._refuse(wallet._page_refusal(p_limit));
    end if;
    if split_part(p_until, '@', 2) = wallet._feed_server() then
        v_until := wallet._feed_position(split_part(p_until, '@', 1));
    elsif wallet._feed_drawn() > v_after then
        v_until := wallet._feed_end_now(); -- nothing to wait for if nothing was drawn since
    end if;
    if v_is_now and v_until is not null then
        cursor := wallet._feed_cursor(v_until[1], v_until[2]);
        more := false;
        return next;
    end if;
    if v_is_now or (v_until > v_after) is not true then
        return;
    end if;

    return query
        with looked_at as materialized (
            select
                candidate.*, wallet._feed_cursor(candidate.payment_id, candidate.event_id) as cursor,
                row_number() over (order by candidate.payment_id, candidate.event_id) as number
            from wallet._feed_candidates(v_after, v_until, v_look_at) as candidate
        ),
        found as materialized (
            select
                looked_at.number, looked_at.cursor, looked_at.is_payment, looked_at.account_change_id,
                looked_at.ended_hold_id, payment, hold, change, account, row_number() over (order by looked_at.number) as place
            from looked_at
            left join ledger.payment as payment on looked_at.is_payment and payment.id = looked_at.payment_id
            left join ledger.hold as hold on hold.id = coalesce(looked_at.hold_id, looked_at.ended_hold_id)
            left join ledger.account_change as change on change.id = looked_at.account_change_id
            left join ledger.account as account on account.id = coalesce(looked_at.account_id, change.account_id)
            where wallet._may_see(
                v_bound_ids,
                coalesce(payment.buyer_account_id, hold.buyer_account_id, account.id),
                coalesce(payment.seller_account_id, hold.seller_account_id, account.id)
            )
            order by looked_at.number
            limit v_limit + 1
        ),
        page as (
            select
                count(*) > v_limit or (select count(*) = v_look_at from looked_at) as more,
                case when count(*) <= v_limit then coalesce(max(found.number), 0) end as number
            from found
        )
        select
            found.cursor,
            case
                when found.is_payment then 'payment_made'
                when found.ended_hold_id is not null then 'hold_ended'
                when (found.hold).id is not null then 'hold_created'
                when found.account_change_id is not null then 'account_changed'
                else 'account_created'
            end,
            case
                when found.is_payment then (found.payment).operation_timestamp
                when found.ended_hold_id is not null then (found.hold).ended_at
                when (found.hold).id is not null then (found.hold).operation_timestamp
                when found.account_change_id is not null then (found.change).changed_at
                else (found.account).created_at
            end,
            (found.payment).id,
            coalesce((found.payment).hold_id, (found.hold).id),
            (found.account).id,
            case when found.account_change_id is null then (found.account).name end,
            coalesce(
                (found.payment).currency_id, (found.hold).currency_id,
                case when found.account_change_id is null then (found.account).currency_id end
            ),
            coalesce(
                (found.payment).amount, (found.hold).amount,
                case when found.account_change_id is null then (found.account).opening_balance end
            )::numeric,
            coalesce((found.payment).buyer_account_id, (found.hold).buyer_account_id),
            coalesce((found.payment).seller_account_id, (found.hold).seller_account_id),
            coalesce((found.payment).description, (found.hold).description),
            coalesce((found.payment).reference, (found.hold).reference),
            (found.payment).refunded_payment_id,
            (found.hold).expires_at,
            case when found.ended_hold_id is not null then (found.hold).status else (found.change).status end,
            (found.change).credit_limit,
            page.more,
            coalesce(
                (found.payment).metadata, (found.hold).metadata,
                case when found.account_change_id is null then (found.account).metadata end
            )
        from found, page
        where found.place <= v_limit
        union all
        select
            looked_at.cursor, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null,
            page.more, null
        from page
        cross join (select looked_at.* from looked_at order by looked_at.number desc limit 1) as looked_at
        where v_bound_ids is not null and looked_at.number > page.number;
end
$$;

comment on function wallet.list_feed(text, bigint, text, bigint) is
    'What has happened after a cursor (NULL: from the beginning; now: only what happens from now on), at most p_limit '
    'events, 1 to 1000 (NULL: 1000): payments, holds, ends of holds, accounts, changes of accounts. Each comes exactly '
    'once, in an order that never changes. p_until: only up to this end, from feed_end; NULL: up to the present. '
    'more: whether further events follow now. A last row with only cursor and more is not an event.';

grant execute on function wallet.list_feed(text, bigint, text, bigint) to wallet_app, wallet_ops, wallet_reporting;
