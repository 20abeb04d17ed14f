-- What `server.py migrate` does in SQL, before and after the files of migrations/ and functions/. Its session runs this
-- file first, and calls these functions, which exist in that session only. They are in PL/pgSQL, which looks up a table
-- only when it is used: in a new database, there is none yet.
--
-- Before this file runs, the roles' names in it get the prefix WALLET_ROLE_PREFIX. A refusal is raised as P0001, with a
-- message for the operator. Notes for the operator are returned as rows.

-- This comes before any call of a function: the owner of the database can put one into the schema public that fits a
-- call better than that of PostgreSQL. A superuser who migrates would execute it. The statement itself calls none.

set search_path = pg_catalog, pg_temp;

-- The session's settings. An index build has no time limit, because it has to wait for other transactions; waits for
-- tables are limited below. With client_connection_check_interval, the session of a killed process ends soon instead of
-- building its index to the end. Windows does not support it. Older versions of PostgreSQL have no transaction_timeout.
--
-- If migrate calls, wallet.program is the version of the program. A user who lacks a right for a migration is refused
-- with the message wallet.refusal, whose {statements} give the right, and the DETAIL wallet.state: how the database
-- differs, and what such a user does. A superuser, who may migrate, executes no function for it.
--
-- Raises: if the user may not create the functions of this file

do $$
declare
    v_program constant text := current_setting('wallet.program', true);
    v_state text := 'Then run this file again.';
    v_refusal constant text := case
        -- They must not get the rights of the owner: see record_files.
        when current_user in ('wallet_app', 'wallet_ops', 'wallet_reporting') then format(
            'The role %I may not migrate. Nothing was changed. Migrate as the owner of the database, or as a '
            'superuser.', current_user)
        else format(
            'The database user %I may not migrate this database. Nothing was changed. An administrator of the server '
            'gives it the missing rights with:{statements}', current_user)
    end;
begin
    if v_program <> '' and not (select rolsuper from pg_roles where rolname = current_user) then
        begin
            v_state := format(
                'The database is at version %s of the wallet, and this program at version %s: run migrate first, as '
                'the owner of the database; or run the program of the other version.',
                wallet.schema_version(), v_program);
        exception
            when invalid_schema_name or undefined_function then
                v_state := 'The database is not migrated yet: run migrate first, as its owner.';
            when insufficient_privilege then
                v_state := format(
                    'The database has a wallet that %I may not use: serve as wallet_app, or as a member of it.',
                    current_user);
        end;
    end if;
    perform set_config('wallet.refusal', v_refusal, false), set_config('wallet.state', v_state, false);
    if not has_database_privilege(current_database(), 'temporary') then
        raise exception using
            message = replace(
                v_refusal, '{statements}',
                format(E'\n    grant temporary on database %I to %I;', current_database(), current_user)),
            detail = v_state;
    end if;
    perform set_config('quote_all_identifiers', 'off', false),
            set_config('lock_timeout', '0', false),
            set_config('statement_timeout', '0', false),
            set_config('client_connection_check_interval',
                       case when version() ~ 'Visual C|mingw' then '0' else '1s' end, false);
    perform set_config(name, '0', false) from pg_settings where name = 'transaction_timeout';
end
$$;

-- pg_temp.take_turn()
--
-- Makes this session the only one that migrates the database, until it ends. On a server without advisory locks, every
-- session has its turn at once: of two concurrent migrations, one fails at a name or a row that the other has created.
--
-- Returns: the process id of the one that does so now; nothing if this session has its turn

create function pg_temp.take_turn()
    returns setof int
    language plpgsql
as $$
declare
    -- Arbitrary, "MIGRATE": no other program should use this number for advisory locks in this database.
    v_lock constant bigint := x'4D494752415445'::bigint;
begin
    if not pg_try_advisory_lock(v_lock) then
        return query
            select coalesce(min(holder.pid), 0)
            from pg_locks as holder
            where holder.locktype = 'advisory' and holder.granted
                and holder.classid::bigint << 32 | holder.objid::bigint = v_lock
                and holder.database = (select oid from pg_database where datname = current_database());
    end if;
