-- wallet.schema_version()
--
-- Returns: the fingerprint of the files of db/ that this database was last migrated with
-- Locks:   nothing
-- Raises:  nothing

create or replace function wallet.schema_version()
    returns text
    language sql stable
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    select rulebook.version from ledger.rulebook as rulebook order by rulebook.id desc limit 1
$$;

comment on function wallet.schema_version() is
    'The fingerprint of the files of db/ that this database was last migrated with.';

grant execute on function wallet.schema_version() to wallet_app, wallet_ops, wallet_reporting;
