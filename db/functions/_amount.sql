-- wallet._is_amount(p_amount)
--
-- Defines the precision of money: at most 15 digits before and 15 after the decimal point. NaN, the infinities and NULL
-- are not amounts. (The domain ledger.amount asserts the same of stored values.)
--
-- Returns: true, false, or NULL for NULL
-- Locks:   nothing
-- Raises:  nothing

create or replace function wallet._is_amount(p_amount numeric)
    returns boolean
    language sql immutable
as $$
    -- PostgreSQL sorts NaN above every number, so the second comparison rejects it.
    select p_amount > -1e15 and p_amount < 1e15 and min_scale(p_amount) <= 15
$$;

comment on function wallet._is_amount(numeric) is
    'Whether a number is an amount: at most 15 digits before and 15 after the decimal point, neither NaN nor '
    'infinite.';
