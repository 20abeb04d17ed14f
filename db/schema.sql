-- The tables, constraints, triggers and indexes of the ledger, as all migrations leave them.
-- `make generate` writes this file; do not edit it. To change a table, add a file to db/migrations/.

CREATE SCHEMA ledger;

COMMENT ON SCHEMA ledger IS 'The data: tables, constraints, sequences. Only migrations change it.';

CREATE DOMAIN ledger.amount AS numeric
	CONSTRAINT amount_has_15_decimals CHECK ((min_scale(VALUE) <= 15))
	CONSTRAINT amount_has_15_integer_digits CHECK (((VALUE > '-1000000000000000'::numeric) AND (VALUE < '1000000000000000'::numeric)));

COMMENT ON DOMAIN ledger.amount IS 'Money, exact: at most 15 digits before and 15 after the point; neither NaN nor infinite.';

CREATE FUNCTION ledger.acting_role() RETURNS text
    LANGUAGE sql STABLE
    RETURN CASE current_setting('role'::text) WHEN 'wallet_app'::text THEN 'wallet_app'::text ELSE (SESSION_USER)::text END;

COMMENT ON FUNCTION ledger.acting_role() IS 'The database role that acts: wallet_app for the HTTP layer, else who logged in.';

CREATE FUNCTION ledger.check_account() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

COMMENT ON FUNCTION ledger.check_account() IS 'Trigger: what is said of an account is said of one that there is.';

CREATE FUNCTION ledger.check_parties() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

COMMENT ON FUNCTION ledger.check_parties() IS 'Trigger: a hold is between two accounts that there are, of its currency; its metadata is a small JSON object.';

CREATE FUNCTION ledger.check_payments() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
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

COMMENT ON FUNCTION ledger.check_payments() IS 'Trigger: payments are between two accounts of their currency, a refund gives back a payment between them, captures have their hold and do not exceed it, descriptions and references have 1 to 255 characters, API keys are known, a payment of up to an amount does not exceed it, and metadata is a small JSON object.';

CREATE FUNCTION ledger.check_terms() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

COMMENT ON FUNCTION ledger.check_terms() IS 'Trigger: name, opening balance, status, credit limit, what is held, and metadata are what they can be.';

CREATE FUNCTION ledger.refuse_change() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    raise exception using
        errcode = 'restrict_violation',
        message = format('%I.%I keeps what it has: see trigger %I', tg_table_schema, tg_table_name, tg_name);
end
$$;

COMMENT ON FUNCTION ledger.refuse_change() IS 'Trigger: refuses to change or remove what a table has, to its owner too.';

CREATE FUNCTION ledger.report_change() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

COMMENT ON FUNCTION ledger.report_change() IS 'Trigger: a new account, and a change of an account, are events.';

CREATE FUNCTION ledger.report_hold() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    if tg_op = 'INSERT' then
        insert into ledger.event (hold_id) values (new.id);
    else
        insert into ledger.event (ended_hold_id) values (new.id);
    end if;
    return null;
end
$$;

COMMENT ON FUNCTION ledger.report_hold() IS 'Trigger: a new hold, and the end of a hold, are events.';

CREATE TABLE ledger.currency (
    id bigint NOT NULL,
    name text NOT NULL COLLATE pg_catalog."C",
    scale smallint DEFAULT 15 NOT NULL,
    api_key_id bigint,
    database_role text DEFAULT ledger.acting_role(),
    CONSTRAINT currency_name_length CHECK (((char_length(name) >= 1) AND (char_length(name) <= 16))),
    CONSTRAINT currency_scale_range CHECK (((scale >= 0) AND (scale <= 15)))
);

COMMENT ON TABLE ledger.currency IS 'The currencies that accounts are kept in.';

COMMENT ON COLUMN ledger.currency.id IS 'Identifies the currency.';

COMMENT ON COLUMN ledger.currency.name IS 'Its name, 1 to 16 characters.';

COMMENT ON COLUMN ledger.currency.scale IS 'How many decimals its amounts may have, 0 to 15. No stored amount has more.';

COMMENT ON COLUMN ledger.currency.api_key_id IS 'The API key that created it, if one did.';

COMMENT ON COLUMN ledger.currency.database_role IS 'The database role that created it.';

CREATE TABLE ledger.api_key (
    id bigint NOT NULL,
    name text NOT NULL COLLATE pg_catalog."C",
    secret_hash bytea NOT NULL,
    scopes text[] NOT NULL,
    account_ids bigint[],
    expires_at timestamp with time zone,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    created_by text DEFAULT ledger.acting_role() NOT NULL,
    revoked_at timestamp with time zone,
    revoked_by text,
    last_used_at timestamp with time zone,
    tenant text,
    CONSTRAINT api_key_accounts_number CHECK (((cardinality(account_ids) >= 1) AND (cardinality(account_ids) <= 100))),
    CONSTRAINT api_key_name_length CHECK (((char_length(name) >= 1) AND (char_length(name) <= 64))),
    CONSTRAINT api_key_revoked CHECK (((revoked_at IS NULL) = (revoked_by IS NULL))),
    CONSTRAINT api_key_scopes_known CHECK (((scopes <@ ARRAY['read'::text, 'pay'::text, 'admin'::text, 'keys'::text]) AND ((cardinality(scopes) >= 1) AND (cardinality(scopes) <= 4)))),
    CONSTRAINT api_key_secret_hash_length CHECK ((octet_length(secret_hash) = 32)),
    CONSTRAINT api_key_tenant_length CHECK (((char_length(tenant) >= 1) AND (char_length(tenant) <= 64)))
);

