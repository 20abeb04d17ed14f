"""Writes dist/wallet.sql: the whole of db/ as one file, which psql installs into a database without a wallet.

It does what `server.py migrate` does in such a database, by the same functions of db/install.sql, in one transaction.
So a later migrate recognizes what it finds. No payments go on meanwhile, so indexes are not built concurrently.
"""

import re

from wallet_api.database import migrations
from wallet_api.database.installer import SqlFile, defined
from wallet_api.database.roles import Roles
from wallet_api.settings import DB, PROJECT, from_environment

PATH = PROJECT / "dist/wallet.sql"

_BEGIN = """\
-- The wallet, version {version}, without a program: its tables and its functions.
-- Install it into a database with the encoding UTF8 that has no wallet:
--
--     psql --file=wallet.sql "dbname=wallet user=app_owner"
--
-- The user is a superuser, or the owner of the database, with the rights that docs/installation.md names. It is one
-- transaction: all or nothing. A tool other than psql does without the lines that begin with a backslash.
-- `make sql` writes this file; do not edit it.

\\set ON_ERROR_STOP on
\\set QUIET on
set client_encoding = 'UTF8';
begin;
set local client_min_messages = warning;

{install}
do $$
begin
    if current_setting('server_encoding') <> 'UTF8' then
        raise exception 'The wallet needs a database with the encoding UTF8: create database … encoding ''UTF8''.';
    end if;
    perform pg_temp.check_rights();
    if exists (select from pg_tables where schemaname = 'ledger' and tablename = 'migration') then
        raise exception using message =
            'This database has a wallet. The file installs one into a database that has none: to bring a wallet to '
            'another version, run migrate.';
    end if;
    if exists (select from pg_temp.take_turn()) then
        raise exception 'Another session migrates this database. Nothing was changed.';
    end if;
end
$$;
"""

_MIGRATION = """
-- db/migrations/{name}

{before}{text}
reset role;
"""

_FUNCTIONS = """
do $$
begin
    perform pg_temp.record_files(
        array[
            {names}
        ],
        array[
            {checksums}
        ]
    );
    perform pg_temp.begin_install();
end
$$;
"""

_END = """
set local client_min_messages = notice;
do $$
declare
    v_note text;
begin
    perform pg_temp.finish_install(
        array[
            {functions}
        ],
        '{version}'
    );
    reset role;
    for v_note in select pg_temp.set_search_path() union all select pg_temp.limit_connect() loop
        raise notice '%', v_note;
    end loop;
    raise notice 'The database is at version {version}.';
end
$$;

commit;
do $$ begin perform pg_catalog.pg_advisory_unlock_all(); end $$;
discard temp;
reset all;
"""


def text(role_prefix: str = "") -> str:
    """The text of the file. The names of all roles in it begin with `role_prefix`."""
    names = Roles(role_prefix)
    files, functions = (migrations.read(DB / folder, names) for folder in ("migrations", "functions"))
    version = migrations.version()
    install = names.named((DB / "install.sql").read_text("utf8"))
    parts = [_BEGIN.format(version=version, install=install)]
    parts += [_migration(file, names) for file in files]
    parts.append(
        _FUNCTIONS.format(
            names=_listed([file.name for file in files]), checksums=_listed([file.checksum for file in files])
        )
    )
    parts += [f"\n-- db/functions/{file.name}\n\n{file.text}" for file in functions]
    installed = [name for file in functions for name in defined(file)]
    parts.append(_END.format(functions=_listed(installed), version=version))
    return "".join(parts)


def _migration(file: SqlFile, names: Roles) -> str:
    """A file of migrations/, which leaves the role as it was. One that builds indexes concurrently does not here."""
    sequential = re.sub(
        r"^(create|create unique|drop) index concurrently ", r"\1 index ", file.text, flags=re.MULTILINE
    )
    before = "" if sequential == file.text else names.named("set local role wallet_owner;\n\n")
    return _MIGRATION.format(name=file.name, before=before, text=sequential)


def _listed(words: list[str]) -> str:
    """The elements of an array in SQL, one a line."""
    return ",\n            ".join(f"'{word}'" for word in words)


if __name__ == "__main__":
    PATH.parent.mkdir(exist_ok=True)
    PATH.write_text(text(from_environment().role_prefix), "utf8")
    print(f"wrote {PATH.relative_to(PROJECT)}, {PATH.stat().st_size // 1024} KiB")
