"""The command line: serve (the default), migrate, check, follow, key, psql. Parses options and delegates the rest."""

import argparse
import contextlib
import functools
import importlib
import logging
import os
import shutil
import signal
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import NoReturn

import psycopg
from psycopg.conninfo import make_conninfo

from wallet_api import __version__, settings
from wallet_api.commands import CommandRefused, check, follow, key, psql
from wallet_api.database import embedded, installer, migrations
from wallet_api.database.outage import primary_outage
from wallet_api.database.roles import Roles, check_service
from wallet_api.observability import log
from wallet_api.serving import processes
from wallet_api.settings import Kind, Settings

logger = logging.getLogger("wallet_api")

# The name of the program in its messages: server.py, or wallet.
_PROGRAM = "wallet" if Path(sys.argv[0]).stem == "wallet" else "server.py"

_ID = settings.number(int, 1, 2**63 - 1)
# Seconds between two ledger checks, and after a failed one.
_INTERVAL = settings.number(float, 0.1, 604_800)
_SOON = 10.0


def main() -> int:
    """Runs a command. Returns the exit code: 0 success, 1 failure, 2 a bad option or setting."""
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, _stop)
    logging.basicConfig(format="%(message)s")  # to stderr, until `serve` begins its log
    logger.setLevel(logging.INFO)
    arguments = _parse()
    run: Callable[[Settings, Namespace], int] = arguments.run
    try:
        return run(settings.from_environment(), arguments)
    except settings.BadSetting as error:
        return _complain(error, 2)
    except (embedded.EmbeddedError, installer.MigrationRefused, processes.ServingError, CommandRefused) as error:
        return _complain(error, 1)
    except psycopg.Error as error:
        return _complain(f"the database cannot be used: {error}", 1)


def _stop(*_: object) -> None:
    """Exits at once, unless the service already runs: it has handlers of its own.

    Not by an exception, which Python drops if it is raised in a finalizer. What needs an end is ended by others: a
    transaction by PostgreSQL, the embedded PostgreSQL by its guard.
    """
    os._exit(0)