exception
    when feature_not_supported then
        null;
end
$$;

-- pg_temp.become_owner(until_commit)
--
-- Acts as the owner until `reset role`, or with p_until_commit until the transaction ends.

create function pg_temp.become_owner(p_until_commit boolean)
    returns void
    language plpgsql
as $$
begin
    perform set_config('role', 'wallet_owner', p_until_commit);
exception
    when invalid_parameter_value then
        raise exception 'The ledger exists, but the role wallet_owner does not: was the database restored from another cluster? Copy the roles as well: pg_dumpall --roles-only.';
end
$$;

-- pg_temp.supported(text)
--
-- The only place that chooses between the two triggers that check payments: one for each statement, which reads all its
-- rows from a transition table, or one for each row. They share the text of their rule, and what it costs is the same
-- for a single payment; for many, the first one is faster. So a server gets it unless it refuses transition tables.
--
-- Returns: the text of a migration, for this server

create function pg_temp.supported(p_text text)
    returns text
    language plpgsql
as $$
begin
    if p_text !~ '\mfrom made\M|\mnew table as made\M' then
        return p_text;
    end if;
    begin
        -- As text: a server may refuse to parse it.
        execute '
            create temporary table probe (id int);
            create function pg_temp.probe() returns trigger language plpgsql as ''begin return null; end'';
            create trigger probe after insert on pg_temp.probe referencing new table as made
                for each statement execute function pg_temp.probe();
            drop table pg_temp.probe;
            drop function pg_temp.probe()';
        return p_text;
    exception
        when feature_not_supported then
            return regexp_replace(
                regexp_replace(p_text, '\mreferencing new table as made\s+for each statement\M', 'for each row', 'g'),
                '\mfrom made\M', 'from (select new.*) as made', 'g');
    end;
end
$$;

-- pg_temp.check_prefix()
--
-- Raises: if the database was first migrated with another role prefix

create function pg_temp.check_prefix()
    returns void
    language plpgsql
as $$
declare
    v_owner text;
    v_prefix text;
begin
    select role.rolname into v_owner
    from pg_namespace as namespace join pg_roles as role on role.oid = namespace.nspowner
    where namespace.nspname = 'ledger';
    -- Written so that this name gets no prefix.
    v_prefix := substring(v_owner from '^(.*)wallet[_]owner$');
    if v_owner <> 'wallet_owner' and v_prefix is not null then
        raise exception 'The ledger of this database belongs to %: WALLET_ROLE_PREFIX should be ''%'', as it was at the first migration.',
            v_owner, v_prefix;
    end if;
end
$$;

-- pg_temp.missing_rights()
--
-- A first migration creates the roles, becomes a member of wallet_owner, and creates two schemas for that role, whose
-- rights it has to inherit. What an administrator has done before, it leaves out. A later migration only acts as
-- wallet_owner.
--
-- Returns: the statements with which an administrator gives this user the rights that it lacks

create function pg_temp.missing_rights()
    returns setof text
    language plpgsql
as $$
declare
    v_is_first constant boolean
        := not exists (select from pg_tables where schemaname = 'ledger' and tablename = 'migration');
    v_may_create constant boolean := (select rolsuper or rolcreaterole from pg_roles where rolname = current_user);
    -- Since version 16, members may act as a role only with an option, and a role's creator may add members.
    v_has_options constant boolean := current_setting('server_version_num')::int >= 160000;
    v_inherits constant boolean := (select rolsuper or rolinherit from pg_roles where rolname = current_user);
    v_owner_exists constant boolean := exists (select from pg_roles where rolname = 'wallet_owner');
    v_may_act boolean := false;
