-- wallet._history_of(…), wallet._history_backwards(…), wallet._history_in_direction(…), wallet._last_payment_of(…),
-- wallet._last_payment_before(p_account_id, p_moment), wallet._balance_after(…), wallet._history_of_several(…)
--
-- An account's history: its payments by id. Its balance changed in this order, even if a clock was set back.
--
-- Returns: _history…: payments; _last_payment_of: a payment; _last_payment_before: an id, 0
--          for none; _balance_after: a balance
-- Locks:   nothing
-- Raises:  nothing

-- Row comparisons, not "= and >", leave PostgreSQL a single index that gives this order. A wrong estimate of the
-- account's payments thus cannot make it read the payments of all accounts. Each side returns at most p_limit rows.
create or replace function wallet._history_of(
    p_account_id bigint,
    p_after_id bigint,
    p_until_id bigint,
    p_limit bigint
)
    returns setof ledger.payment
    language sql stable
as $$
    select either.*
    from (
        (
            select payment.*
            from ledger.payment as payment
            where (payment.buyer_account_id, payment.id) > (p_account_id, p_after_id)
                and (payment.buyer_account_id, payment.id) <= (p_account_id, p_until_id)
            order by payment.buyer_account_id, payment.id
            limit p_limit
        )
        union all
        (
            select payment.*
            from ledger.payment as payment
            where (payment.seller_account_id, payment.id) > (p_account_id, p_after_id)
                and (payment.seller_account_id, payment.id) <= (p_account_id, p_until_id)
            order by payment.seller_account_id, payment.id
            limit p_limit
        )
    ) as either
    order by either.id
    limit p_limit
$$;

comment on function wallet._history_of(bigint, bigint, bigint, bigint) is
    'An account''s payments by id: after one id and up to another, at most p_limit (NULL: all).';

create or replace function wallet._history_backwards(
    p_account_id bigint,
    p_after_id bigint,
    p_until_id bigint,
    p_limit bigint
)
    returns setof ledger.payment
    language sql stable
as $$
    select either.*
    from (
        (
            select payment.*
            from ledger.payment as payment
            where (payment.buyer_account_id, payment.id) > (p_account_id, p_after_id)
                and (payment.buyer_account_id, payment.id) <= (p_account_id, p_until_id)
            order by payment.buyer_account_id desc, payment.id desc
            limit p_limit
        )
        union all
        (
            select payment.*
            from ledger.payment as payment
            where (payment.seller_account_id, payment.id) > (p_account_id, p_after_id)
                and (payment.seller_account_id, payment.id) <= (p_account_id, p_until_id)
            order by payment.seller_account_id desc, payment.id desc
            limit p_limit
        )
    ) as either
    order by either.id desc
    limit p_limit
$$;

comment on function wallet._history_backwards(bigint, bigint, bigint, bigint) is
    'An account''s payments by id, the last one first: after one id and up to another, at most p_limit (NULL: all).';

create or replace function wallet._history_in_direction(
    p_account_id bigint,
    p_after_id bigint,
    p_until_id bigint,
    p_limit bigint,
    p_direction text
)
    returns setof ledger.payment
    language sql stable
as $$
    select payment.*
    from wallet._history_of(p_account_id, p_after_id, p_until_id, p_limit) as payment
    where p_direction = 'asc'
    union all
    select payment.*
    from wallet._history_backwards(p_account_id, p_after_id, p_until_id, p_limit) as payment
    where p_direction = 'desc'
$$;

comment on function wallet._history_in_direction(bigint, bigint, bigint, bigint, text) is
    'An account''s payments: after one id and up to another, of these the first p_limit, or those nearest to the end '
    '(direction desc); NULL: all. In no order.';

create or replace function wallet._last_payment_of(p_account_id bigint, p_until_id bigint)
    returns ledger.payment
    language sql stable