def _parse() -> Namespace:
    parser = argparse.ArgumentParser(
        prog=_PROGRAM,
        description="The wallet: accounts, balances and payments.",
        epilog=f"environment variables with their defaults:\n{settings.describe()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=_serve)
    parser.add_argument("--version", action="version", version=f"wallet {__version__}")
    commands = parser.add_subparsers(metavar="command")
    commands.add_parser("serve", help="migrate the database, then serve HTTP (the default)")
    migrate = commands.add_parser("migrate", help="migrate the database to this version and exit")
    migrate.set_defaults(run=_migrate)
    migrate.add_argument(
        "--shared-password",
        action="store_true",
        help="set WALLET_APP_PASSWORD even if other databases on the server use the same role",
    )
    check = commands.add_parser("check", help="check the ledger; exit with 1 if it has errors")
    check.set_defaults(run=_check)
    check.add_argument(
        "--every", type=_INTERVAL.parse, metavar="SECONDS", help="repeat the check at this interval until SIGTERM"
    )
    follow = commands.add_parser("follow", help="print each event of the feed as a line of JSON, until SIGTERM")
    follow.set_defaults(run=_follow)
    follow.add_argument("--after", metavar="CURSOR", help="begin after the event with this Cursor; default: all events")
    _parse_key(commands.add_parser("key", help="create, list and revoke API keys"))
    # Arguments that begin with - belong to psql.
    parser_of_psql = commands.add_parser(
        "psql", prefix_chars="\0", add_help=False, help="open psql, by default as role wallet_ops; takes its options"
    )
    parser_of_psql.set_defaults(run=_psql)
    parser_of_psql.add_argument("arguments", nargs=argparse.REMAINDER)
    return parser.parse_args()


def _parse_key(parser: argparse.ArgumentParser) -> None:
    moment = Kind("a time such as 2030-01-31 or 2030-01-31T12:00Z", datetime.fromisoformat)
    parser.set_defaults(run=_key)
    actions = parser.add_subparsers(dest="action", metavar="action", required=True)
    create = actions.add_parser("create", help="create a key and print its secret, which is shown only once")
    create.add_argument("name", help="1 to 64 characters, unique")
    create.add_argument("--scopes", required=True, help="comma-separated permissions: read, pay, admin, keys")
    create.add_argument("--accounts", type=_ids, help="bind it to these accounts, such as 1,2; default: all")
    create.add_argument("--expires", type=moment.parse, metavar="MOMENT", help=f"expiry, {moment.form}; default: never")
    create.add_argument("--tenant", help="its tenant, whose keys share their idempotency keys; default: none")
    actions.add_parser("list", help="list all keys with their last use")
    actions.add_parser("revoke", help="revoke a key permanently").add_argument("id", type=_ID.parse)


def _ids(text: str) -> list[int]:
    return [_ID.parse(word) for word in text.split(",")]


def _complain(error: object, code: int) -> int:
    lines = map(log.printable, str(error).split("\n"))
    print(f"{_PROGRAM}: " + "\n".join(lines), file=sys.stderr)
    return code


@contextlib.contextmanager
def _database(configuration: Settings) -> Iterator[str]:
    """Yields the connection string. Runs the embedded database within the block, unless DATABASE_URL is set."""
    if configuration.database_url is not None:
        yield settings.conninfo()
    else:
        with embedded.running(configuration.data_dir, configuration.postgres_bin) as conninfo:
            os.environ["DATABASE_URL"] = conninfo  # for worker processes and settings.conninfo()
            yield conninfo


def _serve(configuration: Settings, arguments: Namespace) -> int:
    settings.check_for_serving(configuration)
    if configuration.otlp_endpoint is not None:
        try:
            importlib.import_module("wallet_api.observability.tracing")
        except ImportError:
            raise settings.BadSetting(
                "OTEL_EXPORTER_OTLP_ENDPOINT should be unset if OpenTelemetry is not installed: "
                "pip install -r requirements-tracing.lock, or pip install '.[tracing]'"
            ) from None
    log.begin(configuration.log)
    with _database(configuration) as conninfo:
        try:
            if migrations.installed_version(conninfo) != migrations.version():
                # The embedded database may be downgraded; a shared one may have newer instances.
                try:
                    _bring_up(conninfo, configuration, back=configuration.database_url is None)
                except installer.MigrationRefused as refusal:
                    if refusal.state is None:
                        raise
                    raise installer.MigrationRefused(refusal.state) from None
            check_service(conninfo, Roles(configuration.role_prefix).app)
        except psycopg.OperationalError as error:
            # Serve anyway: the database may return at this version. Until then, requests get 503.
            primary_outage.unreachable(error)
        processes.serve(configuration)
    return 0


def _migrate(configuration: Settings, arguments: Namespace) -> int:
    with _database(configuration) as conninfo:
        _bring_up(conninfo, configuration, shared_password=arguments.shared_password)
    print(f"The database is at version {migrations.version()}.")
    return 0


def _bring_up(conninfo: str, configuration: Settings, *, shared_password: bool = False, back: bool = True) -> None:
    """Migrates the database. Logs its progress, including waits for locks."""
    tell = functools.partial(logger.info, "migrate: %s")
    for note in migrations.migrate(
        conninfo,
        app_password=configuration.app_password,
        shared_password=shared_password,
        role_prefix=configuration.role_prefix,
        back=back,
        tell=tell,
    ):
        tell(note)


def _check(configuration: Settings, arguments: Namespace) -> int:
    with _database(configuration):
        if arguments.every is not None:
            _check_repeatedly(arguments.every)
        lines, is_good = _check_once()
    print("\n".join(lines))
    return 0 if is_good else 1


def _check_once() -> tuple[list[str], bool]:
    """Checks the ledger, on a standby if there is DATABASE_READ_URL. Passwords in files may have changed meanwhile."""
    if settings.from_environment().database_read_url is None:
        return check.check(settings.conninfo())
    return check.check(settings.read_conninfo(), primary=settings.conninfo())


def _check_repeatedly(every: float) -> NoReturn:
    """Checks the ledger until a signal. Retries after errors, because they may be temporary."""
    while True:
        pause = every
        try:
            lines, _ = _check_once()
            print("\n".join(lines), flush=True)
        except (CommandRefused, psycopg.Error, settings.BadSetting) as error:
            pause = min(every, _SOON)
            _complain(f"the ledger cannot be checked: {error}", 1)
        time.sleep(pause)


def _follow(configuration: Settings, arguments: Namespace) -> int:
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # ends quietly with its reader
    with _database(configuration):
        for event in follow.follow(settings.conninfo, arguments.after, lambda error: _complain(error, 1)):
            print(event, flush=True)
    return 0


def _key(configuration: Settings, arguments: Namespace) -> int:
    with _database(configuration) as conninfo:
        if configuration.database_url is None:
            conninfo = make_conninfo(conninfo, user=Roles(configuration.role_prefix).ops)
        match arguments.action:
            case "create":
                scopes = arguments.scopes.split(",")
                secret = key.create(
                    conninfo, arguments.name, scopes, arguments.accounts, arguments.expires, arguments.tenant
                )
                print("The secret of the key (shown only once):", file=sys.stderr)
                print(secret)
            case "list":
                print("\n".join(key.listed(conninfo)))
            case "revoke":
                print(key.revoke(conninfo, arguments.id))
    return 0


def _psql(configuration: Settings, arguments: Namespace) -> int:
    user = os.environ.get("PGUSER")  # read first: the embedded database drops the variables of libpq
    program = _psql_program(configuration)
    with _database(configuration) as conninfo:
        if configuration.database_url is None:
            if migrations.installed_version(conninfo) is None:
                _bring_up(conninfo, configuration)
            conninfo = make_conninfo(conninfo, user=Roles(configuration.role_prefix).ops)
        return psql.run(program, conninfo, user, arguments.arguments)


def _psql_program(configuration: Settings) -> Path:
    """The psql of the embedded PostgreSQL; for another one, that of this machine, which speaks TLS."""
    if configuration.postgres_bin is not None:
        return configuration.postgres_bin / "psql"
    if configuration.database_url is not None and (found := shutil.which("psql")):
        return Path(found)
    try:
        return embedded.wheel_programs() / "psql"
    except embedded.EmbeddedError:
        if configuration.database_url is None:
            raise
        raise CommandRefused("psql is not installed: apt-get install postgresql-client") from None
