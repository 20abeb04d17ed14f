-- A fourth scope of API keys: keys, which allows to manage API keys over HTTP. No key has it yet.

set local role wallet_owner;

alter table ledger.api_key
    drop constraint api_key_scopes_known,
    add constraint api_key_scopes_known check (
        scopes <@ array['read', 'pay', 'admin', 'keys'] and cardinality(scopes) between 1 and 4
    );

comment on column ledger.api_key.scopes is 'What it may do: read, pay, admin, keys.';
