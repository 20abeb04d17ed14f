"""Runs a command of the wallet from its source tree: `python server.py`. The package installs the same as `wallet`."""

import sys

from wallet_api.command_line import main

if __name__ == "__main__":
    sys.exit(main())
