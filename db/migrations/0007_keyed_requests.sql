-- Idempotency keys for every request that changes something, and is neither a payment nor a hold: those have their keys
-- in their own rows.

set local role wallet_owner;

create table ledger.request (
    id bigint generated always as identity primary key,
    operation text not null,
    idempotency_key text collate "C" not null
        constraint request_idempotency_key_length check (char_length(idempotency_key) between 1 and 255),
    content_hash bytea not null constraint request_content_hash_length check (octet_length(content_hash) = 32),
    answer jsonb,
    requested_at timestamptz not null default clock_timestamp(),
    api_key_id bigint references ledger.api_key (id),
    database_role text not null default ledger.acting_role(),
    constraint request_idempotency_key_key unique (operation, idempotency_key)
);
comment on table ledger.request is
    'Requests made under idempotency keys, payments and holds excepted, and how each was answered.';
comment on column ledger.request.id is 'Identifies the request.';
comment on column ledger.request.operation is 'The function that was called. Keys of one function are a space of their own.';
comment on column ledger.request.idempotency_key is
    'The caller''s name for the request, 1 to 255 characters: under one key the function takes effect once, for ever.';
comment on column ledger.request.content_hash is
    'SHA-256 of the arguments: another content under the same key is refused.';
comment on column ledger.request.answer is
    'What the function answered, as far as it does not follow from other tables. NULL until the same transaction sets it.';
comment on column ledger.request.requested_at is 'When it was made.';
comment on column ledger.request.api_key_id is 'The API key that made it, if one did.';
comment on column ledger.request.database_role is 'The database role that made it.';
comment on constraint request_idempotency_key_key on ledger.request is
    'One request a key. Of two at the same moment, the second waits for the first to commit.';

create trigger request_kept
    before delete or truncate or update of
        id, operation, idempotency_key, content_hash, requested_at, api_key_id, database_role on ledger.request
    for each statement execute function ledger.refuse_change();
comment on trigger request_kept on ledger.request is 'A request under a key is kept, so that its repetition is known.';

create trigger request_answered_once
    before update of answer on ledger.request
    for each row when (old.answer is not null) execute function ledger.refuse_change();
comment on trigger request_answered_once on ledger.request is 'An answer that was given stays what it was.';
