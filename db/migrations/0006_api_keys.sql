-- API keys; who made what; a role for reports; what checks of the books found.
--
-- Runs as the user who migrates, to make the role; and then as the owner. No table is rewritten, and none is read: new
-- columns may be NULL, and a default that is set afterwards holds for new rows alone.

do $$
begin
    begin
        if not exists (select from pg_catalog.pg_roles where rolname = 'wallet_reporting') then
            create role wallet_reporting login;
            alter role wallet_reporting set default_transaction_read_only = on;
        end if;
    exception when duplicate_object or unique_violation then
        null; -- another database of this cluster made it, at this very moment
    end;
    if not (select rolsuper from pg_catalog.pg_roles where rolname = current_user) then
        begin
            grant wallet_reporting to current_user;
        exception when insufficient_privilege then
            null; -- perhaps it is a member already
        end;
    end if;
end
$$;

set local role wallet_owner;

-- Who acts. The HTTP layer is wallet_app, whatever user it logs in as; everybody else is the user who logged in, and
-- cannot say that it is somebody else. (Parsed here and now, so no search_path matters, and it costs nothing to call.)
create function ledger.acting_role() returns text
    language sql stable
    return case current_setting('role') when 'wallet_app' then 'wallet_app' else session_user::text end;
comment on function ledger.acting_role() is 'The database role that acts: wallet_app for the HTTP layer, else who logged in.';

-- Keys.

create table ledger.api_key (
    id bigint generated always as identity primary key,
    name text not null unique constraint api_key_name_length check (char_length(name) between 1 and 64),
    secret_hash bytea not null unique constraint api_key_secret_hash_length check (octet_length(secret_hash) = 32),
    scopes text[] not null constraint api_key_scopes_known
        check (scopes <@ array['read', 'pay', 'admin'] and cardinality(scopes) between 1 and 3),
    account_ids bigint[] constraint api_key_accounts_number check (cardinality(account_ids) between 1 and 100),
    expires_at timestamptz,
    created_at timestamptz not null default clock_timestamp(),
    created_by text not null default ledger.acting_role(),
    revoked_at timestamptz,
    revoked_by text,
    last_used_at timestamptz,
    constraint api_key_revoked check ((revoked_at is null) = (revoked_by is null))
);
comment on table ledger.api_key is 'API keys: who may do what over HTTP. None is ever removed.';
comment on column ledger.api_key.id is 'Identifies the key.';
comment on column ledger.api_key.name is 'Its name, unique, 1 to 64 characters.';
comment on column ledger.api_key.secret_hash is
    'SHA-256 of the secret, which nobody has but the client: 244 random bits, so that no slower hash is needed.';
comment on column ledger.api_key.scopes is 'What it may do: read, pay, admin.';
comment on column ledger.api_key.account_ids is 'The accounts that it is bound to, 1 to 100; NULL: all.';
comment on column ledger.api_key.expires_at is 'From this moment on it may do nothing; NULL: never.';
comment on column ledger.api_key.created_at is 'When it was created.';
comment on column ledger.api_key.created_by is 'The database role that created it.';
comment on column ledger.api_key.revoked_at is 'When it was revoked; from then on it may do nothing.';
comment on column ledger.api_key.revoked_by is 'The database role that revoked it.';
comment on column ledger.api_key.last_used_at is 'When it was used last, to the minute.';

create trigger api_key_kept
    before delete or truncate or update of
        id, name, secret_hash, scopes, account_ids, expires_at, created_at, created_by on ledger.api_key
    for each statement execute function ledger.refuse_change();
comment on trigger api_key_kept on ledger.api_key is 'What a key was allowed to do is kept; it is only revoked.';

-- Who made it. Both are recorded: over HTTP the role is that of the service, and the key says whose request it was.

alter table ledger.currency
    add column api_key_id bigint references ledger.api_key (id),
    add column database_role text;
alter table ledger.currency alter column database_role set default ledger.acting_role();
comment on column ledger.currency.api_key_id is 'The API key that created it, if one did.';
comment on column ledger.currency.database_role is 'The database role that created it.';

alter table ledger.account_change
    add column api_key_id bigint references ledger.api_key (id),
    add column database_role text;
alter table ledger.account_change alter column database_role set default ledger.acting_role();
comment on table ledger.account_change is
    'Every change of what an account may do, and its opening, append-only. Before the first one it was active, with a '
    'credit limit of 0.';
