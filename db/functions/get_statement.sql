-- wallet.get_statement(p_account_id, p_after_id, p_limit, p_from, p_to, p_api_key_id)
--
-- Returns a page of an account's statement: the payments that changed its balance, in that order. p_from (inclusive)
-- and p_to (exclusive) select a part of the history. Without further arguments, it returns all.
--
-- Returns: first a row with only the balance before the first line, and more. Then the lines: amount is negative if the
--          account paid, balance is the balance afterwards. more, the same in all rows: whether further rows follow,
--          after p_after_id => the last payment_id
-- Locks:   nothing; reads one snapshot
-- Writes:  ledger.answered_until, if it reports on a later moment than any answer before: the answer stays true
-- Raises:  refusals of the API key and the limit; no such account

create or replace function wallet.get_statement(
    p_account_id bigint,
    p_after_id bigint default null,
    p_limit bigint default null,
    p_from timestamptz default null,
    p_to timestamptz default null,
    p_api_key_id bigint default null
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
        more boolean
    )
    language plpgsql stable
    security definer
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
as $$
declare
    v_account ledger.account;
    v_after_id bigint := greatest(p_after_id, 0);
    v_until_id bigint := 9223372036854775807;
begin
    perform wallet._allow(p_api_key_id, 'read', p_account_id);
    if wallet._page_refusal(p_limit) is not null then
        perform wallet._refuse(wallet._page_refusal(p_limit));
    end if;
    select account.* into v_account from ledger.account as account where account.id = p_account_id;
    if v_account.id is null then
        perform wallet._refuse('WN001');
    end if;

    perform wallet._time_answered(greatest(p_from, p_to) - interval '1 microsecond');
    if p_from is not null then
        v_after_id := greatest(v_after_id, wallet._last_payment_before(v_account.id, p_from));
    end if;
    if p_to is not null then
        v_until_id := wallet._last_payment_before(v_account.id, p_to);
    end if;

    balance := wallet._balance_after(v_account, v_after_id);
    more := coalesce(
        (select count(*) from wallet._history_of(v_account.id, v_after_id, v_until_id, p_limit + 1)) > p_limit, false
    );
    return next;
    return query
        select
            line.id, counterparty.id, counterparty.name,
            case line.buyer_account_id when v_account.id then -line.amount else line.amount end,
            case line.buyer_account_id when v_account.id then line.buyer_balance else line.seller_balance end::numeric,
            line.operation_timestamp, line.description, line.reference, line.refunded_payment_id, line.hold_id,
            more
        from wallet._history_of(v_account.id, v_after_id, v_until_id, p_limit) as line
        join ledger.account as counterparty
            on counterparty.id
                = case line.buyer_account_id when v_account.id then line.seller_account_id else line.buyer_account_id end
        order by line.id;
end
$$;

comment on function wallet.get_statement(bigint, bigint, bigint, timestamptz, timestamptz, bigint) is
    'An account''s statement: the balance before it, then the payments in the order in which they changed the '
    'balance, with the signed amount and the balance after each. Only payments after an id (NULL: all), from a moment '
    '(p_from) until before another (p_to); at most p_limit, 1 to 1000 (NULL: all). Raises a refusal if there is no '
    'such account.';

grant execute on function wallet.get_statement(bigint, bigint, bigint, timestamptz, timestamptz, bigint) to wallet_app, wallet_ops, wallet_reporting;