begin
    if v_owner_exists then
        v_may_act := pg_has_role('wallet_owner', case when v_has_options then 'set' else 'member' end);
        if v_is_first and v_has_options then
            v_may_act := v_may_act and pg_has_role('wallet_owner', 'usage')
                or v_inherits and pg_has_role('wallet_owner', 'member with admin option');
        elsif v_is_first then
            v_may_act := v_may_act or v_may_create;
        end if;
    elsif v_is_first then
        v_may_act := v_may_create;
    else
        return; -- become_owner says what is wrong.
    end if;

    if v_is_first and not v_may_create then
        return query
            select role.statement
            from (values
                ('wallet_owner', 'create role wallet_owner nologin;'),
                ('wallet_app', 'create role wallet_app login password ''…'';'),
                ('wallet_ops', 'create role wallet_ops login password ''…'';'),
                ('wallet_reporting', 'create role wallet_reporting login password ''…'';'),
                ('wallet_reporting', 'alter role wallet_reporting set default_transaction_read_only = on;')
            ) as role (name, statement)
            where role.name not in (select rolname from pg_roles);
    end if;
    if v_is_first and not v_inherits and (not v_has_options or v_may_create and not v_owner_exists) then
        return next format('alter role %I inherit;', current_user);
    end if;
    if not v_may_act then
        return next format(
            'grant wallet_owner to %I%s;', current_user, case when v_has_options then ' with inherit true, set true' end);
    end if;
    if v_is_first and not has_database_privilege(current_database(), 'create') then
        return next format('grant create on database %I to %I;', current_database(), current_user);
    end if;
end
$$;

-- pg_temp.check_rights()
--
-- Raises: if this user lacks a right for a migration, with the state as DETAIL; if a schema of the same name is no wallet

create function pg_temp.check_rights()
    returns void
    language plpgsql
as $$
declare
    v_missing constant text := (
        select string_agg(E'\n    ' || statement, '' order by number)
        from pg_temp.missing_rights() with ordinality as missing (statement, number)
    );
begin
    perform pg_temp.check_prefix();
    if exists (select from pg_namespace where nspname in ('ledger', 'wallet'))
        and not exists (select from pg_tables where schemaname = 'ledger' and tablename = 'migration')
    then
        raise exception 'The database has a schema called ledger or wallet that does not belong to a wallet. Nothing was changed. Rename it, or give the wallet a database of its own.';
    end if;
    if v_missing is not null then
        raise exception using
            message = replace(current_setting('wallet.refusal'), '{statements}', v_missing),
            detail = current_setting('wallet.state');
    end if;
end
$$;

-- pg_temp.wide_sequences()
--
-- "A later payment of an account has a higher id" needs sequences that give a session one id at a time. A session that
-- caches 20 uses them long after other sessions have drawn higher ones.
--
-- Returns: the sequences of the ledger that give more at a time, as text; NULL if there are none

create function pg_temp.wide_sequences()
    returns text
    language plpgsql
as $$
begin
    return (
        select string_agg(format('%I.%I (%s at a time)', 'ledger', class.relname, sequence.seqcache), ', ' order by 1)
        from pg_sequence as sequence join pg_class as class on class.oid = sequence.seqrelid
        where class.relnamespace = to_regnamespace('ledger') and sequence.seqcache <> 1
    );
end
$$;

-- pg_temp.narrow_sequences()
--
-- Makes the sequences that this migration has created give one id at a time: a server may have another default.
-- (pending_files has refused those that were there before.) Then draws an id, because a server may have a minimum that
-- its catalogue does not show.
--
-- Raises: if a sequence still gives several

create function pg_temp.narrow_sequences()
    returns void
    language plpgsql
as $$
declare
    v_name text;
    v_drawn bigint;
    v_last bigint;
begin
    for v_name in
        select class.relname from pg_sequence as sequence join pg_class as class on class.oid = sequence.seqrelid
        where class.relnamespace = to_regnamespace('ledger') and sequence.seqcache <> 1
    loop
        execute format('alter sequence ledger.%I cache 1', v_name);
    end loop;
    create sequence ledger.probe cache 1;
    v_drawn := nextval('ledger.probe');
    select probe.last_value into v_last from ledger.probe as probe;
    drop sequence ledger.probe;
    if v_drawn <> v_last or pg_temp.wide_sequences() is not null then
        raise exception 'This server gives a session several ids of a sequence at a time, even with "cache 1": a later payment of an account could get a lower id. Change its setting (of YugabyteDB: ysql_sequence_cache_minval=0), and migrate again.';
    end if;
