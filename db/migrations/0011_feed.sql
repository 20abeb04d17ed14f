-- The events of the feed, besides payments: accounts, changes of accounts, holds, and ends of holds. Payments are events
-- as they are, so they cost nothing more. Triggers write the events, so that also functions of the previous version
-- leave none out.
--
-- Events are ordered by their position: the highest payment id that was drawn before, then a number of their own.
-- wallet._feed_candidates describes the order, and places what happened before this migration ahead of it.
--
-- No table is read from end to end. What writes holds or changes of accounts waits while the file is applied. Holds are
-- locked first, as by the functions.

set local role wallet_owner;

create table ledger.event (
    after_payment_id bigint not null
        default coalesce(pg_sequence_last_value('ledger.payment_id_seq'::regclass), 0),
    id bigint generated always as identity,
    account_id bigint,
    account_change_id bigint,
    hold_id bigint,
    ended_hold_id bigint,
    constraint event_pkey primary key (after_payment_id, id),
    constraint event_has_one_subject check (num_nonnulls(account_id, account_change_id, hold_id, ended_hold_id) = 1)
);
comment on table ledger.event is
    'What the feed reports besides payments, append-only. Each row is an event of one subject.';
comment on column ledger.event.after_payment_id is
    'The highest payment id that was drawn before. Drawn while the transaction has an id: see wallet.feed_end().';
comment on column ledger.event.id is 'Orders the events after one payment id.';
comment on column ledger.event.account_id is 'An account that was opened.';
comment on column ledger.event.account_change_id is 'A change of an account''s status or credit limit.';
comment on column ledger.event.hold_id is 'A hold that was created.';
comment on column ledger.event.ended_hold_id is 'A hold that was captured or voided, or has expired.';
comment on constraint event_has_one_subject on ledger.event is 'An event is about one thing.';

create unique index event_account_key on ledger.event (account_id) where account_id is not null;
comment on index ledger.event_account_key is 'An account is opened once.';
create unique index event_account_change_key on ledger.event (account_change_id) where account_change_id is not null;
comment on index ledger.event_account_change_key is 'A change is reported once.';
create unique index event_hold_key on ledger.event (hold_id) where hold_id is not null;
comment on index ledger.event_hold_key is 'A hold is created once.';
create unique index event_ended_hold_key on ledger.event (ended_hold_id) where ended_hold_id is not null;
comment on index ledger.event_ended_hold_key is 'A hold ends once.';

create trigger event_append_only
    before update or delete or truncate on ledger.event
    for each statement execute function ledger.refuse_change();
comment on trigger event_append_only on ledger.event is 'An event that was reported is never changed or removed.';

create function ledger.report_hold() returns trigger
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    if tg_op = 'INSERT' then
        insert into ledger.event (hold_id) values (new.id);
    else
        insert into ledger.event (ended_hold_id) values (new.id);
    end if;
    return null;
end
$$;
comment on function ledger.report_hold() is 'Trigger: a new hold, and the end of a hold, are events.';
create trigger hold_created
    after insert on ledger.hold
    for each row execute function ledger.report_hold();
comment on trigger hold_created on ledger.hold is 'A new hold is an event.';
create trigger hold_ended
    after update of status on ledger.hold
    for each row when (old.status is distinct from new.status)
    execute function ledger.report_hold();
comment on trigger hold_ended on ledger.hold is 'The end of a hold is an event.';

-- The first change of an account is its opening: active, with a credit limit of 0. Of an account that is older than
-- these records, it is a change to something else.
create function ledger.report_change() returns trigger
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    if new.status = 'active' and new.credit_limit = 0 and not exists (
        select from ledger.account_change as change where change.account_id = new.account_id and change.id < new.id
    ) then
        insert into ledger.event (account_id) values (new.account_id);
    else
        insert into ledger.event (account_change_id) values (new.id);
    end if;
    return null;
end
$$;
comment on function ledger.report_change() is 'Trigger: a new account, and a change of an account, are events.';
create trigger account_change_reported
    after insert on ledger.account_change
    for each row execute function ledger.report_change();
comment on trigger account_change_reported on ledger.account_change is 'A new account, and a change of one, are events.';

-- The triggers' locks are held: no row with a lower id is still to come.
create table ledger.feed_origin (
    id integer primary key check (id = 1),
    account_id bigint not null,
    account_change_id bigint not null,
    hold_id bigint not null
);
comment on table ledger.feed_origin is
    'One row: the highest ids from before the table of events. What has a lower id and no event happened before.';
comment on column ledger.feed_origin.id is 'Always 1.';
comment on column ledger.feed_origin.account_id is 'The last account.';
comment on column ledger.feed_origin.account_change_id is 'The last change of an account.';
comment on column ledger.feed_origin.hold_id is 'The last hold.';
insert into ledger.feed_origin (id, account_id, account_change_id, hold_id)
values (
    1,
    coalesce((select max(account.id) from ledger.account as account), 0),
    coalesce((select max(change.id) from ledger.account_change as change), 0),
    coalesce((select max(hold.id) from ledger.hold as hold), 0)
);
create trigger feed_origin_kept
    before insert or update or delete or truncate on ledger.feed_origin
    for each statement execute function ledger.refuse_change();
comment on trigger feed_origin_kept on ledger.feed_origin is 'The order of the feed never changes.';

grant select on ledger.event, ledger.feed_origin to wallet_reporting;
