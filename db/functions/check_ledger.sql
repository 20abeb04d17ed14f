-- wallet.check_ledger()
--
-- Recomputes the whole ledger from the stored data, and compares. Each helper checks one subject:
--
--   _balance_problems  every balance follows from the opening balance and the payments, link by link
--   _account_problems  accounts have a currency and its decimals, are within their credit limit, and are empty if they
--                      are closed
--   _term_problems     the status and the credit limit of that time allowed each payment
--   _payment_problems  payments are between two accounts of their currency
--   _key_problems      no idempotency key has two payments or two holds
--   _refund_problems   refunds do not exceed their payment
--   _hold_problems     held amounts are what open holds still hold, and captures do not exceed their hold
--   _event_problems    accounts, changes, holds and ends of holds are in the feed
--   _count_problems    there are as many payments as recorded checks have counted
--   _order_problems    later ids are higher ones: no sequence gives a session several at a time
--
-- Returns: a row for each problem of an account, a payment, a currency or a sequence; none if the ledger is consistent.
--          If a balance does not follow, payment_id is the first payment that breaks the chain. Of the checks of a
--          single payment, only the first that fails is reported
-- Locks:   nothing; reads one snapshot, while other calls continue
-- Raises:  nothing

create or replace function wallet._steps()
    returns table (currency_id bigint, account_id bigint, payment_id bigint, change numeric, balance numeric)
    language sql stable
as $$
    select payment.currency_id, payment.buyer_account_id, payment.id, -payment.amount, payment.buyer_balance::numeric
    from ledger.payment as payment
    union all
    select payment.currency_id, payment.seller_account_id, payment.id, payment.amount::numeric, payment.seller_balance::numeric
    from ledger.payment as payment
$$;

comment on function wallet._steps() is
    'Each payment twice, as its buyer''s and as its seller''s: how it changed the balance, and the balance after it.';

-- Sorts each payment twice. If the sum and all links hold, the balance is also the one after the last payment.
create or replace function wallet._balance_problems()
    returns table (currency_id bigint, account_id bigint, payment_id bigint, problem text)
    language sql stable
as $$
    with link as (
        select
            step.account_id, step.payment_id, step.change, step.balance,
            lag(step.balance) over (partition by step.account_id order by step.payment_id) as balance_before
        from wallet._steps() as step
    ),
    chain as (
        select
            account.id as account_id,
            coalesce(sum(link.change), 0) as change,
            min(link.payment_id) filter (
                where link.balance is distinct from coalesce(link.balance_before, account.opening_balance) + link.change
            ) as gap
        from ledger.account as account
        left join link on link.account_id = account.id
        group by account.id
    )
    select account.currency_id, account.id, null::bigint, format(
        'The balance is %s; opening balance, plus received, minus paid, is %s',
        account.balance, trim_scale(account.opening_balance + chain.change)
    )
    from ledger.account as account
    join chain on chain.account_id = account.id
    where account.balance is distinct from account.opening_balance + chain.change

    union all
    select account.currency_id, account.id, chain.gap, 'The balance after this payment does not follow from the one before it'
    from ledger.account as account
    join chain on chain.account_id = account.id
    where chain.gap is not null
$$;

comment on function wallet._balance_problems() is
    'Accounts whose balance is not the sum of their payments, and first payments that do not follow from the one before.';

create or replace function wallet._account_problems()
    returns table (currency_id bigint, account_id bigint, payment_id bigint, problem text)
    language sql stable
as $$
    select judged.currency_id, judged.id, null::bigint, judged.problem
    from (
        select account.currency_id, account.id, case
            when (account.credit_limit >= 0 and account.held >= 0) is not true then
                'The credit limit, or what is held, is below zero'
            when (account.balance + account.credit_limit - account.held >= 0) is not true then format(
                'The balance is %s, the credit limit %s, and %s is held',
                account.balance, account.credit_limit, account.held
            )
            when (account.status <> 'closed' or (account.balance = 0 and account.held = 0)) is not true then
                'It is closed, and something is on it'
            when (account.currency_scale = currency.scale) is not true then 'Its currency has another number of decimals'
            when (
                min_scale(account.opening_balance) <= currency.scale and min_scale(account.balance) <= currency.scale
                and min_scale(account.credit_limit) <= currency.scale and min_scale(account.held) <= currency.scale
            ) is not true then 'An amount of it has more decimals than its currency'
            when wallet._is_metadata(account.metadata) is false then 'Its metadata is not an object of at most 4096 bytes'
        end as problem
        from ledger.account as account
        left join ledger.currency as currency on currency.id = account.currency_id
        where currency.id is not null
    ) as judged
    where judged.problem is not null

    union all
    select account.currency_id, account.id, null::bigint, format('The opening balance is %s, below zero', account.opening_balance)
    from ledger.account as account
    where (account.opening_balance >= 0) is not true

    union all
    select account.currency_id, account.id, null::bigint, 'There is no such currency'
    from ledger.account as account
    where not exists (select from ledger.currency as currency where currency.id = account.currency_id)

    union all
    select currency.id, null::bigint, null::bigint, 'Its number of decimals is not that of its last change'
    from ledger.currency as currency
    where currency.scale <> (
        select change.scale
        from ledger.currency_change as change where change.currency_id = currency.id
        order by change.id desc
        limit 1
    )
