-- wallet.revoke_api_key(p_api_key_id)
--
-- Revokes an API key permanently: every call that begins afterwards is refused. A repeated call keeps the first
-- time.
--
-- Returns: the key, one row, as list_api_keys does
-- Locks:   the key's row, until the transaction ends; calls that use the key do not wait for it
-- Writes:  ledger.api_key (its end)
-- Raises:  no such key

create or replace function wallet.revoke_api_key(p_api_key_id bigint)
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
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    update ledger.api_key as api_key
    set revoked_at = clock_timestamp(), revoked_by = ledger.acting_role()
    where api_key.id = p_api_key_id and api_key.revoked_at is null;
    return query select api_key.* from wallet.list_api_keys() as api_key where api_key.id = p_api_key_id;
    if not found then
        perform wallet._refuse('WN004');
    end if;
end
$$;

comment on function wallet.revoke_api_key(bigint) is
    'Revokes an API key permanently, and returns it. Raises a refusal if there is none.';

grant execute on function wallet.revoke_api_key(bigint) to wallet_ops;
