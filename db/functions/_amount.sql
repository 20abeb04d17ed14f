-- wallet._is_amount(p_amount)
--
-- The one definition of how precise money is: at most 15 digits before and 15 after the point. NaN, the
-- infinities and NULL are no amounts. (ledger.amount asserts the same of what is stored.)
--
-- Returns: true, false, or NULL for NULL
-- Locks:   nothing
-- Raises:  nothing

create or replace function wallet._is_amount(p_amount numeric)
    returns boolean
    language sql immutable
as $$
    -- NaN is greater than every number in PostgreSQL, so it fails the second comparison, as it should.
    select p_amount > -1e15 and p_amount < 1e15 and min_scale(p_amount) <= 15
$$;

comment on function wallet._is_amount(numeric) is
    'Whether a number can be money: at most 15 digits before and 15 after the point, not NaN, not infinite.';
