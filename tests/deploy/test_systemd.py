"""deploy/systemd: systemd accepts the units and finds little that they may do, and what they start works."""

import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

from tests.deploy.environment import (
    assert_it_checks,
    assert_it_migrates,
    assert_it_serves,
    assert_time_to_stop,
    settings_of,
    write_secrets,
)
from tests.faults.postgres import Postgres
from tests.support import PROJECT

FOLDER = PROJECT / "deploy/systemd"
UNITS = sorted(path.name for path in FOLDER.iterdir())
SERVICES = [name for name in UNITS if name.endswith(".service")]
# The line from which on all services are the same, and what follows it in one of them.
COMMON, INSTALL = "# What none of the wallet's commands needs.", "\n[Install]"
PROGRAM = "/opt/wallet/bin/wallet"


def lines(unit: str) -> dict[str, list[str]]:
    """The values of a unit, by name."""
    found = defaultdict(list)
    for line in (FOLDER / unit).read_text().splitlines():
        if line and line[0] not in "#[":
            name, _, value = line.partition("=")
            found[name].append(value)
    return found


def environment(unit: str, secrets: Path) -> dict[str, str]:
    """The environment of a service, with the files of this folder in place of those in /etc/wallet."""
    loaded = dict(value.split(":") for value in lines(unit)["LoadCredential"])
    found = dict(value.split("=", 1) for value in lines(unit)["Environment"])
    for variable, value in found.items():
        if value.startswith("%d/"):
            source = loaded[value.removeprefix("%d/")]
            found[variable] = source.replace("/etc/wallet", str(secrets))
    return found


def words(unit: str) -> list[str]:
    """The arguments of the program that a service starts."""
    [started] = lines(unit)["ExecStart"]
    program, *arguments = started.split()
    assert program == PROGRAM
    return arguments


def analyze(*arguments: str) -> str:
    """What systemd-analyze says if it accepts something."""
    assert shutil.which("systemd-analyze"), "systemd-analyze is missing: apt-get install systemd"
    done = subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_accepts_a_unit(tmp_path: Path, unit: str) -> None:
    for name in UNITS:  # the timer's service too; with a program that exists here
        (tmp_path / name).write_text((FOLDER / name).read_text().replace(PROGRAM, "/bin/true"))
    assert analyze("verify", str(tmp_path / unit)) == ""


@pytest.mark.parametrize("unit", SERVICES)
def test_a_service_may_do_little(unit: str) -> None:
    """An exposure of 1.5 of 10 at most; without the common lines, it is 9.6."""
    assert "OK" in analyze("security", "--offline=yes", "--threshold=15", "--no-pager", str(FOLDER / unit))


def test_all_services_have_the_same_limits() -> None:
    common = {(FOLDER / unit).read_text().partition(COMMON)[2].partition(INSTALL)[0] for unit in SERVICES}
    assert len(common) == 1


@pytest.mark.parametrize("unit", SERVICES)
def test_a_service_may_read_how_much_it_uses(unit: str) -> None:
    """Without /proc/stat, which ProcSubset=pid hides, there are no process_* metrics."""
    assert lines(unit)["ProcSubset"] in ([], ["all"])


@pytest.mark.parametrize("unit", SERVICES)
def test_every_variable_is_a_setting_with_a_valid_value(tmp_path: Path, unit: str) -> None:
    write_secrets(tmp_path / "secrets", "postgresql://db.example/wallet")
    settings_of(environment(unit, tmp_path / "secrets"))


def test_an_instance_has_time_to_drain_and_to_finish(tmp_path: Path) -> None:
    write_secrets(tmp_path / "secrets", "postgresql://db.example/wallet")
    [seconds] = lines("wallet.service")["TimeoutStopSec"]
    assert_time_to_stop(settings_of(environment("wallet.service", tmp_path / "secrets")), float(seconds))


def test_an_instance_may_open_files_for_all_its_clients(tmp_path: Path) -> None:
    write_secrets(tmp_path / "secrets", "postgresql://db.example/wallet")
    configuration = settings_of(environment("wallet.service", tmp_path / "secrets"))
    [files] = lines("wallet.service")["LimitNOFILE"]
    assert int(files) > 2 * configuration.connections + 100


def test_one_service_migrates_one_serves_and_one_checks(primary: Postgres, secrets: Path) -> None:
    migrate, serve, check = "wallet-migrate.service", "wallet.service", "wallet-check.service"
    assert_it_migrates(primary, words(migrate), environment(migrate, secrets))
    assert words(serve) == ["serve"]  # the same as no argument
    assert_it_serves(primary, environment(serve, secrets), "/readyz")
    assert_it_checks(words(check), environment(check, secrets))
