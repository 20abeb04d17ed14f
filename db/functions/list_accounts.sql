-- wallet.list_accounts(p_after_id, p_limit, p_name, p_name_prefix, p_currency, p_status, p_api_key_id,
--                      p_before_id, p_order, p_metadata)
--
-- Returns a page of the accounts that match the arguments, at most p_limit (_page.sql). Without arguments, it returns
-- all; to a key bound to accounts, only those.
--
-- The metadata filters the accounts that the other conditions leave, and a page then reads at most 10,000 of them: it may
-- have fewer rows than the limit although others follow.
--
-- Returns: accounts, by id, the highest first with p_order => 'desc'; amount is the balance, all from one snapshot. more,
--          the same in all rows: whether further rows follow, after p_after_id => the last row's id; if the page was read
--          backwards, whether others precede, before p_before_id => the first row's id. If a page ends before it is full,
--          that row is not an account: all columns but id and more are NULL
-- Locks:   nothing; reads one snapshot
-- Raises:  refusals of the API key, the page, the status and the metadata; no such currency

-- Each call builds its query from the given conditions only, so that PostgreSQL can choose among the indexes on name,
-- currency and status.
create or replace function wallet.list_accounts(
    p_after_id bigint default null,
    p_limit bigint default null,
    p_name text default null,
    p_name_prefix text default null,
    p_currency text default null,
    p_status text default null,
    p_api_key_id bigint default null,
    p_before_id bigint default null,
    p_order text default 'asc',
    p_metadata jsonb default null
)
    returns table (
        id bigint,
        name text,
        currency_id bigint,
        currency_name text,
        amount numeric,
        status text,
        held numeric,
        available numeric,
        credit_limit numeric,
        more boolean,
        metadata jsonb
    )
    language plpgsql stable
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_most_looked_at constant bigint := bigint '10000';
    v_bound_ids bigint[] := wallet._bound_accounts(p_api_key_id, 'read');
    v_currency_id bigint := wallet._currency_id(p_currency);
    v_page record;
    v_accounts text;
    v_looked_until bigint;
    v_number bigint;
begin
    if wallet._list_refusal(p_limit, p_order, p_after_id, p_before_id) is not null then
        perform wallet._refuse(wallet._list_refusal(p_limit, p_order, p_after_id, p_before_id));
    elsif (p_status is null or wallet._is_status(p_status)) is not true then
        perform wallet._refuse('WB041');
    elsif (p_metadata is null or wallet._is_metadata(p_metadata)) is not true then
        perform wallet._refuse('WB020');
    end if;

    v_page := wallet._page_bounds(p_order, p_after_id, p_before_id);
    v_accounts := format(
        'select account.* from ledger.account as account where %s order by account.id %s',
        concat_ws(
            ' and ',
            'account.id > $1 and account.id <= $8',
            -- as new names are stored, or as older ones were written
            case
                when p_name = wallet._name_as_stored(p_name) then 'account.name = $3'
                when p_name is not null then 'account.name in ($3, wallet._name_as_stored($3))'
            end,
            case
                when p_name_prefix = wallet._name_as_stored(p_name_prefix) then 'account.name collate "C" ^@ $4'
                when p_name_prefix is not null then
                    '(account.name collate "C" ^@ $4 or account.name collate "C" ^@ wallet._name_as_stored($4))'
            end,
            case when v_currency_id is not null then 'account.currency_id = $5' end,
            -- the second is the condition of the index on accounts that are not active
            case when p_status is not null then 'account.status = $6' end,
            case when p_status <> 'active' then $q$account.status <> 'active'$q$ end,
            case when v_bound_ids is not null then 'account.id = any ($7)' end
        ),
        wallet._direction(v_page.reads_down)
    );
    if p_metadata is not null and p_limit is not null then
        execute format(
            'select
                count(*) filter (where account.metadata @> $9), case when count(*) = $10 then %s(account.id) end
            from (%s limit $10) as account',
            case when v_page.reads_down then 'min' else 'max' end, v_accounts
        )
        into v_number, v_looked_until
        using v_page.above_id, p_limit, p_name, p_name_prefix, v_currency_id, p_status, v_bound_ids, v_page.until_id,
            p_metadata, v_most_looked_at;
        v_accounts := format('select account.* from (%s limit %s) as account', v_accounts, v_most_looked_at);
    end if;
    if p_metadata is not null then
        v_accounts := format(
            'select account.* from (%s) as account where account.metadata @> $9 order by account.id %s',
            v_accounts, wallet._direction(v_page.reads_down)
        );
    end if;
    more := v_looked_until is not null;
    id := case when v_number < p_limit then v_looked_until end;
    if id is not null and v_page.is_backward then
        return next;
    end if;
    return query execute format(
        'select
            found.id, found.name, found.currency_id, currency.name, found.balance::numeric, found.status,
            trim_scale(found.held_now), trim_scale(wallet._available(found.balance, found.credit_limit, found.held_now)),
            found.credit_limit, coalesce(found.total > $2, false) or $10, found.metadata
        from (
            select
                page.*,
                row_number() over (order by page.id %2$s) as number,
                count(*) over () as total,
                case when page.held = 0 then 0 else wallet._held_now(page.id, page.held) end as held_now
            from (%1$s limit $2 + 1) as page
        ) as found
        join ledger.currency as currency on currency.id = found.currency_id
        where found.number <= $2 or $2 is null
        order by found.id %3$s',
        v_accounts, wallet._direction(v_page.reads_down), wallet._direction(v_page.is_descending)
    )
    using v_page.above_id, p_limit, p_name, p_name_prefix, v_currency_id, p_status, v_bound_ids, v_page.until_id,
        p_metadata, more;
    if id is not null and not v_page.is_backward then
        return next;
    end if;
end
$$;

comment on function wallet.list_accounts(
    bigint, bigint, text, text, text, text, bigint, bigint, text, jsonb
) is
    'Accounts by id, the highest first with p_order => ''desc'', with their balances: after an id (NULL: all), at most '
    'p_limit, 1 to 1000 (NULL: all), with a name, a prefix of the name, a currency (id or name), a status, whose '
    'metadata contains an object. p_before_id instead of p_after_id: the page just before an id; with both, those '
    'between. more: whether further rows follow, after the last row''s id; with p_before_id alone, whether others '
    'precede, before the first row''s id. That row is not an account if it has only id and more.';

grant execute on function wallet.list_accounts(
    bigint, bigint, text, text, text, text, bigint, bigint, text, jsonb
) to wallet_app, wallet_ops, wallet_reporting;
