"""The embedded PostgreSQL: shared by all who name its folder, gone when the last of them is, and never losing a payment."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import psycopg
import pytest

from tests.conftest import postgres_programs
from tests.faults.postgres import copy
from tests.support import PROJECT, Server, serving, wait_until
from wallet_api.database import embedded


@pytest.fixture
def new_folder(tmp_path: Path) -> Iterator[Path]:
    """As before the first use: it does not exist."""
    folder = tmp_path / "data"
    yield folder
    wait_until(lambda: postgres_pid(folder) is None)


@pytest.fixture
def folder(new_folder: Path, postgres_template: Path) -> Path:
    """As after a use: it has data."""
    return fill(new_folder, postgres_template)


def fill(folder: Path, template: Path) -> Path:
    folder.mkdir(mode=0o711)
    copy(template, folder / "postgres")
    return folder


def postgres_pid(folder: Path) -> int | None:
    """The server that runs in the folder, by what /proc says."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (process / "cmdline").read_bytes().split(b"\0")
            if command[0].endswith(b"/postgres") and str(folder / "postgres").encode() in command:
                return int(process.name)
    return None


def guards(folder: Path) -> list[int]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (process / "cmdline").read_bytes().split(b"\0")
            if b"wallet_api.database.embedded" in command and str(folder).encode() in command:
                found.append(int(process.name))
    return found


def create(api: httpx2.Client, name: str) -> None:
    assert api.post("/accounts", json={"Name": name, "Amount": 1, "CurrencyID": 1}).status_code == 200


def account_names(api: httpx2.Client) -> list[str]:
    return [account["Name"] for account in api.get("/accounts").json().get("Accounts", [])]


def test_the_next_run_finds_the_data_again(new_folder: Path) -> None:
    with serving(WALLET_DATA_DIR=str(new_folder)) as server, server.client() as api:
        create(api, "kept")
    assert postgres_pid(new_folder) is None
    with serving(WALLET_DATA_DIR=str(new_folder)) as server, server.client() as api:
        assert account_names(api) == ["kept"]


@pytest.mark.once
def test_two_instances_share_it_and_it_stops_with_the_last(folder: Path) -> None:
    with serving(WALLET_DATA_DIR=str(folder)) as first:
        with serving(WALLET_DATA_DIR=str(folder)) as second, first.client() as one, second.client() as two:
            create(one, "shared")
            assert account_names(two) == ["shared"]
            pid = postgres_pid(folder)
            assert pid is not None
        assert postgres_pid(folder) == pid
        with first.client() as api:
            assert account_names(api) == ["shared"]
    assert postgres_pid(folder) is None


