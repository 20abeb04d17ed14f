-- wallet.list_account_changes(p_account_id, p_after_id, p_limit, p_api_key_id)
--
-- Shows the status and credit limit of an account over time, and who set them: a page of the changes after an id, at
-- most p_limit. The first change is the account's opening, unless that is older than this record.
--
-- Returns: changes, oldest first; made_by is NULL for API keys that may not see it. more, the same in all rows: whether
--          further rows follow, after p_after_id => the last row's id
-- Locks:   nothing
-- Raises:  refusals of the API key and the limit; no such account

create or replace function wallet.list_account_changes(
    p_account_id bigint,
    p_after_id bigint default null,
    p_limit bigint default null,
    p_api_key_id bigint default null
)
    returns table (
        id bigint,
        status text,
        credit_limit numeric,
        changed_at timestamptz,
        made_by text,
        more boolean
    )
    language plpgsql stable
    security definer
    set search_path = pg_catalog, pg_temp
    -- Indexes always serve, however many rows PostgreSQL expects.
    set enable_seqscan = off
as $$
declare
    v_sees_makers boolean;
begin
    perform wallet._allow(p_api_key_id, 'read', p_account_id);
    if wallet._page_refusal(p_limit) is not null then
        perform wallet._refuse(wallet._page_refusal(p_limit));
    elsif not exists (select from ledger.account as account where account.id = p_account_id) then
        perform wallet._refuse('WN001');
    end if;
    v_sees_makers := wallet._may_see_makers(p_api_key_id);
    return query
        with found as materialized (
            select change.*
            from ledger.account_change as change
            where (change.account_id, change.id) > (p_account_id, coalesce(p_after_id, 0))
                and change.account_id <= p_account_id
            order by change.account_id, change.id
            limit p_limit + 1
        )
        select
            found.id, found.status, found.credit_limit::numeric, found.changed_at,
            case when v_sees_makers then wallet._made_by(found.api_key_id, found.database_role) end,
            coalesce((select count(*) > p_limit from found), false)
        from found
        order by found.id
        limit p_limit;
end
$$;

comment on function wallet.list_account_changes(bigint, bigint, bigint, bigint) is
    'Changes of an account''s status and credit limit, oldest first, and who made them: after an id (NULL: all), at '
    'most p_limit, 1 to 1000 (NULL: all). more: whether further rows follow, after the last row''s id.';

grant execute on function wallet.list_account_changes(bigint, bigint, bigint, bigint)
    to wallet_app, wallet_ops, wallet_reporting;
