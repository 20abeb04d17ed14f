"""The commands that check and print the ledger, manage API keys, and open psql."""

import contextlib
from collections.abc import Collection, Iterator, Sequence

import psycopg

from wallet_api.database.installer import NO_WALLET
from wallet_api.http import errors


class CommandRefused(Exception):
    """The database refuses the command. The text gives the reason."""


@contextlib.contextmanager
def wallet(conninfo: str) -> Iterator[psycopg.Connection]:
    """Yields a connection, and commits at the end.

    Raises CommandRefused if there is no wallet or one of its rules refuses, and psycopg.Error for other errors.
    """
    with psycopg.connect(conninfo, client_encoding="utf8") as connection:
        try:
            yield connection
        except psycopg.errors.InsufficientPrivilege as error:
            user, reason = connection.info.user, error.diag.message_primary
            raise CommandRefused(f"{user} may not do this: {reason} (docs/configuration.md has the users)") from None
        except NO_WALLET as error:
            raise CommandRefused(
                f"there is no wallet of this version: run migrate first ({error.diag.message_primary})"
            ) from None
        except psycopg.Error as error:
            if errors.is_refusal(error):
                raise CommandRefused(error.diag.message_primary) from None
            raise


def table(rows: Sequence[Sequence[str]], numbers: Collection[int] = ()) -> list[str]:
    """Rows of cells as lines with aligned columns. `numbers` are the columns that align right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            f"{cell:>{width}}" if column in numbers else f"{cell:<{width}}"
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
