"""Opens psql with the settings of db/psqlrc.sql, as the user who asks for it."""

import getopt
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import Conninfo

from wallet_api.commands import CommandRefused
from wallet_api.settings import DB

# The options of psql. Long ones may be shortened.
_SHORT = "aAbc:d:eEf:F:h:HlL:no:p:P:qR:sStT:U:v:VwWxXz?01"
_LONG = """echo-all no-align echo-errors command= dbname= echo-queries echo-hidden file= field-separator= host=
    html list log-file= no-readline output= port= pset= quiet record-separator= single-step single-line tuples-only
    table-attr= username= set= variable= version no-password password expanded no-psqlrc field-separator-zero help
    single-transaction record-separator-zero csv""".split()  # noqa: SIM905


def run(program: Path, conninfo: str, user: str | None, arguments: Sequence[str]) -> int:
    """Runs psql with further arguments, and returns its exit code.

    The user is the one of -U in `arguments`, else `user`, else that of `conninfo`, whose password is for its own user
    only, as is one from the environment. No password is in the arguments, which other users of the machine can see.
    Raises CommandRefused if `conninfo` has another secret.
    """
    asked, is_alone = _user_of(arguments)
    target = {name: str(value) for name, value in conninfo_to_dict(conninfo).items()}
    own, password = target.pop("user", user), target.pop("password", None)
    user = asked or user or own
    environment = {"PSQLRC": str(DB / "psqlrc.sql")} | os.environ
    for option in Conninfo.get_defaults():
        name = option.keyword.decode()
        if name in target and option.envvar is not None:
            # As a variable, it also counts if -d names another database.
            environment[option.envvar.decode()] = target.pop(name)
        elif name in target and option.dispchar == b"*":
            raise CommandRefused(f"psql would show {name} to all users of this machine: take it out of DATABASE_URL")
    if user is not None:
        environment["PGUSER"] = user
    if user != own:
        environment.pop("PGPASSWORD", None)
    elif password is not None:
        environment["PGPASSWORD"] = password
    is_session = is_alone and sys.stdin.isatty() and sys.stdout.isatty()
    hint = ["--set=wallet_hint=on"] if is_session else []
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # psql handles Ctrl-C
    # As an option, so that a later one may name another database, and the first argument is no user.
    command = [str(program), f"--dbname={make_conninfo('', **target)}", *hint, *arguments]
    return subprocess.run(command, env=environment, check=False).returncode


def _user_of(arguments: Sequence[str]) -> tuple[str | None, bool]:
    """The user that arguments of psql ask for, if any, and whether they ask for nothing else."""
    try:
        options, words = getopt.gnu_getopt(list(arguments), _SHORT, _LONG)
    except getopt.GetoptError:
        return None, False  # psql complains
    users = [value for name, value in options if name in ("-U", "--username")]
    # The database is given, so the first word is the user.
    return [*users, *words, None][max(0, len(users) - 1)], len(users) == len(options) and len(words) < 2
