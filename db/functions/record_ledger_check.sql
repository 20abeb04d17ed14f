-- wallet.record_ledger_check(p_problems)
--
-- Records the result of a ledger check for monitoring: the number of rows of check_ledger.
--
-- Returns: the moment
-- Locks:   nothing
-- Writes:  ledger.ledger_check (one row)
-- Raises:  23514 if the number is below zero

create or replace function wallet.record_ledger_check(p_problems bigint)
    returns timestamptz
    language sql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    insert into ledger.ledger_check as ledger_check (problems) values (p_problems) returning ledger_check.checked_at
$$;

comment on function wallet.record_ledger_check(bigint) is
    'Records how many rows check_ledger returned (0 or more), and returns the moment.';

grant execute on function wallet.record_ledger_check(bigint) to wallet_app, wallet_ops;
