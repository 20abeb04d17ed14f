-- A further status of accounts, blocked: the account neither pays nor receives, whatever its balance. The functions of
-- the previous version refuse its payments, too: they know every status but active and frozen as closed.
--
-- No table is read.

set local role wallet_owner;

create or replace function ledger.check_terms() returns trigger
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    if (
        char_length(new.name) between 1 and 255
        and new.opening_balance >= 0
        and new.status in ('active', 'frozen', 'blocked', 'closed')
        and new.credit_limit >= 0 and new.credit_limit < 1e15 and min_scale(new.credit_limit) <= 15
        and new.held >= 0 and new.held < 1e16 and min_scale(new.held) <= 15
        and (new.status <> 'closed' or (new.balance = 0 and new.held = 0))
    ) is not true then
        raise exception using
            errcode = 'check_violation',
            constraint = tg_name,
            message = format(
                'Account %s cannot be called %L, be opened with %s, or be %s with %s held and a credit limit of %s: '
                'see trigger %I',
                new.id, new.name, new.opening_balance, new.status, new.held, new.credit_limit, tg_name);
    end if;
    return null;
end
$$;
comment on column ledger.account.status is
    'active: pays and receives; frozen: only receives; blocked: neither; closed: neither, and it is empty. Changes are in '
    'account_change.';
