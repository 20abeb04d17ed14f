"""make clients: lints the OpenAPI document, and makes and uses the TypeScript client of docs/clients.md.

tests/clients/test_python_client.py does so with the Python client.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.clients import DOCUMENT, programs
from tests.support import open_account, serving
from wallet_api.database import embedded, migrations

_ENVIRONMENT = os.environ | {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}
# openapi-typescript begins each warning with it, and exits with 0 nevertheless.
_WARNING = "⚠"


def main(folder: Path) -> int:
    """`folder` has the files of tests/clients, and their tools. Returns the exit code: 1 if a tool fails or warns."""

    def run(*command: str) -> bool:
        print("$", *command, flush=True)
        done = subprocess.run(command, cwd=folder, env=_ENVIRONMENT, capture_output=True, text=True, check=False)
        print(done.stdout, done.stderr)
        return done.returncode == 0 and _WARNING not in done.stdout + done.stderr

    with tempfile.TemporaryDirectory() as data, embedded.running(Path(data) / "postgres", None) as conninfo:
        migrations.migrate(conninfo)
        with serving(DATABASE_URL=conninfo) as server, server.client() as api:
            accounts = [str(open_account(api, name, amount)) for name, amount in (("buyer", 10), ("seller", 0))]
            [client] = programs("typescript", server.url)
            (folder / "client.ts").write_text(client)
            good = (
                run("npx", "redocly", "lint", str(DOCUMENT))
                and run("npx", "openapi-typescript", str(DOCUMENT), "-o", "wallet.d.ts")
                and run("npx", "tsc")
                and run("node", "out/sample.js", *accounts)
            )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
