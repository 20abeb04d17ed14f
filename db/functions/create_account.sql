-- wallet.create_account(p_name, p_amount, p_currency_id)
--
-- Creates an account with an opening balance.
--
-- Returns: the account, one row, as get_account does
-- Locks:   no account. Of two that ask for one name at once, the second waits for the first to commit
-- Writes:  ledger.account (one row)
-- Raises:  WB011 name, WB012 amount below zero, WB003 not an amount, WB013 no such currency, WC011 name taken

-- The rules of a new account, in the order in which they are looked for; as in make_payment.sql.
create or replace function wallet._account_refusal(p_name text, p_amount numeric, p_currency_name text)
    returns text
    language sql immutable
as $$
    select case
        when (char_length(p_name) between 1 and 255) is not true then 'WB011'
        when (p_amount >= 0) is not true then 'WB012'
        when wallet._is_amount(p_amount) is not true then 'WB003'
        when (p_currency_name is not null) is not true then 'WB013'
    end
$$;

comment on function wallet._account_refusal(text, numeric, text) is
    'The rules of a new account: the code of the first one that refuses it, or NULL where all allow it.';

create or replace function wallet.create_account(p_name text, p_amount numeric, p_currency_id bigint)
    returns table (id bigint, name text, currency_id bigint, currency_name text, amount numeric)
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_amount numeric := trim_scale(coalesce(p_amount, 0));
    v_currency_name text := (select currency.name from ledger.currency where currency.id = p_currency_id);
    v_refusal text := wallet._account_refusal(p_name, v_amount, v_currency_name);
begin
    if v_refusal is not null then
        perform wallet._refuse(v_refusal);
    end if;

    return query
        insert into ledger.account as account (name, currency_id, opening_balance, balance)
        values (p_name, p_currency_id, v_amount, v_amount)
        on conflict on constraint account_name_key do nothing
        returning account.id, account.name, account.currency_id, v_currency_name, account.balance::numeric;
    if not found then
        perform wallet._refuse('WC011');
    end if;
end
$$;

comment on function wallet.create_account(text, numeric, bigint) is
    'Creates an account with a name (1 to 255 characters, unique), an opening balance (0 or more, NULL means 0) '
    'and a currency, and returns it; or raises the refusal: WB003, WB011 to WB013, WC011.';
