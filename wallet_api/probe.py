"""Asks the service on HOST and PORT whether it is alive or ready: `python -m wallet_api.probe /readyz`.

For health checks in its container. Prints the answer; the exit code is 0 if its status is 200. Imports next to nothing,
because it starts every few seconds.
"""

import os
import socket
import sys

# Seconds to connect, and then between two parts of the answer. /readyz takes 2 seconds if there is no database; the
# health checks of docker compose end after 3.
_PATIENCE = 2.7


def main() -> int:
    """Asks for the path that is the argument, at the address that the service listens on."""
    [path] = sys.argv[1:]
    # A connection to 0.0.0.0 or :: reaches this machine.
    address = (os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "8080")))
    try:
        with socket.create_connection(address, _PATIENCE) as connection:
            # Whatever WALLET_HOSTS is, it accepts localhost.
            connection.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
            with connection.makefile("rb") as stream:
                head, _, body = stream.read().partition(b"\r\n\r\n")
    except OSError as error:
        print(f"No answer from HOST {address[0]}, PORT {address[1]}: {error}")
        return 1
    print(body.decode())
    return 0 if head.split()[1:2] == [b"200"] else 1


if __name__ == "__main__":
    sys.exit(main())
