-- wallet.list_holds(p_after_id, p_limit, p_account_id, p_status, p_reference, p_expires_before, p_api_key_id,
--                   p_before_id, p_order, p_metadata)
--
-- Returns a page of the holds that match the arguments, at most p_limit (_page.sql). Without arguments, it returns all;
-- to a key bound to accounts, only those that involve them.
--
-- One index gives the candidates, in order: that of the reference, else of the account (either side) or the accounts
-- that the key is bound to, the status, the id. The index of an account is ordered by status, too. (A bound key never
-- reads the index of another account.) Open holds that expire before a moment come from their own index, if they are
-- 10,000 or fewer. Further conditions filter the candidates, and a page then reads at most 10,000 of them: it may have
-- fewer rows than the limit although others follow. But for a bound key and a reference, it reads all: an early end would
-- reveal holds of other accounts.
--
-- Returns: holds, by id, the newest first with p_order => 'desc', as get_hold returns them. more, the same in all rows:
--          whether further rows follow, after p_after_id => the last row's id; if the page was read backwards, whether
--          others precede, before p_before_id => the first row's id. If a page ends before it is full, that row is not a
--          hold: all columns but id and more are NULL
-- Locks:   nothing; reads one snapshot
-- Raises:  refusals of the API key, the page, the status and the metadata

-- Row comparisons, as in _history.sql: a single index gives this order. Two bounds, so that a cursor only moves one.
-- "is not null" is the condition of the partial index on references.
create or replace function wallet._holds_by_index(p_index text, p_direction text)
    returns text
    language sql immutable
as $$
    select format(
        case p_index
            when 'reference' then 'select hold.* from ledger.hold as hold
                where (hold.reference, hold.id) > ($8, $1) and (hold.reference, hold.id) <= ($8, $11)
                    and hold.reference is not null
                order by hold.reference %1$s, hold.id %1$s'
            when 'account' then 'select distinct on (hold.id) hold.*
                from unnest($9) as party (id)
                cross join unnest($10) as wanted (status)
                cross join lateral (
                    (
                        select hold.*
                        from ledger.hold as hold
                        where (hold.buyer_account_id, hold.status, hold.id) > (party.id, wanted.status, $1)
                            and (hold.buyer_account_id, hold.status, hold.id) <= (party.id, wanted.status, $11)
                        order by hold.buyer_account_id %1$s, hold.status %1$s, hold.id %1$s
                        limit $2
                    )
                    union all
                    (
                        select hold.*
                        from ledger.hold as hold
                        where (hold.seller_account_id, hold.status, hold.id) > (party.id, wanted.status, $1)
                            and (hold.seller_account_id, hold.status, hold.id) <= (party.id, wanted.status, $11)
                        order by hold.seller_account_id %1$s, hold.status %1$s, hold.id %1$s
                        limit $2
                    )
                ) as hold
                order by hold.id %1$s'
            when 'status' then 'select hold.*
                from unnest($10) as wanted (status)
                cross join lateral (
                    select hold.*
                    from ledger.hold as hold
                    where (hold.status, hold.id) > (wanted.status, $1) and (hold.status, hold.id) <= (wanted.status, $11)
                    order by hold.status %1$s, hold.id %1$s
                    limit $2
                ) as hold
                order by hold.id %1$s'
            when 'expiry' then '(
                    with ending as materialized (
                        select hold.* from ledger.hold as hold where hold.status = ''open'' and hold.expires_at < $6
                    )
                    select hold.* from ending as hold where hold.id > $1 and hold.id <= $11 order by hold.id %1$s
                )'
            when 'id' then 'select hold.* from ledger.hold as hold
                where hold.id > $1 and hold.id <= $11 order by hold.id %1$s'
        end,
        p_direction
    )
$$;

comment on function wallet._holds_by_index(text, text) is
    'The query of list_holds for the candidates that an index gives, in a direction, asc or desc.';

create or replace function wallet.list_holds(
    p_after_id bigint default null,
    p_limit bigint default null,
    p_account_id bigint default null,
    p_status text default null,
    p_reference text default null,
    p_expires_before timestamptz default null,
    p_api_key_id bigint default null,
    p_before_id bigint default null,
    p_order text default 'asc',
    p_metadata jsonb default null
)
    returns table (
        id bigint,
        currency_id bigint,
        amount numeric,
        buyer_account_id bigint,
        seller_account_id bigint,
        operation_timestamp timestamptz,
        expires_at timestamptz,
        status text,
        payment_id bigint,
        captured_amount numeric,
        description text,
        reference text,
        made_by text,
        ended_by text,
        buyer_may_void boolean,
        more boolean,
        metadata jsonb
    )
    language plpgsql stable
    security definer
    set search_path = pg_catalog, pg_temp
    -- One index always serves, however many rows PostgreSQL expects.
    set enable_seqscan = off
as $$
declare
    v_most_looked_at constant bigint := bigint '10000';
    v_bound_ids bigint[] := wallet._bound_accounts(p_api_key_id, 'read');
    v_now timestamptz := clock_timestamp();
    v_account_ids bigint[] := case
        when v_bound_ids is not null and (p_account_id = any (v_bound_ids)) is not true then v_bound_ids
        when p_account_id is not null then array[p_account_id]
    end;
    -- An expired hold stays open until its account is locked.
    v_statuses text[] := case
        when p_status is null then array['open', 'captured', 'voided', 'expired']
        when p_status = 'expired' then array['open', 'expired']
        else array[p_status]
    end;
    v_index text := case
        when p_reference is not null then 'reference'
        when v_account_ids is not null then 'account'
        when p_status is not null then 'status'
        else 'id'
    end;
    v_page record;
    v_candidates text;
    v_narrows boolean := p_expires_before is not null
        or p_metadata is not null
        or p_status in ('open', 'expired')
        or (v_index = 'reference' and num_nonnulls(p_account_id, p_status, v_bound_ids) > 0)
        or (p_account_id = any (v_account_ids)) is false;
    v_matches text := 'true';
    v_look_at bigint := p_limit + 1;
    v_look_at_most bigint := v_look_at;
    v_looked_until bigint;
    v_number bigint;
