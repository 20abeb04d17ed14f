-- wallet.authenticate(p_secret_hash)
--
-- Finds the API key that has a secret. Callers may cache the answer: every call of a function checks what the key may
-- do, so a revoked or expired key is refused from the next call on.
--
-- Returns: the key's id and name, one row
-- Locks:   the key's row, when it records the last use, once a minute. If another transaction has locked the row, it
--          neither waits nor records
-- Writes:  ledger.api_key (last use)
-- Raises:  no valid API key, with the same lookup and text for unknown, revoked and expired keys

create or replace function wallet.authenticate(p_secret_hash bytea)
    returns table (id bigint, name text)
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_api_key ledger.api_key;
begin
    select api_key.* into v_api_key from ledger.api_key as api_key where api_key.secret_hash = p_secret_hash;
    -- not WF001: each function checks the scope
    if wallet._api_key_refusal(v_api_key, null) = 'WA001' then
        perform wallet._refuse('WA001');
    end if;
    update ledger.api_key as api_key
    set last_used_at = date_trunc('minute', clock_timestamp())
    where api_key.id = (
        select used.id
        from ledger.api_key as used
        where used.id = v_api_key.id and used.last_used_at is distinct from date_trunc('minute', clock_timestamp())
        for no key update skip locked
    );
    id := v_api_key.id;
    name := v_api_key.name;
    return next;
end
$$;

comment on function wallet.authenticate(bytea) is
    'The id and name of the valid API key whose secret has this SHA-256. Raises a refusal if there is none.';

grant execute on function wallet.authenticate(bytea) to wallet_app;
