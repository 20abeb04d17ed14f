-- wallet._api_key_refusal(p_api_key, p_scope), wallet._binding_refusal(p_account_ids, p_account_id),
-- wallet._bound_accounts(p_api_key_id, p_scope), wallet._allow(p_api_key_id, p_scope, p_account_id),
-- wallet._allow_keys(p_acting_key_id),
-- wallet._may_see(p_account_ids, p_buyer_account_id, p_seller_account_id),
-- wallet._party_refusal(p_account_ids, p_party_account_id, p_other_account_id, p_not_found),
-- wallet._may_see_makers(p_api_key_id), wallet._made_by(p_api_key_id, p_database_role)
--
-- What an API key may do. Functions check this first, so that a refusal takes the same time and has the same text
-- whether or not the account exists. NULL means no key: the caller is a database role, limited by its grants.
--
-- Returns: …_refusal: the code of the refusal, or NULL; _bound_accounts: the accounts that a key is bound to, NULL for
--          all; _may_see, _may_see_makers: true or false; _made_by: a text
-- Locks:   nothing. A key that is revoked during a call is refused from the next call on
-- Raises:  _bound_accounts: the key is invalid or lacks the scope; _allow: also, the key is bound to other accounts;
--          _allow_keys: also, there is no key

create or replace function wallet._api_key_refusal(p_api_key ledger.api_key, p_scope text)
    returns text
    language sql stable
as $$
    select case
        when (
            p_api_key.id is not null
            and p_api_key.revoked_at is null
            and (p_api_key.expires_at is null or p_api_key.expires_at > statement_timestamp())
        ) is not true then 'WA001'
        when (p_scope = any (p_api_key.scopes)) is not true then 'WF001'
    end
$$;

comment on function wallet._api_key_refusal(ledger.api_key, text) is
    'Checks that a key is valid now and has a scope: the code of the refusal, or NULL.';

create or replace function wallet._binding_refusal(p_account_ids bigint[], p_account_id bigint)
    returns text
    language sql immutable
as $$
    select case when (p_account_ids is null or p_account_id = any (p_account_ids)) is not true then 'WF002' end
$$;

comment on function wallet._binding_refusal(bigint[], bigint) is
    'Checks that a key bound to these accounts (NULL: unbound) may act for an account (NULL: for all): the code of '
    'the refusal, or NULL.';

create or replace function wallet._bound_accounts(p_api_key_id bigint, p_scope text)
    returns bigint[]
    language plpgsql stable
as $$
declare
    v_api_key ledger.api_key;
    v_refusal text;
begin
    if p_api_key_id is not null then
        select api_key.* into v_api_key from ledger.api_key as api_key where api_key.id = p_api_key_id;
        v_refusal := wallet._api_key_refusal(v_api_key, p_scope);
        if v_refusal is not null then
            perform wallet._refuse(v_refusal);
        end if;
    end if;
    return v_api_key.account_ids;
end
$$;

comment on function wallet._bound_accounts(bigint, text) is
    'The accounts that a key is bound to; NULL if it is unbound, or there is no key. Raises a refusal if the key is '
    'invalid or lacks the scope.';

create or replace function wallet._allow(p_api_key_id bigint, p_scope text, p_account_id bigint)
    returns void
    language plpgsql
as $$
begin
    if wallet._binding_refusal(wallet._bound_accounts(p_api_key_id, p_scope), p_account_id) is not null then
        perform wallet._refuse('WF002');
    end if;
end
$$;

comment on function wallet._allow(bigint, text, bigint) is
    'Raises a refusal unless a key has a scope and may act for an account (NULL: for all).';

-- With the rights of wallet_app alone, every client of a service that requires no keys could create keys, and keep them
-- when it requires keys later.
create or replace function wallet._allow_keys(p_acting_key_id bigint)
    returns void
    language plpgsql
as $$
begin
    if p_acting_key_id is null and ledger.acting_role() = 'wallet_app' then
        perform wallet._refuse('WA001');
    end if;
    perform wallet._allow(p_acting_key_id, 'keys', null);
end
$$;

comment on function wallet._allow_keys(bigint) is
    'Raises a refusal unless a key may manage API keys. Over HTTP there has to be one; for other roles, NULL means none.';

create or replace function wallet._may_see(p_account_ids bigint[], p_buyer_account_id bigint, p_seller_account_id bigint)
    returns boolean
    language sql immutable
as $$
    select p_account_ids is null or p_buyer_account_id = any (p_account_ids) or p_seller_account_id = any (p_account_ids)
$$;

comment on function wallet._may_see(bigint[], bigint, bigint) is
    'Whether a key bound to these accounts (NULL: unbound) may see a payment or a hold between these two.';

-- A key must not learn that a payment or a hold between other accounts exists.
create or replace function wallet._party_refusal(
    p_account_ids bigint[],
    p_party_account_id bigint,
    p_other_account_id bigint,
    p_not_found text
)
    returns text
    language sql immutable
as $$
    select case
        when (
            p_party_account_id is not null
            and wallet._may_see(p_account_ids, p_party_account_id, p_other_account_id)
        ) is not true then p_not_found
        else wallet._binding_refusal(p_account_ids, p_party_account_id)
    end
$$;

comment on function wallet._party_refusal(bigint[], bigint, bigint, text) is
    'Checks that a key bound to these accounts (NULL: unbound) may act for one party of a payment or a hold, whose '
    'accounts are NULL if it was not found: the code of the refusal, which may be p_not_found, or NULL.';

-- A maker is a database role and a key, perhaps that of another client. The callers have checked that the key is valid.
create or replace function wallet._may_see_makers(p_api_key_id bigint)
    returns boolean
    language sql stable
as $$
    select p_api_key_id is null or exists (
        select from ledger.api_key as api_key
        where api_key.id = p_api_key_id and api_key.account_ids is null and 'admin' = any (api_key.scopes)
    )
$$;

comment on function wallet._may_see_makers(bigint) is
    'Whether a key may see who made a record: one that is unbound and has the scope admin, or none (NULL).';

create or replace function wallet._made_by(p_api_key_id bigint, p_database_role text)
    returns text
    language sql stable
as $$
    select p_database_role || coalesce(
        (
            select format(', API key %s (%s)', api_key.id, api_key.name)
            from ledger.api_key as api_key
            where api_key.id = p_api_key_id
        ),
        ''
    )
$$;

comment on function wallet._made_by(bigint, text) is
    'Who made a record, as text: the database role, and the API key, if any.';