end
$$;

-- pg_temp.pending_files(names, checksums, not_back_to)
--
-- Limits waits for locks in this transaction to less than the lock timeout of payments: they queue behind a table change
-- that waits for its lock.
--
-- Returns: the names of the files of migrations/ that are still to be applied
-- Raises:  if the files do not continue those already applied; if p_not_back_to is a version that the database has
--          left: an instance of an old version that restarts must not restore its old rules; if a sequence gives a
--          session several ids at a time

create function pg_temp.pending_files(p_names text[], p_checksums text[], p_not_back_to text)
    returns setof text
    language plpgsql
as $$
declare
    v_name text;
    v_other text;
begin
    perform set_config('lock_timeout', '3s', true);
    select file.name into v_name from unnest(p_names) as file (name) where file.name !~ '^\d{4}_\w+\.sql$';
    if found then
        raise exception 'db/migrations/% should have a name like 0007_what_it_does.sql.', v_name;
    end if;
    select min(file.name), max(file.name) into v_name, v_other
    from unnest(p_names) as file (name) group by left(file.name, 4) having count(*) > 1;
    if found then
        raise exception '% and % of db/migrations/ have the same number.', v_name, v_other;
    end if;

    -- to_regclass would require a right on the schema.
    if not exists (select from pg_tables where schemaname = 'ledger' and tablename = 'migration') then
        return query select unnest(p_names);
        return;
    end if;
    perform pg_temp.check_prefix();
    v_other := pg_temp.wide_sequences();
    if v_other is not null then
        raise exception 'A later payment of an account may get a lower id, because these sequences give a session several ids at a time: %. Stop all instances, and run for each of them: alter sequence … cache 1; then migrate and check.',
            v_other;
    end if;
    perform pg_temp.become_owner(true);

    select migration.name into v_name
    from ledger.migration as migration where migration.name <> all (p_names) order by migration.name;
    if found then
        raise exception 'This database was migrated with %, which is missing in db/migrations/: it belongs to another version of the wallet. Run that version, or a newer one.',
            v_name;
    end if;
    select file.name into v_name
    from unnest(p_names, p_checksums) as file (name, checksum) join ledger.migration as migration using (name)
    where file.checksum <> migration.checksum order by file.name;
    if found then
        raise exception 'db/migrations/% was edited after this database was migrated with it. Put it back as it was, and make the change in a new file.',
            v_name;
    end if;
    select file.name, migration.name into v_name, v_other
    from unnest(p_names) as file (name) join ledger.migration as migration on left(file.name, 4) < left(migration.name, 4)
    where file.name not in (select applied.name from ledger.migration as applied)
    order by file.name, migration.name desc;
    if found then
        raise exception 'db/migrations/% comes before %, which this database was already migrated with. Give it a higher number.',
            v_name, v_other;
    end if;
    select rulebook.version into v_other from ledger.rulebook as rulebook order by rulebook.id desc limit 1;
    if v_other <> p_not_back_to
        and exists (select from ledger.rulebook as rulebook where rulebook.version = p_not_back_to)
    then
        raise exception 'This program has version %, which this database has left for version %. Run that version; or, to go back, run its migrate.',
            p_not_back_to, v_other;
    end if;

    return query select unnest(p_names) except select migration.name from ledger.migration as migration;
    reset role;
end
$$;

-- pg_temp.record_files(names, checksums)
--
-- Records that files were applied, and acts as the owner from then on, until the transaction ends.
--
-- Raises: if a role existed before and has more rights than migrate gives: it could reach the tables; if the server
--         gives a session several ids of a sequence at a time

create function pg_temp.record_files(p_names text[], p_checksums text[])
    returns void
    language plpgsql
as $$
declare
    v_doors constant text[] := '{wallet_app, wallet_ops, wallet_reporting}';
    v_role text;
