-- wallet.list_currencies(p_api_key_id)
--
-- Returns: all currencies, by id
-- Locks:   nothing
-- Raises:  refusals of the API key

create or replace function wallet.list_currencies(p_api_key_id bigint default null)
    returns table (id bigint, name text, scale bigint)
    language plpgsql stable
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform wallet._bound_accounts(p_api_key_id, 'read');
    return query
        select currency.id, currency.name, currency.scale::bigint
        from ledger.currency as currency
        order by currency.id;
end
$$;

comment on function wallet.list_currencies(bigint) is
    'All currencies, by id, with the number of decimals of their amounts.';

grant execute on function wallet.list_currencies(bigint) to wallet_app, wallet_ops, wallet_reporting;