$$;

comment on function wallet._account_problems() is
    'Accounts whose balance, terms, status or currency cannot be as they are, and currencies that changed unrecorded.';

create or replace function wallet._terms()
    returns table (account_id bigint, status text, credit_limit numeric, after_id bigint, until_id bigint, is_last boolean)
    language sql stable
as $$
    select
        change.account_id, change.status, change.credit_limit, change.last_payment_id,
        coalesce(lead(change.last_payment_id) over later, 9223372036854775807),
        lead(change.id) over later is null
    from ledger.account_change as change
    window later as (partition by change.account_id order by change.id)
$$;

comment on function wallet._terms() is
    'The status and credit limit that accounts had, each for the account''s payments after one id and up to another.';

create or replace function wallet._term_problems()
    returns table (currency_id bigint, account_id bigint, payment_id bigint, problem text)
    language sql stable
as $$
    select account.currency_id, account.id, null::bigint, 'Its status and credit limit are not those of its last change'
    from ledger.account as account
    left join wallet._terms() as term on term.account_id = account.id and term.is_last
    where (account.status, account.credit_limit)
        is distinct from (coalesce(term.status, 'active'), coalesce(term.credit_limit, 0))

    union all
    select payment.currency_id, term.account_id, payment.id, case when payment.buyer_account_id = term.account_id
        then format('The buyer was %s', term.status) else format('The seller was %s', term.status) end
    from wallet._terms() as term
    join ledger.payment as payment
        on (payment.buyer_account_id = term.account_id and term.status <> 'active')
        or (payment.seller_account_id = term.account_id and term.status in ('blocked', 'closed'))
    where term.status <> 'active' and payment.id > term.after_id and payment.id <= term.until_id

    union all
    select step.currency_id, step.account_id, step.payment_id, format(
        'The balance after it is %s, and the credit limit was %s', step.balance, coalesce(term.credit_limit, 0)
    )
    from wallet._steps() as step
    left join wallet._terms() as term
        on term.account_id = step.account_id and step.payment_id > term.after_id and step.payment_id <= term.until_id
    where step.balance < 0 and (step.balance + coalesce(term.credit_limit, 0) >= 0) is not true
$$;

comment on function wallet._term_problems() is
    'Accounts whose terms are not those of their last change, and payments that the terms of their time do not allow.';

create or replace function wallet._payment_problems()
    returns table (currency_id bigint, account_id bigint, payment_id bigint, problem text)
    language sql stable
as $$
    select judged.currency_id, null::bigint, judged.id, judged.problem
    from (
        select payment.currency_id, payment.id, case
            when buyer.id is null then 'There is no account of the buyer'
            when seller.id is null then 'There is no account of the seller'
            when (buyer.currency_id = payment.currency_id) is not true then 'The buyer''s currency is another one'
            when (seller.currency_id = payment.currency_id) is not true then 'The seller''s currency is another one'
            when (buyer.id <> seller.id) is not true then 'Buyer and seller are the same'
            when (payment.amount > 0) is not true then 'The amount is not above zero'
            when (min_scale(payment.amount) <= buyer.currency_scale) is not true then
                'The amount has more decimals than its currency'
            when (payment.amount <= payment.up_to) is false then 'The amount is above the most that was asked for'
            when wallet._is_metadata(payment.metadata) is false then 'Its metadata is not an object of at most 4096 bytes'
        end as problem
        from ledger.payment as payment
        left join ledger.account as buyer on buyer.id = payment.buyer_account_id
        left join ledger.account as seller on seller.id = payment.seller_account_id
    ) as judged
    where judged.problem is not null
$$;

comment on function wallet._payment_problems() is
    'Payments that are not of an amount between two accounts of their currency.';

create or replace function wallet._key_problems()
    returns table (currency_id bigint, account_id bigint, payment_id bigint, problem text)
    language sql stable
