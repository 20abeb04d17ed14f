-- wallet.get_account(p_account_id, p_at, p_api_key_id)
--
-- Returns one account. The column amount is the balance, under the name that HTTP clients know.
--
-- Returns: the account, one row. With p_at, amount is the balance after the last payment up to that moment, 0 before
--          the account was opened; status, held, available and credit_limit, known only for the present, are NULL
-- Locks:   nothing
-- Writes:  ledger.answered_until, if it reports on a later moment than any answer before: the answer stays true
-- Raises:  refusals of the API key; no such account

-- Leaves out holds that have expired but are not released yet. "(select …)" gives all rows the same time, so that the
-- index on it serves.
create or replace function wallet._held_now(p_account_id bigint, p_held numeric)
    returns numeric
    language sql stable
as $$
    select p_held - coalesce(sum(wallet._hold_left(hold.amount, hold.captured_amount)), 0)
    from ledger.hold as hold
    where hold.buyer_account_id = p_account_id and hold.status = 'open' and hold.expires_at <= (select clock_timestamp())
$$;

comment on function wallet._held_now(bigint, numeric) is
    'The amount held on an account now: p_held, as stored, minus expired holds.';

create or replace function wallet.get_account(
    p_account_id bigint,
    p_at timestamptz default null,
    p_api_key_id bigint default null
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
        metadata jsonb
    )
    language plpgsql stable
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_account ledger.account;
begin
    perform wallet._allow(p_api_key_id, 'read', p_account_id);
    select account.* into v_account from ledger.account as account where account.id = p_account_id;
    if v_account.id is null then
        perform wallet._refuse('WN001');
    end if;

    id := v_account.id;
    name := v_account.name;
    currency_id := v_account.currency_id;
    metadata := v_account.metadata;
    currency_name := (select currency.name from ledger.currency as currency where currency.id = v_account.currency_id);
    if p_at is null then
        amount := v_account.balance;
        status := v_account.status;
        held := trim_scale(case when v_account.held = 0 then 0 else wallet._held_now(v_account.id, v_account.held) end);
        available := trim_scale(wallet._available(v_account.balance, v_account.credit_limit, held));
        credit_limit := v_account.credit_limit;
    elsif p_at < v_account.created_at then
        amount := 0;
    else
        perform wallet._time_answered(p_at);
        amount := wallet._balance_after(
            v_account, wallet._last_payment_before(v_account.id, p_at + interval '1 microsecond')
        );
    end if;
    return next;
end
$$;

comment on function wallet.get_account(bigint, timestamptz, bigint) is
    'The account with this id. amount is its balance now, or at a moment (p_at). available is what it can pay: '
    'balance plus credit limit minus held. Raises a refusal if there is no such account.';

grant execute on function wallet.get_account(bigint, timestamptz, bigint) to wallet_app, wallet_ops, wallet_reporting;