COMMENT ON TABLE ledger.api_key IS 'API keys: who may do what over HTTP. None is ever removed.';

COMMENT ON COLUMN ledger.api_key.id IS 'Identifies the key.';

COMMENT ON COLUMN ledger.api_key.name IS 'Its name, unique, 1 to 64 characters.';

COMMENT ON COLUMN ledger.api_key.secret_hash IS 'SHA-256 of the secret, which nobody has but the client: 244 random bits, so that no slower hash is needed.';

COMMENT ON COLUMN ledger.api_key.scopes IS 'What it may do: read, pay, admin, keys.';

COMMENT ON COLUMN ledger.api_key.account_ids IS 'The accounts that it is bound to, 1 to 100; NULL: all.';

COMMENT ON COLUMN ledger.api_key.expires_at IS 'From this moment on it may do nothing; NULL: never.';

COMMENT ON COLUMN ledger.api_key.created_at IS 'When it was created.';

COMMENT ON COLUMN ledger.api_key.created_by IS 'The database role that created it.';

COMMENT ON COLUMN ledger.api_key.revoked_at IS 'When it was revoked; from then on it may do nothing.';

COMMENT ON COLUMN ledger.api_key.revoked_by IS 'The database role that revoked it.';

COMMENT ON COLUMN ledger.api_key.last_used_at IS 'When it was used last, to the minute.';

COMMENT ON COLUMN ledger.api_key.tenant IS 'Keys of one tenant share their idempotency keys; NULL: those of all requests without a tenant.';

CREATE TABLE ledger.account (
    id bigint NOT NULL,
    name text NOT NULL COLLATE pg_catalog."C",
    currency_id bigint NOT NULL,
    opening_balance ledger.amount NOT NULL,
    balance ledger.amount NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    currency_scale smallint DEFAULT 15 NOT NULL,
    status text DEFAULT 'active'::text NOT NULL,
    credit_limit numeric DEFAULT 0 NOT NULL,
    held numeric DEFAULT 0 NOT NULL,
    changed_at timestamp with time zone,
    metadata jsonb,
    CONSTRAINT account_covered CHECK ((((((balance)::numeric + credit_limit) - held) >= (0)::numeric) AND (((balance)::numeric = (0)::numeric) OR (status <> 'closed'::text))))
)
WITH (fillfactor='50');

COMMENT ON TABLE ledger.account IS 'Accounts and what is on them now.';

COMMENT ON COLUMN ledger.account.id IS 'Identifies the account.';

COMMENT ON COLUMN ledger.account.name IS 'Its name, unique, 1 to 255 characters.';

COMMENT ON COLUMN ledger.account.currency_id IS 'The currency it is kept in, for good.';

COMMENT ON COLUMN ledger.account.opening_balance IS 'The balance it was created with: no money without an origin.';

COMMENT ON COLUMN ledger.account.balance IS 'The balance now: opening_balance, plus what it received, minus what it paid.';

COMMENT ON COLUMN ledger.account.created_at IS 'When it was created.';

COMMENT ON COLUMN ledger.account.currency_scale IS 'How many decimals its amounts may have: a copy of the currency''s scale.';

COMMENT ON COLUMN ledger.account.status IS 'active: pays and receives; frozen: only receives; blocked: neither; closed: neither, and it is empty. Changes are in account_change.';

COMMENT ON COLUMN ledger.account.credit_limit IS 'How far the balance may go below zero.';

COMMENT ON COLUMN ledger.account.held IS 'The sum of its open holds, those included that have expired and that nobody has looked at since.';

COMMENT ON COLUMN ledger.account.changed_at IS 'When its last payment was made, or when it was opened. NULL: neither has happened since this is recorded.';

COMMENT ON COLUMN ledger.account.metadata IS 'Data of the client''s own: a JSON object, at most 4096 bytes as text.';

COMMENT ON CONSTRAINT account_covered ON ledger.account IS 'The balance may go down to minus the credit limit, and covers what is held; nothing is on a closed account.';

CREATE TABLE ledger.hold (
    id bigint NOT NULL,
    currency_id bigint NOT NULL,
    buyer_account_id bigint NOT NULL,
    seller_account_id bigint NOT NULL,
    amount ledger.amount NOT NULL,
    operation_timestamp timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    status text DEFAULT 'open'::text NOT NULL,
    ended_at timestamp with time zone,
    idempotency_key text COLLATE pg_catalog."C",
    description text,
    reference text COLLATE pg_catalog."C",
    api_key_id bigint,
    database_role text DEFAULT ledger.acting_role(),
    ended_api_key_id bigint,
    ended_database_role text,
    metadata jsonb,
    buyer_may_void boolean,
    captured_amount numeric,
    CONSTRAINT hold_amount_positive CHECK (((amount)::numeric > (0)::numeric)),
    CONSTRAINT hold_captured_at_most CHECK (((captured_amount > (0)::numeric) AND (captured_amount <= (amount)::numeric))),
    CONSTRAINT hold_description_length CHECK (((char_length(description) >= 1) AND (char_length(description) <= 255))),
    CONSTRAINT hold_ended CHECK (((status = 'open'::text) = (ended_at IS NULL))),
    CONSTRAINT hold_idempotency_key_length CHECK (((char_length(idempotency_key) >= 1) AND (char_length(idempotency_key) <= 321))),
    CONSTRAINT hold_not_to_self CHECK ((buyer_account_id <> seller_account_id)),
    CONSTRAINT hold_reference_length CHECK (((char_length(reference) >= 1) AND (char_length(reference) <= 255))),
    CONSTRAINT hold_status_known CHECK ((status = ANY (ARRAY['open'::text, 'captured'::text, 'voided'::text, 'expired'::text])))
);

