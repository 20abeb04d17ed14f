-- Texts that are unique compare as bytes (collate "C"), so that their indexes do not depend on the C library.
--
-- Constraints keep their names: calls that wait while this is applied name them. The indexes of accounts and requests
-- are those of 0019, so none of these tables is read or rewritten; the other tables are small. A column of a trigger
-- cannot change, so these triggers are created again as they were.

set local role wallet_owner;

do $$
declare
    v_dependent text;
begin
    select string_agg(distinct pg_describe_object('pg_class'::regclass, rule.ev_class, 0), ', ') into v_dependent
    from (values
        ('ledger.account', 'name'), ('ledger.currency', 'name'), ('ledger.api_key', 'name'), ('ledger.request', 'operation')
    ) as changed (table_name, column_name)
    join pg_attribute as attribute
        on attribute.attrelid = changed.table_name::regclass and attribute.attname = changed.column_name
    join pg_depend as depend
        on depend.classid = 'pg_rewrite'::regclass
        and depend.refclassid = 'pg_class'::regclass
        and depend.refobjid = attribute.attrelid
        and depend.refobjsubid = attribute.attnum
    join pg_rewrite as rule on rule.oid = depend.objid;
    if v_dependent is not null then
        raise exception using message = format(
            'This version changes how names are ordered, and these views use them: %s. Drop them first, and create them '
            'again afterwards.', v_dependent);
    end if;
end
$$;

-- In the order in which calls lock these tables.

drop trigger api_key_kept on ledger.api_key;
alter table ledger.api_key alter column name type text collate "C";
create trigger api_key_kept
    before delete or truncate or update of
        id, name, secret_hash, scopes, account_ids, tenant, expires_at, created_at, created_by
    on ledger.api_key
    for each statement execute function ledger.refuse_change();
comment on trigger api_key_kept on ledger.api_key is 'What a key was allowed to do is kept; it is only revoked.';

drop trigger request_kept on ledger.request;
alter table ledger.request
    drop constraint request_idempotency_key_key,
    alter column operation type text collate "C";
alter table ledger.request
    add constraint request_idempotency_key_key unique using index request_idempotency_bytes_key;
comment on constraint request_idempotency_key_key on ledger.request is
    'One request a key. Of two at the same moment, the second waits for the first to commit.';
create trigger request_kept
    before delete or truncate or update of
        id, operation, idempotency_key, content_hash, requested_at, api_key_id, database_role
    on ledger.request
    for each statement execute function ledger.refuse_change();
comment on trigger request_kept on ledger.request is 'A request under a key is kept, so that its repetition is known.';

drop trigger currency_kept on ledger.currency;
alter table ledger.currency alter column name type text collate "C";
create trigger currency_kept
    before delete or truncate or update of id, name, api_key_id, database_role on ledger.currency
    for each statement execute function ledger.refuse_change();
comment on trigger currency_kept on ledger.currency is 'A currency stays, and so does its name.';

drop trigger account_terms on ledger.account;
alter table ledger.account
    drop constraint account_name_key,
    alter column name type text collate "C";
alter table ledger.account add constraint account_name_key unique using index account_name_bytes_key;
create trigger account_terms
    after insert or update of name, status, credit_limit, held on ledger.account
    for each row execute function ledger.check_terms();
comment on trigger account_terms on ledger.account is 'What an account may do is one of what there is.';
-- The unique index finds names by their beginnings, too.
drop index ledger.account_name_prefix_idx;
-- PostgreSQL forgets the statistics of a changed column. A small sample keeps the lock short.
set local default_statistics_target = 10;
analyze ledger.account (name);

alter table ledger.migration alter column name type text collate "C";
alter table ledger.installed_function alter column signature type text collate "C";
