-- wallet.create_currency(p_name, p_scale, p_idempotency_key, p_api_key_id)
--
-- Creates a currency, whose amounts may have so many decimals; for good. Under an idempotency key, it is created once,
-- however often it is asked for.
--
-- Returns: the currency, one row; replayed is true where it was created before, and else NULL
-- Locks:   nothing. Of two that ask for one name at once, the second waits for the first to commit
-- Writes:  ledger.currency (one row), ledger.request (one row, under a key)
-- Raises:  WA001 no such API key, WF001 not its scope, WF002 it is bound to accounts; WB008 no idempotency key, WK003
--          the key belongs to another request; WB051 name, WB018 not a clear name,
--          WB052 scale, WC051 name taken

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

create or replace function wallet.create_currency(
    p_name text,
    p_scale bigint,
    p_idempotency_key text default null,
    p_api_key_id bigint default null
)
    returns table (id bigint, name text, scale bigint, replayed boolean)
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_name text := wallet._name_as_stored(p_name);
    v_refusal text := wallet._currency_refusal(v_name, p_scale);
    v_answer jsonb;
begin
    perform wallet._allow(p_api_key_id, 'admin', null);
    v_answer := wallet._request_answer(
        'create_currency', p_idempotency_key, jsonb_build_array(v_name, p_scale), p_api_key_id
    );
    if v_answer is not null then
        id := (v_answer ->> 'id')::bigint;
        replayed := true;
    else
        if v_refusal is not null then
            perform wallet._refuse(v_refusal);
        end if;
        insert into ledger.currency as currency (name, scale, api_key_id)
        values (v_name, p_scale::smallint, p_api_key_id)
        on conflict on constraint currency_name_key do nothing
        returning currency.id into id;
        if id is null then
            perform wallet._refuse('WC051');
        end if;
        perform wallet._request_keep_answer('create_currency', p_idempotency_key, jsonb_build_object('id', id));
    end if;
    name := v_name;
    scale := p_scale;
    return next;
end
$$;

comment on function wallet.create_currency(text, bigint, text, bigint) is
    'Creates a currency with a name (1 to 16 characters, unique, stored in normalization form C) and a scale, the decimals '
    'that its amounts may have (0 to 15), and returns it; or raises the refusal: WB008, WB018, WB051, WB052, WC051, '
    'WK003. Under an idempotency key (1 to 255 characters) it is created once; asked for again, it is returned with '
    'replayed true.';

grant execute on function wallet.create_currency(text, bigint, text, bigint) to wallet_app, wallet_ops;
