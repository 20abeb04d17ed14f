-- wallet.authenticate(p_secret_hash)
--
-- Finds the API key that a client has the secret of. What the key may do, each function asks when it is called, so this
-- may be remembered: a key that is revoked, or expires, is of no use from the next call on.
--
-- Returns: the key's id and name, one row
-- Locks:   the key's row, for the moment in which its last use is noted, once a minute; it waits for nobody who has
--          locked it, and notes nothing then
-- Writes:  ledger.api_key (last use)
-- Raises:  WA001 no such key, or revoked, or expired: all by the same look-up, and in the same words; WF001 (which cannot
--          be)

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
    -- whatever it will be asked for
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
    'The API key whose secret has this SHA-256: its id and name. Raises WA001 where there is none that is valid.';

grant execute on function wallet.authenticate(bytea) to wallet_app;
