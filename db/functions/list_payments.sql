-- wallet.list_payments()
--
-- Returns: every payment, oldest first
-- Locks:   nothing
-- Raises:  nothing

create or replace function wallet.list_payments()
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
    order by payment.id
$$;

comment on function wallet.list_payments() is 'All payments, oldest first.';
