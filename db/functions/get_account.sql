-- wallet.get_account(p_account_id, p_at, p_api_key_id)
--
-- One account. Its amount is its balance now, or at a moment: the name is the one that HTTP clients know.
--
-- Returns: the account, one row. With p_at, the amount is the balance after the last payment up to that moment, 0 before
--          the account was opened; and status, held, available, credit_limit, which are those of now, are NULL
-- Locks:   nothing
-- Writes:  where it tells of a later moment than any before, ledger.answered_until: what it answered of the past stays so
-- Raises:  WA001 no such API key, WF001 not its scope, WF002 not its account; WN001 no such account

-- What is held, without holds that have expired since somebody looked. "(select …)": else the time might change from row
-- to row, and the index on it would be of no use.
create or replace function wallet._held_now(p_account_id bigint, p_held numeric)
    returns numeric
    language sql stable
as $$
    select p_held - coalesce(sum(hold.amount), 0)
    from ledger.hold as hold
    where hold.buyer_account_id = p_account_id and hold.status = 'open' and hold.expires_at <= (select clock_timestamp())
$$;

comment on function wallet._held_now(bigint, numeric) is
    'What is held of an account at this moment, from what its row says is held.';

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
        credit_limit numeric
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
    currency_name := (select currency.name from ledger.currency as currency where currency.id = v_account.currency_id);
    if p_at is null then
        amount := v_account.balance;
        status := v_account.status;
        held := trim_scale(case when v_account.held = 0 then 0 else wallet._held_now(v_account.id, v_account.held) end);
        available := trim_scale(v_account.balance + v_account.credit_limit - held);
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
    'The account with this id; amount is its balance now, or at a moment (p_at). Available is what it can pay: balance, '
    'plus credit limit, minus what is held. Raises WN001 where there is none.';

grant execute on function wallet.get_account(bigint, timestamptz, bigint) to wallet_app, wallet_ops, wallet_reporting;
