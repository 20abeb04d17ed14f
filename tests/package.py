"""Tries the package that `make package` has built: `python -m tests.package`.

Installs the only wheel in dist/, with the locked dependencies, into an empty environment, and uses the command `wallet`
in an empty folder, where the source tree cannot be found.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import urllib.request
import venv
from pathlib import Path

from wallet_api import __version__
from wallet_api.settings import PROJECT


def installed(environment: Path) -> Path:
    """The command `wallet` of a new environment."""
    venv.create(environment, with_pip=True)
    [wheel] = (PROJECT / "dist").glob("*.whl")
    assert wheel.name == f"wallet-{__version__}-py3-none-any.whl"
    pip = [str(environment / "bin/python"), "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    subprocess.run([*pip, "--require-hashes", "-r", str(PROJECT / "requirements-embedded.lock")], check=True)
    subprocess.run([*pip, "--no-deps", str(wheel)], check=True)
    return environment / "bin/wallet"


def run(wallet: Path, folder: Path, *arguments: str) -> str:
    """What a command prints on stdout."""
    print("$ wallet", *arguments, flush=True)
    printed = subprocess.run([wallet, *arguments], cwd=folder, stdout=subprocess.PIPE, text=True, check=True).stdout
    print(printed, end="", flush=True)
    return printed


def post(url: str, body: object) -> dict[str, object]:
    """The answer to a POST over HTTP."""
    with urllib.request.urlopen(url, json.dumps(body).encode()) as response:
        answer: dict[str, object] = json.load(response)
        return answer


def pay(wallet: Path, folder: Path) -> None:
    """Serves with two workers, and makes a payment."""
    environment = os.environ | {"PORT": "0", "WEB_CONCURRENCY": "2"}
    with subprocess.Popen([str(wallet)], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        for line in server.stdout:
            print(line, end="", flush=True)
            if match := re.search(r"Serving on (http://[\w.:]+)", line):
                break
        else:
            raise AssertionError("the service does not start")
        for name, amount in (("buyer", 10), ("seller", 0)):
            post(f"{match[1]}/accounts", {"Name": name, "Amount": amount, "CurrencyID": 1})
        payment = post(f"{match[1]}/payments", {"BuyerAccountID": 1, "SellerAccountID": 2, "Amount": "2.5"})
        assert payment["Amount"] == "2.5", payment
        for path in ("/console", "/console/main.js"):
            with urllib.request.urlopen(match[1] + path) as file:
                assert file.read(), path
        server.send_signal(signal.SIGTERM)
        server.stdout.read()
    assert server.returncode == 0


def main() -> int:
    """Raises AssertionError or CalledProcessError if something does not work."""
    # The embedded PostgreSQL may still be stopping when the last command has ended.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        wallet, folder = installed(Path(temporary) / "environment"), Path(temporary) / "empty"
        folder.mkdir()
        assert run(wallet, folder, "--version") == f"wallet {__version__}\n"
        run(wallet, folder, "migrate")
        pay(wallet, folder)
        assert (folder / ".wallet").is_dir(), "the data is in the folder from which the command was started"
        query = ("-X", "-At", "-c", "select amount from wallet.get_account(2)")
        assert run(wallet, folder, "psql", *query) == "2.5\n"
        assert "shop" not in run(wallet, folder, "key", "list")
        assert run(wallet, folder, "key", "create", "shop", "--scopes", "read,pay").startswith("wallet_")
        assert "shop" in run(wallet, folder, "key", "list")
        run(wallet, folder, "check")
    return 0


if __name__ == "__main__":
    sys.exit(main())