@pytest.mark.once
def test_two_names_of_one_folder_are_one_folder(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    long = tmp_path / ("long-" * 40)
    long.symlink_to(folder)
    with serving(WALLET_DATA_DIR=str(folder)) as server, server.client() as api:
        create(api, "shared")
        for name in ("link", long.name):
            with serving(WALLET_DATA_DIR=str(tmp_path / name)) as other, other.client() as api:
                assert account_names(api) == ["shared"]


@pytest.mark.once
def test_the_one_that_started_it_may_leave_first(folder: Path) -> None:
    first = Server(WALLET_DATA_DIR=str(folder))
    assert first.url
    with serving(WALLET_DATA_DIR=str(folder)) as second, second.client() as api:
        assert first.stop() == 0
        create(api, "alone")


@pytest.mark.once
def test_many_start_it_at_the_same_moment(new_folder: Path) -> None:
    servers = [Server(WALLET_DATA_DIR=str(new_folder)) for _ in range(5)]
    try:
        for server in servers:
            with server.client() as api:
                create(api, server.url)
    finally:
        codes = [server.stop() for server in servers]
    assert codes == [0] * 5
    assert postgres_pid(new_folder) is None


@pytest.mark.once
def test_nothing_is_left_behind_but_the_data(new_folder: Path) -> None:
    with serving(WALLET_DATA_DIR=str(new_folder)):
        assert len(guards(new_folder)) == 1
    # The guard lets go of its lock, for which the last user waits, and then Python takes a moment to end.
    wait_until(lambda: guards(new_folder) == [])
    assert postgres_pid(new_folder) is None
    assert sorted(path.name for path in new_folder.iterdir()) == [
        "guard.lock", "postgres", "postgres.log", "server.lock", "turn.lock", "users.lock",
    ]  # fmt: skip


@pytest.mark.once
def test_a_killed_service_leaves_no_postgresql_running(folder: Path) -> None:
    server = Server(WALLET_DATA_DIR=str(folder))
    with server.client() as api:
        create(api, "kept")
    server.kill()
    wait_until(lambda: postgres_pid(folder) is None)
    wait_until(lambda: guards(folder) == [])
    with serving(WALLET_DATA_DIR=str(folder)) as server, server.client() as api:
        assert account_names(api) == ["kept"]


@pytest.mark.parametrize("name", ["short", "long-" * 40])
def test_a_killed_postgresql_comes_back_while_it_is_used(tmp_path: Path, postgres_template: Path, name: str) -> None:
    folder = fill(tmp_path / name[:200], postgres_template)
    with serving(WALLET_DATA_DIR=str(folder)) as server, server.client() as api:
        create(api, "kept")
        pid = postgres_pid(folder)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: api.get("/readyz").status_code == 200 and postgres_pid(folder) not in (None, pid))
        wait_until(lambda: api.get("/readyz").status_code == 200)
        assert account_names(api) == ["kept"]


@pytest.mark.once
def test_after_everything_was_killed_the_next_run_recovers(folder: Path) -> None:
    server = Server(WALLET_DATA_DIR=str(folder))
    with server.client() as api:
        create(api, "kept")
    pid = postgres_pid(folder)
    assert pid is not None
    for victim in (*guards(folder), server.process.pid, pid):
        os.kill(victim, signal.SIGKILL)
    server.wait()
    with serving(WALLET_DATA_DIR=str(folder)) as server, server.client() as api:
        assert account_names(api) == ["kept"]


@pytest.mark.once
def test_a_running_postgresql_whose_users_and_guard_were_killed_is_taken_over(folder: Path) -> None:
    server = Server(WALLET_DATA_DIR=str(folder))
    with server.client() as api:
        create(api, "kept")
    for victim in guards(folder):
        os.kill(victim, signal.SIGKILL)
    server.kill()
    pid = postgres_pid(folder)
    assert pid is not None
    with serving(WALLET_DATA_DIR=str(folder)) as server, server.client() as api:
        assert account_names(api) == ["kept"]
        assert postgres_pid(folder) == pid


def test_killed_while_it_made_the_data_it_makes_them_again(new_folder: Path) -> None:
    server = Server(WALLET_DATA_DIR=str(new_folder))
    wait_until(lambda: any(new_folder.glob("initdb-*/PG_VERSION")) or (new_folder / "postgres").exists())
    assert not (new_folder / "postgres").exists(), "it was too fast to be killed in time"
    server.kill()
    with serving(WALLET_DATA_DIR=str(new_folder)) as server, server.client() as api:
        create(api, "made again")
    with serving(WALLET_DATA_DIR=str(new_folder)) as server, server.client() as api:
        assert account_names(api) == ["made again"]
    assert not any(new_folder.glob("initdb-*"))


@pytest.mark.once
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_stopped_or_killed_while_postgresql_starts_it_leaves_none_running(folder: Path, signum: signal.Signals) -> None:
    for _ in range(3):
        server = Server(WALLET_DATA_DIR=str(folder))
        wait_until(lambda: postgres_pid(folder) is not None)
        assert server.stop(signum) in (0, -signal.SIGKILL)
        wait_until(lambda: postgres_pid(folder) is None and guards(folder) == [])


