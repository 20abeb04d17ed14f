-- wallet._page_refusal(p_limit), wallet._list_refusal(p_limit, p_order, p_after_id, p_before_id),
-- wallet._page_bounds(p_order, p_after_id, p_before_id), wallet._direction(p_is_descending),
-- wallet._currency_id(p_currency)
--
-- Shared by the lists: the rules of a page, where it is, and the lookup of a currency.
--
-- A list is in ascending order, or with p_order => 'desc' in descending order. A page begins after a row (p_after_id), or
-- ends before one (p_before_id): then it is read backwards, from its end. With both, it begins after the one, and has no
-- row from the other on.
--
-- Returns: …_refusal: the code of the refusal, or NULL; _page_bounds: what the list's query needs; _direction: asc or desc;
--          _currency_id: the id of a currency
-- Locks:   nothing
-- Raises:  _currency_id: no such currency

create or replace function wallet._page_refusal(p_limit bigint)
    returns text
    language sql immutable
as $$
    select case when (p_limit is null or p_limit between 1 and 1000) is not true then 'WB061' end
$$;

comment on function wallet._page_refusal(bigint) is
    'Checks a page''s size, 1 to 1000 rows or NULL for all: the code of the refusal, or NULL.';

-- Without a size, a page that is read backwards has no beginning.
create or replace function wallet._list_refusal(p_limit bigint, p_order text, p_after_id bigint, p_before_id bigint)
    returns text
    language sql immutable
as $$
    select coalesce(
        wallet._page_refusal(p_limit),
        case
            when (p_order in ('asc', 'desc')) is not true then 'WB064'
            when (p_before_id is null or num_nonnulls(p_limit, p_after_id) > 0) is not true then 'WB065'
        end
    )
$$;

comment on function wallet._list_refusal(bigint, text, bigint, bigint) is
    'Checks what a page is asked for: the code of the first violated rule, or NULL.';

-- Ids are positive.
create or replace function wallet._page_bounds(
    p_order text,
    p_after_id bigint,
    p_before_id bigint,
    out above_id bigint,
    out until_id bigint,
    out is_backward boolean,
    out is_descending boolean,
    out reads_down boolean
)
    language sql immutable
as $$
    select
        greatest(bound.low, 0),
        case when bound.high is null then 9223372036854775807 else greatest(bound.high, 1) - 1 end,
        bound.is_backward,
        p_order = 'desc',
        bound.is_backward <> (p_order = 'desc')
    from (
        select
            case p_order when 'desc' then p_before_id else p_after_id end as low,
            case p_order when 'desc' then p_after_id else p_before_id end as high,
            p_before_id is not null and p_after_id is null as is_backward
    ) as bound
$$;

comment on function wallet._page_bounds(text, bigint, bigint) is
    'The ids that the rows of a page may have: above one, and up to another. Whether the page is read from its end; '
    'whether its rows are shown in descending order; and whether they are looked for in descending order.';

create or replace function wallet._direction(p_is_descending boolean)
    returns text
    language sql immutable
as $$
    select case when p_is_descending then 'desc' else 'asc' end
$$;

comment on function wallet._direction(boolean) is 'The direction of an order, as a query has it: asc or desc.';

create or replace function wallet._currency_id(p_currency text)
    returns bigint
    language plpgsql stable
as $$
declare
    v_id bigint;
begin
    if p_currency is not null then
        -- One query per index, because callers may have disabled sequential scans.
        select currency.id into v_id
        from ledger.currency as currency
        where currency.id = case when p_currency ~ '^[1-9][0-9]{0,17}$' then p_currency::bigint end;
        if v_id is null then
            select currency.id into v_id
            from ledger.currency as currency
            where currency.name in (p_currency, wallet._name_as_stored(p_currency))
            order by currency.name = p_currency desc
            limit 1;
        end if;
        if v_id is null then
            perform wallet._refuse('WB013', 'currency');
        end if;
    end if;
    return v_id;
end
$$;

comment on function wallet._currency_id(text) is
    'The id of the currency with this id, or else with this name; NULL for NULL. Raises a refusal if there is none.';
