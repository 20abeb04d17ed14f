-- wallet.get_balance_curve(p_account_id, p_from, p_to, p_api_key_id)
--
-- Returns at most 500 points of an account's balance over time, from a moment until another; by default, from its opening
-- until now. Between two points, the balance is that of the first one.
--
-- With 498 payments or fewer, each is a point. Of more, it picks payments at equal distances between the first and the
-- last id, whatever they are: a busy time has more points. Peaks between two points do not show.
--
-- Returns: points, in order. The first one has the balance at p_from, or at the opening; the last one that at p_to, or now
-- Locks:   nothing; reads one snapshot
-- Writes:  ledger.answered_until, if it reports on a later moment than any answer before: the answer stays true
-- Raises:  refusals of the API key; no such account

create or replace function wallet._points_of_history(
    p_account_id bigint,
    p_after_id bigint,
    p_until_id bigint,
    p_most bigint
)
    returns setof ledger.payment
    language sql stable
as $$
    select distinct on (point.id) point.*
    from generate_series(bigint '1', p_most) as step (number)
    cross join lateral wallet._last_payment_of(
        p_account_id, p_after_id + (step.number * (p_until_id - p_after_id)::numeric / p_most)::bigint
    ) as point
    where point.id > p_after_id
    order by point.id
$$;

comment on function wallet._points_of_history(bigint, bigint, bigint, bigint) is
    'At most p_most of an account''s payments after one id and up to another, at equal distances of ids, the last one '
    'included.';

create or replace function wallet.get_balance_curve(
    p_account_id bigint,
    p_from timestamptz default null,
    p_to timestamptz default null,
    p_api_key_id bigint default null
)
    returns table (at timestamptz, amount numeric)
    language plpgsql stable
    security definer
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
as $$
declare
    v_most constant bigint := bigint '498';
    v_account ledger.account;
    v_from timestamptz;
    v_to timestamptz;
    v_after_id bigint := bigint '0';
    v_until_id bigint;
    v_number bigint;
    v_first_id bigint;
begin
    perform wallet._allow(p_api_key_id, 'read', p_account_id);
    select account.* into v_account from ledger.account as account where account.id = p_account_id;
    if v_account.id is null then
        perform wallet._refuse('WN001');
    end if;
    v_from := greatest(p_from, v_account.created_at);
    -- If a clock was ahead, the last payment may be later than now.
    v_to := least(p_to, greatest(clock_timestamp(), v_account.changed_at));
    if (v_from <= v_to) is not true then
        return;
    end if;

    perform wallet._time_answered(greatest(p_from, p_to) - interval '1 microsecond');
    if p_from is not null then
        v_after_id := wallet._last_payment_before(v_account.id, v_from);
    end if;
    v_until_id := case
        when p_to is null then (wallet._last_payment_of(v_account.id, 9223372036854775807)).id
        else wallet._last_payment_before(v_account.id, v_to)
    end;
    select count(*), min(line.id) into v_number, v_first_id
    from wallet._history_of(v_account.id, v_after_id, v_until_id, v_most + 1) as line;

    at := v_from;
    amount := wallet._balance_after(v_account, v_after_id);
    return next;
    return query
        select
            greatest(line.operation_timestamp, v_from),
            case line.buyer_account_id when v_account.id then line.buyer_balance else line.seller_balance end::numeric
        from (
            select line.*
            from wallet._history_of(v_account.id, v_after_id, v_until_id, v_most) as line
            where v_number <= v_most
            union all
            select line.*
            from wallet._points_of_history(v_account.id, v_first_id - 1, v_until_id, v_most) as line
            where v_number > v_most
        ) as line
        order by line.id;
    at := v_to;
    amount := wallet._balance_after(v_account, v_until_id);
    return next;
end
$$;

comment on function wallet.get_balance_curve(bigint, timestamptz, timestamptz, bigint) is
    'At most 500 points of an account''s balance, from a moment (p_from; NULL: its opening) until another (p_to; NULL: '
    'now). Each has the balance until the next one. With 498 payments or fewer, each is a point; otherwise, some of them. '
    'Raises a refusal if there is no such account.';

grant execute on function wallet.get_balance_curve(bigint, timestamptz, timestamptz, bigint)
    to wallet_app, wallet_ops, wallet_reporting;
