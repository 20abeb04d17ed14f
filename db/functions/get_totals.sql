-- wallet.get_totals(p_api_key_id)
--
-- Sums up each currency, and says when the ledger was last checked. All accounts are read, but only the payments since
-- the last recorded check but one (record_ledger_check).
--
-- Returns: currencies, by id: the numbers of accounts and payments, the sum of balances, and what open holds reserve.
--          checked_at, problems: the last recorded check of the whole ledger, the same in all rows; NULL for none
-- Locks:   nothing; reads one snapshot
-- Raises:  refusals of the API key, which has to be unbound

create or replace function wallet.get_totals(p_api_key_id bigint default null)
    returns table (
        currency_id bigint,
        currency_name text,
        accounts bigint,
        payments bigint,
        total numeric,
        held numeric,
        checked_at timestamptz,
        problems bigint
    )
    language plpgsql stable
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_payment_counts jsonb;
begin
    perform wallet._allow(p_api_key_id, 'read', null);
    v_payment_counts := wallet._payment_counts(9223372036854775807);
    return query
        select
            currency.id, currency.name, coalesce(account.number, 0),
            coalesce((v_payment_counts ->> currency.id::text)::bigint, 0), trim_scale(coalesce(account.total, 0)),
            trim_scale(coalesce(account.held, 0) - coalesce(expired.amount, 0)), last.checked_at, last.problems
        from ledger.currency as currency
        left join (
            select
                account.currency_id, count(*) as number, sum(account.balance) as total, sum(account.held) as held
            from ledger.account as account
            group by account.currency_id
        ) as account on account.currency_id = currency.id
        -- Holds that have expired but are not released yet.
        left join (
            select hold.currency_id, sum(wallet._hold_left(hold.amount, hold.captured_amount)) as amount
            from ledger.hold as hold
            where hold.status = 'open' and hold.expires_at <= (select clock_timestamp())
            group by hold.currency_id
        ) as expired on expired.currency_id = currency.id
        left join wallet.last_ledger_check() as last on true
        order by currency.id;
end
$$;

comment on function wallet.get_totals(bigint) is
    'For each currency: the numbers of accounts and payments, the sum of balances, and what is held. Also when the '
    'whole ledger was last checked, and how many problems were found.';

grant execute on function wallet.get_totals(bigint) to wallet_app, wallet_ops, wallet_reporting;