COMMENT ON TABLE ledger.hold IS 'Amounts that are held for payments to come; each ends once, and stays here.';

COMMENT ON COLUMN ledger.hold.id IS 'Identifies the hold.';

COMMENT ON COLUMN ledger.hold.currency_id IS 'The currency of both accounts.';

COMMENT ON COLUMN ledger.hold.buyer_account_id IS 'The account whose money is held.';

COMMENT ON COLUMN ledger.hold.seller_account_id IS 'The account that a capture pays.';

COMMENT ON COLUMN ledger.hold.amount IS 'How much is held, above zero.';

COMMENT ON COLUMN ledger.hold.operation_timestamp IS 'When it was made, read while both accounts were locked.';

COMMENT ON COLUMN ledger.hold.expires_at IS 'From this moment on it holds nothing.';

COMMENT ON COLUMN ledger.hold.status IS 'open, captured (a payment has its id), voided or expired. An open one whose time is over is about to be expired.';

COMMENT ON COLUMN ledger.hold.ended_at IS 'When it was captured or voided, or expired; NULL while it is open.';

COMMENT ON COLUMN ledger.hold.idempotency_key IS 'The client''s name for the request, 1 to 255 characters; a tenant''s follows the tenant, with U+001F before each. Under one key there is one hold, for ever.';

COMMENT ON COLUMN ledger.hold.description IS 'What the caller says of it, 1 to 255 characters; its payment says so too.';

COMMENT ON COLUMN ledger.hold.reference IS 'An id of the caller''s own, 1 to 255 characters; its payment has it too.';

COMMENT ON COLUMN ledger.hold.api_key_id IS 'The API key that created it, if one did.';

COMMENT ON COLUMN ledger.hold.database_role IS 'The database role that created it; NULL: before this was recorded.';

COMMENT ON COLUMN ledger.hold.ended_api_key_id IS 'The API key that captured or voided it, if one did.';

COMMENT ON COLUMN ledger.hold.ended_database_role IS 'The database role that captured or voided it.';

COMMENT ON COLUMN ledger.hold.metadata IS 'Data of the client''s own: a JSON object, at most 4096 bytes as text.';

COMMENT ON COLUMN ledger.hold.buyer_may_void IS 'Whether API keys that are bound to the buyer may void it; NULL: they may not.';

COMMENT ON COLUMN ledger.hold.captured_amount IS 'How much its captures have paid; NULL: nothing, or all of it before captures could be several.';

COMMENT ON CONSTRAINT hold_captured_at_most ON ledger.hold IS 'Captures never exceed the hold.';

CREATE TABLE ledger.payment (
    id bigint NOT NULL,
    currency_id bigint NOT NULL,
    buyer_account_id bigint NOT NULL,
    seller_account_id bigint NOT NULL,
    amount ledger.amount NOT NULL,
    buyer_balance ledger.amount NOT NULL,
    seller_balance ledger.amount NOT NULL,
    operation_timestamp timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    idempotency_key text COLLATE pg_catalog."C",
    description text,
    reference text COLLATE pg_catalog."C",
    refunded_payment_id bigint,
    hold_id bigint,
    api_key_id bigint,
    database_role text DEFAULT ledger.acting_role(),
    up_to numeric,
    metadata jsonb,
    CONSTRAINT payment_amount_positive CHECK (((amount)::numeric > (0)::numeric)),
    CONSTRAINT payment_idempotency_key_length CHECK (((char_length(idempotency_key) >= 1) AND (char_length(idempotency_key) <= 321))),
    CONSTRAINT payment_not_to_self CHECK ((buyer_account_id <> seller_account_id))
);

COMMENT ON TABLE ledger.payment IS 'Payments made, append-only. With the balances after each, the ledger proves itself.';

COMMENT ON COLUMN ledger.payment.id IS 'Identifies the payment. Of two payments of one account, the later one has the higher id.';

COMMENT ON COLUMN ledger.payment.currency_id IS 'The currency of both accounts.';

COMMENT ON COLUMN ledger.payment.buyer_account_id IS 'The account that lost the amount.';

COMMENT ON COLUMN ledger.payment.seller_account_id IS 'The account that gained the amount.';

COMMENT ON COLUMN ledger.payment.amount IS 'How much was paid, above zero.';

COMMENT ON COLUMN ledger.payment.buyer_balance IS 'The buyer''s balance after the payment.';

COMMENT ON COLUMN ledger.payment.seller_balance IS 'The seller''s balance after the payment.';

COMMENT ON COLUMN ledger.payment.operation_timestamp IS 'When it was made, read while both accounts were locked.';

COMMENT ON COLUMN ledger.payment.idempotency_key IS 'The client''s name for the request, 1 to 255 characters; a tenant''s follows the tenant, with U+001F before each. Under one key there is one payment, for ever.';

COMMENT ON COLUMN ledger.payment.description IS 'What the caller says of it, 1 to 255 characters.';

COMMENT ON COLUMN ledger.payment.reference IS 'An id of the caller''s own, 1 to 255 characters; several may have the same.';

