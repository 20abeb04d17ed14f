"""Runs PgBouncer in front of a test database."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.faults.postgres import free_port
from tests.support import wait_until
from wallet_api.database import embedded

PROGRAM = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"


class PgBouncer:
    """A running PgBouncer in pool mode `mode`. `settings` are added to its configuration."""

    def __init__(self, folder: Path, database: str, mode: str, **settings: str) -> None:
        self.port = free_port()
        self._target = conninfo_to_dict(database)
        self._folder = folder
        self._settings = settings
        self.configure(mode)
        users = "".join(f'"{user}" ""\n' for user in ("postgres", "wallet_app", "wallet_ops"))
        self._write("users.txt", users)
        self.start()

    def start(self) -> None:
        """Starts it, also again after kill(), on the same port."""
        # PgBouncer refuses to run as root; in the user namespace, root runs it as nobody.
        self.process = subprocess.Popen(
            [*embedded._unprivileged(0, 0), PROGRAM, "--quiet", str(self._folder / "pgbouncer.ini")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(self._answers)

    def conninfo(self, **more: str) -> str:
        """The connection string for clients, with the parameters `more`."""
        name = str(self._target["dbname"])
        return make_conninfo(
            host="127.0.0.1", port=self.port, user=self._target.get("user", "postgres"), dbname=name, **more
        )

    def configure(self, mode: str) -> None:
        """Writes the configuration. A running PgBouncer reads it on reload."""
        place = {name: self._target[name] for name in ("host", "port") if name in self._target}
        server = " ".join(f"{name}={value}" for name, value in place.items())
        lines = [
            "[databases]",
            f"* = {server}",
            "[pgbouncer]",
            "listen_addr = 127.0.0.1",
            f"listen_port = {self.port}",
            "unix_socket_dir =",
            "auth_type = trust",
            f"auth_file = {self._folder}/users.txt",
            "admin_users = postgres",
            "max_client_conn = 500",
            "default_pool_size = 40",
            "server_login_retry = 0.2",  # the default, 15 s, delays recovery after PostgreSQL is killed
            f"pool_mode = {mode}",
            *[f"{name} = {value}" for name, value in self._settings.items()],
        ]
        self._write("pgbouncer.ini", "\n".join(lines))

    def reload(self, mode: str) -> None:
        """Changes the pool mode while it runs."""
        self.configure(mode)
        with psycopg.connect(self.conninfo(), dbname="pgbouncer", autocommit=True) as console:
            console.execute("reload")

    def kill(self) -> None:
        """Kills it without a clean shutdown."""
        self.process.kill()
        self.process.wait(20)

    def stop(self) -> None:
        """Stops it gracefully."""
        self.process.terminate()
        self.process.wait(20)

    def _write(self, name: str, text: str) -> None:
        (self._folder / name).write_text(text)

    def _answers(self) -> bool:
        assert self.process.poll() is None, "PgBouncer has exited"
        with suppress(psycopg.OperationalError):
            psycopg.connect(self.conninfo(connect_timeout="2")).close()
            return True
        return False


@contextmanager
def pgbouncer(folder: Path, database: str, mode: str, **settings: str) -> Iterator[PgBouncer]:
    """A PgBouncer in front of `database` for the block. Skips the test if PgBouncer is not installed."""
    if not Path(PROGRAM).exists():
        pytest.skip("needs PgBouncer: apt-get install pgbouncer")
    running = PgBouncer(folder, database, mode, **settings)
    try:
        yield running
    finally:
        running.stop()
