-- wallet.create_currency(p_name, p_scale, p_api_key_id)
--
-- Creates a currency, whose amounts may have so many decimals; for good.
--
-- Returns: the currency, one row
-- Locks:   nothing. Of two that ask for one name at once, the second waits for the first to commit
-- Writes:  ledger.currency (one row)
-- Raises:  WA001 no such API key, WF001 not its scope, WF002 it is bound to accounts; WB051 name, WB018 not a clear name,
--          WB052 scale, WC051 name taken
-- Roles:   wallet_app, wallet_ops

create or replace function wallet._currency_refusal(p_name text, p_scale bigint)
    returns text
    language sql immutable
as $$
    select case
        when (char_length(p_name) between 1 and 16) is not true then 'WB051'
        when wallet._name_is_clear(p_name) is not true then 'WB018'
        when (p_scale between 0 and 15) is not true then 'WB052'
    end
$$;

comment on function wallet._currency_refusal(text, bigint) is
    'The rules of a new currency: the code of the first one that refuses it, or NULL.';

create or replace function wallet.create_currency(p_name text, p_scale bigint, p_api_key_id bigint default null)
    returns table (id bigint, name text, scale bigint)
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_name text := wallet._name_as_stored(p_name);
    v_refusal text := wallet._currency_refusal(v_name, p_scale);
begin
    perform wallet._allow(p_api_key_id, 'admin', null);
    if v_refusal is not null then
        perform wallet._refuse(v_refusal);
    end if;
    return query
        insert into ledger.currency as currency (name, scale, api_key_id)
        values (v_name, p_scale::smallint, p_api_key_id)
        on conflict on constraint currency_name_key do nothing
        returning currency.id, currency.name, currency.scale::bigint;
    if not found then
        perform wallet._refuse('WC051');
    end if;
end
$$;

comment on function wallet.create_currency(text, bigint, bigint) is
    'Creates a currency with a name (1 to 16 characters, unique, stored in normalization form C) and a scale, the decimals '
    'that its amounts may have (0 to 15), and returns it; or raises the refusal: WB018, WB051, WB052, WC051.';
