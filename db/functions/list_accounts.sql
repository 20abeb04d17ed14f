-- wallet.list_accounts(p_after_id, p_limit)
--
-- A page of the accounts: those after an id, at most so many. Without arguments, all.
--
-- Returns: accounts, by id; amount is the balance, all read at one moment
-- Locks:   nothing
-- Raises:  nothing

create or replace function wallet.list_accounts(p_after_id bigint default null, p_limit bigint default null)
    returns table (id bigint, name text, currency_id bigint, currency_name text, amount numeric)
    language sql stable
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    select account.id, account.name, account.currency_id, currency.name, account.balance
    from ledger.account as account
    join ledger.currency as currency on currency.id = account.currency_id
    where account.id > coalesce(p_after_id, 0)
    order by account.id
    limit p_limit
$$;

comment on function wallet.list_accounts(bigint, bigint) is
    'Accounts by id, with their balances: those after an id (NULL: all), at most so many (NULL: any number).';