as $$
    select payment.currency_id, null::bigint, payment.id, 'Another payment has the same idempotency key'
    from ledger.payment as payment
    where payment.idempotency_key in (
        select keyed.idempotency_key
        from ledger.payment as keyed
        where keyed.idempotency_key is not null
        group by keyed.idempotency_key
        having count(*) > 1
    )

    union all
    select hold.currency_id, hold.buyer_account_id, null::bigint, format('Hold %s: another one has the same idempotency key', hold.id)
    from ledger.hold as hold
    where hold.idempotency_key in (
        select keyed.idempotency_key
        from ledger.hold as keyed
        where keyed.idempotency_key is not null
        group by keyed.idempotency_key
        having count(*) > 1
    )
$$;

comment on function wallet._key_problems() is
    'Payments and holds that share an idempotency key.';

create or replace function wallet._refund_problems()
    returns table (currency_id bigint, account_id bigint, payment_id bigint, problem text)
    language sql stable
as $$
    select original.currency_id, null::bigint, original.id, format(
        'Its refunds are %s, and its amount is %s', trim_scale(sum(refund.amount)), original.amount
    )
    from ledger.payment as refund
    join ledger.payment as original on original.id = refund.refunded_payment_id
    where refund.refunded_payment_id is not null
    group by original.currency_id, original.id, original.amount
    having (sum(refund.amount) <= original.amount) is not true

    union all
    select refund.currency_id, null::bigint, refund.id, 'It does not give back what it says'
    from ledger.payment as refund
    left join ledger.payment as original on original.id = refund.refunded_payment_id
    where refund.refunded_payment_id is not null
        and (
            original.id < refund.id
            and original.refunded_payment_id is null
            and original.buyer_account_id = refund.seller_account_id
            and original.seller_account_id = refund.buyer_account_id
        ) is not true
$$;

comment on function wallet._refund_problems() is
    'Payments that are refunded by more than their amount, and refunds that are not one of their payment.';

create or replace function wallet._hold_problems()
    returns table (currency_id bigint, account_id bigint, payment_id bigint, problem text)
    language sql stable
as $$
    select account.currency_id, account.id, null::bigint, format('%s is held; its open holds are %s', account.held, held.total)
    from ledger.account as account
    left join lateral (
        select trim_scale(coalesce(sum(wallet._hold_left(hold.amount, hold.captured_amount)), 0)) as total
        from ledger.hold as hold
        where hold.buyer_account_id = account.id and hold.status = 'open'
    ) as held on true
    where account.held is distinct from held.total

    union all
    select judged.currency_id, judged.account_id, judged.payment_id, format('Hold %s: %s', judged.hold_id, judged.problem)
    from (
        select hold.currency_id, hold.buyer_account_id as account_id, capture.payment_id, hold.id as hold_id, case
            when (buyer.currency_id = hold.currency_id and seller.currency_id = hold.currency_id) is not true then
                'its currency is not that of its accounts'
            when (hold.amount > 0 and min_scale(hold.amount) <= buyer.currency_scale) is not true then
                'its amount is not above zero, or has more decimals than its currency'
            when wallet._is_metadata(hold.metadata) is false then 'its metadata is not an object of at most 4096 bytes'
            when hold.status = 'captured' and capture.total is null then 'it was captured, and there is no payment'
            when (capture.total <= hold.amount) is false then 'more was captured than it held'
            when hold.status = 'open' and capture.total = hold.amount then 'all of it was captured, and it is open'
            -- The sum is not noted if the only capture is older than captures that leave the rest held.
            when (
                hold.captured_amount is not distinct from capture.total
                or (hold.captured_amount is null and hold.status = 'captured' and capture.number = 1)
            ) is not true then format(
                'its captures are %s, and %s is noted', coalesce(capture.total, 0), coalesce(hold.captured_amount, 0)
            )
        end as problem
        from ledger.hold as hold
        left join (
            select
                payment.hold_id, max(payment.id) as payment_id, count(*) as number, trim_scale(sum(payment.amount)) as total
            from ledger.payment as payment
            where payment.hold_id is not null
            group by payment.hold_id
        ) as capture on capture.hold_id = hold.id
        left join ledger.account as buyer on buyer.id = hold.buyer_account_id
        left join ledger.account as seller on seller.id = hold.seller_account_id

        union all
        select payment.currency_id, hold.buyer_account_id, payment.id, payment.hold_id, case
            when hold.id is null then 'there is none that this payment captured'
            when (
                (hold.buyer_account_id, hold.seller_account_id, hold.currency_id)
                = (payment.buyer_account_id, payment.seller_account_id, payment.currency_id)
            ) is not true then 'it was captured between other accounts'
        end
        from ledger.payment as payment
        left join ledger.hold as hold on hold.id = payment.hold_id
        where payment.hold_id is not null
    ) as judged
    where judged.problem is not null
$$;

comment on function wallet._hold_problems() is
    'Accounts whose held amount is not what their open holds still hold, and holds whose captures exceed them or are not '
    'what they say.';