begin
    select role.rolname into v_role
    from pg_roles as role
    where role.rolname = any (v_doors || 'wallet_owner'::text) and (role.rolsuper or role.rolcreaterole or role.rolbypassrls)
        or role.rolname = any (v_doors) and pg_has_role(role.oid, 'wallet_owner', 'member');
    if found then
        raise exception 'The role % may do more than it should: be superuser, create roles, bypass row security, or act as wallet_owner. Revoke that.',
            v_role;
    end if;
    perform pg_temp.become_owner(true);
    perform pg_temp.narrow_sequences();
    insert into ledger.migration (name, checksum) select * from unnest(p_names, p_checksums);
end
$$;

-- The functions of the schema wallet are replaced in place, so that the rights and views of others that depend on them
-- survive. The table ledger.installed_function lists the wallet's own functions. begin_install marks each function of
-- the owner by a setting that no definition has. "create or replace" removes it, so a function without the mark is new.
-- The setting wallet.before holds the state before, for this transaction only.

-- pg_temp.functions()
--
-- Returns: the functions of the schema wallet; whether an earlier version installed them (is_ours), and whether they
--          were created or replaced since begin_install (is_new)

create function pg_temp.functions()
    returns table (signature text, name text, is_ours boolean, is_new boolean)
    language plpgsql
as $$
begin
    return query
        select function.oid::regprocedure::text,
               function.proname::text,
               exists (
                   select from ledger.installed_function as installed
                   where installed.signature = function.oid::regprocedure::text
               ),
               function.proowner = 'wallet_owner'::regrole
                   and (function.proconfig @> '{application_name=to be replaced}') is not true
        from pg_proc as function
        where function.pronamespace = 'wallet'::regnamespace
        order by 1;
end
$$;

-- pg_temp.begin_install()
--
-- Revokes all rights of the wallet's roles on its functions: their files grant them again.
--
-- Returns: notes

create function pg_temp.begin_install()
    returns setof text
    language plpgsql
as $$
declare
    v_signature text;
begin
    grant usage on schema wallet to wallet_app, wallet_ops, wallet_reporting;
    for v_signature in
        select to_regprocedure(installed.signature)::text from ledger.installed_function as installed
        where to_regprocedure(installed.signature) is not null
    loop
        execute format('revoke all on function %s from wallet_app, wallet_ops, wallet_reporting', v_signature);
    end loop;
    perform set_config('wallet.before', jsonb_build_object(
        'ours', (
            select coalesce(jsonb_agg(installed.signature), '[]')
            from ledger.installed_function as installed where to_regprocedure(installed.signature) is not null
        ),
        'rights', (
            select coalesce(jsonb_agg(jsonb_build_object(
                'function', function.oid,
                'signature', function.oid::regprocedure,
                'grantee', case acl.grantee when 0 then 'public' else acl.grantee::regrole::text end,
                'option', case when acl.is_grantable then ' with grant option' else '' end
            )), '[]')
            from ledger.installed_function as installed
            join pg_proc as function on function.oid = to_regprocedure(installed.signature),
                aclexplode(function.proacl) as acl
            where acl.grantee <> function.proowner
        )
    )::text, true);
    return query
        select format('%s had been changed by hand; it is again what db/functions/ says', installed.signature)
        from ledger.installed_function as installed
        where md5(pg_get_functiondef(to_regprocedure(installed.signature))) <> installed.checksum;
    for v_signature in select function.signature from pg_temp.functions() as function where function.is_new loop
        execute format('alter function %s set application_name = ''to be replaced''', v_signature);
    end loop;
end
$$;

-- pg_temp.drop_functions(signatures)
--
-- Drops functions, in one statement, as they may depend on each other. NULL stands for none.
--
-- Raises: if anything else depends on them

create function pg_temp.drop_functions(p_signatures text)
    returns void
    language plpgsql
as $$
declare
    v_detail text;
begin
    if p_signatures is not null then
        execute 'drop function ' || p_signatures;
    end if;
