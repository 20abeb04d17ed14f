-- wallet.sum_payments_by_hour(p_from, p_to, p_currency, p_api_key_id)
--
-- Counts the payments of each hour, in UTC, from a moment (inclusive) until another (exclusive), and adds up their
-- amounts. By default, these are the 24 hours that end with the present one.
--
-- Of each hour, it reads at most 20,000 payments. If there are more, their number is estimated from their ids, and their
-- currencies from those that it has read.
--
-- Returns: hours, in order, also those without payments. payments: their number; amount: the sum, only of one currency
--          (p_currency, an id or a name), and only if it is exact; exact: whether all payments of the hour were read
-- Locks:   nothing; reads one snapshot
-- Writes:  ledger.answered_until, if it reports on a later moment than any answer before: the answer stays true
-- Raises:  refusals of the API key, which has to be unbound; the period has more than 168 hours; no such currency

create or replace function wallet._sum_payments(p_from timestamptz, p_to timestamptz, p_currency_id bigint, p_most bigint)
    returns table (payments bigint, amount numeric, exact boolean)
    language sql stable
as $$
    select
        case
            when counted.number <= p_most then counted.matching
            else round((last.id - counted.first_id + 1) * counted.matching::numeric / counted.number)::bigint
        end,
        case when p_currency_id is not null and counted.number <= p_most then counted.amount end,
        counted.number <= p_most
    from (
        select
            count(*) as number,
            count(*) filter (where matches) as matching,
            trim_scale(coalesce(sum(payment.amount) filter (where matches), 0)) as amount,
            min(payment.id) as first_id
        from (
            select payment.id, payment.amount, payment.currency_id
            from ledger.payment as payment
            where payment.operation_timestamp >= p_from and payment.operation_timestamp < p_to
            order by payment.operation_timestamp, payment.id
            limit p_most + 1
        ) as payment
        cross join lateral (select p_currency_id is null or payment.currency_id = p_currency_id) as wanted (matches)
    ) as counted
    left join lateral (
        select payment.id
        from ledger.payment as payment
        where payment.operation_timestamp >= p_from and payment.operation_timestamp < p_to
        order by payment.operation_timestamp desc, payment.id desc
        limit 1
    ) as last on counted.number > p_most
$$;

comment on function wallet._sum_payments(timestamptz, timestamptz, bigint, bigint) is
    'The number of payments from one moment until before another, in a currency (NULL: in all), and the sum of their '
    'amounts. If there are more than p_most, the number is an estimate, and the sum NULL.';

create or replace function wallet.sum_payments_by_hour(
    p_from timestamptz default null,
    p_to timestamptz default null,
    p_currency text default null,
    p_api_key_id bigint default null
)
    returns table (hour timestamptz, payments bigint, amount numeric, exact boolean)
    language plpgsql stable
    security definer
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
as $$
declare
    v_most constant bigint := bigint '20000';
    v_hour constant interval := interval '1 hour';
    v_now timestamptz := clock_timestamp();
    v_to timestamptz := coalesce(p_to, v_now);
    v_from timestamptz;
    v_currency_id bigint;
begin
    perform wallet._allow(p_api_key_id, 'read', null);
    -- An infinite moment has no difference from another.
    if isfinite(v_to) then
        v_from := coalesce(p_from, date_bin(v_hour, v_to, timestamptz 'epoch') - 23 * v_hour);
    end if;
    if (
        isfinite(v_from) and extract(epoch from v_to) - extract(epoch from v_from) <= numeric '168' * 3600
    ) is not true then
        perform wallet._refuse('WB066');
    end if;
    v_currency_id := wallet._currency_id(p_currency);
    -- The present hour, which goes on, is no answer about the past.
    perform wallet._time_answered(
        case when v_to < v_now then v_to else date_bin(v_hour, v_now, timestamptz 'epoch') end
            - interval '1 microsecond'
    );
    return query
        select one.hour, found.payments, found.amount, found.exact
        from generate_series(
            date_bin(v_hour, v_from, timestamptz 'epoch'), v_to - interval '1 microsecond', v_hour
        ) as one (hour)
        cross join lateral wallet._sum_payments(
            greatest(one.hour, v_from), least(one.hour + v_hour, v_to), v_currency_id, v_most
        ) as found
        order by one.hour;
end
$$;

comment on function wallet.sum_payments_by_hour(timestamptz, timestamptz, text, bigint) is
    'The number of payments in each hour, from a moment (p_from; NULL: 23 hours before the last hour) until before another '
    '(p_to; NULL: now), at most 168 hours. In one currency (id or name; NULL: in all), also the sum of their amounts. '
    'exact: false if an hour has more than 20,000 payments; then their number is an estimate, and there is no sum.';

grant execute on function wallet.sum_payments_by_hour(timestamptz, timestamptz, text, bigint)
    to wallet_app, wallet_ops, wallet_reporting;