COMMENT ON COLUMN ledger.payment.refunded_payment_id IS 'The payment that this one gives back, in all or in part.';

COMMENT ON COLUMN ledger.payment.hold_id IS 'The hold that this payment captured.';

COMMENT ON COLUMN ledger.payment.api_key_id IS 'The API key that made it, if one did.';

COMMENT ON COLUMN ledger.payment.database_role IS 'The database role that made it; NULL: before this was recorded.';

COMMENT ON COLUMN ledger.payment.up_to IS 'The most that was to be paid, if the payment was for what is available; NULL: the amount was asked for.';

COMMENT ON COLUMN ledger.payment.metadata IS 'Data of the client''s own: a JSON object, at most 4096 bytes as text.';

CREATE TABLE ledger.account_change (
    id bigint NOT NULL,
    account_id bigint NOT NULL,
    status text NOT NULL,
    credit_limit numeric NOT NULL,
    last_payment_id bigint NOT NULL,
    changed_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    api_key_id bigint,
    database_role text DEFAULT ledger.acting_role()
);

COMMENT ON TABLE ledger.account_change IS 'Every change of what an account may do, and its opening, append-only. Before the first one it was active, with a credit limit of 0.';

COMMENT ON COLUMN ledger.account_change.id IS 'Identifies the change; later ones of an account have higher ids.';

COMMENT ON COLUMN ledger.account_change.account_id IS 'The account.';

COMMENT ON COLUMN ledger.account_change.status IS 'Its status from then on.';

COMMENT ON COLUMN ledger.account_change.credit_limit IS 'Its credit limit from then on.';

COMMENT ON COLUMN ledger.account_change.last_payment_id IS 'The account''s payments up to this id were made before the change, and all others after it.';

COMMENT ON COLUMN ledger.account_change.changed_at IS 'When it was made, read while the account was locked.';

COMMENT ON COLUMN ledger.account_change.api_key_id IS 'The API key that made it, if one did.';

COMMENT ON COLUMN ledger.account_change.database_role IS 'The database role that made it.';

ALTER TABLE ledger.account_change ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME ledger.account_change_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

ALTER TABLE ledger.account ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME ledger.account_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE SEQUENCE ledger.answered_until
    START WITH 0
    INCREMENT BY 1
    MINVALUE 0
    NO MAXVALUE
    CACHE 1;

COMMENT ON SEQUENCE ledger.answered_until IS 'Up to which moment the past has been told, in microseconds since 1970. Payments are made after it.';

ALTER TABLE ledger.api_key ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME ledger.api_key_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE ledger.currency_change (
    id bigint NOT NULL,
    currency_id bigint NOT NULL,
    scale smallint NOT NULL,
    changed_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    api_key_id bigint,
    database_role text DEFAULT ledger.acting_role() NOT NULL,
    CONSTRAINT currency_change_scale_range CHECK (((scale >= 0) AND (scale <= 15)))
);

COMMENT ON TABLE ledger.currency_change IS 'Every change of a currency''s scale, append-only.';

COMMENT ON COLUMN ledger.currency_change.id IS 'Identifies the change; later ones of a currency have higher ids.';

COMMENT ON COLUMN ledger.currency_change.currency_id IS 'The currency.';

COMMENT ON COLUMN ledger.currency_change.scale IS 'Its scale from then on.';

COMMENT ON COLUMN ledger.currency_change.changed_at IS 'When it was made, read while the currency was locked.';

COMMENT ON COLUMN ledger.currency_change.api_key_id IS 'The API key that made it, if one did.';

COMMENT ON COLUMN ledger.currency_change.database_role IS 'The database role that made it.';

ALTER TABLE ledger.currency_change ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME ledger.currency_change_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

ALTER TABLE ledger.currency ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME ledger.currency_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

ALTER TABLE ledger.payment ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME ledger.payment_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE ledger.event (
    after_payment_id bigint DEFAULT COALESCE(pg_sequence_last_value('ledger.payment_id_seq'::regclass), (0)::bigint) NOT NULL,
    id bigint NOT NULL,
    account_id bigint,
    account_change_id bigint,
    hold_id bigint,
    ended_hold_id bigint,
    CONSTRAINT event_has_one_subject CHECK ((num_nonnulls(account_id, account_change_id, hold_id, ended_hold_id) = 1))
);

COMMENT ON TABLE ledger.event IS 'What the feed reports besides payments, append-only. Each row is an event of one subject.';

COMMENT ON COLUMN ledger.event.after_payment_id IS 'The highest payment id that was drawn before. Drawn while the transaction has an id: see wallet.feed_end().';

COMMENT ON COLUMN ledger.event.id IS 'Orders the events after one payment id.';

COMMENT ON COLUMN ledger.event.account_id IS 'An account that was opened.';

COMMENT ON COLUMN ledger.event.account_change_id IS 'A change of an account''s status or credit limit.';

COMMENT ON COLUMN ledger.event.hold_id IS 'A hold that was created.';

COMMENT ON COLUMN ledger.event.ended_hold_id IS 'A hold that was captured or voided, or has expired.';

COMMENT ON CONSTRAINT event_has_one_subject ON ledger.event IS 'An event is about one thing.';

ALTER TABLE ledger.event ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME ledger.event_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE ledger.feed_origin (
    id integer NOT NULL,
    account_id bigint NOT NULL,
    account_change_id bigint NOT NULL,
    hold_id bigint NOT NULL,
    CONSTRAINT feed_origin_id_check CHECK ((id = 1))
);

