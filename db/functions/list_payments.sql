-- wallet.list_payments(p_after_id, p_limit, p_account_id, p_buyer_account_id, p_seller_account_id, p_currency,
--                      p_from, p_to, p_min, p_max, p_reference, p_refunded_payment_id, p_api_key_id)
--
-- Returns a page of the payments that match the arguments: those after an id, at most p_limit. Without arguments, it
-- returns all; to a key bound to accounts, only those that involve them.
--
-- One index gives the candidates, in order: that of the refunded payment, else of the reference, the buyer, the seller,
-- the account (either side), the accounts that the key is bound to, the time, the id. (A bound key never reads the index
-- of another account, nor the refunds of a payment that it may not see.) Further conditions filter the candidates, and a
-- page then reads at most 10,000 of them: it may have fewer rows than the limit although others follow. But for a bound
-- key and a reference, it reads all: an early end would reveal payments of other accounts.
--
-- Returns: payments, oldest first: by id; by time and id if the index is that of the time. more, the same in all rows:
--          whether further rows follow, after p_after_id => the last row's id. If a page ends before it is full, its
--          last row is not a payment: all columns but id and more are NULL
-- Locks:   nothing; reads one snapshot
-- Writes:  ledger.answered_until, if it reports on a later moment than any answer before: the answer stays true
-- Raises:  refusals of the API key, the limit, and min or max; no such currency

create or replace function wallet._payment_index(
    p_refunded_payment_id bigint,
    p_reference text,
    p_of_bound boolean,
    p_buyer_account_id bigint,
    p_seller_account_id bigint,
    p_account_id bigint,
    p_from timestamptz,
    p_to timestamptz
)
    returns text
    language sql immutable
as $$
    select case
        when p_refunded_payment_id is not null then 'refunds'
        when p_reference is not null then 'reference'
        when p_of_bound then 'bound'
        when p_buyer_account_id is not null then 'buyer'
        when p_seller_account_id is not null then 'seller'
        when p_account_id is not null then 'account'
        when p_from is not null or p_to is not null then 'time'
        else 'id'
    end
$$;

comment on function wallet._payment_index(
    bigint, text, boolean, bigint, bigint, bigint, timestamptz, timestamptz
) is
    'The index that gives the candidates of a list. p_of_bound: those of the accounts that the API key is bound to.';

-- Row comparisons, as in _history.sql: a single index gives this order.
create or replace function wallet._payment_candidates(p_index text)
    returns text
    language sql immutable
as $$
    select case p_index
        when 'refunds' then 'select payment.* from ledger.payment as payment
            where (payment.refunded_payment_id, payment.id) > ($17, $1) and payment.refunded_payment_id <= $17
            order by payment.refunded_payment_id, payment.id'
        when 'reference' then 'select payment.* from ledger.payment as payment
            where (payment.reference, payment.id) > ($5, $1) and payment.reference <= $5
            order by payment.reference, payment.id'
        when 'bound' then 'select payment.* from wallet._history_of_all($16, $1, $7, $8, $3) as payment order by payment.id'
        when 'buyer' then 'select payment.* from ledger.payment as payment
            where (payment.buyer_account_id, payment.id) > ($4, $1) and (payment.buyer_account_id, payment.id) <= ($4, $2)
            order by payment.buyer_account_id, payment.id'
        when 'seller' then 'select payment.* from ledger.payment as payment
            where (payment.seller_account_id, payment.id) > ($4, $1) and (payment.seller_account_id, payment.id) <= ($4, $2)
            order by payment.seller_account_id, payment.id'
        when 'account' then 'select payment.* from wallet._history_of($4, $1, $2, $3) as payment order by payment.id'
        when 'time' then 'select payment.* from ledger.payment as payment
            where (payment.operation_timestamp, payment.id) > ($6, $1)
                and payment.operation_timestamp >= $7 and payment.operation_timestamp < $8
            order by payment.operation_timestamp, payment.id'
        when 'id' then 'select payment.* from ledger.payment as payment where payment.id > $1 order by payment.id'
    end
