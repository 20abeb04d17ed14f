-- wallet.list_accounts()
--
-- Returns: every account, by id; amount is its balance, all read at one moment
-- Locks:   nothing
-- Raises:  nothing

create or replace function wallet.list_accounts()
    returns table (id bigint, name text, currency_id bigint, currency_name text, amount numeric)
    language sql stable
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    select account.id, account.name, account.currency_id, currency.name, account.balance
    from ledger.account as account
    join ledger.currency as currency on currency.id = account.currency_id
    order by account.id
$$;

comment on function wallet.list_accounts() is 'All accounts by id, with their balances at one moment.';
