"""A PostgreSQL as a DBA keeps it: the DBA, no superuser, prepares a database by the statements of docs/installation.md."""

import os
import re
import subprocess

import psycopg
from psycopg.conninfo import make_conninfo

from tests.conftest import postgres_programs
from tests.support import PROJECT
from wallet_api.database import embedded

DOCUMENT = (PROJECT / "docs/installation.md").read_text()
ROLES = ["app_owner", "wallet_app", "wallet_ops", "wallet_owner", "wallet_reporting"]


def _documented(heading: str) -> list[str]:
    """The statements of the block that follows this line of the document."""
    [block] = re.findall(rf"^{heading}[^\n]*\n\n```sql\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)
    return str(block).splitlines()


STATEMENTS = {"15": _documented("PostgreSQL 15:"), "16": _documented("PostgreSQL 16 to 18, ")}


class Managed:
    """A PostgreSQL where everyone but its superuser needs a password; and the DBA, who types in psql."""

    def __init__(self, superuser: str) -> None:
        self.superuser = superuser
        with psycopg.connect(superuser) as connection:
            self.has_options = connection.info.server_version >= 160000
        self.statements = STATEMENTS["16" if self.has_options else "15"]

    def conninfo(self, user: str, password: str, database: str = "wallet") -> str:
        return make_conninfo(self.superuser, user=user, password=password, dbname=database)

    @property
    def owner(self) -> str:
        return self.conninfo("app_owner", "of the owner")

    @property
    def app(self) -> str:
        return self.conninfo("wallet_app", "of the service")

    def dba_runs(self, statements: list[str], database: str = "postgres") -> None:
        programs = postgres_programs() or embedded.wheel_programs()
        subprocess.run(
            [programs / "psql", "--no-psqlrc", "--set=ON_ERROR_STOP=1", self.conninfo("dba", "dba", database)],
            input="\n".join(statements),
            text=True,
            check=True,
            env={"PATH": os.environ["PATH"]},
        )

    def clean(self) -> None:
        with psycopg.connect(self.superuser, dbname="postgres", autocommit=True) as admin:
            admin.execute("drop database if exists wallet with (force)")
            for role in ROLES:
                admin.execute(f"drop role if exists {role}")

    def set_trap(self) -> None:
        """The owner gives the database functions and a type that PostgreSQL finds before its own, or that fit better."""
        with psycopg.connect(self.owner) as owner:
            for function, value in (
                ("has_database_privilege(name, text) returns boolean", "true"),
                ("set_config(text, text, boolean) returns text", "''"),
                ("is_a_moment(pg_catalog.timestamptz) returns boolean", "true"),
            ):
                owner.execute(
                    f"create function public.{function} language plpgsql as "
                    f"$$ begin alter role app_owner superuser; return {value}; end $$"
                )
            owner.execute("create domain timestamptz as pg_catalog.timestamptz check (is_a_moment(value))")
            owner.execute("alter database wallet set search_path = public, pg_catalog")

    def is_trapped(self) -> bool:
        """Whether a superuser has executed one of these functions."""
        with psycopg.connect(self.superuser) as admin:
            return admin.execute("select rolsuper from pg_roles where rolname = 'app_owner'").fetchall() == [(True,)]
