-- wallet._payment_counts(p_until_id)
--
-- Counts the payments of each currency up to an id. Payments are never deleted, so what a recorded check has counted
-- (record_ledger_check.sql) stays true, and only later payments are read.
--
-- Returns: numbers by currency id, as JSON; currencies without payments are missing
-- Locks:   nothing
-- Raises:  nothing

create or replace function wallet._payment_counts(p_until_id bigint)
    returns jsonb
    language plpgsql stable
as $$
declare
    v_counted ledger.ledger_check;
    v_later jsonb;
begin
    select ledger_check.* into v_counted
    from ledger.ledger_check as ledger_check
    where ledger_check.counted_until_id <= p_until_id
    order by ledger_check.id desc
    limit 1;
    -- "execute" plans for these ids: an index if few payments are later, and the whole table if nothing was counted.
    execute '
        select jsonb_object_agg(later.currency_id, later.number)
        from (
            select payment.currency_id, count(*) as number
            from ledger.payment as payment
            where payment.id > $1 and payment.id <= $2
            group by payment.currency_id
        ) as later'
    into v_later
    using coalesce(v_counted.counted_until_id, 0), p_until_id;
    return (
        select coalesce(jsonb_object_agg(total.key, total.number), '{}')
        from (
            select part.key, sum(part.value::bigint) as number
            from (
                select * from jsonb_each_text(v_counted.payment_counts)
                union all
                select * from jsonb_each_text(v_later)
            ) as part
            group by part.key
        ) as total
    );
end
$$;

comment on function wallet._payment_counts(bigint) is
    'The numbers of payments up to an id, by currency id, as JSON.';
