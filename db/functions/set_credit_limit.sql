-- wallet.set_credit_limit(p_account_id, p_amount, p_idempotency_key, p_api_key_id, p_tenant)
--
-- Sets how far an account's balance may go below zero: 0, as for a new account, allows no overdraft.
--
-- Returns: the account, one row, as get_account does; replayed is true if the call was made before, under the same
--          idempotency key, and the account is then as it was after that call; otherwise replayed is NULL
-- Locks:   the account FOR NO KEY UPDATE, before it checks it, until the transaction ends
-- Writes:  ledger.account (credit limit) and ledger.account_change (one row), if it changes; ledger.hold (expired
--          holds); ledger.request (one row, under a key)
-- Raises:  refusals of the API key, the idempotency key and the limit; no such account; the balance or holds need a
--          higher limit

create or replace function wallet._limit_refusal(p_account ledger.account, p_amount numeric)
    returns text
    language sql immutable
as $$
    select case
        when p_amount < 0 then 'WB012'
        when wallet._is_amount(p_amount) is not true then 'WB003'
        when (p_account.id is not null) is not true then 'WN001'
        when (min_scale(p_amount) <= p_account.currency_scale) is not true then 'WB009'
        when (wallet._available(p_account.balance, p_amount, p_account.held) >= 0) is not true then 'WC043'
    end
$$;

comment on function wallet._limit_refusal(ledger.account, numeric) is
    'The rules of a credit limit: the code of the first violated rule, or NULL.';

create or replace function wallet.set_credit_limit(
    p_account_id bigint,
    p_amount numeric,
    p_idempotency_key text default null,
    p_api_key_id bigint default null,
    p_tenant text default null
)
    returns table (
        id bigint,
        name text,
        currency_id bigint,
        currency_name text,
        amount numeric,
        status text,
        held numeric,
        available numeric,
        credit_limit numeric,
        metadata jsonb,
        replayed boolean
    )
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    -- A cached plan may date from when there were few accounts.
    set enable_seqscan = off
as $$
declare
    v_account ledger.account;
    v_refusal text;
    v_answer jsonb;
begin
    perform wallet._allow(p_api_key_id, 'admin', p_account_id);
    if p_idempotency_key is not null then
        p_idempotency_key := wallet._key_of_tenant(p_idempotency_key, p_api_key_id, p_tenant);
    end if;
    v_answer := wallet._request_first_answer(
        'set_credit_limit', p_idempotency_key, jsonb_build_array(p_account_id, trim_scale(p_amount)), p_api_key_id
    );
    if v_answer is not null then
        return query select answer.*, true from wallet._answered_account(v_answer) as answer;
        return;
    end if;

    v_account := wallet._lock_account(p_account_id);
    v_refusal := wallet._limit_refusal(v_account, p_amount);
    if v_refusal is not null then
        perform wallet._refuse(v_refusal);
    end if;
    if p_amount <> v_account.credit_limit then
        perform wallet._account_becomes(v_account.id, v_account.status, trim_scale(p_amount), p_api_key_id);
    end if;
    select to_jsonb(account) into v_answer from wallet.get_account(v_account.id) as account;
    perform wallet._request_keep_answer('set_credit_limit', p_idempotency_key, v_answer);
    return query select answer.*, null::boolean from wallet._answered_account(v_answer) as answer;
end
$$;

comment on function wallet.set_credit_limit(bigint, numeric, text, bigint, text) is
    'Sets how far an account''s balance may go below zero (0 or more), and returns the account. Under an idempotency '
    'key of p_tenant (1 to 255 characters) it takes effect once; a repeated call returns the same answer with replayed '
    'true.';

grant execute on function wallet.set_credit_limit(bigint, numeric, text, bigint, text) to wallet_app, wallet_ops;