as $$
    select either.*
    from (
        (
            select payment.*
            from ledger.payment as payment
            where (payment.buyer_account_id, payment.id) <= (p_account_id, p_until_id)
                and payment.buyer_account_id >= p_account_id
            order by payment.buyer_account_id desc, payment.id desc
            limit 1
        )
        union all
        (
            select payment.*
            from ledger.payment as payment
            where (payment.seller_account_id, payment.id) <= (p_account_id, p_until_id)
                and payment.seller_account_id >= p_account_id
            order by payment.seller_account_id desc, payment.id desc
            limit 1
        )
    ) as either
    order by either.id desc
    limit 1
$$;

comment on function wallet._last_payment_of(bigint, bigint) is
    'An account''s last payment up to an id; all NULL if there is none.';

-- Times and ids have the same order, except for nearly simultaneous payments and after a clock was set back. So the
-- index on time gives a start, and a walk along the account's own payments finds the exact place. Moments outside the
-- account's history are handled first: otherwise one outlying time, of any account's payment, could make the walk cover
-- the whole history.
create or replace function wallet._last_payment_before(p_account_id bigint, p_moment timestamptz)
    returns bigint
    language plpgsql stable
as $$
declare
    v_id bigint;
    v_payment ledger.payment;
begin
    v_payment := wallet._last_payment_of(p_account_id, 9223372036854775807);
    if v_payment.operation_timestamp < p_moment then
        return v_payment.id;
    end if;
    select payment.* into v_payment from wallet._history_of(p_account_id, 0, 9223372036854775807, 1) as payment;
    if (v_payment.operation_timestamp < p_moment) is not true then
        return bigint '0';
    end if;

    select payment.id into v_id
    from ledger.payment as payment
    where payment.operation_timestamp < p_moment
    order by payment.operation_timestamp desc, payment.id desc
    limit 1;
    loop
        select payment.* into v_payment from wallet._history_of(p_account_id, v_id, 9223372036854775807, 1) as payment;
        exit when (v_payment.operation_timestamp < p_moment) is not true;
        v_id := v_payment.id;
    end loop;
    loop
        v_payment := wallet._last_payment_of(p_account_id, v_id);
        exit when (v_payment.operation_timestamp >= p_moment) is not true;
        v_id := v_payment.id - 1;
    end loop;
    return v_payment.id;
end
$$;

comment on function wallet._last_payment_before(bigint, timestamptz) is
    'The id of an account''s last payment before a moment; 0 if there is none.';

create or replace function wallet._balance_after(p_account ledger.account, p_payment_id bigint)
    returns numeric
    language sql stable
as $$
    select coalesce(
        (
            select case payment.buyer_account_id when p_account.id then payment.buyer_balance else payment.seller_balance end
            from wallet._last_payment_of(p_account.id, p_payment_id) as payment
            where payment.id is not null
        ),
        p_account.opening_balance
    )
$$;

comment on function wallet._balance_after(ledger.account, bigint) is
    'An account''s balance after its last payment up to an id; without such a payment, its opening balance.';

-- Each account contributes at most p_limit payments. A payment between two of the accounts is returned once.
create or replace function wallet._history_of_several(
    p_account_ids bigint[],
    p_after_id bigint,
    p_until_id bigint,
    p_from timestamptz,
    p_to timestamptz,
    p_limit bigint,
    p_direction text
)
    returns setof ledger.payment
    language sql stable
as $$
    select distinct on (line.place) (line.payment).*
    from (
        select history as payment, case p_direction when 'desc' then -history.id else history.id end as place
        from unnest(p_account_ids) as one_of (account_id)
        cross join lateral wallet._history_in_direction(
            one_of.account_id,
            greatest(
                p_after_id,
                case when p_from > '-infinity' then wallet._last_payment_before(one_of.account_id, p_from) end
            ),
            least(
                p_until_id,
                case when p_to < 'infinity' then wallet._last_payment_before(one_of.account_id, p_to) end
            ),
            p_limit,
            p_direction
        ) as history
    ) as line
    order by line.place
    limit p_limit
$$;

comment on function wallet._history_of_several(bigint[], bigint, bigint, timestamptz, timestamptz, bigint, text) is
    'The payments of several accounts by id, in a direction, asc or desc: after one id and up to another, from one '
    'moment until before another, at most p_limit (NULL: all).';
