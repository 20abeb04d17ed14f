-- wallet.create_api_key(p_name, p_scopes, p_account_ids, p_expires_at, p_tenant)
--
-- Creates a key for HTTP clients, which send it as "Authorization: Bearer <secret>". Only this call returns the secret;
-- the database stores its hash. The scopes are read (accounts, statements, payments, holds), pay (payments, refunds,
-- holds) and admin (new accounts and currencies, status, credit limits). A key bound to accounts sees only these and
-- the payments and holds that involve them, pays only from them, and captures only holds for them. Keys of one tenant
-- share their idempotency keys (_tenant.sql); so a key that replaces another one has the same tenant.
--
-- Returns: the key, one row, with its secret
-- Locks:   nothing
-- Writes:  ledger.api_key (one row)
-- Raises:  refusals of the name, the scopes, the accounts, the expiry and the tenant

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
        when (p_scopes <@ array['read', 'pay', 'admin'] and cardinality(p_scopes) between 1 and 3) is not true then 'WB072'
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

create or replace function wallet.create_api_key(
    p_name text,
    p_scopes text[],
    p_account_ids bigint[] default null,
    p_expires_at timestamptz default null,
    p_tenant text default null
)
    returns table (
        id bigint,
        name text,
        secret text,
        scopes text[],
        account_ids bigint[],
        expires_at timestamptz,
        tenant text
    )
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_name text := wallet._name_as_stored(p_name);
    v_tenant text := wallet._name_as_stored(p_tenant);
    v_refusal text := coalesce(
        wallet._new_api_key_refusal(v_name, p_scopes, p_account_ids, p_expires_at), wallet._tenant_refusal(v_tenant)
    );
    v_secret_hash bytea;
begin
    if v_refusal is not null then
        perform wallet._refuse(v_refusal);
    end if;

    -- Two random UUIDs have 244 random bits; the hash has no fixed bits between them. base64 for a URL.
    secret := 'wallet_' || rtrim(translate(
        encode(sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())), 'base64'), '+/', '-_'
    ), '=');
    -- Computed beforehand, because the server may log statements: none must contain the secret.
    v_secret_hash := sha256(convert_to(secret, 'UTF8'));

    insert into ledger.api_key as api_key (name, secret_hash, scopes, account_ids, expires_at, tenant)
    values (v_name, v_secret_hash, p_scopes, p_account_ids, p_expires_at, v_tenant)
    on conflict on constraint api_key_name_key do nothing
    returning api_key.id into id;
    if id is null then
        perform wallet._refuse('WC071');
    end if;

    name := v_name;
    scopes := p_scopes;
    account_ids := p_account_ids;
    expires_at := p_expires_at;
    tenant := v_tenant;
    return next;
end
$$;

comment on function wallet.create_api_key(text, text[], bigint[], timestamptz, text) is
    'Creates an API key with a name (1 to 64 characters, unique, stored in normalization form C), scopes (read, pay, '
    'admin), the accounts that it is bound to (1 to 100; NULL: all), an expiry (NULL: none) and a tenant (1 to 64 '
    'characters), whose keys share their idempotency keys; without one (NULL), it shares them with all that have none. '
    'Returns it with its secret, which cannot be retrieved later.';

grant execute on function wallet.create_api_key(text, text[], bigint[], timestamptz, text) to wallet_ops;
