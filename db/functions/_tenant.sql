-- wallet._tenant_refusal(p_tenant), wallet._key_as_stored(p_idempotency_key, p_tenant),
-- wallet._key_of_tenant(p_idempotency_key, p_api_key_id, p_tenant),
-- wallet._keys_of_tenants(p_idempotency_keys, p_api_key_ids, p_tenant)
--
-- Whose an idempotency key is. API keys of one tenant share their idempotency keys, and never meet those of other
-- tenants. All requests without a tenant share one space.
--
-- A tenant's key is stored as U+001F, the tenant, U+001F, the key, so that one unique index serves all tenants. A tenant
-- has no control characters, and no client's key begins with U+001F: so two tenants never have the same stored key, and
-- no client without a tenant can name a key of one.
--
-- Returns: _tenant_refusal: the code of the refusal, or NULL; the others: keys as they are stored, NULL for NULL
-- Locks:   nothing
-- Raises:  _key_of_tenant: refusals of the idempotency key and the tenant; _keys_of_tenants: of the tenant

create or replace function wallet._tenant_refusal(p_tenant text)
    returns text
    language sql immutable
as $$
    select case
        when (p_tenant is null or (char_length(p_tenant) between 1 and 64 and wallet._name_is_clear(p_tenant))) is not true
            then 'WB075'
    end
$$;

comment on function wallet._tenant_refusal(text) is
    'The rules of a tenant''s name, in normalization form C; NULL is none: the code of the refusal, or NULL.';

create or replace function wallet._key_as_stored(p_idempotency_key text, p_tenant text)
    returns text
    language sql immutable
as $$
    select coalesce(chr(31) || p_tenant || chr(31) || p_idempotency_key, p_idempotency_key)
$$;

comment on function wallet._key_as_stored(text, text) is
    'An idempotency key of a tenant (NULL: of none) as it is stored.';

create or replace function wallet._key_of_tenant(p_idempotency_key text, p_api_key_id bigint, p_tenant text)
    returns text
    language plpgsql stable
as $$
declare
    v_tenant text := wallet._name_as_stored(p_tenant);
    v_refusal text := coalesce(wallet._key_form_refusal(p_idempotency_key), wallet._tenant_refusal(v_tenant));
begin
    if v_refusal is not null then
        perform wallet._refuse(v_refusal);
    end if;
    if p_api_key_id is not null then
        select api_key.tenant into v_tenant from ledger.api_key as api_key where api_key.id = p_api_key_id;
    end if;
    return wallet._key_as_stored(p_idempotency_key, v_tenant);
end
$$;

comment on function wallet._key_of_tenant(text, bigint, text) is
    'An idempotency key as it is stored for the tenant of an API key or, without an API key, for p_tenant. Raises '
    'refusals of the key and of p_tenant.';

-- Does not refuse keys: in a batch, each payment has its own refusal.
create or replace function wallet._keys_of_tenants(p_idempotency_keys text[], p_api_key_ids bigint[], p_tenant text)
    returns text[]
    language plpgsql stable
as $$
declare
    v_tenant constant text := wallet._name_as_stored(p_tenant);
begin
    if wallet._tenant_refusal(v_tenant) is not null then
        perform wallet._refuse(wallet._tenant_refusal(v_tenant));
    end if;
    return array(
        select wallet._key_as_stored(
            request.idempotency_key, case when request.api_key_id is null then v_tenant else api_key.tenant end
        )
        from unnest(p_idempotency_keys, p_api_key_ids) with ordinality as request (idempotency_key, api_key_id, number)
        left join ledger.api_key as api_key on api_key.id = request.api_key_id
        order by request.number
    );
end
$$;

comment on function wallet._keys_of_tenants(text[], bigint[], text) is
    'The idempotency keys of payments as they are stored, each for the tenant of its API key or, without one, for '
    'p_tenant. Raises a refusal of p_tenant.';
