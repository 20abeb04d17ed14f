-- wallet.list_currencies()
--
-- Returns: all currencies, by id
-- Locks:   nothing
-- Raises:  nothing

create or replace function wallet.list_currencies()
    returns table (id bigint, name text, scale bigint)
    language sql stable
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    select currency.id, currency.name, currency.scale::bigint
    from ledger.currency as currency
    order by currency.id
$$;

comment on function wallet.list_currencies() is 'All currencies, by id, with the decimals that their amounts may have.';