COMMENT ON TABLE ledger.feed_origin IS 'One row: the highest ids from before the table of events. What has a lower id and no event happened before.';

COMMENT ON COLUMN ledger.feed_origin.id IS 'Always 1.';

COMMENT ON COLUMN ledger.feed_origin.account_id IS 'The last account.';

COMMENT ON COLUMN ledger.feed_origin.account_change_id IS 'The last change of an account.';

COMMENT ON COLUMN ledger.feed_origin.hold_id IS 'The last hold.';

ALTER TABLE ledger.hold ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME ledger.hold_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE ledger.installed_function (
    signature text NOT NULL COLLATE pg_catalog."C",
    checksum text NOT NULL
);

COMMENT ON TABLE ledger.installed_function IS 'The functions that migrate put into the schema wallet, so that it knows its own from somebody else''s.';

COMMENT ON COLUMN ledger.installed_function.signature IS 'Name and argument types, as regprocedure writes them.';

COMMENT ON COLUMN ledger.installed_function.checksum IS 'MD5 of the definition as the database gave it back: another one now means that it was changed by hand.';

CREATE TABLE ledger.ledger_check (
    id bigint NOT NULL,
    checked_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    problems bigint NOT NULL,
    database_role text DEFAULT ledger.acting_role() NOT NULL,
    drawn_payment_id bigint,
    xid xid8,
    counted_until_id bigint,
    payment_counts jsonb,
    CONSTRAINT ledger_check_problems_counted CHECK ((problems >= 0))
);

COMMENT ON TABLE ledger.ledger_check IS 'What checks of the books found; see wallet.check_ledger().';

COMMENT ON COLUMN ledger.ledger_check.id IS 'Counts the checks.';

COMMENT ON COLUMN ledger.ledger_check.checked_at IS 'When it was over.';

COMMENT ON COLUMN ledger.ledger_check.problems IS 'How many accounts and payments something was wrong with.';

COMMENT ON COLUMN ledger.ledger_check.database_role IS 'The database role that recorded it.';

COMMENT ON COLUMN ledger.ledger_check.drawn_payment_id IS 'The highest payment id that was drawn before this transaction took its id; NULL: not noted.';

COMMENT ON COLUMN ledger.ledger_check.xid IS 'That id. Once all transactions with lower ids have ended, no payment is added up to drawn_payment_id.';

COMMENT ON COLUMN ledger.ledger_check.counted_until_id IS 'The id up to which payments were counted: that of an earlier check; NULL: not counted.';

COMMENT ON COLUMN ledger.ledger_check.payment_counts IS 'How many payments there are up to that id, by currency id.';

ALTER TABLE ledger.ledger_check ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME ledger.ledger_check_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE ledger.migration (
    name text NOT NULL COLLATE pg_catalog."C",
    checksum text NOT NULL,
    applied_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    applied_by text DEFAULT SESSION_USER NOT NULL
);

COMMENT ON TABLE ledger.migration IS 'The files of db/migrations/ that this database has seen.';

COMMENT ON COLUMN ledger.migration.name IS 'The file''s name.';

COMMENT ON COLUMN ledger.migration.checksum IS 'SHA-256 of the file''s bytes, in hexadecimal.';

COMMENT ON COLUMN ledger.migration.applied_at IS 'When it was applied.';

COMMENT ON COLUMN ledger.migration.applied_by IS 'The database user who applied it.';

CREATE TABLE ledger.request (
    id bigint NOT NULL,
    operation text NOT NULL COLLATE pg_catalog."C",
    idempotency_key text NOT NULL COLLATE pg_catalog."C",
    content_hash bytea NOT NULL,
    answer jsonb,
    requested_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    api_key_id bigint,
    database_role text DEFAULT ledger.acting_role() NOT NULL,
    CONSTRAINT request_content_hash_length CHECK ((octet_length(content_hash) = 32)),
    CONSTRAINT request_idempotency_key_length CHECK (((char_length(idempotency_key) >= 1) AND (char_length(idempotency_key) <= 321)))
);

COMMENT ON TABLE ledger.request IS 'Requests made under idempotency keys, payments and holds excepted, and how each was answered.';

COMMENT ON COLUMN ledger.request.id IS 'Identifies the request.';

COMMENT ON COLUMN ledger.request.operation IS 'The function that was called. Keys of one function are a space of their own.';

COMMENT ON COLUMN ledger.request.idempotency_key IS 'The client''s name for the request, 1 to 255 characters; a tenant''s follows the tenant, with U+001F before each. Under one key the function takes effect once, for ever.';

COMMENT ON COLUMN ledger.request.content_hash IS 'SHA-256 of the arguments: another content under the same key is refused.';

COMMENT ON COLUMN ledger.request.answer IS 'What the function answered, as far as it does not follow from other tables. NULL until the same transaction sets it.';

COMMENT ON COLUMN ledger.request.requested_at IS 'When it was made.';

COMMENT ON COLUMN ledger.request.api_key_id IS 'The API key that made it, if one did.';

COMMENT ON COLUMN ledger.request.database_role IS 'The database role that made it.';

ALTER TABLE ledger.request ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME ledger.request_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE ledger.rulebook (
    id bigint NOT NULL,
    version text NOT NULL,
    installed_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    installed_by text DEFAULT SESSION_USER NOT NULL
);

COMMENT ON TABLE ledger.rulebook IS 'Which version of db/ was installed when; the last row is the one in force.';

