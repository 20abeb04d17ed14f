-- wallet.list_counterparties(p_account_id, p_from, p_to, p_api_key_id)
--
-- Returns the accounts that an account trades with: what it has paid them, and received from them, from a moment
-- (inclusive) until another (exclusive). It adds up the newest 20,000 payments of that period, and no others.
--
-- Returns: at most 100 counterparties, those with the most payments first. paid, received: the sums of amounts;
--          last_payment_id, operation_timestamp: the last payment between the two. since, the same in all rows: the time
--          of the oldest payment that was added up, if the period has others before it, otherwise NULL
-- Locks:   nothing; reads one snapshot
-- Writes:  ledger.answered_until, if it reports on a later moment than any answer before: the answer stays true
-- Raises:  refusals of the API key; no such account

create or replace function wallet.list_counterparties(
    p_account_id bigint,
    p_from timestamptz default null,
    p_to timestamptz default null,
    p_api_key_id bigint default null
)
    returns table (
        account_id bigint,
        name text,
        payments bigint,
        paid numeric,
        received numeric,
        last_payment_id bigint,
        operation_timestamp timestamptz,
        since timestamptz
    )
    language plpgsql stable
    security definer
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
as $$
declare
    v_most_added_up constant bigint := bigint '20000';
    v_most_rows constant bigint := bigint '100';
    v_after_id bigint := bigint '0';
    v_until_id bigint := bigint '9223372036854775807';
begin
    perform wallet._allow(p_api_key_id, 'read', p_account_id);
    if not exists (select from ledger.account as account where account.id = p_account_id) then
        perform wallet._refuse('WN001');
    end if;
    perform wallet._time_answered(greatest(p_from, p_to) - interval '1 microsecond');
    if p_from is not null then
        v_after_id := wallet._last_payment_before(p_account_id, p_from);
    end if;
    if p_to is not null then
        v_until_id := wallet._last_payment_before(p_account_id, p_to);
    end if;
    return query
        with looked_at as materialized (
            select
                line.id, line.amount::numeric as amount, line.operation_timestamp,
                case line.buyer_account_id when p_account_id then line.seller_account_id else line.buyer_account_id end
                    as counterparty_id,
                line.buyer_account_id = p_account_id as is_paid,
                row_number() over (order by line.id desc) as number
            from wallet._history_backwards(p_account_id, v_after_id, v_until_id, v_most_added_up + 1) as line
        ),
        counterparty as (
            select
                line.counterparty_id as id, count(*) as number,
                trim_scale(coalesce(sum(line.amount) filter (where line.is_paid), 0)) as paid,
                trim_scale(coalesce(sum(line.amount) filter (where not line.is_paid), 0)) as received,
                max(line.id) as last_id, max(line.operation_timestamp) as last_time
            from looked_at as line
            where line.number <= v_most_added_up
            group by line.counterparty_id
            order by count(*) desc, line.counterparty_id
            limit v_most_rows
        )
        select
            counterparty.id, account.name, counterparty.number, counterparty.paid, counterparty.received,
            counterparty.last_id, counterparty.last_time,
            (
                select line.operation_timestamp
                from looked_at as line
                where line.number = v_most_added_up
                    and exists (select from looked_at as older where older.number > v_most_added_up)
            )
        from counterparty
        join ledger.account as account on account.id = counterparty.id
        order by counterparty.number desc, counterparty.id;
end
$$;

comment on function wallet.list_counterparties(bigint, timestamptz, timestamptz, bigint) is
    'The accounts that an account trades with, at most 100, those with the most payments first: how many payments, what it '
    'has paid and received, and the last payment. From a moment (p_from; NULL: the opening) until before another (p_to; '
    'NULL: now), of the newest 20,000 payments. since: the time of the oldest of these, if there are others before. '
    'Raises a refusal if there is no such account.';

grant execute on function wallet.list_counterparties(bigint, timestamptz, timestamptz, bigint)
    to wallet_app, wallet_ops, wallet_reporting;
