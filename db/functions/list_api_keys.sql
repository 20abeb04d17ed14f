-- wallet.list_api_keys(p_acting_key_id)
--
-- Returns: all API keys, by id, including revoked ones, without secrets, which are not stored. The last use is exact to
--          the minute
-- Locks:   nothing
-- Raises:  refusals of the acting API key, which needs the scope keys

create or replace function wallet.list_api_keys(p_acting_key_id bigint default null)
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
    language plpgsql stable
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform wallet._allow_keys(p_acting_key_id);
    return query
        select
            api_key.id, api_key.name, api_key.scopes, api_key.account_ids, api_key.expires_at, api_key.created_at,
            api_key.created_by, api_key.revoked_at, api_key.revoked_by, api_key.last_used_at, api_key.tenant
        from ledger.api_key as api_key
        order by api_key.id;
end
$$;

comment on function wallet.list_api_keys(bigint) is
    'All API keys, by id, without their secrets. p_acting_key_id: the API key that asks (NULL: none).';

grant execute on function wallet.list_api_keys(bigint) to wallet_app, wallet_ops;