COMMENT ON COLUMN ledger.rulebook.id IS 'Counts the installations.';

COMMENT ON COLUMN ledger.rulebook.version IS 'Fingerprint of all files of db/migrations/ and db/functions/.';

COMMENT ON COLUMN ledger.rulebook.installed_at IS 'When it was installed.';

COMMENT ON COLUMN ledger.rulebook.installed_by IS 'The database user who installed it.';

ALTER TABLE ledger.rulebook ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME ledger.rulebook_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

ALTER TABLE ONLY ledger.account_change
    ADD CONSTRAINT account_change_pkey PRIMARY KEY (id);

ALTER TABLE ONLY ledger.account
    ADD CONSTRAINT account_name_key UNIQUE (name);

ALTER TABLE ONLY ledger.account
    ADD CONSTRAINT account_pkey PRIMARY KEY (id);

ALTER TABLE ONLY ledger.api_key
    ADD CONSTRAINT api_key_name_key UNIQUE (name);

ALTER TABLE ONLY ledger.api_key
    ADD CONSTRAINT api_key_pkey PRIMARY KEY (id);

ALTER TABLE ONLY ledger.api_key
    ADD CONSTRAINT api_key_secret_hash_key UNIQUE (secret_hash);

ALTER TABLE ONLY ledger.currency_change
    ADD CONSTRAINT currency_change_pkey PRIMARY KEY (id);

ALTER TABLE ONLY ledger.currency
    ADD CONSTRAINT currency_id_scale_key UNIQUE (id, scale);

COMMENT ON CONSTRAINT currency_id_scale_key ON ledger.currency IS 'Lets an account refer to currency and scale at once.';

ALTER TABLE ONLY ledger.currency
    ADD CONSTRAINT currency_name_key UNIQUE (name);

ALTER TABLE ONLY ledger.currency
    ADD CONSTRAINT currency_pkey PRIMARY KEY (id);

ALTER TABLE ONLY ledger.event
    ADD CONSTRAINT event_pkey PRIMARY KEY (after_payment_id, id);

ALTER TABLE ONLY ledger.feed_origin
    ADD CONSTRAINT feed_origin_pkey PRIMARY KEY (id);

ALTER TABLE ONLY ledger.hold
    ADD CONSTRAINT hold_pkey PRIMARY KEY (id);

ALTER TABLE ONLY ledger.installed_function
    ADD CONSTRAINT installed_function_pkey PRIMARY KEY (signature);

ALTER TABLE ONLY ledger.ledger_check
    ADD CONSTRAINT ledger_check_pkey PRIMARY KEY (id);

ALTER TABLE ONLY ledger.migration
    ADD CONSTRAINT migration_pkey PRIMARY KEY (name);

ALTER TABLE ONLY ledger.payment
    ADD CONSTRAINT payment_pkey PRIMARY KEY (id);

ALTER TABLE ONLY ledger.request
    ADD CONSTRAINT request_idempotency_key_key UNIQUE (operation, idempotency_key);

COMMENT ON CONSTRAINT request_idempotency_key_key ON ledger.request IS 'One request a key. Of two at the same moment, the second waits for the first to commit.';

ALTER TABLE ONLY ledger.request
    ADD CONSTRAINT request_pkey PRIMARY KEY (id);

ALTER TABLE ONLY ledger.rulebook
    ADD CONSTRAINT rulebook_pkey PRIMARY KEY (id);

CREATE INDEX account_change_account_idx ON ledger.account_change USING btree (account_id, id);

CREATE INDEX account_currency_idx ON ledger.account USING btree (currency_id, id);

COMMENT ON INDEX ledger.account_currency_idx IS 'Accounts by currency.';

CREATE INDEX account_status_idx ON ledger.account USING btree (status, id) WHERE (status <> 'active'::text);

COMMENT ON INDEX ledger.account_status_idx IS 'Accounts that are not active, by status.';

CREATE INDEX currency_change_currency_idx ON ledger.currency_change USING btree (currency_id, id);

COMMENT ON INDEX ledger.currency_change_currency_idx IS 'The changes of a currency, in order.';

CREATE UNIQUE INDEX event_account_change_key ON ledger.event USING btree (account_change_id) WHERE (account_change_id IS NOT NULL);

COMMENT ON INDEX ledger.event_account_change_key IS 'A change is reported once.';

CREATE UNIQUE INDEX event_account_key ON ledger.event USING btree (account_id) WHERE (account_id IS NOT NULL);

COMMENT ON INDEX ledger.event_account_key IS 'An account is opened once.';

CREATE UNIQUE INDEX event_ended_hold_key ON ledger.event USING btree (ended_hold_id) WHERE (ended_hold_id IS NOT NULL);

COMMENT ON INDEX ledger.event_ended_hold_key IS 'A hold ends once.';

CREATE UNIQUE INDEX event_hold_key ON ledger.event USING btree (hold_id) WHERE (hold_id IS NOT NULL);

COMMENT ON INDEX ledger.event_hold_key IS 'A hold is created once.';

CREATE INDEX hold_buyer_idx ON ledger.hold USING btree (buyer_account_id, status, id);

COMMENT ON INDEX ledger.hold_buyer_idx IS 'The holds on an account''s money by status, in order.';

CREATE INDEX hold_expiry_idx ON ledger.hold USING btree (expires_at) WHERE (status = 'open'::text);

COMMENT ON INDEX ledger.hold_expiry_idx IS 'Open holds by the time at which they expire.';