$$;

comment on function wallet._payment_candidates(text) is
    'The query of list_payments for the candidates that an index gives, in order.';

create or replace function wallet.list_payments(
    p_after_id bigint default null,
    p_limit bigint default null,
    p_account_id bigint default null,
    p_buyer_account_id bigint default null,
    p_seller_account_id bigint default null,
    p_currency text default null,
    p_from timestamptz default null,
    p_to timestamptz default null,
    p_min numeric default null,
    p_max numeric default null,
    p_reference text default null,
    p_refunded_payment_id bigint default null,
    p_api_key_id bigint default null
)
    returns table (
        id bigint,
        currency_id bigint,
        currency_name text,
        amount numeric,
        buyer_account_id bigint,
        seller_account_id bigint,
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
    -- One index always serves, however many rows PostgreSQL expects.
    set enable_seqscan = off
as $$
declare
    v_most_looked_at constant bigint := bigint '10000';
    v_bound_ids bigint[] := wallet._bound_accounts(p_api_key_id, 'read');
    v_currency_id bigint := wallet._currency_id(p_currency);
    v_account_id bigint := coalesce(p_buyer_account_id, p_seller_account_id, p_account_id);
    v_of_bound boolean := v_bound_ids is not null and (v_account_id = any (v_bound_ids)) is not true;
    v_after_id bigint := greatest(p_after_id, 0);
    v_until_id bigint := 9223372036854775807;
    v_after_moment timestamptz := timestamptz '-infinity';
    v_index text := wallet._payment_index(
        p_refunded_payment_id, p_reference, v_of_bound, p_buyer_account_id, p_seller_account_id, p_account_id,
        p_from, p_to
    );
    v_order text := case v_index when 'time' then 'source.operation_timestamp, source.id' else 'source.id' end;
    v_refunded_payment_id bigint := p_refunded_payment_id;
    v_narrows boolean;
    v_look_at bigint;
    v_looked_until bigint;
    v_from timestamptz := coalesce(p_from, '-infinity');
    v_to timestamptz := coalesce(p_to, 'infinity');
    v_end text := 'null::bigint';
    v_found text := format('select source.* from (%s limit $3) as source', wallet._payment_candidates(v_index));
    v_number bigint;
    v_more boolean;
begin
    if wallet._page_refusal(p_limit) is not null then
        perform wallet._refuse(wallet._page_refusal(p_limit));
    elsif (coalesce(wallet._is_amount(p_min), true) and coalesce(wallet._is_amount(p_max), true)) is not true then
        perform wallet._refuse('WB062');
    end if;

    perform wallet._time_answered(greatest(p_from, p_to) - interval '1 microsecond');
    -- For an account, the times select a part of its history. (A bound key must not read that of another account.)
    if v_index in ('buyer', 'seller', 'account') then
        if p_from is not null then
            v_after_id := greatest(v_after_id, wallet._last_payment_before(v_account_id, p_from));
        end if;
        if p_to is not null then
            v_until_id := wallet._last_payment_before(v_account_id, p_to);
        end if;
    elsif v_index = 'refunds' then
        -- Refunds have the accounts of their payment: a bound key sees all of them, or none.
        v_refunded_payment_id := (
            select payment.id
            from ledger.payment as payment
            where payment.id = p_refunded_payment_id
                and wallet._may_see(v_bound_ids, payment.buyer_account_id, payment.seller_account_id)
        );
    elsif v_index = 'time' then
        v_after_moment := coalesce(
            (
                select payment.operation_timestamp
                from ledger.payment as payment
                where payment.id <= p_after_id
                order by payment.id desc
                limit 1
            ),
            '-infinity'
        );
    end if;

    v_narrows := num_nonnulls(p_reference, p_buyer_account_id, p_seller_account_id, p_account_id)
            > case when v_index in ('bound', 'refunds') then 0 else 1 end
        or num_nonnulls(p_currency, p_min, p_max) > 0
        or (v_index = 'refunds' and num_nonnulls(p_from, p_to) > 0)
        or (v_index = 'reference' and num_nonnulls(p_from, p_to, v_bound_ids) > 0);
    v_look_at := p_limit + 1;
    if v_narrows and p_limit is not null then
        v_look_at := case when v_index <> 'reference' or v_bound_ids is null
            then v_most_looked_at / coalesce(cardinality(v_bound_ids), 1) end;
        v_end := format(
            '(
                select source.id
                from (select source.id, row_number() over (order by %s) as number from (%s) as source) as source
                where source.number = $3
            )',
            v_order, v_found
        );
    end if;
    if v_narrows then
        v_found := v_found || '
            where ($9 is null or source.currency_id = $9)
                and ($10 is null or source.amount >= $10)
                and ($11 is null or source.amount <= $11)
                and ($12 is null or source.buyer_account_id = $12)
                and ($13 is null or source.seller_account_id = $13)
                and ($14 is null or $14 in (source.buyer_account_id, source.seller_account_id))
                and wallet._may_see($16, source.buyer_account_id, source.seller_account_id)'
            -- all other indexes have applied the times
            || case when v_index in ('refunds', 'reference')
                then ' and source.operation_timestamp >= $7 and source.operation_timestamp < $8' else '' end
            || case v_index when 'refunds' then ' and ($5 is null or source.reference = $5)' else '' end;
    end if;

    -- A separate count costs less than to compute for each row whether another one follows.
    execute format(
        'select %s, (select count(*) > $15 from (%s order by %s limit $15 + 1) as source)', v_end, v_found, v_order
    )
    into v_looked_until, v_more
    using v_after_id, v_until_id, v_look_at, v_account_id, p_reference, v_after_moment, v_from, v_to,
        v_currency_id, p_min, p_max, p_buyer_account_id, p_seller_account_id, p_account_id, p_limit, v_bound_ids,
        v_refunded_payment_id;
    v_more := coalesce(v_more, false) or v_looked_until is not null;
    return query execute format(
        'select
            source.id, source.currency_id, currency.name, source.amount::numeric,
            source.buyer_account_id, source.seller_account_id, source.operation_timestamp,
            source.description, source.reference, source.refunded_payment_id, source.hold_id, $18
        from (%1$s order by %2$s limit $15) as source
        join ledger.currency as currency on currency.id = source.currency_id
        order by %2$s',
        v_found, v_order
    )
    using v_after_id, v_until_id, v_look_at, v_account_id, p_reference, v_after_moment, v_from, v_to,
        v_currency_id, p_min, p_max, p_buyer_account_id, p_seller_account_id, p_account_id, p_limit, v_bound_ids,
        v_refunded_payment_id, v_more;
    get diagnostics v_number = row_count;
    if v_looked_until is not null and v_number < p_limit then
        id := v_looked_until;
        more := true;
        return next;
    end if;
end
$$;

comment on function wallet.list_payments(
    bigint, bigint, bigint, bigint, bigint, text, timestamptz, timestamptz, numeric, numeric, text, bigint, bigint
) is
    'Payments, oldest first: after an id (NULL: all), at most p_limit, 1 to 1000 (NULL: all), of an account, a buyer, '
    'a seller, a currency (id or name), from a moment (p_from) until before another (p_to), of an amount from p_min '
    'to p_max, with a reference, or that refund a payment. more: whether further rows follow, after the last row''s id. '
    'A last row with only id and more is not a payment.';

grant execute on function wallet.list_payments(
    bigint, bigint, bigint, bigint, bigint, text, timestamptz, timestamptz, numeric, numeric, text, bigint, bigint
) to wallet_app, wallet_ops, wallet_reporting;
