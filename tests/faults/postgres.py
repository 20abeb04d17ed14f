"""A PostgreSQL of a test's own, on a port of loopback, that stays dead when it is killed."""

import os
import random
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import psycopg
from psycopg.conninfo import make_conninfo

from tests.conftest import postgres_programs
from tests.support import wait_until, waiting_for_locks
from wallet_api.database import embedded, migrations

_OPTIONS = {
    "fsync": "off",  # what a killed process has written, the kernel still has
    "synchronous_commit": "on",
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "shared_buffers": "16MB",
    "max_connections": "100",
    "max_wal_senders": "4",
    "deadlock_timeout": "20ms",
    "wal_retrieve_retry_interval": "100ms",
    "dynamic_shared_memory_type": "mmap",  # within the data, so that a killed one leaves nothing in /dev/shm
    "log_min_messages": "log",
    "log_checkpoints": "off",
}
_STANDBY = "standby"

Admin = psycopg.Connection[Any]


def free_port() -> int:
    """A port that can be listened on now, and by the one who was killed there again.

    Not one of those that the kernel gives to clients: it would sometimes be taken in between.
    """
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(first // 2, first)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


class Postgres(embedded._Cluster):
    """A cluster in a folder. It runs from `start` until it is stopped or killed."""

    def __init__(
        self, folder: Path, port: int | None = None, primary: Self | None = None, template: Path | None = None
    ) -> None:
        self.port = port or free_port()
        self._template = template
        options = {**_OPTIONS, "port": str(self.port)}
        if primary is not None:
            options["primary_conninfo"] = primary.conninfo("postgres", application_name=_STANDBY)
        super().__init__(folder, postgres_programs() or embedded.wheel_programs(), options)

    def conninfo(self, database: str = embedded.DATABASE, **more: str) -> str:
        """How its superuser connects."""
        return make_conninfo(host="127.0.0.1", port=self.port, user="postgres", dbname=database, **more)

    @contextmanager
    def admin(self) -> Iterator[Admin]:
        """A superuser's connection; every statement commits."""
        with closing(psycopg.connect(self.conninfo(), autocommit=True)) as connection:
            yield connection

    def calls(self) -> int:
        """How many calls of the service are under way in it."""
        with self.admin() as admin:
            [(number,)] = admin.execute(
                "select count(*) from pg_stat_activity where application_name = 'wallet' and state <> 'idle'"
            ).fetchall()
            return int(number)

    @contextmanager
    def account_locked(self, account_id: int) -> Iterator[None]:
        """Holds an account, as a session of psql may, and calls of the service wait for it; until it is killed, even."""
        with closing(psycopg.connect(self.conninfo())) as holder, self.admin() as admin:
            holder.execute("select from ledger.account where id = %s for update", [account_id])
            waiting_for_locks(admin, 1)
            yield

    @contextmanager
    def new_standby(self, folder: Path, port: int | None = None) -> Iterator[Self]:
        """Makes a copy of this primary that follows it, and without which nothing is committed from then on."""
        standby = type(self)(folder, port, self)
        try:
            self._be_followed_by(standby)
            yield standby
        finally:
            standby.close()

    def promote(self) -> None:
        """Makes a standby the primary, one without a standby. Returns when it takes changes."""
        with self.admin() as admin:
            admin.execute("alter system reset synchronous_standby_names")  # in case it came along with the copy
            admin.execute("select pg_reload_conf()")
            assert admin.execute("select pg_promote(true, 60)").fetchone() == (True,)

    def give(self, path: Path) -> None:
        """Gives a folder to the account that it runs as."""
        os.chown(path, *self._account)

    def unprivileged(self) -> list[str]:
        """The words before a command that make root run it as that account."""
        return embedded._unprivileged(*self._account)

    def kill(self) -> None:
        """Ends it as a failing machine does: all of its processes at once, none of which can do anything about it."""
        postmaster = self._postmaster()
        assert postmaster is not None, "it does not run"
        os.kill(postmaster, signal.SIGSTOP)  # so that it makes no more processes
        family = [int(pid) for pid in Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()]
        for pid in (*family, postmaster):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not self.runs())
        self._remove_shared_memory()

    def stop(self) -> None:
        """Stops it in good order."""
        self._run("pg_ctl", "stop", "-D", str(self.data), "-m", "fast", "-w", "-s")

    def close(self) -> None:
        """Leaves nothing running, whatever state it is in. The folder of one that was lost may be gone."""
        if self.folder.exists() and self._postmaster() is not None:
            self.kill()

    def _be_followed_by(self, standby: Self) -> None:
        standby.data.mkdir(mode=0o700)
        standby.give(standby.data)
        source = self.conninfo("postgres")
        standby._run("pg_basebackup", "-D", str(standby.data), "-d", source, "-c", "fast", "-R", "--no-sync")
        standby.start()
        with self.admin() as admin:
            admin.execute(f"alter system set synchronous_standby_names = '{_STANDBY}'")
            admin.execute("select pg_reload_conf()")
            caught_up = f"""select from pg_stat_replication where application_name = '{_STANDBY}'
                            and sync_state = 'sync' and state = 'streaming' and flush_lsn >= pg_current_wal_lsn()"""
            wait_until(lambda: admin.execute(caught_up).fetchone() is not None)

    def _postmaster(self) -> int | None:
        while self.runs():
            with suppress(FileNotFoundError, ValueError):  # it may not have written its file yet
                return int(self._pid_file.read_text().split("\n")[0])
        return None

    def _remove_shared_memory(self) -> None:
        """A machine that fails keeps no System V segment either; PostgreSQL would remove it at its next start."""
        with suppress(OSError, IndexError):
            _, segment = self._pid_file.read_text().splitlines()[6].split()
            subprocess.run(["ipcrm", "-m", segment], capture_output=True, check=False)

    def _make_socket_folder(self) -> None:
        """It has no Unix socket."""

    def _initialize(self) -> None:
        if self._template is None:
            super()._initialize()
        else:
            copy(self._template, self.data)


@contextmanager
def running(folder: Path, template: Path | None = None) -> Iterator[Postgres]:
    """A migrated PostgreSQL, killed in the end if it still runs. Its data begin as a copy of `template`, if given."""
    postgres = Postgres(folder, template=template)
    try:
        postgres.start()
        if template is None:
            migrations.migrate(postgres.conninfo())
        yield postgres
    finally:
        postgres.close()


def make_template(folder: Path, template: Path | None, change: Callable[[str], object] = lambda conninfo: None) -> Path:
    """The data of a PostgreSQL that has stopped in good order, after a change. A copy takes less time than initdb."""
    postgres = Postgres(folder, template=template)
    try:
        postgres.start()
        change(postgres.conninfo())
        postgres.stop()
    finally:
        postgres.close()
    return postgres.data


def copy(template: Path, data: Path) -> None:
    """Copies data, with their owner."""
    subprocess.run(["cp", "--archive", "--reflink=auto", str(template), str(data)], check=True)
