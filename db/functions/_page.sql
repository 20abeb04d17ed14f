-- wallet._page_refusal(p_limit), wallet._currency_id(p_currency)
--
-- What the lists share: how many rows a page may have, and how a currency is named.
--
-- Returns: the code of the rule that refuses; the id of a currency
-- Locks:   nothing
-- Raises:  _currency_id: WB013 no such currency

create or replace function wallet._page_refusal(p_limit bigint)
    returns text
    language sql immutable
as $$
    select case when (p_limit is null or p_limit between 1 and 1000) is not true then 'WB061' end
$$;

comment on function wallet._page_refusal(bigint) is
    'The rule of a page, which has 1 to 1000 rows, or all (NULL): the code of the refusal, or NULL.';

create or replace function wallet._currency_id(p_currency text)
    returns bigint
    language plpgsql stable
as $$
declare
    v_id bigint;
begin
    if p_currency is not null then
        -- Each by its index: who calls this may have told PostgreSQL not to read whole tables.
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
    'The currency with this id, or else this name; NULL for NULL. Raises WB013 where there is none.';