exception
    when dependent_objects_still_exist then
        get stacked diagnostics v_detail = pg_exception_detail;
        raise exception 'This version changes or removes a function that something in the database uses: %. Drop that first, and create it again afterwards.',
            v_detail;
end
$$;

-- pg_temp.drop_replaced(names)
--
-- Drops the wallet's functions of these names that were not replaced.

create function pg_temp.drop_replaced(p_names text[])
    returns void
    language plpgsql
as $$
begin
    perform pg_temp.drop_functions(string_agg(function.signature, ', '))
    from pg_temp.functions() as function
    where function.is_ours and not function.is_new and function.name = any (p_names);
end
$$;

-- pg_temp.finish_install(names, version)
--
-- Drops the functions that an earlier version installed and this one lacks; p_names are those of this version. Grants
-- the rights of others again on functions that had to be dropped and created. Revokes all rights on helpers, which only
-- the wallet's functions call. Records the functions and the version.
--
-- Returns: notes

create function pg_temp.finish_install(p_names text[], p_version text)
    returns setof text
    language plpgsql
as $$
declare
    v_before constant jsonb := current_setting('wallet.before');
    v_right record;
    v_current text[];
    v_signature text;
begin
    perform pg_temp.drop_functions(string_agg(function.signature, ', '))
    from pg_temp.functions() as function where function.is_ours and function.name <> all (p_names);
    return query
        select format('dropped %s, which this version does not have', gone.signature)
        from jsonb_array_elements_text(v_before -> 'ours') as gone (signature)
        where to_regprocedure(gone.signature) is null order by 1;
    return query
        select format('left alone %s, which is not the wallet''s', function.signature)
        from pg_temp.functions() as function
        where not function.is_ours and not (function.is_new and function.name = any (p_names));

    for v_right in
        select * from jsonb_to_recordset(v_before -> 'rights')
            as lost (function oid, signature text, grantee text, option text)
        where to_regprocedure(lost.signature)::oid is distinct from lost.function
    loop
        if to_regprocedure(v_right.signature) is null then
            return next format('%s no longer exists, so %s has lost the right to execute it',
                               v_right.signature, v_right.grantee);
        else
            execute format('grant execute on function %s to %s%s',
                           v_right.signature, v_right.grantee, v_right.option);
        end if;
    end loop;

    v_current := array(
        select function.signature from pg_temp.functions() as function
        where function.is_new and function.name = any (p_names)
    );
    delete from ledger.installed_function;
    insert into ledger.installed_function (signature, checksum)
    select signature, md5(pg_get_functiondef(signature::regprocedure)) from unnest(v_current) as signature;
    for v_signature in
        select function.signature from pg_temp.functions() as function
        where function.is_ours and function.name like '\_%'
    loop
        execute format('revoke all on function %s from public, wallet_app, wallet_ops, wallet_reporting', v_signature);
    end loop;
    for v_signature in
        select function.oid::regprocedure from pg_proc as function
        where function.pronamespace = 'wallet'::regnamespace
            and function.proconfig @> '{application_name=to be replaced}'
    loop
        execute format('alter function %s reset application_name', v_signature);
    end loop;
    insert into ledger.rulebook (version) select p_version where wallet.schema_version() is distinct from p_version;
end
$$;

-- pg_temp.set_search_path()
--
-- Lets wallet_ops and wallet_reporting write make_payment(…) instead of wallet.make_payment(…). Every migration checks
-- this, because a copy of a database (a clone, a restored dump) lacks the setting.
--
-- Returns: notes

create function pg_temp.set_search_path()
    returns setof text
    language plpgsql
as $$
declare
    v_role text;
begin
    for v_role in
        select door from unnest('{wallet_ops, wallet_reporting}'::text[]) as door
        where not exists (
            select from pg_db_role_setting as setting
            join pg_database as database on database.oid = setting.setdatabase, unnest(setting.setconfig) as entry
            where database.datname = current_database() and setting.setrole = door::regrole
                and entry like 'search_path=%'
        )
    loop
        begin
            execute format('alter role %I in database %I set search_path = wallet', v_role, current_database());
        exception
            when insufficient_privilege then
                return next format(
                    '%s has to write wallet.make_payment(…), until an administrator of the server runs: '
                    'alter role %I in database %I set search_path = wallet;', v_role, v_role, current_database());
        end;
    end loop;