create or replace function wallet._count_problems()
    returns table (currency_id bigint, account_id bigint, payment_id bigint, problem text)
    language sql stable
as $$
    with counted as materialized (
        select ledger_check.counted_until_id, ledger_check.payment_counts
        from ledger.ledger_check as ledger_check
        where ledger_check.counted_until_id is not null
        order by ledger_check.id desc
        limit 1
    )
    select currency.id, null::bigint, counted.counted_until_id, format(
        '%s payments of the currency were counted up to this one, and there are %s',
        coalesce(counted.payment_counts ->> currency.id::text, '0'), coalesce(found.number, 0)
    )
    from counted
    cross join ledger.currency as currency
    left join (
        select payment.currency_id, count(*) as number
        from ledger.payment as payment
        where payment.id <= (select counted.counted_until_id from counted)
        group by payment.currency_id
    ) as found on found.currency_id = currency.id
    where coalesce((counted.payment_counts ->> currency.id::text)::bigint, 0) <> coalesce(found.number, 0)
$$;

comment on function wallet._count_problems() is
    'Currencies that do not have as many payments as the last recorded check has counted.';

-- What is older than the table of events (0011) needs none.
create or replace function wallet._event_problems()
    returns table (currency_id bigint, account_id bigint, payment_id bigint, problem text)
    language sql stable
as $$
    select account.currency_id, account.id, null::bigint, 'It is not in the feed'
    from ledger.account as account
    where account.id > (select origin.account_id from ledger.feed_origin as origin)
        and not exists (select from ledger.event as event where event.account_id = account.id)

    union all
    select account.currency_id, account.id, null::bigint, format('Its change %s is not in the feed', change.id)
    from ledger.account_change as change
    join ledger.account as account on account.id = change.account_id
    where change.id > (select origin.account_change_id from ledger.feed_origin as origin)
        and not exists (select from ledger.event as event where event.account_change_id = change.id)
        and not wallet._is_opening(change)

    union all
    select judged.currency_id, judged.account_id, null::bigint, format('Hold %s: %s', judged.hold_id, judged.problem)
    from (
        select hold.currency_id, hold.buyer_account_id as account_id, hold.id as hold_id, case
            when hold.id > origin.hold_id and created.id is null then 'it is not in the feed'
            when hold.id > origin.hold_id and hold.status <> 'open' and ended.id is null then 'its end is not in the feed'
            when hold.status = 'open' and ended.id is not null then 'its end is in the feed, and it is open'
        end as problem
        from ledger.hold as hold
        cross join ledger.feed_origin as origin
        left join ledger.event as created on created.hold_id = hold.id
        left join ledger.event as ended on ended.ended_hold_id = hold.id
    ) as judged
    where judged.problem is not null
$$;

comment on function wallet._event_problems() is
    'Accounts, changes of accounts, holds and ends of holds that the feed does not report as they are.';

create or replace function wallet._order_problems()
    returns table (currency_id bigint, account_id bigint, payment_id bigint, problem text)
    language sql stable
as $$
    select null::bigint, null::bigint, null::bigint, format(
        'The sequence %s gives a session %s ids at a time: a later payment of an account may get a lower id',
        sequence.seqrelid::regclass, sequence.seqcache
    )
    from pg_sequence as sequence
    join pg_class as class on class.oid = sequence.seqrelid
    where class.relnamespace = 'ledger'::regnamespace and sequence.seqcache <> 1
$$;

comment on function wallet._order_problems() is
    'Sequences with which a later payment, change or event may get a lower id than an earlier one.';

create or replace function wallet.check_ledger()
    returns table (currency_id bigint, account_id bigint, payment_id bigint, problem text)
    language sql stable
    security definer
    set search_path = pg_catalog, pg_temp
    set work_mem = '64MB'
as $$
    select problem.* from wallet._balance_problems() as problem
    union all
    select problem.* from wallet._account_problems() as problem
    union all
    select problem.* from wallet._term_problems() as problem
    union all
    select problem.* from wallet._payment_problems() as problem
    union all
    select problem.* from wallet._key_problems() as problem
    union all
    select problem.* from wallet._refund_problems() as problem
    union all
    select problem.* from wallet._hold_problems() as problem
    union all
    select problem.* from wallet._event_problems() as problem
    union all
    select problem.* from wallet._count_problems() as problem
    union all
    select problem.* from wallet._order_problems() as problem
    order by 1, 2, 3, 4
$$;

comment on function wallet.check_ledger() is
    'Checks the ledger, in one snapshot: a row for each problem of an account, a payment or a sequence; none if all is '
    'well.';

grant execute on function wallet.check_ledger() to wallet_app, wallet_ops, wallet_reporting;
