-- wallet.revoke_api_key(p_api_key_id, p_idempotency_key, p_acting_key_id, p_tenant)
--
-- Revokes an API key permanently: every call that begins afterwards is refused. A repeated call keeps the first
-- time.
--
-- Returns: the key, one row, as list_api_keys does; replayed is true if the call was made before, under the same
--          idempotency key, otherwise NULL
-- Locks:   the key's row, until the transaction ends; calls that use the key do not wait for it
-- Writes:  ledger.api_key (its end); ledger.request (one row, under a key)
-- Raises:  refusals of the acting API key, which needs the scope keys, and of the idempotency key; no such key

create or replace function wallet.revoke_api_key(
    p_api_key_id bigint,
    p_idempotency_key text default null,
    p_acting_key_id bigint default null,
    p_tenant text default null
)
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
        tenant text,
        replayed boolean
    )
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform wallet._allow_keys(p_acting_key_id);
    if not exists (select from ledger.api_key as api_key where api_key.id = p_api_key_id) then
        perform wallet._refuse('WN004');
    end if;
    if p_idempotency_key is not null then
        p_idempotency_key := wallet._key_of_tenant(p_idempotency_key, p_acting_key_id, p_tenant);
    end if;
    if wallet._request_first_answer(
        'revoke_api_key', p_idempotency_key, jsonb_build_array(p_api_key_id), p_acting_key_id
    ) is not null then
        replayed := true;
    else
        update ledger.api_key as api_key
        set revoked_at = clock_timestamp(), revoked_by = wallet._made_by(p_acting_key_id, ledger.acting_role())
        where api_key.id = p_api_key_id and api_key.revoked_at is null;
        perform wallet._request_keep_answer('revoke_api_key', p_idempotency_key, jsonb '{}');
    end if;
    return query
        select
            api_key.id, api_key.name, api_key.scopes, api_key.account_ids, api_key.expires_at, api_key.created_at,
            api_key.created_by, api_key.revoked_at, api_key.revoked_by, api_key.last_used_at, api_key.tenant, replayed
        from ledger.api_key as api_key
        where api_key.id = p_api_key_id;
end
$$;

comment on function wallet.revoke_api_key(bigint, text, bigint, text) is
    'Revokes an API key permanently, and returns it. Under an idempotency key of p_tenant it takes effect once; a '
    'repeated call returns the key with replayed true. p_acting_key_id: the API key that asks (NULL: none). Raises a '
    'refusal if there is no such key.';

grant execute on function wallet.revoke_api_key(bigint, text, bigint, text) to wallet_app, wallet_ops;
