-- wallet.list_payments(p_after_id, p_limit)
--
-- A page of the payments: those after an id, at most so many. Without arguments, all.
--
-- Returns: payments, oldest first
-- Locks:   nothing
-- Raises:  nothing

create or replace function wallet.list_payments(p_after_id bigint default null, p_limit bigint default null)
    returns table (
        id bigint,
        currency_id bigint,
        currency_name text,
        amount numeric,
        buyer_account_id bigint,
        seller_account_id bigint,
        operation_timestamp timestamptz
    )
    language sql stable
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    select
        payment.id, payment.currency_id, currency.name, payment.amount,
        payment.buyer_account_id, payment.seller_account_id, payment.operation_timestamp
    from ledger.payment as payment
    join ledger.currency as currency on currency.id = payment.currency_id
    where payment.id > coalesce(p_after_id, 0)
    order by payment.id
    limit p_limit
$$;

comment on function wallet.list_payments(bigint, bigint) is
    'Payments, oldest first: those after an id (NULL: all), at most so many (NULL: any number).';
