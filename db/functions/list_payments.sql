-- wallet.list_payments(p_after_id, p_limit, p_account_id, p_buyer_account_id, p_seller_account_id, p_currency,
--                      p_from, p_to, p_min, p_max, p_reference, p_refunded_payment_id, p_api_key_id,
--                      p_before_id, p_order, p_hold_id, p_metadata)
--
-- Returns a page of the payments that match the arguments, at most p_limit (_page.sql). Without arguments, it returns
-- all; to a key bound to accounts, only those that involve them.
--
-- One index gives the candidates, in order: that of the refunded payment, else of the captured hold, the reference, the
-- buyer, the seller, the account (either side), the accounts that the key is bound to, the time, the metadata, the id. (A
-- bound key never reads the index of another account, nor the refunds of a payment or the captures of a hold that it may
-- not see.) Further conditions filter the candidates, and a page then reads at most 10,000 of them: it may have fewer rows
-- than the limit although others follow. But for a bound key and a reference, it reads all: an early end would reveal
-- payments of other accounts.
--
-- The index of the metadata is optional: docs/recipes.md creates it. It has no order, so it gives the candidates only
-- if they are so few that each page can read all of them.
--
-- Returns: payments, oldest first, or newest first with p_order => 'desc': by id; by time and id if the index is that of
--          the time. more, the same in all rows: whether further rows follow, after p_after_id => the last row's id; if
--          the page was read backwards, whether others precede, before p_before_id => the first row's id. If a page ends
--          before it is full, that row is not a payment: all columns but id and more are NULL
-- Locks:   nothing; reads one snapshot
-- Writes:  ledger.answered_until, if it reports on a later moment than any answer before: the answer stays true
-- Raises:  refusals of the API key, the page, the metadata, and min or max; no such currency

create or replace function wallet._index_of_payments(
    p_refunded_payment_id bigint,
    p_hold_id bigint,
    p_reference text,
    p_of_bound boolean,
    p_buyer_account_id bigint,
    p_seller_account_id bigint,
    p_account_id bigint,
    p_from timestamptz,
    p_to timestamptz
)
    returns text
    language sql immutable
as $$
    select case
        when p_refunded_payment_id is not null then 'refunds'
        when p_hold_id is not null then 'captures'
        when p_reference is not null then 'reference'
        when p_of_bound then 'bound'
        when p_buyer_account_id is not null then 'buyer'
        when p_seller_account_id is not null then 'seller'
        when p_account_id is not null then 'account'
        when p_from is not null or p_to is not null then 'time'
        else 'id'
    end
$$;

comment on function wallet._index_of_payments(
    bigint, bigint, text, boolean, bigint, bigint, bigint, timestamptz, timestamptz
) is
    'The index that gives the candidates of a list. p_of_bound: those of the accounts that the API key is bound to.';

-- Row comparisons, as in _history.sql: a single index gives this order. Two bounds, so that a cursor only moves one.
-- "is not null" is the condition of a partial index, which PostgreSQL does not derive from a row comparison.
create or replace function wallet._payments_by_index(p_index text, p_direction text)
    returns text
    language sql immutable
