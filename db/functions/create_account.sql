-- wallet.create_account(p_name, p_amount, p_currency_id, p_idempotency_key, p_api_key_id, p_metadata, p_tenant)
--
-- Creates an account with an opening balance. Under an idempotency key, repeated calls create it once.
--
-- Returns: the account as it was created, one row; replayed is true if it was created before, otherwise NULL
-- Locks:   the currency FOR KEY SHARE, so that its scale cannot change meanwhile; no account. Of two concurrent calls
--          with one name, the second waits for the first to commit
-- Writes:  ledger.account (one row), ledger.account_change (one row), ledger.request (one row, under a key)
-- Raises:  refusals of the API key (also if it is bound to accounts), the idempotency key and the new account

-- The rules of a new account, in the order in which they are checked; as in _payment.sql.
create or replace function wallet._account_refusal(
    p_name text,
    p_amount numeric,
    p_currency ledger.currency,
    p_metadata jsonb
)
    returns text
    language sql immutable
as $$
    select case
        when (char_length(p_name) between 1 and 255) is not true then 'WB011'
        when wallet._name_is_clear(p_name) is not true then 'WB018'
        when (p_amount >= 0) is not true then 'WB012'
        when wallet._is_amount(p_amount) is not true then 'WB003'
        when (p_currency.id is not null) is not true then 'WB013'
        when (min_scale(p_amount) <= p_currency.scale) is not true then 'WB009'
        when (p_metadata is null or wallet._is_metadata(p_metadata)) is not true then 'WB020'
    end
$$;

comment on function wallet._account_refusal(text, numeric, ledger.currency, jsonb) is
    'The rules of a new account: the code of the first violated rule, or NULL.';

create or replace function wallet.create_account(
    p_name text,
    p_amount numeric,
    p_currency_id bigint,
    p_idempotency_key text default null,
    p_api_key_id bigint default null,
    p_metadata jsonb default null,
    p_tenant text default null
)
    returns table (
        id bigint,
        name text,
        currency_id bigint,
        currency_name text,
        amount numeric,
        replayed boolean,
        metadata jsonb
    )
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_name text := wallet._name_as_stored(p_name);
    v_amount numeric := trim_scale(coalesce(p_amount, 0));
    v_currency ledger.currency;
    v_refusal text;
    v_answer jsonb;
begin
    perform wallet._allow(p_api_key_id, 'admin', null);
    if p_idempotency_key is not null then
        p_idempotency_key := wallet._key_of_tenant(p_idempotency_key, p_api_key_id, p_tenant);
    end if;
    v_answer := wallet._request_first_answer(
        'create_account',
        p_idempotency_key,
        jsonb_build_array(v_name, v_amount, p_currency_id)
            || case when p_metadata is null then jsonb '[]' else jsonb_build_array(p_metadata) end,
        p_api_key_id
    );
    if v_answer is not null then
        return query
            select
                account.id, account.name, account.currency_id, currency.name, account.opening_balance::numeric, true,
                account.metadata
            from ledger.account as account
            join ledger.currency as currency on currency.id = account.currency_id
            where account.id = (v_answer ->> 'id')::bigint;
        return;
    end if;

    select currency.* into v_currency
    from ledger.currency as currency where currency.id = p_currency_id for key share;
    v_refusal := wallet._account_refusal(v_name, v_amount, v_currency, p_metadata);
    if v_refusal is not null then
        perform wallet._refuse(v_refusal);
    end if;

    insert into ledger.account as account (
        name, currency_id, currency_scale, opening_balance, balance, changed_at, metadata
    )
    values (v_name, v_currency.id, v_currency.scale, v_amount, v_amount, wallet._time_now(), p_metadata)
    on conflict on constraint account_name_key do nothing
    returning account.id into id;
    if id is null then
        perform wallet._refuse('WC011');
    end if;
    perform wallet._keep_terms(id, 'active', 0, p_api_key_id);
    perform wallet._request_keep_answer('create_account', p_idempotency_key, jsonb_build_object('id', id));

    name := v_name;
    currency_id := v_currency.id;
    currency_name := v_currency.name;
    amount := v_amount;
    metadata := p_metadata;
    return next;
end
$$;

comment on function wallet.create_account(text, numeric, bigint, text, bigint, jsonb, text) is
    'Creates an account with a name (1 to 255 characters, unique, stored in normalization form C), an opening balance '
    '(0 or more; NULL: 0), a currency and metadata (NULL: none), and returns it. Under an idempotency key of p_tenant '
    '(1 to 255 characters) it takes effect once; a repeated call returns the same account with replayed true.';

grant execute on function wallet.create_account(text, numeric, bigint, text, bigint, jsonb, text) to wallet_app, wallet_ops;
