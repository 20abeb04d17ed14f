"""The client's connection, as a request finds it in its scope."""

from typing import Protocol

# The key of the connection in a request's scope.
CLIENT = "wallet.client"


class Client(Protocol):
    """A client's connection: wallet_api.serving.protocol."""

    def is_late(self) -> bool:
        """Whether more clients are connected than the process serves, and this one is not among the first."""

    def is_gone(self) -> bool:
        """Whether nothing more can be sent to this client."""

    def is_sending(self) -> bool:
        """Whether the body of the last request is still incomplete."""

    def come_back_later(self) -> int:
        """Stops reading from this client after the current answer. Returns for how many seconds, for Retry-After."""

    def cut_off(self) -> None:
        """Resets the connection, which drops unsent data too."""