end
$$;

-- pg_temp.may_connect()
--
-- Returns: the roles that may log in and connect to this database

create function pg_temp.may_connect()
    returns setof text
    language plpgsql
as $$
begin
    return query
        select role.rolname::text from pg_roles as role
        where role.rolcanlogin and has_database_privilege(role.oid, current_database(), 'connect');
end
$$;

-- pg_temp.limit_connect()
--
-- Revokes the right to connect from PUBLIC, and grants it to the roles that use this database. Otherwise every role of
-- the server could connect, for example that of another wallet. Roles that own or may use an object here, or are
-- members of a wallet role, keep the right.
--
-- Returns: a note that names the roles that have lost it, or says that PUBLIC still has it

create function pg_temp.limit_connect()
    returns setof text
    language plpgsql
as $$
declare
    v_doors constant text[] := '{wallet_app, wallet_ops, wallet_reporting}';
    v_was_public constant boolean := has_database_privilege('public', current_database(), 'connect');
    v_before constant text[] := array(select pg_temp.may_connect());
    v_users text;
    v_lost text;
begin
    select string_agg(quote_ident(role.rolname), ', ') into v_users
    from pg_roles as role
    where role.rolname = any (v_doors) or v_was_public and not role.rolsuper and role.rolname !~ '^pg_' and (
        exists (
            select from pg_shdepend as used
            where used.refclassid = 'pg_authid'::regclass and used.refobjid = role.oid
                and used.dbid = (select oid from pg_database where datname = current_database())
        )
        or exists (select from unnest(v_doors) as door where pg_has_role(role.oid, door, 'member'))
    );
    begin
        execute format('grant connect on database %I to %s', current_database(), v_users);
        if v_was_public then
            execute format('revoke connect on database %I from public', current_database());
        end if;
    exception
        when insufficient_privilege then
            null; -- Detected below, as in the cases in which PostgreSQL only warns.
    end;
    if v_was_public and has_database_privilege('public', current_database(), 'connect') then
        return next format(
            'every role may still connect to this database. Its owner can change that: '
            'grant connect on database %1$I to %2$s, %3$I; revoke connect on database %1$I from public; '
            'or migrate does it, after: alter database %1$I owner to %3$I;',
            current_database(), v_users, current_user);
        return;
    end if;
    select string_agg(lost, ', ' order by lost) into v_lost
    from unnest(v_before) as lost where lost not in (select pg_temp.may_connect());
    if v_lost is not null then
        return next format('took the right to connect from PUBLIC, and so from %s', v_lost);
    end if;
end
$$;

-- pg_temp.set_password(secret)
--
-- Sets the password of wallet_app, hashed by the caller.
--
-- Raises: if this user may not

create function pg_temp.set_password(p_secret text)
    returns void
    language plpgsql
as $$
begin
    for attempt in 1 .. 20 loop
        begin
            execute format('alter role wallet_app password %L', p_secret);
            return;
        exception
            when insufficient_privilege then
                raise exception '% may not change it. An administrator of the server sets it with "alter role wallet_app password …"; then run this again with the same WALLET_APP_PASSWORD, or with none.',
                    current_user;
            when internal_error then
                -- "tuple concurrently updated", by a migration of another database
                if attempt = 20 then
                    raise;
                end if;
        end;
    end loop;
end
$$;

-- pg_temp.other_databases()
--
-- Returns: the other databases of the server that use the role wallet_app

create function pg_temp.other_databases()
    returns setof text
    language plpgsql
as $$
begin
    return query
        select distinct database.datname::text
        from pg_shdepend as used
        join pg_roles as role on used.refclassid = 'pg_authid'::regclass and used.refobjid = role.oid
        join pg_database as database on database.oid = used.dbid
        where role.rolname = 'wallet_app' and database.datname <> current_database()
        order by 1;
end
$$;
