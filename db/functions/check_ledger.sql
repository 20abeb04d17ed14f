-- wallet.check_ledger()
--
-- Proves the books: from what is stored, and from nothing else. Every balance follows from the opening balance and the
-- payments, link by link; every payment is between two accounts of its currency; none was made twice under one key.
--
-- Returns: a row for each account and each payment that something is wrong with, and what; none where all is well.
--          Of an account whose chain is broken, payment_id is the first payment that does not follow. Of a payment by
--          itself, the first thing that is wrong.
-- Locks:   nothing; all is read at one moment, while others go on
-- Raises:  nothing

-- It reads and sorts all payments, each of them twice, as its buyer's and as its seller's. Where the sum and each link
-- hold, so does the last one: the balance is what the last payment left.
create or replace function wallet.check_ledger()
    returns table (currency_id bigint, account_id bigint, payment_id bigint, problem text)
    language sql stable
    security definer
    set search_path = pg_catalog, pg_temp
    set work_mem = '64MB'
as $$
    with step as (
        select
            payment.buyer_account_id as account_id, payment.id as payment_id,
            -payment.amount as change, payment.buyer_balance as balance
        from ledger.payment as payment
        union all
        select payment.seller_account_id, payment.id, payment.amount, payment.seller_balance
        from ledger.payment as payment
    ),
    link as (
        select
            step.account_id, step.payment_id, step.change, step.balance,
            lag(step.balance) over (partition by step.account_id order by step.payment_id) as balance_before
        from step
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

    union all
    select account.currency_id, account.id, null, format('The balance is %s, below zero', account.balance)
    from ledger.account as account
    where (account.balance >= 0) is not true

    union all
    select account.currency_id, account.id, null, format('The opening balance is %s, below zero', account.opening_balance)
    from ledger.account as account
    where (account.opening_balance >= 0) is not true

    union all
    select account.currency_id, account.id, null, 'There is no such currency'
    from ledger.account as account
    where not exists (select from ledger.currency as currency where currency.id = account.currency_id)

    union all
    select judged.currency_id, null, judged.id, judged.problem
    from (
        select payment.currency_id, payment.id, case
            when buyer.id is null then 'There is no account of the buyer'
            when seller.id is null then 'There is no account of the seller'
            when (buyer.currency_id = payment.currency_id) is not true then 'The buyer''s currency is another one'
            when (seller.currency_id = payment.currency_id) is not true then 'The seller''s currency is another one'
            when (buyer.id <> seller.id) is not true then 'Buyer and seller are the same'
            when (payment.amount > 0) is not true then 'The amount is not above zero'
            when (payment.buyer_balance >= 0) is not true then 'The buyer''s balance after it is below zero'
            when (payment.seller_balance >= 0) is not true then 'The seller''s balance after it is below zero'
        end as problem
        from ledger.payment as payment
        left join ledger.account as buyer on buyer.id = payment.buyer_account_id
        left join ledger.account as seller on seller.id = payment.seller_account_id
    ) as judged
    where judged.problem is not null

    union all
    select payment.currency_id, null, payment.id, 'Another payment has the same idempotency key'
    from ledger.payment as payment
    where payment.idempotency_key in (
        select keyed.idempotency_key
        from ledger.payment as keyed
        where keyed.idempotency_key is not null
        group by keyed.idempotency_key
        having count(*) > 1
    )

    order by 1, 2, 3, 4
$$;

comment on function wallet.check_ledger() is
    'Proves the books, at one moment: a row for each account and each payment that something is wrong with, and what. '
    'None where all is well.';
