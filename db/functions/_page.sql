-- wallet._page_refusal(p_limit), wallet._currency_id(p_currency)
--
-- Shared by the lists: the rule of a page's size, and the lookup of a currency.
--
-- Returns: _page_refusal: the code of the refusal, or NULL; _currency_id: the id of a currency
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
