"""The refusals of the HTTP layer: code, status, sentence, cause and cure of each.

The refusals of the rulebook are in db/functions/_refuse.sql. Error-Code carries the code of either kind, and
docs/errors.md lists both. The first two characters of a code are its class: WH is a malformed request, WU is a
temporarily unavailable service. The rulebook's classes WA (API keys) and WF (forbidden) are also used here.
"""

import tomllib
from pathlib import Path
from typing import NamedTuple

# The status of each class of the rulebook.
STATUS = {"WA": 401, "WB": 400, "WC": 409, "WF": 403, "WK": 422, "WN": 404}


class Refusal(NamedTuple):
    """A refusal. Its sentence is a template for `str.format`."""

    code: str
    status: int
    sentence: str
    cause: str
    cure: str


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


# PostgreSQL's own SQLSTATEs, by state; the others, by the name of their constant below.
_FILE = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())
BY_STATE = {state: Refusal(**about) for state, about in _FILE.pop("BY_STATE").items()}
OWN = {name: Refusal(**about) for name, about in _FILE.items()}

NOT_HTTP = OWN["NOT_HTTP"]
NOT_FOUND = OWN["NOT_FOUND"]
METHOD_NOT_ALLOWED = OWN["METHOD_NOT_ALLOWED"]
NO_PROXY = OWN["NO_PROXY"]
HEAD_TOO_LARGE = OWN["HEAD_TOO_LARGE"]
BODY_TOO_LARGE = OWN["BODY_TOO_LARGE"]
BODY_LATE = OWN["BODY_LATE"]
BODY_CUT = OWN["BODY_CUT"]
BODY_EMPTY = OWN["BODY_EMPTY"]
BODY_NOT_UTF8 = OWN["BODY_NOT_UTF8"]
BODY_NOT_JSON = OWN["BODY_NOT_JSON"]
BODY_TOO_DEEP = OWN["BODY_TOO_DEEP"]
BODY_NOT_OBJECT = OWN["BODY_NOT_OBJECT"]
UNKNOWN_FIELD = OWN["UNKNOWN_FIELD"]
UNKNOWN_PARAMETER = OWN["UNKNOWN_PARAMETER"]
QUERY_NOT_UTF8 = OWN["QUERY_NOT_UTF8"]
NOT_AN_INTEGER = OWN["NOT_AN_INTEGER"]
NOT_A_STRING = OWN["NOT_A_STRING"]
HAS_NUL = OWN["HAS_NUL"]
HAS_HALF_SURROGATE = OWN["HAS_HALF_SURROGATE"]
NOT_A_BOOLEAN = OWN["NOT_A_BOOLEAN"]
NOT_A_MOMENT = OWN["NOT_A_MOMENT"]
NOT_AN_ARRAY = OWN["NOT_AN_ARRAY"]
TOO_MANY_ELEMENTS = OWN["TOO_MANY_ELEMENTS"]
NOT_A_PAYMENT = OWN["NOT_A_PAYMENT"]
KEY_TWICE = OWN["KEY_TWICE"]
KEY_NOT_UTF8 = OWN["KEY_NOT_UTF8"]
KEYS_DIFFER = OWN["KEYS_DIFFER"]
KEY_MISNAMED = OWN["KEY_MISNAMED"]
NO_API_KEY = OWN["NO_API_KEY"]
FOREIGN_PAGE = OWN["FOREIGN_PAGE"]
FOREIGN_HOST = OWN["FOREIGN_HOST"]
NOT_ALLOWED_BY_CORS = OWN["NOT_ALLOWED_BY_CORS"]
NO_CONNECTION = OWN["NO_CONNECTION"]
TOO_BUSY = OWN["TOO_BUSY"]
TOO_MANY_CLIENTS = OWN["TOO_MANY_CLIENTS"]
STOPPING = OWN["STOPPING"]
NO_DATABASE = OWN["NO_DATABASE"]
READ_ONLY = OWN["READ_ONLY"]
OTHER_VERSION = OWN["OTHER_VERSION"]
POOL_EMPTY = OWN["POOL_EMPTY"]
POOLER_CHANGED = OWN["POOLER_CHANGED"]
UNKNOWN_OUTCOME = OWN["UNKNOWN_OUTCOME"]
INTERNAL = OWN["INTERNAL"]
