-- What accounts are allowed to do, decimals of currencies, what payments say of themselves, refunds, and holds.
--
-- Written for a database that serves payments meanwhile: no table is rewritten, and none is read from end to end. That
-- is why constraints are "not valid" here (0005 looks at the rows that are there), and why amounts are numeric: a new
-- column of a domain that has constraints would rewrite the table. Defaults serve the functions of the version before
-- this one, which may go on for a while.
--
-- And written for a payment to stay as fast as it was, although it has more indexes from 0005 on. For each statement
-- PostgreSQL reads the text of each constraint and of each trigger's condition anew, and a foreign key makes a query for
-- each row: so what payments have to be is asserted by one trigger a statement, and what accounts may be by one that a
-- change of the balance alone does not call. (Measured, of payments in calls of 85: two foreign keys took 10 us of a
-- payment's 38, the trigger takes 4.)

set local role wallet_owner;

-- Currencies.

alter table ledger.currency
    add column scale smallint not null default 15
        constraint currency_scale_range check (scale between 0 and 15),
    add constraint currency_id_scale_key unique (id, scale);
comment on column ledger.currency.scale is 'How many decimals its amounts may have, 0 to 15; for good.';
comment on constraint currency_id_scale_key on ledger.currency is 'Lets an account refer to currency and scale at once.';

create trigger currency_kept
    before delete or truncate or update on ledger.currency
    for each statement execute function ledger.refuse_change();
comment on trigger currency_kept on ledger.currency is 'A currency stays as it was made: amounts depend on it.';

-- Accounts. The scale stands here too, so that a payment finds it in the row that it has locked.

alter table ledger.account
    add column currency_scale smallint not null default 15,
    add column status text not null default 'active',
    add column credit_limit numeric not null default 0,
    add column held numeric not null default 0,
    add constraint account_currency_scale_fkey
        foreign key (currency_id, currency_scale) references ledger.currency (id, scale) not valid,
    add constraint account_covered
        check (balance + credit_limit - held >= 0 and (balance = 0 or status <> 'closed')) not valid,
    drop constraint account_balance_covered,
    drop constraint account_currency_id_fkey;
comment on column ledger.account.currency_scale is 'How many decimals its amounts may have: the currency''s scale.';
comment on column ledger.account.status is
    'active: pays and receives; frozen: receives; closed: neither, and nothing is on it. Changes stand in account_change.';
comment on column ledger.account.credit_limit is 'How far the balance may go below zero.';
comment on column ledger.account.held is
    'The sum of its open holds, those included that have expired and that nobody has looked at since.';

comment on constraint account_covered on ledger.account is
    'The balance may go down to minus the credit limit, and covers what is held; nothing is on a closed account.';

create function ledger.check_terms() returns trigger
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    if (
        new.status in ('active', 'frozen', 'closed')
        and new.credit_limit >= 0 and new.credit_limit < 1e15 and min_scale(new.credit_limit) <= 15
        and new.held >= 0 and new.held < 1e16 and min_scale(new.held) <= 15
        and (new.status <> 'closed' or (new.balance = 0 and new.held = 0))
    ) is not true then
        raise exception using
            errcode = 'check_violation',
            constraint = tg_name,
            message = format('Account %s cannot be %s with %s held and a credit limit of %s: see trigger %I',
                new.id, new.status, new.held, new.credit_limit, tg_name);
    end if;
    return null;
end
$$;
comment on function ledger.check_terms() is 'Trigger: status, credit limit and what is held are what they can be.';
create trigger account_terms
    after insert or update of status, credit_limit, held on ledger.account
    for each row execute function ledger.check_terms();
comment on trigger account_terms on ledger.account is 'What an account may do is one of what there is.';

drop trigger account_origin_kept on ledger.account;
create trigger account_origin_kept
    before delete or truncate or update of id, currency_id, currency_scale, opening_balance, created_at on ledger.account
    for each statement execute function ledger.refuse_change();
comment on trigger account_origin_kept on ledger.account is
    'An account stays, and so does where its money came from.';

create table ledger.account_change (
    id bigint generated always as identity primary key,
    account_id bigint not null,
    status text not null,
    credit_limit numeric not null,
    last_payment_id bigint not null,
    changed_at timestamptz not null default clock_timestamp()
);
create index account_change_account_idx on ledger.account_change (account_id, id);
comment on table ledger.account_change is
    'Every change of what an account may do, append-only. Before the first one it was active, with a credit limit of 0.';
comment on column ledger.account_change.id is 'Identifies the change; later ones of an account have higher ids.';
comment on column ledger.account_change.account_id is 'The account.';
comment on column ledger.account_change.status is 'Its status from then on.';
comment on column ledger.account_change.credit_limit is 'Its credit limit from then on.';
comment on column ledger.account_change.last_payment_id is
    'The account''s payments up to this id were made before the change, and all others after it.';
comment on column ledger.account_change.changed_at is 'When it was made, read while the account was locked.';

-- Tables that few payments touch do not refer to accounts by foreign keys: each one would cost every change of a balance
-- a look whether the account's id changes, which it never does. To look once, when a row is added, is enough.
create function ledger.check_account() returns trigger
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    if not exists (select from ledger.account as account where account.id = new.account_id) then
        raise exception using
            errcode = 'foreign_key_violation',
            constraint = tg_name,
            message = format('There is no account %s: see trigger %I', new.account_id, tg_name);
    end if;
    return null;
end
$$;
comment on function ledger.check_account() is 'Trigger: what is said of an account is said of one that there is.';
create trigger account_change_account
    after insert on ledger.account_change
    for each row execute function ledger.check_account();
comment on trigger account_change_account on ledger.account_change is 'There is such an account.';

create trigger account_change_append_only
    before update or delete or truncate on ledger.account_change
    for each statement execute function ledger.refuse_change();
comment on trigger account_change_append_only on ledger.account_change is 'What an account was allowed to do is kept.';

-- Payments. How far a balance may go down is the account's matter now.

alter table ledger.payment
    drop constraint payment_buyer_balance_covered,
    drop constraint payment_seller_balance_covered,
    add column description text,
    add column reference text collate "C",
    add column refunded_payment_id bigint,
    add column hold_id bigint,
    drop constraint payment_buyer_fkey,
    drop constraint payment_seller_fkey;
-- what the two referred to
alter table ledger.account drop constraint account_id_currency_id_key;
comment on column ledger.payment.description is 'What the caller says of it, 1 to 255 characters.';
comment on column ledger.payment.reference is 'An id of the caller''s own, 1 to 255 characters; several may have the same.';
comment on column ledger.payment.refunded_payment_id is 'The payment that this one gives back, in all or in part.';
comment on column ledger.payment.hold_id is 'The hold that this payment captured.';

-- Holds. What holds one open is the buyer's row in ledger.account: who ends it, or counts it, has locked that.

create table ledger.hold (
    id bigint generated always as identity primary key,
    currency_id bigint not null,
    buyer_account_id bigint not null,
    seller_account_id bigint not null,
    amount ledger.amount not null constraint hold_amount_positive check (amount > 0),
    operation_timestamp timestamptz not null default clock_timestamp(),
    expires_at timestamptz not null,
    status text not null default 'open'
        constraint hold_status_known check (status in ('open', 'captured', 'voided', 'expired')),
    ended_at timestamptz,
    idempotency_key text collate "C"
        constraint hold_idempotency_key_length check (char_length(idempotency_key) between 1 and 255),
    description text constraint hold_description_length check (char_length(description) between 1 and 255),
    reference text collate "C" constraint hold_reference_length check (char_length(reference) between 1 and 255),
    constraint hold_ended check ((status = 'open') = (ended_at is null)),
    constraint hold_not_to_self check (buyer_account_id <> seller_account_id)
);
create unique index hold_idempotency_key_key on ledger.hold (idempotency_key) where idempotency_key is not null;
create index hold_open_idx on ledger.hold (buyer_account_id, expires_at) where status = 'open';
comment on table ledger.hold is 'Amounts that are held for payments to come; each ends once, and stays here.';
comment on column ledger.hold.id is 'Identifies the hold.';
comment on column ledger.hold.currency_id is 'The currency of both accounts.';
comment on column ledger.hold.buyer_account_id is 'The account whose money is held.';
comment on column ledger.hold.seller_account_id is 'The account that a capture pays.';
comment on column ledger.hold.amount is 'How much is held, above zero.';
comment on column ledger.hold.operation_timestamp is 'When it was made, read while both accounts were locked.';
comment on column ledger.hold.expires_at is 'From this moment on it holds nothing.';
comment on column ledger.hold.status is
    'open, captured (a payment has its id), voided or expired. An open one whose time is over is about to be expired.';
comment on column ledger.hold.ended_at is 'When it was captured or voided, or expired; NULL while it is open.';
comment on column ledger.hold.idempotency_key is
    'The caller''s name for the request, 1 to 255 characters: under one key there is one hold, for ever.';
comment on column ledger.hold.description is 'What the caller says of it, 1 to 255 characters; its payment says so too.';
comment on column ledger.hold.reference is 'An id of the caller''s own, 1 to 255 characters; its payment has it too.';
comment on index ledger.hold_idempotency_key_key is 'One hold a key, whoever asks, whenever, through whichever instance.';
comment on index ledger.hold_open_idx is 'What is held of an account, and what of that has expired.';

create function ledger.check_parties() returns trigger
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    if (
        select count(*) = 2
        from ledger.account as account
        where account.id in (new.buyer_account_id, new.seller_account_id) and account.currency_id = new.currency_id
    ) is not true then
        raise exception using
            errcode = 'foreign_key_violation',
            constraint = tg_name,
            message = format('Hold %s is not between two accounts of its currency: see trigger %I', new.id, tg_name);
    end if;
    return null;
end
$$;
comment on function ledger.check_parties() is 'Trigger: a hold is between two accounts that there are, of its currency.';
create trigger hold_parties
    after insert on ledger.hold
    for each row execute function ledger.check_parties();
comment on trigger hold_parties on ledger.hold is 'Both accounts are there, and of its currency.';

create trigger hold_kept
    before delete or truncate or update of
        id, currency_id, buyer_account_id, seller_account_id, amount, operation_timestamp, expires_at, idempotency_key,
        description, reference on ledger.hold
    for each statement execute function ledger.refuse_change();
comment on trigger hold_kept on ledger.hold is 'A hold stays as it was made; it only ends.';

-- What a payment says is so. Accounts, payments and holds are never removed, and keep what is asked for here, so to look
-- once, when a payment is added, is as good as a foreign key. Each "(select …)" is one look at an index.
create function ledger.check_payments() returns trigger
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
    'has its hold, and descriptions and references have 1 to 255 characters.';
create trigger payment_true
    after insert on ledger.payment
    referencing new table as made
    for each statement execute function ledger.check_payments();
comment on trigger payment_true on ledger.payment is 'What a payment says of accounts, payments and holds is so.';