begin
    if wallet._list_refusal(p_limit, p_order, p_after_id, p_before_id) is not null then
        perform wallet._refuse(wallet._list_refusal(p_limit, p_order, p_after_id, p_before_id));
    elsif (p_status is null or p_status in ('open', 'captured', 'voided', 'expired')) is not true then
        perform wallet._refuse('WB036');
    elsif (p_metadata is null or wallet._is_metadata(p_metadata)) is not true then
        perform wallet._refuse('WB020');
    end if;

    if v_index = 'status' and p_status = 'open' and p_expires_before is not null then
        select case when count(*) <= v_most_looked_at then 'expiry' else v_index end into v_index
        from (
            select
            from ledger.hold as hold
            where hold.status = 'open' and hold.expires_at < p_expires_before
            limit v_most_looked_at + 1
        ) as ending;
    end if;
    v_page := wallet._page_bounds(p_order, p_after_id, p_before_id);
    v_candidates := wallet._holds_by_index(v_index, wallet._direction(v_page.reads_down));
    if v_narrows then
        v_matches := '(
            ($3 is null or $3 in (source.buyer_account_id, source.seller_account_id))
            and ($4 is null or $4 = wallet._hold_status(source.status, source.expires_at, $5))
            and ($6 is null or source.expires_at < $6)
            and ($14 is null or source.metadata @> $14)
            and wallet._may_see($7, source.buyer_account_id, source.seller_account_id)
        )';
    end if;
    if v_narrows and p_limit is not null then
        v_look_at_most := case
            when v_index = 'account' then v_most_looked_at / (cardinality(v_account_ids) * cardinality(v_statuses))
            when v_index <> 'reference' or v_bound_ids is null then v_most_looked_at
        end;
        v_look_at := least(v_look_at, v_look_at_most);
    end if;
    -- Few candidates make a page, as a rule. Looks at more of them only if too few match.
    while p_limit is not null loop
        execute format(
            'select count(*) filter (where %s), case when count(*) = $2 then %s(source.id) end
            from (%s limit $2) as source',
            v_matches, case when v_page.reads_down then 'min' else 'max' end, v_candidates
        )
        into v_number, v_looked_until
        using v_page.above_id, v_look_at, p_account_id, p_status, v_now, p_expires_before, v_bound_ids,
            p_reference, v_account_ids, v_statuses, v_page.until_id, p_limit, more, p_metadata;
        exit when v_number > p_limit or v_looked_until is null or v_look_at >= v_look_at_most;
        v_look_at := least(10 * v_look_at, v_look_at_most);
    end loop;
    more := coalesce(v_number > p_limit, false) or v_looked_until is not null;
    id := case when v_number < p_limit then v_looked_until end;
    if id is not null and v_page.is_backward then
        return next;
    end if;
    return query execute format(
        'select
            source.id, source.currency_id, source.amount::numeric, source.buyer_account_id, source.seller_account_id,
            source.operation_timestamp, source.expires_at,
            wallet._hold_status(source.status, source.expires_at, $5),
            capture.id, coalesce(source.captured_amount, capture.amount), source.description, source.reference,
            case when %5$s then wallet._made_by(source.api_key_id, source.database_role) end,
            case when %5$s then wallet._made_by(source.ended_api_key_id, source.ended_database_role) end,
            source.buyer_may_void, $13, source.metadata
        from (
            select source.* from (%1$s limit $2) as source where %2$s order by source.id %3$s limit $12
        ) as source
        left join wallet._last_capture(source.id) as capture on true
        order by source.id %4$s',
        v_candidates, v_matches, wallet._direction(v_page.reads_down), wallet._direction(v_page.is_descending),
        wallet._may_see_makers(p_api_key_id)::text
    )
    using v_page.above_id, v_look_at, p_account_id, p_status, v_now, p_expires_before, v_bound_ids,
        p_reference, v_account_ids, v_statuses, v_page.until_id, p_limit, more, p_metadata;
    if id is not null and not v_page.is_backward then
        return next;
    end if;
end
$$;

comment on function wallet.list_holds(bigint, bigint, bigint, text, text, timestamptz, bigint, bigint, text, jsonb) is
    'Holds by id, the newest first with p_order => ''desc'', as get_hold shows them: after an id (NULL: all), at most '
    'p_limit, 1 to 1000 (NULL: all), of an account (on either side), of a status (open, captured, voided or expired), '
    'with a reference, expiring before a moment, whose metadata contains an object. p_before_id instead of p_after_id: '
    'the page just before an id; with both, those between. more: whether further rows follow, after the last row''s '
    'id; with p_before_id alone, whether others precede, before the first row''s id. That row is not a hold if it has '
    'only id and more.';

grant execute on function wallet.list_holds(bigint, bigint, bigint, text, text, timestamptz, bigint, bigint, text, jsonb)
    to wallet_app, wallet_ops, wallet_reporting;
