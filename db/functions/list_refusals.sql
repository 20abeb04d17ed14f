-- wallet.list_refusals()
--
-- Shows every refusal of the wallet's functions. docs/errors.md has the same list.
--
-- Returns: refusals, by code: the code (SQLSTATE, and Error-Code over HTTP), the message, the argument to blame (NULL
--          if no single one is), the cause, and the cure
-- Locks:   nothing
-- Raises:  nothing

create or replace function wallet.list_refusals()
    returns table (code text, message text, argument text, cause text, cure text)
    language sql immutable
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    select
        refusal.code, refusal.about ->> 'message', refusal.about ->> 'argument', refusal.about ->> 'cause',
        refusal.about ->> 'cure'
    from jsonb_each(wallet._refusals()) as refusal (code, about)
    order by refusal.code
$$;

comment on function wallet.list_refusals() is
    'All refusals, by code: message, the argument to blame (NULL if no single one is), cause and cure.';

grant execute on function wallet.list_refusals() to wallet_app, wallet_ops, wallet_reporting;