CREATE UNIQUE INDEX hold_idempotency_key_key ON ledger.hold USING btree (idempotency_key) WHERE (idempotency_key IS NOT NULL);

COMMENT ON INDEX ledger.hold_idempotency_key_key IS 'One hold a key, whoever asks, whenever, through whichever instance.';

CREATE INDEX hold_open_idx ON ledger.hold USING btree (buyer_account_id, expires_at) WHERE (status = 'open'::text);

COMMENT ON INDEX ledger.hold_open_idx IS 'What is held of an account, and what of that has expired.';

CREATE INDEX hold_reference_idx ON ledger.hold USING btree (reference, id) WHERE (reference IS NOT NULL);

COMMENT ON INDEX ledger.hold_reference_idx IS 'Holds by reference, where there is one.';

CREATE INDEX hold_seller_idx ON ledger.hold USING btree (seller_account_id, status, id);

COMMENT ON INDEX ledger.hold_seller_idx IS 'The holds for an account by status, in order.';

CREATE INDEX hold_status_idx ON ledger.hold USING btree (status, id);

COMMENT ON INDEX ledger.hold_status_idx IS 'Holds by status, in order.';

CREATE INDEX payment_buyer_idx ON ledger.payment USING btree (buyer_account_id, id);

COMMENT ON INDEX ledger.payment_buyer_idx IS 'What an account has paid, in order.';

CREATE INDEX payment_hold_idx ON ledger.payment USING btree (hold_id, id) WHERE (hold_id IS NOT NULL);

COMMENT ON INDEX ledger.payment_hold_idx IS 'The captures of a hold.';

CREATE UNIQUE INDEX payment_idempotency_key_key ON ledger.payment USING btree (idempotency_key) WHERE (idempotency_key IS NOT NULL);

COMMENT ON INDEX ledger.payment_idempotency_key_key IS 'One payment a key, whoever asks, whenever, through whichever instance.';

CREATE INDEX payment_reference_idx ON ledger.payment USING btree (reference, id) WHERE (reference IS NOT NULL);

COMMENT ON INDEX ledger.payment_reference_idx IS 'Payments by reference, where there is one.';

CREATE INDEX payment_refund_idx ON ledger.payment USING btree (refunded_payment_id, id) WHERE (refunded_payment_id IS NOT NULL);

COMMENT ON INDEX ledger.payment_refund_idx IS 'The refunds of a payment.';

CREATE INDEX payment_seller_idx ON ledger.payment USING btree (seller_account_id, id);

COMMENT ON INDEX ledger.payment_seller_idx IS 'What an account has received, in order.';

CREATE INDEX payment_time_idx ON ledger.payment USING btree (operation_timestamp, id);

COMMENT ON INDEX ledger.payment_time_idx IS 'Payments by time.';

CREATE TRIGGER account_change_account AFTER INSERT ON ledger.account_change FOR EACH ROW EXECUTE FUNCTION ledger.check_account();

COMMENT ON TRIGGER account_change_account ON ledger.account_change IS 'There is such an account.';

CREATE TRIGGER account_change_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON ledger.account_change FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();

COMMENT ON TRIGGER account_change_append_only ON ledger.account_change IS 'What an account was allowed to do is kept.';

CREATE TRIGGER account_change_reported AFTER INSERT ON ledger.account_change FOR EACH ROW EXECUTE FUNCTION ledger.report_change();

COMMENT ON TRIGGER account_change_reported ON ledger.account_change IS 'A new account, and a change of one, are events.';

CREATE TRIGGER account_origin_kept BEFORE DELETE OR UPDATE OF id, currency_id, opening_balance, created_at, metadata OR TRUNCATE ON ledger.account FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();

COMMENT ON TRIGGER account_origin_kept ON ledger.account IS 'An account stays, and so does where its money came from.';

CREATE TRIGGER account_terms AFTER INSERT OR UPDATE OF name, status, credit_limit, held ON ledger.account FOR EACH ROW EXECUTE FUNCTION ledger.check_terms();

COMMENT ON TRIGGER account_terms ON ledger.account IS 'What an account may do is one of what there is.';

CREATE TRIGGER api_key_kept BEFORE DELETE OR UPDATE OF id, name, secret_hash, scopes, account_ids, tenant, expires_at, created_at, created_by OR TRUNCATE ON ledger.api_key FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();

COMMENT ON TRIGGER api_key_kept ON ledger.api_key IS 'What a key was allowed to do is kept; it is only revoked.';

CREATE TRIGGER currency_change_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON ledger.currency_change FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();

COMMENT ON TRIGGER currency_change_append_only ON ledger.currency_change IS 'A change once made is never changed or removed.';

CREATE TRIGGER currency_kept BEFORE DELETE OR UPDATE OF id, name, api_key_id, database_role OR TRUNCATE ON ledger.currency FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();

COMMENT ON TRIGGER currency_kept ON ledger.currency IS 'A currency stays, and so does its name.';

CREATE TRIGGER event_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON ledger.event FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();

COMMENT ON TRIGGER event_append_only ON ledger.event IS 'An event that was reported is never changed or removed.';

CREATE TRIGGER feed_origin_kept BEFORE INSERT OR DELETE OR UPDATE OR TRUNCATE ON ledger.feed_origin FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();

COMMENT ON TRIGGER feed_origin_kept ON ledger.feed_origin IS 'The order of the feed never changes.';

CREATE TRIGGER hold_created AFTER INSERT ON ledger.hold FOR EACH ROW EXECUTE FUNCTION ledger.report_hold();

