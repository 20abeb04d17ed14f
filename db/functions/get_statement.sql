-- wallet.get_statement(p_account_id, p_after_id, p_limit, p_from, p_to, p_api_key_id, p_before_id, p_order)
--
-- Returns a page of an account's statement: the payments that changed its balance, in that order, or the newest first
-- with p_order => 'desc' (_page.sql). p_from (inclusive) and p_to (exclusive) select a part of the history. Without
-- further arguments, it returns all.
--
-- Returns: first a row with only the opening balance of the page, and more: in either order, the balance before the oldest
--          line of the page. Then the lines: amount is negative if the account paid, balance is the balance afterwards.
--          more, the same in all rows: whether further rows follow, after p_after_id => the last payment_id; if the page
--          was read backwards, whether others precede, before p_before_id => the first payment_id
-- Locks:   nothing; reads one snapshot
-- Writes:  ledger.answered_until, if it reports on a later moment than any answer before: the answer stays true
-- Raises:  refusals of the API key and the page; no such account

create or replace function wallet.get_statement(
    p_account_id bigint,
    p_after_id bigint default null,
    p_limit bigint default null,
    p_from timestamptz default null,
    p_to timestamptz default null,
    p_api_key_id bigint default null,
    p_before_id bigint default null,
    p_order text default 'asc'
)
    returns table (
        payment_id bigint,
        counterparty_account_id bigint,
        counterparty_name text,
        amount numeric,
        balance numeric,
        operation_timestamp timestamptz,
        description text,
        reference text,
        refunded_payment_id bigint,
        hold_id bigint,
        more boolean,
        metadata jsonb
    )
    language plpgsql stable
    security definer
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
as $$
declare
    v_account ledger.account;
    v_page record;
    v_direction text;
    v_after_id bigint;
    v_until_id bigint;
    v_lowest_id bigint;
begin
    perform wallet._allow(p_api_key_id, 'read', p_account_id);
    if wallet._list_refusal(p_limit, p_order, p_after_id, p_before_id) is not null then
        perform wallet._refuse(wallet._list_refusal(p_limit, p_order, p_after_id, p_before_id));
    end if;
    select account.* into v_account from ledger.account as account where account.id = p_account_id;
    if v_account.id is null then
        perform wallet._refuse('WN001');
    end if;

    perform wallet._time_answered(greatest(p_from, p_to) - interval '1 microsecond');
    v_page := wallet._page_bounds(p_order, p_after_id, p_before_id);
    v_direction := wallet._direction(v_page.reads_down);
    v_after_id := v_page.above_id;
    v_until_id := v_page.until_id;
    if p_from is not null then
        v_after_id := greatest(v_after_id, wallet._last_payment_before(v_account.id, p_from));
    end if;
    if p_to is not null then
        v_until_id := least(v_until_id, wallet._last_payment_before(v_account.id, p_to));
    end if;

    -- One more than the page has: if it is older than the page, the page opens with the balance after it.
    select coalesce(count(*) > p_limit, false), min(line.id) into more, v_lowest_id
    from wallet._history_in_direction(v_account.id, v_after_id, v_until_id, p_limit + 1, v_direction) as line;
    balance := wallet._balance_after(
        v_account, case when more and v_page.reads_down then v_lowest_id else v_after_id end
    );
    return next;
    return query
        select
            line.id, counterparty.id, counterparty.name,
            case line.buyer_account_id when v_account.id then -line.amount else line.amount end,
            case line.buyer_account_id when v_account.id then line.buyer_balance else line.seller_balance end::numeric,
            line.operation_timestamp, line.description, line.reference, line.refunded_payment_id, line.hold_id,
            more, line.metadata
        from wallet._history_in_direction(v_account.id, v_after_id, v_until_id, p_limit, v_direction) as line
        join ledger.account as counterparty
            on counterparty.id
                = case line.buyer_account_id when v_account.id then line.seller_account_id else line.buyer_account_id end
        order by case when v_page.is_descending then -line.id else line.id end;
end
$$;

comment on function wallet.get_statement(
    bigint, bigint, bigint, timestamptz, timestamptz, bigint, bigint, text
) is
    'An account''s statement: the balance before its oldest line, then the payments in the order in which they changed '
    'the balance, or the newest first with p_order => ''desc'', with the signed amount and the balance after each. Only '
    'payments after an id (NULL: all), from a moment (p_from) until before another (p_to); at most p_limit, 1 to 1000 '
    '(NULL: all). p_before_id instead of p_after_id: the page just before an id; with both, those between. more: '
    'whether further rows follow, after the last payment_id; with p_before_id alone, whether others precede, before '
    'the first payment_id. Raises a refusal if there is no such account.';

grant execute on function wallet.get_statement(
    bigint, bigint, bigint, timestamptz, timestamptz, bigint, bigint, text
) to wallet_app, wallet_ops, wallet_reporting;
