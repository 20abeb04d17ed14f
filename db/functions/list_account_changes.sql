-- wallet.list_account_changes(p_account_id, p_after_id, p_limit, p_api_key_id, p_before_id, p_order)
--
-- Shows the status and credit limit of an account over time, and who set them: a page of the changes, at most p_limit
-- (_page.sql). The first change is the account's opening, unless that is older than this record.
--
-- Returns: changes, oldest first, or newest first with p_order => 'desc'; made_by is NULL for API keys that may not see
--          it. more, the same in all rows: whether further rows follow, after p_after_id => the last row's id; if the page
--          was read backwards, whether others precede, before p_before_id => the first row's id
-- Locks:   nothing
-- Raises:  refusals of the API key and the page; no such account

create or replace function wallet.list_account_changes(
    p_account_id bigint,
    p_after_id bigint default null,
    p_limit bigint default null,
    p_api_key_id bigint default null,
    p_before_id bigint default null,
    p_order text default 'asc'
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
    v_page record;
begin
    perform wallet._allow(p_api_key_id, 'read', p_account_id);
    if wallet._list_refusal(p_limit, p_order, p_after_id, p_before_id) is not null then
        perform wallet._refuse(wallet._list_refusal(p_limit, p_order, p_after_id, p_before_id));
    elsif not exists (select from ledger.account as account where account.id = p_account_id) then
        perform wallet._refuse('WN001');
    end if;
    v_page := wallet._page_bounds(p_order, p_after_id, p_before_id);
    return query execute format(
        'with found as materialized (
            select change.*
            from ledger.account_change as change
            where (change.account_id, change.id) > ($1, $2) and (change.account_id, change.id) <= ($1, $3)
            order by change.account_id %1$s, change.id %1$s
            limit $4 + 1
        )
        select
            page.id, page.status, page.credit_limit::numeric, page.changed_at,
            case when $5 then wallet._made_by(page.api_key_id, page.database_role) end,
            coalesce((select count(*) > $4 from found), false)
        from (select found.* from found order by found.id %1$s limit $4) as page
        order by page.id %2$s',
        wallet._direction(v_page.reads_down), wallet._direction(v_page.is_descending)
    )
    using p_account_id, v_page.above_id, v_page.until_id, p_limit, wallet._may_see_makers(p_api_key_id);
end
$$;

comment on function wallet.list_account_changes(bigint, bigint, bigint, bigint, bigint, text) is
    'Changes of an account''s status and credit limit, oldest first, or newest first with p_order => ''desc'', and who '
    'made them: after an id (NULL: all), at most p_limit, 1 to 1000 (NULL: all). p_before_id instead: the page just '
    'before an id; with both, those between. more: whether further rows follow, after the last row''s id; with '
    'p_before_id alone, whether others precede, before the first row''s id.';

grant execute on function wallet.list_account_changes(bigint, bigint, bigint, bigint, bigint, text)
    to wallet_app, wallet_ops, wallet_reporting;
