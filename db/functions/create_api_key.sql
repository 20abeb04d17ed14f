-- wallet.create_api_key(p_name, p_scopes, p_account_ids, p_expires_at, p_tenant, p_idempotency_key, p_acting_key_id)
--
-- Creates a key for HTTP clients, which send it as "Authorization: Bearer <secret>". Only this call returns the secret;
-- the database stores its hash. The scopes are read (accounts, statements, payments, holds), pay (payments, refunds,
-- holds), admin (new accounts and currencies, status, credit limits) and keys (API keys). A key bound to accounts sees
-- only these and the payments and holds that involve them, pays only from them, and captures only holds for them. Keys of
-- one tenant share their idempotency keys (_tenant.sql); so a key that replaces another one has the same tenant. A key
-- that creates another one passes on no scope that it lacks itself.
--
-- Returns: the key, one row, with its secret. If the call was made before, under the same idempotency key, replayed is
--          true, and secret NULL; otherwise, replayed is NULL
-- Locks:   nothing
-- Writes:  ledger.api_key (one row); ledger.request (one row, under a key)
-- Raises:  refusals of the acting API key, which needs the scope keys, the idempotency key, the name, the scopes, the
--          accounts, the expiry and the tenant

create or replace function wallet._new_api_key_refusal(
    p_name text,
    p_scopes text[],
    p_account_ids bigint[],
    p_expires_at timestamptz
)
    returns text
    language sql stable
as $$
    select case
        when (char_length(p_name) between 1 and 64) is not true then 'WB071'
        when wallet._name_is_clear(p_name) is not true then 'WB018'
        when (p_scopes <@ array['read', 'pay', 'admin', 'keys'] and cardinality(p_scopes) between 1 and 4) is not true
            then 'WB072'
        when (p_account_ids is null or (
            cardinality(p_account_ids) between 1 and 100
            and (select count(*) from ledger.account as account where account.id = any (p_account_ids))
                = cardinality(p_account_ids)
        )) is not true then 'WB073'
        when (p_expires_at is null or p_expires_at > statement_timestamp()) is not true then 'WB074'
    end
$$;

comment on function wallet._new_api_key_refusal(text, text[], bigint[], timestamptz) is
    'The rules of a new API key: the code of the first violated rule, or NULL.';

create or replace function wallet._passing_on_refusal(p_acting_key_id bigint, p_scopes text[])
    returns text
    language sql stable
as $$
    select case
        when (p_acting_key_id is null or exists (
            select from ledger.api_key as acting where acting.id = p_acting_key_id and p_scopes <@ acting.scopes
        )) is not true then 'WF005'
    end
$$;

comment on function wallet._passing_on_refusal(bigint, text[]) is
    'Checks that a key (NULL: none) has the scopes that it gives to a new key: the code of the refusal, or NULL.';

create or replace function wallet.create_api_key(
    p_name text,
    p_scopes text[],
    p_account_ids bigint[] default null,
    p_expires_at timestamptz default null,
    p_tenant text default null,
    p_idempotency_key text default null,
    p_acting_key_id bigint default null
)
    returns table (
        id bigint,
        name text,
        secret text,
        scopes text[],
        account_ids bigint[],
        expires_at timestamptz,
        tenant text,
        replayed boolean
    )
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_name text := wallet._name_as_stored(p_name);
    v_tenant text := wallet._name_as_stored(p_tenant);
    v_answer jsonb;
    v_refusal text;
    v_secret_hash bytea;
begin
    perform wallet._allow_keys(p_acting_key_id);
    if p_idempotency_key is not null then
        p_idempotency_key := wallet._key_of_tenant(p_idempotency_key, p_acting_key_id, null);
    end if;
    v_answer := wallet._request_first_answer(
        'create_api_key', p_idempotency_key,
        jsonb_build_array(v_name, p_scopes, p_account_ids, extract(epoch from p_expires_at), v_tenant), p_acting_key_id
    );
    name := v_name;
    scopes := p_scopes;
    account_ids := p_account_ids;
    expires_at := p_expires_at;
    tenant := v_tenant;
    if v_answer is not null then
        id := (v_answer ->> 'id')::bigint;
        replayed := true;
        return next;
        return;
    end if;

    v_refusal := coalesce(
        wallet._new_api_key_refusal(v_name, p_scopes, p_account_ids, p_expires_at),
        wallet._tenant_refusal(v_tenant),
        wallet._passing_on_refusal(p_acting_key_id, p_scopes)
    );
    if v_refusal is not null then
        perform wallet._refuse(v_refusal);
    end if;

    -- Two random UUIDs have 244 random bits; the hash has no fixed bits between them. base64 for a URL.
    secret := 'wallet_' || rtrim(translate(
        encode(sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())), 'base64'), '+/', '-_'
    ), '=');
    -- Computed beforehand, because the server may log statements: none must contain the secret.
    v_secret_hash := sha256(convert_to(secret, 'UTF8'));

    insert into ledger.api_key as api_key (name, secret_hash, scopes, account_ids, expires_at, tenant, created_by)
    values (
        v_name, v_secret_hash, p_scopes, p_account_ids, p_expires_at, v_tenant,
        wallet._made_by(p_acting_key_id, ledger.acting_role())
    )
    on conflict on constraint api_key_name_key do nothing
    returning api_key.id into id;
    if id is null then
        perform wallet._refuse('WC071');
    end if;
    perform wallet._request_keep_answer('create_api_key', p_idempotency_key, jsonb_build_object('id', id));
    return next;
end
$$;

comment on function wallet.create_api_key(text, text[], bigint[], timestamptz, text, text, bigint) is
    'Creates an API key with a name (1 to 64 characters, unique, stored in normalization form C), scopes (read, pay, '
    'admin, keys), the accounts that it is bound to (1 to 100; NULL: all), an expiry (NULL: none) and a tenant (1 to 64 '
    'characters), whose keys share their idempotency keys; without one (NULL), it shares them with all that have none. '
    'Returns it with its secret, which cannot be retrieved later: a repeated call under the same idempotency key returns '
    'the key without it, and replayed true. p_acting_key_id: the API key that asks (NULL: none).';

grant execute on function wallet.create_api_key(text, text[], bigint[], timestamptz, text, text, bigint)
    to wallet_app, wallet_ops;