COMMENT ON TRIGGER hold_created ON ledger.hold IS 'A new hold is an event.';

CREATE TRIGGER hold_ended AFTER UPDATE OF status ON ledger.hold FOR EACH ROW WHEN ((old.status IS DISTINCT FROM new.status)) EXECUTE FUNCTION ledger.report_hold();

COMMENT ON TRIGGER hold_ended ON ledger.hold IS 'The end of a hold is an event.';

CREATE TRIGGER hold_kept BEFORE DELETE OR UPDATE OF id, currency_id, buyer_account_id, seller_account_id, amount, operation_timestamp, expires_at, idempotency_key, description, reference, metadata, buyer_may_void, api_key_id, database_role OR TRUNCATE ON ledger.hold FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();

COMMENT ON TRIGGER hold_kept ON ledger.hold IS 'A hold stays as it was made; it is only captured, and ends.';

CREATE TRIGGER hold_parties AFTER INSERT ON ledger.hold FOR EACH ROW EXECUTE FUNCTION ledger.check_parties();

COMMENT ON TRIGGER hold_parties ON ledger.hold IS 'Both accounts are there, and of its currency.';

CREATE TRIGGER payment_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON ledger.payment FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();

COMMENT ON TRIGGER payment_append_only ON ledger.payment IS 'A payment once made is never changed or removed.';

CREATE TRIGGER payment_true AFTER INSERT ON ledger.payment REFERENCING NEW TABLE AS made FOR EACH STATEMENT EXECUTE FUNCTION ledger.check_payments();

COMMENT ON TRIGGER payment_true ON ledger.payment IS 'What a payment says of accounts, payments and holds is so.';

CREATE TRIGGER request_answered_once BEFORE UPDATE OF answer ON ledger.request FOR EACH ROW WHEN ((old.answer IS NOT NULL)) EXECUTE FUNCTION ledger.refuse_change();

COMMENT ON TRIGGER request_answered_once ON ledger.request IS 'An answer that was given stays what it was.';

CREATE TRIGGER request_kept BEFORE DELETE OR UPDATE OF id, operation, idempotency_key, content_hash, requested_at, api_key_id, database_role OR TRUNCATE ON ledger.request FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();

COMMENT ON TRIGGER request_kept ON ledger.request IS 'A request under a key is kept, so that its repetition is known.';

ALTER TABLE ONLY ledger.account_change
    ADD CONSTRAINT account_change_api_key_id_fkey FOREIGN KEY (api_key_id) REFERENCES ledger.api_key(id);

ALTER TABLE ONLY ledger.account
    ADD CONSTRAINT account_currency_scale_fkey FOREIGN KEY (currency_id, currency_scale) REFERENCES ledger.currency(id, scale);

ALTER TABLE ONLY ledger.currency
    ADD CONSTRAINT currency_api_key_id_fkey FOREIGN KEY (api_key_id) REFERENCES ledger.api_key(id);

ALTER TABLE ONLY ledger.currency_change
    ADD CONSTRAINT currency_change_api_key_id_fkey FOREIGN KEY (api_key_id) REFERENCES ledger.api_key(id);

ALTER TABLE ONLY ledger.currency_change
    ADD CONSTRAINT currency_change_currency_id_fkey FOREIGN KEY (currency_id) REFERENCES ledger.currency(id);

ALTER TABLE ONLY ledger.hold
    ADD CONSTRAINT hold_api_key_id_fkey FOREIGN KEY (api_key_id) REFERENCES ledger.api_key(id);

ALTER TABLE ONLY ledger.hold
    ADD CONSTRAINT hold_ended_api_key_id_fkey FOREIGN KEY (ended_api_key_id) REFERENCES ledger.api_key(id);

ALTER TABLE ONLY ledger.request
    ADD CONSTRAINT request_api_key_id_fkey FOREIGN KEY (api_key_id) REFERENCES ledger.api_key(id);

GRANT USAGE ON SCHEMA ledger TO wallet_reporting;

REVOKE ALL ON FUNCTION ledger.acting_role() FROM PUBLIC;

REVOKE ALL ON FUNCTION ledger.check_account() FROM PUBLIC;

REVOKE ALL ON FUNCTION ledger.check_parties() FROM PUBLIC;

REVOKE ALL ON FUNCTION ledger.check_payments() FROM PUBLIC;

REVOKE ALL ON FUNCTION ledger.check_terms() FROM PUBLIC;

REVOKE ALL ON FUNCTION ledger.refuse_change() FROM PUBLIC;

REVOKE ALL ON FUNCTION ledger.report_change() FROM PUBLIC;

REVOKE ALL ON FUNCTION ledger.report_hold() FROM PUBLIC;

GRANT SELECT ON TABLE ledger.currency TO wallet_reporting;

GRANT SELECT ON TABLE ledger.account TO wallet_reporting;

GRANT SELECT ON TABLE ledger.hold TO wallet_reporting;

GRANT SELECT ON TABLE ledger.payment TO wallet_reporting;

GRANT SELECT ON TABLE ledger.account_change TO wallet_reporting;

GRANT SELECT ON TABLE ledger.currency_change TO wallet_reporting;

GRANT SELECT ON TABLE ledger.event TO wallet_reporting;

GRANT SELECT ON TABLE ledger.feed_origin TO wallet_reporting;

GRANT SELECT ON TABLE ledger.ledger_check TO wallet_reporting;
