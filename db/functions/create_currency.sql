-- wallet.create_currency(p_name, p_scale, p_idempotency_key, p_api_key_id, p_tenant)
--
-- Creates a currency. Under an idempotency key, repeated calls create it once.
--
-- Returns: the currency, one row; replayed is true if it was created before, otherwise NULL
-- Locks:   nothing. Of two concurrent calls with one name, the second waits for the first to commit
-- Writes:  ledger.currency (one row), ledger.request (one row, under a key)
-- Raises:  refusals of the API key (also if it is bound to accounts), the idempotency key, the name and the scale

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
    'The rules of a new currency: the code of the first violated rule, or NULL.';

create or replace function wallet.create_currency(
    p_name text,
    p_scale bigint,
    p_idempotency_key text default null,
    p_api_key_id bigint default null,
    p_tenant text default null
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
    if p_idempotency_key is not null then
        p_idempotency_key := wallet._key_of_tenant(p_idempotency_key, p_api_key_id, p_tenant);
    end if;
    v_answer := wallet._request_first_answer(
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

comment on function wallet.create_currency(text, bigint, text, bigint, text) is
    'Creates a currency with a name (1 to 16 characters, unique, stored in normalization form C) and a scale, the '
    'number of decimals of its amounts (0 to 15), and returns it. Under an idempotency key of p_tenant (1 to 255 '
    'characters) it takes effect once; a repeated call returns the same currency with replayed true.';

grant execute on function wallet.create_currency(text, bigint, text, bigint, text) to wallet_app, wallet_ops;
