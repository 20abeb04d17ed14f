"""The refusals of the HTTP layer: code, status, sentence, cause and cure of each.

The refusals of the rulebook are in db/functions/_refuse.sql. Error-Code carries the code of either kind, and
docs/errors.md lists both. The first two characters of a code are its class: WH is a malformed request, WU is a
temporarily unavailable service. The rulebook's classes WA (API keys) and WF (forbidden) are also used here.
"""

import functools
import re
import tomllib
from pathlib import Path
from typing import NamedTuple

from wallet_api.http import rules

# The status of each class of the rulebook.
STATUS = {"WA": 401, "WB": 400, "WC": 409, "WF": 403, "WK": 422, "WN": 404}

_PLACE = re.compile(r"\{.*?\}")


class Refusal(NamedTuple):
    """A refusal. Its sentence is a template for `str.format`."""

    code: str
    status: int
    sentence: str
    cause: str
    cure: str

    @property
    def example(self) -> str:
        """The sentence for documents, with … for its placeholders."""
        return _PLACE.sub("…", self.sentence)


class Refused(Exception):
    """Raised to refuse a request. `field` is the field that caused it; `details` fill in the sentence."""

    def __init__(
        self, refusal: Refusal, field: str = "", headers: dict[str, str] | None = None, **details: object
    ) -> None:
        self.refusal = refusal
        self.field = field
        self.headers = headers
        self.sentence = refusal.sentence.format(field=field, **details)
        super().__init__(self.sentence)


# PostgreSQL's own SQLSTATEs by state; the others by the name of their constant below.
_FILE = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())
BY_STATE = {state: Refusal(**about) for state, about in _FILE.pop("BY_STATE").items()}
_OWN = {name: Refusal(**about) for name, about in _FILE.items()}

NOT_HTTP = _OWN["NOT_HTTP"]
NOT_FOUND = _OWN["NOT_FOUND"]
METHOD_NOT_ALLOWED = _OWN["METHOD_NOT_ALLOWED"]
NO_PROXY = _OWN["NO_PROXY"]
HEAD_TOO_LARGE = _OWN["HEAD_TOO_LARGE"]
BODY_TOO_LARGE = _OWN["BODY_TOO_LARGE"]
BODY_LATE = _OWN["BODY_LATE"]
BODY_CUT = _OWN["BODY_CUT"]
BODY_EMPTY = _OWN["BODY_EMPTY"]
BODY_NOT_UTF8 = _OWN["BODY_NOT_UTF8"]
BODY_NOT_JSON = _OWN["BODY_NOT_JSON"]
BODY_TOO_DEEP = _OWN["BODY_TOO_DEEP"]
BODY_NOT_OBJECT = _OWN["BODY_NOT_OBJECT"]
UNKNOWN_FIELD = _OWN["UNKNOWN_FIELD"]
UNKNOWN_PARAMETER = _OWN["UNKNOWN_PARAMETER"]
QUERY_NOT_UTF8 = _OWN["QUERY_NOT_UTF8"]
NOT_AN_INTEGER = _OWN["NOT_AN_INTEGER"]
NOT_A_STRING = _OWN["NOT_A_STRING"]
HAS_NUL = _OWN["HAS_NUL"]
HAS_HALF_SURROGATE = _OWN["HAS_HALF_SURROGATE"]
NOT_A_BOOLEAN = _OWN["NOT_A_BOOLEAN"]
NOT_A_MOMENT = _OWN["NOT_A_MOMENT"]
NOT_AN_ARRAY = _OWN["NOT_AN_ARRAY"]
TOO_MANY_ELEMENTS = _OWN["TOO_MANY_ELEMENTS"]
NOT_A_PAYMENT = _OWN["NOT_A_PAYMENT"]
KEY_TWICE = _OWN["KEY_TWICE"]
KEY_NOT_UTF8 = _OWN["KEY_NOT_UTF8"]
KEYS_DIFFER = _OWN["KEYS_DIFFER"]
KEY_MISNAMED = _OWN["KEY_MISNAMED"]
NO_API_KEY = _OWN["NO_API_KEY"]
FOREIGN_PAGE = _OWN["FOREIGN_PAGE"]
FOREIGN_HOST = _OWN["FOREIGN_HOST"]
NOT_ALLOWED_BY_CORS = _OWN["NOT_ALLOWED_BY_CORS"]
NO_CONNECTION = _OWN["NO_CONNECTION"]
TOO_BUSY = _OWN["TOO_BUSY"]
TOO_MANY_CLIENTS = _OWN["TOO_MANY_CLIENTS"]
STOPPING = _OWN["STOPPING"]
NO_DATABASE = _OWN["NO_DATABASE"]
READ_ONLY = _OWN["READ_ONLY"]
OTHER_VERSION = _OWN["OTHER_VERSION"]
POOL_EMPTY = _OWN["POOL_EMPTY"]
POOLER_CHANGED = _OWN["POOLER_CHANGED"]
UNKNOWN_OUTCOME = _OWN["UNKNOWN_OUTCOME"]
INTERNAL = _OWN["INTERNAL"]


@functools.cache
def of_rulebook() -> dict[str, Refusal]:
    """The refusals of the wallet's rules, by code."""
    return {
        code: Refusal(code, STATUS[code[:2]], about["message"], about["cause"], about["cure"])
        for code, about in rules.registry().items()
        if code[:2] in STATUS
    }


def registry() -> list[Refusal]:
    """All refusals, by code."""
    return sorted({*_OWN.values(), *BY_STATE.values(), *of_rulebook().values()})


_DOCUMENT = """# Errors

Every refusal has a code, which never changes. Over HTTP, the code is in the header `Error-Code`; in the results of a
batch, it is in `Code`; in psql, it is the SQLSTATE (`\\set VERBOSITY verbose`). `Error-Field`, or `Field` in a batch,
names the field or parameter that caused the refusal, if a single one did. The body is `{"Error":"…"}`. With
`Accept: application/problem+json`, it is an RFC 9457 problem with the members `code` and `field`.

After a 503 that says "nothing was done", repeat the request as it is. After a 5xx that says "look whether …", repeat it
only with its idempotency key.

`make errors` generates this file from `db/functions/_refuse.sql` and `wallet_api/http/refusals.toml`.

"""


def document() -> str:
    """docs/errors.md: all refusals by code, with cause and cure."""
    rows = [("code", "status", "Error", "cause", "cure"), ("---",) * 5]
    rows += [(f"`{found.code}`", str(found.status), found.example, found.cause, found.cure) for found in registry()]
    return _DOCUMENT + "".join(f"| {' | '.join(row)} |\n" for row in rows)


if __name__ == "__main__":
    print(document(), end="")
