-- A further status of accounts, and scales of currencies that can change.
--
-- The new status is blocked: the account neither pays nor receives, whatever its balance. Calls of the previous version
-- that are still running refuse its payments, too: to them, every status but active and frozen is closed.
--
-- The scale of a currency can change, with the copies of it that its accounts have: the foreign key between the two keeps
-- them the same. Functions of the previous version read the scale from these rows, and so find the new one.
--
-- No table is read. Accounts are locked first, as by the functions.

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

create or replace trigger account_origin_kept
    before delete or truncate or update of id, currency_id, opening_balance, created_at on ledger.account
    for each statement execute function ledger.refuse_change();
comment on column ledger.account.currency_scale is
    'How many decimals its amounts may have: a copy of the currency''s scale.';

create or replace trigger currency_kept
    before delete or truncate or update of id, name, api_key_id, database_role on ledger.currency
    for each statement execute function ledger.refuse_change();
comment on trigger currency_kept on ledger.currency is 'A currency stays, and so does its name.';
comment on column ledger.currency.scale is 'How many decimals its amounts may have, 0 to 15. No stored amount has more.';

create table ledger.currency_change (
    id bigint generated always as identity primary key,
    currency_id bigint not null references ledger.currency (id),
    scale smallint not null constraint currency_change_scale_range check (scale between 0 and 15),
    changed_at timestamptz not null default clock_timestamp(),
    api_key_id bigint references ledger.api_key (id),
    database_role text not null default ledger.acting_role()
);
create index currency_change_currency_idx on ledger.currency_change (currency_id, id);
comment on table ledger.currency_change is 'Every change of a currency''s scale, append-only.';
comment on column ledger.currency_change.id is 'Identifies the change; later ones of a currency have higher ids.';
comment on column ledger.currency_change.currency_id is 'The currency.';
comment on column ledger.currency_change.scale is 'Its scale from then on.';
comment on column ledger.currency_change.changed_at is 'When it was made, read while the currency was locked.';
comment on column ledger.currency_change.api_key_id is 'The API key that made it, if one did.';
comment on column ledger.currency_change.database_role is 'The database role that made it.';
comment on index ledger.currency_change_currency_idx is 'The changes of a currency, in order.';

create trigger currency_change_append_only
    before update or delete or truncate on ledger.currency_change
    for each statement execute function ledger.refuse_change();
comment on trigger currency_change_append_only on ledger.currency_change is 'A change once made is never changed or removed.';

grant select on ledger.currency_change to wallet_reporting;