comment on column ledger.account_change.api_key_id is 'The API key that made it, if one did.';
comment on column ledger.account_change.database_role is 'The database role that made it.';

-- No foreign key, which would be looked at for each payment: see the trigger below.
alter table ledger.payment
    add column api_key_id bigint,
    add column database_role text;
alter table ledger.payment alter column database_role set default ledger.acting_role();
comment on column ledger.payment.api_key_id is 'The API key that made it, if one did.';
comment on column ledger.payment.database_role is 'The database role that made it; NULL: before this was recorded.';

alter table ledger.hold
    add column api_key_id bigint references ledger.api_key (id),
    add column database_role text,
    add column ended_api_key_id bigint references ledger.api_key (id),
    add column ended_database_role text;
alter table ledger.hold alter column database_role set default ledger.acting_role();
comment on column ledger.hold.api_key_id is 'The API key that created it, if one did.';
comment on column ledger.hold.database_role is 'The database role that created it; NULL: before this was recorded.';
comment on column ledger.hold.ended_api_key_id is 'The API key that captured or voided it, if one did.';
comment on column ledger.hold.ended_database_role is 'The database role that captured or voided it.';
drop trigger hold_kept on ledger.hold;
create trigger hold_kept
    before delete or truncate or update of
        id, currency_id, buyer_account_id, seller_account_id, amount, operation_timestamp, expires_at, idempotency_key,
        description, reference, api_key_id, database_role on ledger.hold
    for each statement execute function ledger.refuse_change();
comment on trigger hold_kept on ledger.hold is 'A hold stays as it was made; it only ends.';

-- As in 0004, and that the key is known. That the role is, is not asserted: a call of the functions before these, which
-- was under way when this was applied, writes its payments without one.
create or replace function ledger.check_payments() returns trigger
    language plpgsql
    set search_path = pg_catalog, pg_temp
    -- the plan is made once a session, when there may be few accounts
    set enable_seqscan = off
as $$
declare
    v_id bigint;
begin
    select made.id into v_id
    from made
    where (
        made.currency_id = (select buyer.currency_id from ledger.account as buyer where buyer.id = made.buyer_account_id)
        and made.currency_id
            = (select seller.currency_id from ledger.account as seller where seller.id = made.seller_account_id)
        and (made.description is null or char_length(made.description) between 1 and 255)
        and (made.reference is null or char_length(made.reference) between 1 and 255)
        and (made.refunded_payment_id is null or (
            select original.id < made.id
                and original.buyer_account_id = made.seller_account_id
                and original.seller_account_id = made.buyer_account_id
            from ledger.payment as original
            where original.id = made.refunded_payment_id
        ))
        and (made.hold_id is null or (
            select hold.buyer_account_id = made.buyer_account_id and hold.seller_account_id = made.seller_account_id
            from ledger.hold as hold
            where hold.id = made.hold_id
        ))
        and (made.api_key_id is null or (
            select true from ledger.api_key as api_key where api_key.id = made.api_key_id
        ))
    ) is not true
    limit 1;
    if v_id is not null then
        raise exception using
            errcode = 'check_violation',
            constraint = tg_name,
            message = format('Payment %s is not between two accounts of its currency, or not what it says: see trigger %I',
                v_id, tg_name);
    end if;
    return null;
end
$$;
comment on function ledger.check_payments() is
    'Trigger: payments are between two accounts of their currency, a refund gives back a payment between them, a capture '
    'has its hold, descriptions and references have 1 to 255 characters, and API keys are known.';

-- What checks of the books found, so that whoever watches the wallet knows when there was one.

create table ledger.ledger_check (
    id bigint generated always as identity primary key,
    checked_at timestamptz not null default clock_timestamp(),
    problems bigint not null constraint ledger_check_problems_counted check (problems >= 0),
    database_role text not null default ledger.acting_role()
);
comment on table ledger.ledger_check is 'What checks of the books found; see wallet.check_ledger().';
comment on column ledger.ledger_check.id is 'Counts the checks.';
comment on column ledger.ledger_check.checked_at is 'When it was over.';
comment on column ledger.ledger_check.problems is 'How many accounts and payments something was wrong with.';
comment on column ledger.ledger_check.database_role is 'The database role that recorded it.';

-- Reports read the data as it is; secrets, and what is only for migrate, they do not.
grant usage on schema ledger to wallet_reporting;
grant select on
    ledger.currency, ledger.account, ledger.account_change, ledger.payment, ledger.hold, ledger.ledger_check
    to wallet_reporting;
