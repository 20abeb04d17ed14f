-- Roles and schemas. Runs as the user who migrates; everything after this file belongs to wallet_owner.
--
-- Roles belong to the whole cluster, so another of its databases may have made them already, perhaps at
-- this very moment. Passwords are not set here: see WALLET_APP_PASSWORD, or say "alter role ... password".

do $$
declare
    v_role text;
begin
    foreach v_role in array array['wallet_owner', 'wallet_app', 'wallet_ops'] loop
        begin
            if not exists (select from pg_catalog.pg_roles where rolname = v_role) then
                execute format('create role %I %s', v_role, case v_role when 'wallet_owner' then 'nologin' else 'login' end);
            end if;
        exception when duplicate_object or unique_violation then
            null;
        end;
    end loop;

    -- A superuser may act as any role; whoever else migrates has to be a member of the three.
    if not (select rolsuper from pg_catalog.pg_roles where rolname = current_user) then
        foreach v_role in array array['wallet_owner', 'wallet_app', 'wallet_ops'] loop
            begin
                execute format('grant %I to current_user', v_role);
            exception when insufficient_privilege then
                null; -- perhaps it is one; if it is not, acting as the role will say so
            end;
        end loop;
    end if;
end
$$;

create schema ledger authorization wallet_owner;
comment on schema ledger is 'The data: tables, constraints, sequences. Only migrations change it.';

create schema wallet authorization wallet_owner;
comment on schema wallet is 'The public face: functions, no data. Installed from db/functions/ by every migrate.';

set local role wallet_owner;

-- A new function is nobody's until somebody decides: see wallet_api/migrations.py.
alter default privileges revoke execute on functions from public;

create table ledger.migration (
    name text primary key,
    checksum text not null,
    applied_at timestamptz not null default clock_timestamp(),
    applied_by text not null default session_user
);
comment on table ledger.migration is 'The files of db/migrations/ that this database has seen.';
comment on column ledger.migration.name is 'The file''s name.';
comment on column ledger.migration.checksum is 'SHA-256 of the file''s bytes, in hexadecimal.';
comment on column ledger.migration.applied_at is 'When it was applied.';
comment on column ledger.migration.applied_by is 'The database user who applied it.';

create table ledger.rulebook (
    id bigint generated always as identity primary key,
    version text not null,
    installed_at timestamptz not null default clock_timestamp(),
    installed_by text not null default session_user
);
comment on table ledger.rulebook is 'Which version of db/ was installed when; the last row is the one in force.';
comment on column ledger.rulebook.id is 'Counts the installations.';
comment on column ledger.rulebook.version is 'Fingerprint of all files of db/migrations/ and db/functions/.';
comment on column ledger.rulebook.installed_at is 'When it was installed.';
comment on column ledger.rulebook.installed_by is 'The database user who installed it.';

create table ledger.installed_function (
    signature text primary key,
    checksum text not null
);
comment on table ledger.installed_function is
    'The functions that migrate put into the schema wallet, so that it knows its own from somebody else''s.';
comment on column ledger.installed_function.signature is 'Name and argument types, as regprocedure writes them.';
comment on column ledger.installed_function.checksum is
    'MD5 of the definition as the database gave it back: another one now means that it was changed by hand.';
