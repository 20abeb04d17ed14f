-- wallet._is_amount(p_amount), wallet._available(p_balance, p_credit_limit, p_held)
--
-- Defines the precision of money: at most 15 digits before and 15 after the decimal point. NaN, the infinities and NULL
-- are not amounts. (The domain ledger.amount asserts the same of stored values.) Also defines what an account can pay.
--
-- Returns: _is_amount: true, false, or NULL for NULL; _available: an amount
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

-- check_ledger and the constraint account_covered compute it themselves: a mistake here does not hide from them.
create or replace function wallet._available(p_balance numeric, p_credit_limit numeric, p_held numeric)
    returns numeric
    language sql immutable
as $$
    select p_balance + p_credit_limit - p_held
$$;

comment on function wallet._available(numeric, numeric, numeric) is
    'What an account with this balance, credit limit and held amount can pay.';