as $$
    select format(
        case p_index
            when 'refunds' then 'select payment.* from ledger.payment as payment
                where (payment.refunded_payment_id, payment.id) > ($4, $1)
                    and (payment.refunded_payment_id, payment.id) <= ($4, $2)
                    and payment.refunded_payment_id is not null
                order by payment.refunded_payment_id %1$s, payment.id %1$s'
            when 'captures' then 'select payment.* from ledger.payment as payment
                where (payment.hold_id, payment.id) > ($4, $1) and (payment.hold_id, payment.id) <= ($4, $2)
                    and payment.hold_id is not null
                order by payment.hold_id %1$s, payment.id %1$s'
            when 'reference' then 'select payment.* from ledger.payment as payment
                where (payment.reference, payment.id) > ($5, $1) and (payment.reference, payment.id) <= ($5, $2)
                    and payment.reference is not null
                order by payment.reference %1$s, payment.id %1$s'
            when 'bound' then 'select payment.*
                from wallet._history_of_several($16, $1, $2, $7, $8, $3, %1$L) as payment
                order by payment.id %1$s'
            when 'buyer' then 'select payment.* from ledger.payment as payment
                where (payment.buyer_account_id, payment.id) > ($4, $1)
                    and (payment.buyer_account_id, payment.id) <= ($4, $2)
                order by payment.buyer_account_id %1$s, payment.id %1$s'
            when 'seller' then 'select payment.* from ledger.payment as payment
                where (payment.seller_account_id, payment.id) > ($4, $1)
                    and (payment.seller_account_id, payment.id) <= ($4, $2)
                order by payment.seller_account_id %1$s, payment.id %1$s'
            when 'account' then 'select payment.* from wallet._history_in_direction($4, $1, $2, $3, %1$L) as payment
                order by payment.id %1$s'
            when 'time' then 'select payment.* from ledger.payment as payment
                where (payment.operation_timestamp, payment.id) > ($7, $1)
                    and (payment.operation_timestamp, payment.id) <= ($8, $2)
                order by payment.operation_timestamp %1$s, payment.id %1$s'
            when 'metadata' then '(
                    with matching as materialized (
                        select payment.* from ledger.payment as payment where payment.metadata @> $18
                    )
                    select payment.* from matching as payment
                    where payment.id > $1 and payment.id <= $2 order by payment.id %1$s
                )'
            when 'id' then 'select payment.* from ledger.payment as payment
                where payment.id > $1 and payment.id <= $2 order by payment.id %1$s'
        end,
        p_direction
    )
$$;

comment on function wallet._payments_by_index(text, text) is
    'The query of list_payments for the candidates that an index gives, in a direction, asc or desc.';

-- By time, a cursor is the time of its payment and its id. An id that no payment has stands for the nearest one that the
-- page does not have.
create or replace function wallet._time_bounds(
    p_above_id bigint,
    p_until_id bigint,
    p_from timestamptz,
    p_to timestamptz,
    out above_time timestamptz,
    out above_id bigint,
    out until_time timestamptz,
    out until_id bigint
)
    language plpgsql stable
as $$
begin
    above_id := p_above_id;
    until_id := p_until_id;
    select payment.operation_timestamp into above_time
    from ledger.payment as payment
    where payment.id <= p_above_id
    order by payment.id desc
    limit 1;
    select payment.operation_timestamp into until_time
    from ledger.payment as payment
    where payment.id > p_until_id
    order by payment.id
    limit 1;
    if (above_time >= p_from) is not true then
        above_time := p_from;
        above_id := 0;
    end if;
    if (until_time < p_to) is not true then
        until_time := p_to;
        until_id := 0;
    end if;
end
$$;

comment on function wallet._time_bounds(bigint, bigint, timestamptz, timestamptz) is
    'The bounds of a page of payments by time, from one moment until before another: above a time and an id, and up to a '
    'time and an id.';

-- Metadata without any value, such as {"a": {}}, has no entries in the index. A materialized query is planned by itself:
-- a limit does not make PostgreSQL read another index in the hope of finding some soon.
create or replace function wallet._metadata_index_serves(p_metadata jsonb, p_most bigint)
    returns boolean
    language plpgsql stable
as $$
begin
    if exists (
            select
            from pg_index as index
            join pg_class as class on class.oid = index.indexrelid
            join pg_am as method on method.oid = class.relam
            where index.indexrelid = to_regclass('ledger.payment_metadata_idx')
                and index.indrelid = 'ledger.payment'::regclass and index.indisvalid and method.amname = 'gin'
                and pg_get_indexdef(index.indexrelid, 1, true) = 'metadata'
        )
        and jsonb_path_exists(p_metadata, '$.** ? (@.type() != "object" && @.type() != "array")')
    then
        return (
            with matching as materialized (
                select payment.id from ledger.payment as payment where payment.metadata @> p_metadata
            )
            select count(*) <= p_most from (select from matching limit p_most + 1) as counted
        );
    end if;
    return false;
end
$$;

comment on function wallet._metadata_index_serves(jsonb, bigint) is
    'Whether ledger.payment_metadata_idx exists, and finds at most so many payments that contain this metadata.';

