-- Options of payments, holds and accounts: metadata, payments of up to an amount, several captures of a hold, buyers
-- that may void, and idempotency keys of tenants.
--
-- Every new column is NULL in what does not use it, and so takes no space. Functions of the previous version leave all
-- of them NULL. A tenant's idempotency key is stored as U+001F, the tenant, U+001F, the key: hence up to 321 characters.
--
-- No table is read. 0017 validates the new constraints, which the old ones imply.

set local role wallet_owner;

alter table ledger.api_key add column tenant text
    constraint api_key_tenant_length check (char_length(tenant) between 1 and 64);
comment on column ledger.api_key.tenant is
    'Keys of one tenant share their idempotency keys; NULL: those of all requests without a tenant.';

create or replace trigger api_key_kept
    before delete or truncate or update of
        id, name, secret_hash, scopes, account_ids, tenant, expires_at, created_at, created_by
    on ledger.api_key
    for each statement execute function ledger.refuse_change();
comment on trigger api_key_kept on ledger.api_key is 'What a key was allowed to do is kept; it is only revoked.';

alter table ledger.account add column metadata jsonb;
comment on column ledger.account.metadata is 'Data of the client''s own: a JSON object, at most 4096 bytes as text.';

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
        and (new.metadata is null or (
            jsonb_typeof(new.metadata) = 'object' and octet_length(new.metadata::text) <= 4096
        ))
    ) is not true then
        raise exception using
            errcode = 'check_violation',
            constraint = tg_name,
            message = format(
                'Account %s cannot be called %L, be opened with %s, be %s with %s held and a credit limit of %s, or have '
                'this metadata: see trigger %I',
                new.id, new.name, new.opening_balance, new.status, new.held, new.credit_limit, tg_name);
    end if;
    return null;
end
$$;
comment on function ledger.check_terms() is
    'Trigger: name, opening balance, status, credit limit, what is held, and metadata are what they can be.';

create or replace trigger account_origin_kept
    before delete or truncate or update of id, currency_id, opening_balance, created_at, metadata on ledger.account
    for each statement execute function ledger.refuse_change();
comment on trigger account_origin_kept on ledger.account is 'An account stays, and so does where its money came from.';

alter table ledger.hold
    add column metadata jsonb,
    add column buyer_may_void boolean,
    add column captured_amount numeric,
    add constraint hold_captured_at_most check (captured_amount > 0 and captured_amount <= amount) not valid,
    drop constraint hold_idempotency_key_length,
    add constraint hold_idempotency_key_length check (char_length(idempotency_key) between 1 and 321) not valid;
comment on column ledger.hold.metadata is 'Data of the client''s own: a JSON object, at most 4096 bytes as text.';
comment on column ledger.hold.buyer_may_void is 'Whether API keys that are bound to the buyer may void it; NULL: they may not.';
comment on column ledger.hold.captured_amount is
    'How much its captures have paid; NULL: nothing, or all of it before captures could be several.';
comment on column ledger.hold.idempotency_key is
    'The client''s name for the request, 1 to 255 characters; a tenant''s follows the tenant, with U+001F before each. Under '
    'one key there is one hold, for ever.';
comment on constraint hold_captured_at_most on ledger.hold is 'Captures never exceed the hold.';

create or replace function ledger.check_parties() returns trigger
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    if (
        (
            select count(*) = 2
            from ledger.account as account
            where account.id in (new.buyer_account_id, new.seller_account_id) and account.currency_id = new.currency_id
        )
        and (new.metadata is null or (
            jsonb_typeof(new.metadata) = 'object' and octet_length(new.metadata::text) <= 4096
        ))
    ) is not true then
        raise exception using
            errcode = 'foreign_key_violation',
            constraint = tg_name,
            message = format(
                'Hold %s is not between two accounts of its currency, or cannot have this metadata: see trigger %I',
                new.id, tg_name);
    end if;
    return null;
end
$$;
comment on function ledger.check_parties() is
    'Trigger: a hold is between two accounts that there are, of its currency; its metadata is a small JSON object.';

create or replace trigger hold_kept
    before delete or truncate or update of
        id, currency_id, buyer_account_id, seller_account_id, amount, operation_timestamp, expires_at,
        idempotency_key, description, reference, metadata, buyer_may_void, api_key_id, database_role
    on ledger.hold
    for each statement execute function ledger.refuse_change();
comment on trigger hold_kept on ledger.hold is 'A hold stays as it was made; it is only captured, and ends.';

alter table ledger.payment
    add column up_to numeric,
    add column metadata jsonb,
    drop constraint payment_idempotency_key_length,
    add constraint payment_idempotency_key_length check (char_length(idempotency_key) between 1 and 321) not valid;
comment on column ledger.payment.up_to is
    'The most that was to be paid, if the payment was for what is available; NULL: the amount was asked for.';
comment on column ledger.payment.metadata is 'Data of the client''s own: a JSON object, at most 4096 bytes as text.';
comment on column ledger.payment.idempotency_key is
    'The client''s name for the request, 1 to 255 characters; a tenant''s follows the tenant, with U+001F before each. Under '
    'one key there is one payment, for ever.';

create or replace function ledger.check_payments() returns trigger
    language plpgsql
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
        and (made.api_key_id is null or (
            select true from ledger.api_key as api_key where api_key.id = made.api_key_id
        ))
        and made.refunded_payment_id is null and made.hold_id is null and made.up_to is null and made.metadata is null
    ) is not true
    limit 1;
    if v_id is not null then
        select made.id into v_id
        from made
        where (
            made.currency_id
                = (select buyer.currency_id from ledger.account as buyer where buyer.id = made.buyer_account_id)
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
                select hold.buyer_account_id = made.buyer_account_id
                    and hold.seller_account_id = made.seller_account_id
                    and hold.amount >= (
                        select sum(capture.amount) from ledger.payment as capture where capture.hold_id = hold.id
                    )
                from ledger.hold as hold
                where hold.id = made.hold_id
            ))
            and (made.api_key_id is null or (
                select true from ledger.api_key as api_key where api_key.id = made.api_key_id
            ))
            and (made.up_to is null or made.amount <= made.up_to)
            and (made.metadata is null or (
                jsonb_typeof(made.metadata) = 'object' and octet_length(made.metadata::text) <= 4096
            ))
        ) is not true
        limit 1;
    end if;
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
    'Trigger: payments are between two accounts of their currency, a refund gives back a payment between them, captures '
    'have their hold and do not exceed it, descriptions and references have 1 to 255 characters, API keys are known, a '
    'payment of up to an amount does not exceed it, and metadata is a small JSON object.';

alter table ledger.request
    drop constraint request_idempotency_key_length,
    add constraint request_idempotency_key_length check (char_length(idempotency_key) between 1 and 321) not valid;
comment on column ledger.request.idempotency_key is
    'The client''s name for the request, 1 to 255 characters; a tenant''s follows the tenant, with U+001F before each. Under '
    'one key the function takes effect once, for ever.';
