"""What the files of deploy/ give to the program, the settings and the secrets in files; and that it works with them."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path

from psycopg.conninfo import make_conninfo

from tests.faults.postgres import Postgres
from tests.support import account, command, pay, serving, wait_until
from wallet_api import settings
from wallet_api.settings import Settings, file_variable, variable

KNOWN = {name for field in fields(Settings) for name in (variable(field), file_variable(field)) if name}
SECRETS = ("app-url", "app-password", "owner-url", "owner-password")


def write_secrets(folder: Path, conninfo: str) -> None:
    """A file for each of SECRETS: how the service and the owner connect to this database."""
    folder.mkdir()
    for user, role in (("app", "wallet_app"), ("owner", "postgres")):
        (folder / f"{user}-url").write_text(make_conninfo(conninfo, user=role) + "\n")
        (folder / f"{user}-password").write_text(f"of {user}\n")


def settings_of(environment: Mapping[str, str]) -> Settings:
    """The settings of an environment. Fails if a variable is no setting, or if one has a wrong value."""
    assert environment.keys() - KNOWN == set()
    return settings.from_environment(environment)


def assert_time_to_stop(configuration: Settings, seconds: float) -> None:
    """Fails if an instance that drains and finishes its requests would be killed; or if it gets far too long for it."""
    needed = configuration.drain_time + configuration.shutdown_timeout
    assert needed < seconds <= needed + 5


def assert_it_migrates(primary: Postgres, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    """Fails unless a command does, as the owner, and sets the password of wallet_app."""
    migrated = command(*arguments, **environment)
    assert (migrated.returncode, migrated.stdout[:27]) == (0, "The database is at version "), migrated.stderr
    with primary.admin() as admin:
        stored = "select rolpassword like 'SCRAM%' from pg_authid where rolname = 'wallet_app'"
        assert admin.execute(stored).fetchall() == [(True,)]


def assert_it_serves(primary: Postgres, environment: Mapping[str, str], ready: str) -> None:
    """Fails unless an instance makes payments, for clients with an API key, also when it has been asked to stop.

    `ready` is the path that a load balancer asks for.
    """
    here = {"HOST": "127.0.0.1", "PORT": "0", "WALLET_DRAIN_TIME": "3600"}
    if "WALLET_METRICS_PORT" in environment:
        here["WALLET_METRICS_PORT"] = "0"
    with primary.admin() as admin, serving(**{**environment, **here}) as server, server.client() as api:
        pair = account(admin, "buyer", 10), account(admin, "seller")
        [(secret,)] = admin.execute("select secret from wallet.create_api_key('shop', '{pay}')").fetchall()
        wait_until(lambda: api.get(ready).status_code == 200)
        assert pay(api, *pair).status_code == 401
        api.headers["Authorization"] = f"Bearer {secret}"
        assert pay(api, *pair).status_code == 200
        server.process.terminate()
        wait_until(lambda: api.get(ready).headers.get("error-code") == "WU004")
        assert pay(api, *pair).status_code == 200
        server.kill()


def assert_it_checks(arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    """Fails unless a command finds the ledger to be right."""
    checked = command(*arguments, **environment)
    assert (checked.returncode, checked.stderr) == (0, "")
    assert "proved" in checked.stdout
