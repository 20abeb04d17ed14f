"""docs/errors.md: all refusals, from db/functions/_refuse.sql and wallet_api/http/refusals.toml."""

import re

from tools import rules
from wallet_api.http import refusals
from wallet_api.http.refusals import Refusal

_PLACEHOLDER = re.compile(r"\{.*?\}")

_HEAD = """# Errors

Every refusal has a code, which never changes. Over HTTP, the code is in the header `Error-Code`; in the results of a
batch, it is in `Code`; in psql, it is the SQLSTATE (`\\set VERBOSITY verbose`). `Error-Field`, or `Field` in a batch,
names the field or parameter that caused the refusal, if a single one did. The body is `{"Error":"…"}`. With
`Accept: application/problem+json`, it is an RFC 9457 problem with the members `code` and `field`.

After a 503 that says "nothing was done", repeat the request as it is. After a 5xx that says "look whether …", repeat it
only with its idempotency key.

`make generate` writes this file from `db/functions/_refuse.sql` and `wallet_api/http/refusals.toml`.

"""


def registry() -> list[Refusal]:
    """All refusals, by code."""
    return sorted({*refusals.OWN.values(), *refusals.BY_STATE.values(), *rules.refusals().values()})


def example(refusal: Refusal) -> str:
    """A refusal's sentence, with … for its placeholders."""
    return _PLACEHOLDER.sub("…", refusal.sentence)


def document() -> str:
    """The text of docs/errors.md: all refusals by code, with cause and cure."""
    rows = [("code", "status", "Error", "cause", "cure"), ("---",) * 5]
    rows += [(f"`{found.code}`", str(found.status), example(found), found.cause, found.cure) for found in registry()]
    return _HEAD + "".join(f"| {' | '.join(row)} |\n" for row in rows)
