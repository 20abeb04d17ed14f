-- wallet.last_ledger_check()
--
-- Returns: when the ledger was last checked, and the number of problems found; no row if it never was
-- Locks:   nothing
-- Raises:  nothing

create or replace function wallet.last_ledger_check()
    returns table (checked_at timestamptz, problems bigint)
    language sql stable
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    select ledger_check.checked_at, ledger_check.problems
    from ledger.ledger_check as ledger_check
    order by ledger_check.id desc
    limit 1
$$;

comment on function wallet.last_ledger_check() is
    'When the last check_ledger was recorded, and how many rows it returned; no row if none was.';

grant execute on function wallet.last_ledger_check() to wallet_app, wallet_ops, wallet_reporting;
