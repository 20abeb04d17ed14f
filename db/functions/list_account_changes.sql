-- wallet.list_account_changes(p_account_id)
--
-- Shows the status and credit limit of an account over time, and who set them. The first row is its opening, unless
-- that is older than this record.
--
-- Returns: changes, oldest first
-- Locks:   nothing
-- Raises:  no such account

create or replace function wallet.list_account_changes(p_account_id bigint)
    returns table (id bigint, status text, credit_limit numeric, changed_at timestamptz, made_by text)
    language plpgsql stable
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    if not exists (select from ledger.account as account where account.id = p_account_id) then
        perform wallet._refuse('WN001');
    end if;
    return query
        select
            change.id, change.status, change.credit_limit, change.changed_at,
            wallet._made_by(change.api_key_id, change.database_role)
        from ledger.account_change as change
        where change.account_id = p_account_id
        order by change.id;
end
$$;

comment on function wallet.list_account_changes(bigint) is
    'Changes of an account''s status and credit limit, oldest first, and who made them.';

grant execute on function wallet.list_account_changes(bigint) to wallet_ops, wallet_reporting;