create or replace function wallet.list_payments(
    p_after_id bigint default null,
    p_limit bigint default null,
    p_account_id bigint default null,
    p_buyer_account_id bigint default null,
    p_seller_account_id bigint default null,
    p_currency text default null,
    p_from timestamptz default null,
    p_to timestamptz default null,
    p_min numeric default null,
    p_max numeric default null,
    p_reference text default null,
    p_refunded_payment_id bigint default null,
    p_api_key_id bigint default null,
    p_before_id bigint default null,
    p_order text default 'asc',
    p_hold_id bigint default null,
    p_metadata jsonb default null
)
    returns table (
        id bigint,
        currency_id bigint,
        currency_name text,
        amount numeric,
        buyer_account_id bigint,
        seller_account_id bigint,
        operation_timestamp timestamptz,
        description text,
        reference text,
        refunded_payment_id bigint,
        hold_id bigint,
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
    v_currency_id bigint := wallet._currency_id(p_currency);
    v_account_id bigint := coalesce(p_buyer_account_id, p_seller_account_id, p_account_id);
    v_of_bound boolean := v_bound_ids is not null and (v_account_id = any (v_bound_ids)) is not true;
    v_index text := wallet._index_of_payments(
        p_refunded_payment_id, p_hold_id, p_reference, v_of_bound, p_buyer_account_id, p_seller_account_id, p_account_id,
        p_from, p_to
    );
    v_key bigint := v_account_id; -- what the index is of
    v_page record;
    v_direction text;
    v_after_id bigint;
    v_until_id bigint;
    v_from timestamptz := coalesce(p_from, '-infinity');
    v_to timestamptz := coalesce(p_to, 'infinity');
    v_narrows boolean;
    v_look_at bigint;
    v_looked_until bigint;
    v_by text := case v_index when 'time' then 'source.operation_timestamp %1$s, source.id %1$s' else 'source.id %1$s' end;
    v_order text;
    v_found text;
    v_end text := 'null::bigint';
    v_number bigint;
begin
    if wallet._list_refusal(p_limit, p_order, p_after_id, p_before_id) is not null then
        perform wallet._refuse(wallet._list_refusal(p_limit, p_order, p_after_id, p_before_id));
    elsif (coalesce(wallet._is_amount(p_min), true) and coalesce(wallet._is_amount(p_max), true)) is not true then
        perform wallet._refuse('WB062');
    elsif (p_metadata is null or wallet._is_metadata(p_metadata)) is not true then
        perform wallet._refuse('WB020');
    end if;

    perform wallet._time_answered(greatest(p_from, p_to) - interval '1 microsecond');
    v_page := wallet._page_bounds(p_order, p_after_id, p_before_id);
    v_direction := wallet._direction(v_page.reads_down);
    v_after_id := v_page.above_id;
    v_until_id := v_page.until_id;
    -- For an account, the times select a part of its history. (A bound key must not read that of another account.)
    if v_index in ('buyer', 'seller', 'account') then
        if p_from is not null then
            v_after_id := greatest(v_after_id, wallet._last_payment_before(v_account_id, p_from));
        end if;
        if p_to is not null then
            v_until_id := least(v_until_id, wallet._last_payment_before(v_account_id, p_to));
        end if;
    elsif v_index = 'refunds' then
        -- Refunds have the accounts of their payment, and captures those of their hold: a bound key sees all, or none.
        v_key := (
            select payment.id
            from ledger.payment as payment
            where payment.id = p_refunded_payment_id
                and wallet._may_see(v_bound_ids, payment.buyer_account_id, payment.seller_account_id)
        );
    elsif v_index = 'captures' then
        v_key := (
            select hold.id
            from ledger.hold as hold
            where hold.id = p_hold_id and wallet._may_see(v_bound_ids, hold.buyer_account_id, hold.seller_account_id)
        );
    elsif v_index = 'time' then
        select bounds.above_id, bounds.above_time, bounds.until_id, bounds.until_time
        into v_after_id, v_from, v_until_id, v_to
        from wallet._time_bounds(v_after_id, v_until_id, v_from, v_to) as bounds;
    elsif v_index = 'id' and p_metadata is not null and wallet._metadata_index_serves(p_metadata, v_most_looked_at) then
        v_index := 'metadata';
    end if;

    v_order := format(v_by, v_direction);
    v_found := format(
        'select source.* from (%s limit $3) as source', wallet._payments_by_index(v_index, v_direction)
    );
    v_narrows := num_nonnulls(
            p_refunded_payment_id, p_hold_id, p_reference, p_buyer_account_id, p_seller_account_id, p_account_id
        ) > case when v_index in ('bound', 'time', 'metadata', 'id') then 0 else 1 end
        or (p_metadata is not null and v_index <> 'metadata')
        or num_nonnulls(p_currency, p_min, p_max) > 0
        or (v_index in ('refunds', 'captures', 'reference') and num_nonnulls(p_from, p_to) > 0)
        or (v_index = 'reference' and v_bound_ids is not null);
    v_look_at := p_limit + 1;
    if v_narrows and p_limit is not null then
        v_look_at := case when v_index <> 'reference' or v_bound_ids is null
            then v_most_looked_at / coalesce(cardinality(v_bound_ids), 1) end;
        v_end := format(
            '(
                select source.id
                from (select source.id, row_number() over (order by %s) as number from (%s) as source) as source
                where source.number = $3
            )',
            v_order, v_found
        );
    end if;
    if v_narrows then
        v_found := v_found || '
            where ($9 is null or source.currency_id = $9)
                and ($10 is null or source.amount >= $10)
                and ($11 is null or source.amount <= $11)
                and ($12 is null or source.buyer_account_id = $12)
                and ($13 is null or source.seller_account_id = $13)
                and ($14 is null or $14 in (source.buyer_account_id, source.seller_account_id))
                and ($5 is null or source.reference = $5)
                and ($6 is null or source.hold_id = $6)
                and ($18 is null or source.metadata @> $18)
                and wallet._may_see($16, source.buyer_account_id, source.seller_account_id)'
            -- all other indexes have applied the times
            || case when v_index in ('refunds', 'captures', 'reference')
                then ' and source.operation_timestamp >= $7 and source.operation_timestamp < $8' else '' end;
    end if;

    -- A separate count costs less than to compute for each row whether another one follows.
    execute format(
        'select %s, (select count(*) from (%s order by %s limit $15 + 1) as source)', v_end, v_found, v_order
    )
    into v_looked_until, v_number
    using v_after_id, v_until_id, v_look_at, v_key, p_reference, p_hold_id, v_from, v_to,
        v_currency_id, p_min, p_max, p_buyer_account_id, p_seller_account_id, p_account_id, p_limit, v_bound_ids,
        more, p_metadata;
    more := coalesce(v_number > p_limit, false) or v_looked_until is not null;
    id := case when v_number < p_limit then v_looked_until end;
    if id is not null and v_page.is_backward then
        return next;
    end if;
    return query execute format(
        'select
            source.id, source.currency_id, currency.name, source.amount::numeric,
            source.buyer_account_id, source.seller_account_id, source.operation_timestamp,
            source.description, source.reference, source.refunded_payment_id, source.hold_id, $17,
            source.metadata
        from (%s order by %s limit $15) as source
        join ledger.currency as currency on currency.id = source.currency_id
        order by %s',
        v_found, v_order, format(v_by, wallet._direction(v_page.is_descending))
    )
    using v_after_id, v_until_id, v_look_at, v_key, p_reference, p_hold_id, v_from, v_to,
        v_currency_id, p_min, p_max, p_buyer_account_id, p_seller_account_id, p_account_id, p_limit, v_bound_ids,
        more, p_metadata;
    if id is not null and not v_page.is_backward then
        return next;
    end if;
end
$$;

comment on function wallet.list_payments(
    bigint, bigint, bigint, bigint, bigint, text, timestamptz, timestamptz, numeric, numeric, text, bigint, bigint,
    bigint, text, bigint, jsonb
) is
    'Payments, oldest first, or newest first with p_order => ''desc'': after an id (NULL: all), at most p_limit, 1 to '
    '1000 (NULL: all), of an account, a buyer, a seller, a currency (id or name), from a moment (p_from) until before '
    'another (p_to), of an amount from p_min to p_max, with a reference, that refund a payment, that capture a hold, '
    'or whose metadata contains an object. p_before_id instead of p_after_id: the page just before an id; with both, '
    'those between. more: whether further rows follow, after the last row''s id; with p_before_id alone, whether others '
    'precede, before the first row''s id. That row is not a payment if it has only id and more.';

grant execute on function wallet.list_payments(
    bigint, bigint, bigint, bigint, bigint, text, timestamptz, timestamptz, numeric, numeric, text, bigint, bigint,
    bigint, text, bigint, jsonb
) to wallet_app, wallet_ops, wallet_reporting;
