-- wallet.get_account(p_account_id)
--
-- One account. Its amount is its balance now: the name is the one that HTTP clients know.
--
-- Returns: the account, one row
-- Locks:   nothing
-- Raises:  WN001 no such account

create or replace function wallet.get_account(p_account_id bigint)
    returns table (id bigint, name text, currency_id bigint, currency_name text, amount numeric)
    language plpgsql stable
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    return query
        select account.id, account.name, account.currency_id, currency.name, account.balance::numeric
        from ledger.account as account
        join ledger.currency as currency on currency.id = account.currency_id
        where account.id = p_account_id;
    if not found then
        perform wallet._refuse('WN001');
    end if;
end
$$;

comment on function wallet.get_account(bigint) is
    'The account with this id; amount is its balance now. Raises WN001 where there is none.';
