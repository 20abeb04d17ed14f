-- wallet.summarize_ledger()
--
-- Sums up each currency. Payments only move money, so the total equals the sum of the opening balances.
--
-- Returns: currencies, by id: the numbers of accounts and payments, the sums of balances and of opening balances
-- Locks:   nothing; reads one snapshot
-- Raises:  nothing

create or replace function wallet.summarize_ledger()
    returns table (
        currency_id bigint,
        currency_name text,
        accounts bigint,
        payments bigint,
        total numeric,
        opening_total numeric
    )
    language sql stable
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    select
        currency.id, currency.name,
        coalesce(account.number, 0), coalesce(payment.number, 0),
        trim_scale(coalesce(account.total, 0)), trim_scale(coalesce(account.opening_total, 0))
    from ledger.currency as currency
    left join (
        select
            account.currency_id, count(*) as number,
            sum(account.balance) as total, sum(account.opening_balance) as opening_total
        from ledger.account as account
        group by account.currency_id
    ) as account on account.currency_id = currency.id
    left join (
        select payment.currency_id, count(*) as number from ledger.payment as payment group by payment.currency_id
    ) as payment on payment.currency_id = currency.id
    order by currency.id
$$;

comment on function wallet.summarize_ledger() is
    'For each currency: the numbers of accounts and payments, the sums of balances and of opening balances.';

grant execute on function wallet.summarize_ledger() to wallet_app, wallet_ops, wallet_reporting;
