-- wallet.ledger_identity()
--
-- Returns: a text that identifies the database: the same on a primary and its standbys, different for any other database
-- Locks:   nothing
-- Raises:  nothing

create or replace function wallet.ledger_identity()
    returns text
    language sql stable
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    select concat_ws('.', server.system_identifier, database.oid)
    from pg_control_system() as server, pg_database as database
    where database.datname = current_database()
$$;

comment on function wallet.ledger_identity() is
    'Identifies the database: the same on a primary and its standbys, different for any other.';

grant execute on function wallet.ledger_identity() to wallet_app, wallet_ops, wallet_reporting;