@pytest.mark.once
def test_an_incomplete_pid_file_is_ignored(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line of the socket's folder is empty for a moment; who removes "that folder" removes where they are."""
    (folder / "postgres/postmaster.pid").write_text(f"999999\n{folder}/postgres\n1795352545\n5432\n\n")
    here = tmp_path / "here"
    here.mkdir()
    (here / "thesis.txt").write_text("all of it")
    monkeypatch.chdir(here)
    with embedded.running(folder, postgres_programs()):
        pass
    assert (here / "thesis.txt").read_text() == "all of it"


@pytest.mark.once
def test_only_what_is_ours_is_removed(new_folder: Path) -> None:
    (new_folder / "socket").mkdir(parents=True)
    (new_folder / "socket/letters.txt").write_text("mine")
    with contextlib.suppress(embedded.EmbeddedError), embedded.running(new_folder, postgres_programs()):
        pass
    assert (new_folder / "socket/letters.txt").read_text() == "mine"


@pytest.mark.once
def test_variables_that_tell_of_another_server_do_not_matter(new_folder: Path) -> None:
    others = {"PGPORT": "5433", "PGHOSTADDR": "127.0.0.1", "PGSERVICE": "nope", "PGTARGETSESSIONATTRS": "standby"}
    with serving(WALLET_DATA_DIR=str(new_folder), **others) as server, server.client() as api:
        create(api, "found")


@pytest.mark.once
@pytest.mark.parametrize("below", ["data", "file/below"])
def test_a_folder_that_cannot_be_used_is_a_sentence_and_exit_code_1(tmp_path: Path, below: str) -> None:
    (tmp_path / "data/turn.lock").mkdir(parents=True)
    (tmp_path / "file").touch()
    folder = tmp_path / below
    server = Server(WALLET_DATA_DIR=str(folder))
    assert server.wait() == 1
    assert server.log.startswith(f"server.py: The folder {folder} cannot be used: ")
    assert "Traceback" not in server.log


@pytest.mark.once
def test_a_pid_file_that_names_another_process(folder: Path) -> None:
    with serving(WALLET_DATA_DIR=str(folder)):
        lines = (folder / "postgres/postmaster.pid").read_text().splitlines(keepends=True)
    owner = (folder / "postgres").stat()
    # PostgreSQL takes a process of another user for none.
    other = subprocess.Popen(["sleep", "100"], user=owner.st_uid if os.geteuid() == 0 else None)
    try:
        (folder / "socket").mkdir(mode=0o700)
        for file in (folder / "postgres/postmaster.pid", folder / "socket/.s.PGSQL.5432.lock"):
            file.write_text("".join([f"{other.pid}\n", *lines[1:]]))
            os.chown(file, owner.st_uid, owner.st_gid)
        with serving(WALLET_DATA_DIR=str(folder)) as server, server.client() as api:
            create(api, "not misled")
    finally:
        assert other.poll() is None
        other.kill()
        other.wait()


@pytest.mark.once
@pytest.mark.parametrize(
    "name",
    ["with blanks and ümlaut", "with 'quotes' \"double\" $HOME `x` \\ %s", "with,comma", "long-" * 40],
    ids=["blanks", "quotes", "comma", "long"],
)
def test_a_folder_may_have_any_name(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name / "data"
    socket_folder = embedded._socket_folder(folder)
    with serving(WALLET_DATA_DIR=str(folder)) as server, server.client() as api:
        create(api, "reached")
        assert socket_folder.exists()
    assert postgres_pid(folder) is None
    assert not socket_folder.exists()


def test_data_of_another_major_version_is_a_sentence_and_exit_code_1(folder: Path) -> None:
    (folder / "postgres/PG_VERSION").write_text("9\n")
    server = Server(WALLET_DATA_DIR=str(folder))
    assert server.wait() == 1
    assert "The data directory was initialized by PostgreSQL version 9, which is not compatible" in server.log
    assert "Traceback" not in server.log


def test_a_postgresql_that_does_not_start_is_told_with_the_end_of_its_log(folder: Path) -> None:
    options = {"shared_buffers": "of no size"}
    with (
        pytest.raises(embedded.EmbeddedError, match='invalid value for parameter "shared_buffers"'),
        embedded.running(folder, postgres_programs(), options),
    ):
        pass


def test_its_socket_is_for_its_owner_alone_and_it_listens_nowhere_else(new_folder: Path) -> None:
    with embedded.running(new_folder, postgres_programs()) as conninfo, psycopg.connect(conninfo) as connection:
        assert embedded._socket_folder(new_folder).stat().st_mode & 0o777 == 0o700
        assert (new_folder / "postgres").stat().st_mode & 0o777 == 0o700
        assert connection.execute("show listen_addresses").fetchone() == ("",)


def test_it_is_durable_by_default(new_folder: Path) -> None:
    with embedded.running(new_folder, postgres_programs()) as conninfo, psycopg.connect(conninfo) as connection:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            assert connection.execute("select current_setting(%s)", [setting]).fetchone() == ("on",)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become another user")
@pytest.mark.parametrize("mode", [0o755, 0o700], ids=["reachable", "unreachable"])
def test_started_by_root_it_does_not_run_as_root(tmp_path_factory: pytest.TempPathFactory, mode: int) -> None:
    parent = Path(subprocess.check_output(["mktemp", "-d", "/tmp/wallet_test_XXXXXX"], text=True).strip())
    parent.chmod(mode)
    try:
        with serving(WALLET_DATA_DIR=str(parent / "data")) as server, server.client() as api:
            create(api, "made by root")
            pid = postgres_pid(parent / "data")
            assert pid is not None
            capabilities = Path(f"/proc/{pid}/status").read_text()
            [effective] = [line.split()[1] for line in capabilities.splitlines() if line.startswith("CapEff")]
            in_namespace = Path(f"/proc/{pid}/ns/user").readlink() != Path("/proc/self/ns/user").readlink()
            assert in_namespace or int(effective, 16) == 0
        assert parent.stat().st_mode & 0o777 == mode
    finally:
        shutil.rmtree(parent)


@pytest.mark.once
@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become another user")
def test_started_by_root_it_runs_programs_that_only_root_can_reach(tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.symlink_to(postgres_programs() or embedded.wheel_programs())
    tmp_path.chmod(0o700)
    folder = Path(subprocess.check_output(["mktemp", "-d", "/tmp/wallet_test_XXXXXX"], text=True).strip())
    folder.chmod(0o755)
    try:
        environment = {"WALLET_DATA_DIR": str(folder / "data"), "WALLET_POSTGRES_BIN": str(programs)}
        with serving(**environment) as server, server.client() as api:
            create(api, "made by root")
    finally:
        shutil.rmtree(folder)


def test_psql_opens_on_the_running_database_as_ops(folder: Path) -> None:
    def psql(text: str) -> str:
        kept = {name: value for name, value in os.environ.items() if name in ("PATH", "WALLET_POSTGRES_BIN")}
        return subprocess.run(
            [sys.executable, "server.py", "psql", "-X", "-At", "-v", "ON_ERROR_STOP=1", "-c", text],
            cwd=PROJECT, env=kept | {"WALLET_DATA_DIR": str(folder)}, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip

    with serving(WALLET_DATA_DIR=str(folder)) as server, server.client() as api:
        create(api, "buyer")
        create(api, "seller")
        assert psql("select amount from make_payment(1, 2, 0.5)") == "0.5\n"
        assert psql("select current_user") == "wallet_ops\n"
        assert "make_payment" in psql("\\df+")
        assert api.get("/account/1").json()["Amount"] == "0.5"
