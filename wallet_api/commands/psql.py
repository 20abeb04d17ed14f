"""Opens psql with the settings of db/psqlrc.sql, as the user who asks for it."""

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from wallet_api.settings import DB


def run(program: Path, conninfo: str, user: str | None, arguments: Sequence[str]) -> int:
    """Runs psql with further arguments, and returns its exit code.

    The user is the one of -U in `arguments`, else `user`, else that of `conninfo`, whose password is for its own user
    only. No password is in the arguments, which other users of the machine can see.
    """
    options = argparse.ArgumentParser(prog="psql", add_help=False, allow_abbrev=False)
    options.add_argument("-U", "--username")
    asked, others = options.parse_known_args(arguments)
    target = {name: str(value) for name, value in conninfo_to_dict(conninfo).items()}
    own, password = target.pop("user", None), target.pop("password", None)
    user = asked.username or user or own
    environment = {"PSQLRC": str(DB / "psqlrc.sql")} | os.environ
    if user is not None:
        environment["PGUSER"] = user
    if password is not None and user == own:
        environment["PGPASSWORD"] = password
    is_session = not others and sys.stdin.isatty() and sys.stdout.isatty()
    hint = ["--set=wallet_hint=on"] if is_session else []
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # psql handles Ctrl-C
    command = [str(program), make_conninfo("", **target), *hint, *arguments]
    return subprocess.run(command, env=environment, check=False).returncode
