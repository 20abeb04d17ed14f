-- wallet.list_api_keys()
--
-- Returns: all API keys, by id, including revoked ones, without secrets, which are not stored. The last use is exact to
--          the minute
-- Locks:   nothing
-- Raises:  nothing

create or replace function wallet.list_api_keys()
    returns table (
        id bigint,
        name text,
        scopes text[],
        account_ids bigint[],
        expires_at timestamptz,
        created_at timestamptz,
        created_by text,
        revoked_at timestamptz,
        revoked_by text,
        last_used_at timestamptz,
        tenant text
    )
    language sql stable
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    select
        api_key.id, api_key.name, api_key.scopes, api_key.account_ids, api_key.expires_at, api_key.created_at,
        api_key.created_by, api_key.revoked_at, api_key.revoked_by, api_key.last_used_at, api_key.tenant
    from ledger.api_key as api_key
    order by api_key.id
$$;

comment on function wallet.list_api_keys() is 'All API keys, by id, without their secrets.';

grant execute on function wallet.list_api_keys() to wallet_ops;
