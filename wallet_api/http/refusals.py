"""The refusals of the HTTP layer: code, status, sentence, cause and cure of each.

The refusals of the rulebook are in db/functions/_refuse.sql. Error-Code carries the code of either kind, and
docs/errors.md lists both. The first two characters of a code are its class. WH: the request is not valid HTTP or does
not fit an operation. WU: the service is temporarily unavailable. The rulebook's classes WA (API keys) and WF
(forbidden) are also used here.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

# The status of each class of the rulebook.
STATUS = {"WA": 401, "WB": 400, "WC": 409, "WF": 403, "WK": 422, "WN": 404}


class Refusal(NamedTuple):
    """A refusal. Its sentence is a template for `str.format`."""

    code: str
    status: int
    sentence: str
    cause: str
    cure: str


@dataclass(frozen=True, slots=True)
class Error:
    """The error response to a request.

    `field` is the cause. `index` is the position of the payment in its batch, from 0. `replayed` means that the error
    repeats an earlier response under the same idempotency key.
    """

    status: int
    code: str
    sentence: str
    field: str = ""
    index: int | None = None
    replayed: bool = False


class Refused(Exception):
    """Raised to refuse a request. `field` is the field that caused it; `details` fill in the sentence."""

    def __init__(
        self, refusal: Refusal, field: str = "", headers: dict[str, str] | None = None, **details: object
    ) -> None:
        sentence = refusal.sentence.format(field=field, **details)
        self.error = Error(refusal.status, refusal.code, sentence, field)
        self.headers = headers
        super().__init__(sentence)


# PostgreSQL's own SQLSTATEs, by state; the others, by name. Each name is an attribute of this module, too.
_FILE = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())
BY_STATE = {state: Refusal(**about) for state, about in _FILE.pop("BY_STATE").items()}
OWN = {name: Refusal(**about) for name, about in _FILE.items()}
globals().update(OWN)

if TYPE_CHECKING:

    def __getattr__(name: str) -> Refusal: ...
