"""The refusals of the HTTP layer: code, status, sentence, cause and cure of each.

The refusals of the rulebook are in db/functions/_refuse.sql. Error-Code carries the code of either kind, and
docs/errors.md lists both. The first two characters of a code are its class: WH is a malformed request, WU is a
temporarily unavailable service. The rulebook's classes WA (API keys) and WF (forbidden) are also used here.
"""

import functools
import re
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


_NOTHING_DONE = "nothing was done, try again"
_LOOK = "look whether the request took effect before you repeat it, or repeat it with its Idempotency-Key"
_REPEAT = "Repeat the request after the seconds in Retry-After."
_REPEAT_BY_KEY = "Repeat the request with its idempotency key. Without a key, check its effect first."
_FIX_JSON = "Send one JSON object in UTF-8."

# The request as a whole.
NOT_HTTP = Refusal(
    "WH001",
    400,
    "The request is not valid HTTP",
    "The bytes on the connection are not an HTTP/1.1 request.",
    "Use an HTTP client library.",
)
NOT_FOUND = Refusal("WH002", 404, "Not found", "The path does not exist.", "/docs lists all paths.")
METHOD_NOT_ALLOWED = Refusal(
    "WH003",
    405,
    "Method not allowed",
    "The path exists, but does not support this method.",
    "Use a method from the header Allow.",
)
NO_PROXY = Refusal(
    "WH004",
    400,
    "The service is no proxy",
    "The method CONNECT is for proxies.",
    "Send the request to the service itself.",
)
HEAD_TOO_LARGE = Refusal(
    "WH005",
    431,
    "The head of the request should have at most {limit} bytes",
    "The URL and the headers are too long.",
    "Send fewer or shorter headers and parameters.",
)

# The body.
BODY_TOO_LARGE = Refusal(
    "WH011",
    413,
    "The body should have at most {limit} bytes",
    "The body is larger than the operation allows.",
    "Send less data per request.",
)
BODY_LATE = Refusal(
    "WH012",
    408,
    "The body did not arrive within {seconds:g} seconds",
    "The client or the network stalled.",
    "Repeat the request, and send the body without pauses.",
)
BODY_CUT = Refusal(
    "WH013",
    400,
    "The body ended early",
    "The client closed the connection before the body was complete.",
    "Repeat the request.",
)
BODY_EMPTY = Refusal(
    "WH014", 400, "The body is empty; it should be a JSON object", "The operation has required fields.", _FIX_JSON
)
BODY_NOT_UTF8 = Refusal(
    "WH015",
    400,
    "The body is not valid UTF-8: byte {byte}",
    "The byte at this position, counted from 0, is not valid UTF-8.",
    _FIX_JSON,
)
BODY_NOT_JSON = Refusal(
    "WH016", 400, "The body is not valid JSON: {reason}", "Parsing failed at the given position.", _FIX_JSON
)
BODY_TOO_DEEP = Refusal(
    "WH017", 400, "The body is nested too deeply", "Arrays or objects are nested beyond the parser's limit.", _FIX_JSON
)
BODY_NOT_OBJECT = Refusal(
    "WH018", 400, "The body should be a JSON object", "The body is JSON, but not an object.", _FIX_JSON
)

# Fields and parameters.
UNKNOWN_FIELD = Refusal(
    "WH021",
    400,
    "Unknown field {name}. Known fields: {known}",
    "The operation does not have this field. The name may be misspelt.",
    "Correct or remove the field.",
)
UNKNOWN_PARAMETER = Refusal(
    "WH022",
    400,
    "Unknown query parameter {name}. Known parameters: {known}",
    "The operation does not have this query parameter. The name may be misspelt.",
    "Correct or remove the parameter.",
)
QUERY_NOT_UTF8 = Refusal(
    "WH023",
    400,
    "The query of the URL should be valid UTF-8",
    "The percent-encoded bytes are not valid UTF-8.",
    "Encode the parameters as UTF-8.",
)
NOT_AN_INTEGER = Refusal(
    "WH031",
    400,
    "{field} should be a 64-bit integer",
    "The value is not an integer, or is out of range.",
    "Send an integer without quotes.",
)
NOT_A_STRING = Refusal("WH032", 400, "{field} should be a string", "The value is of another type.", "Send a string.")
HAS_NUL = Refusal(
    "WH033",
    400,
    "{field} should not contain a NUL character",
    "PostgreSQL cannot store this character.",
    "Remove the character.",
)
HAS_HALF_SURROGATE = Refusal(
    "WH034",
    400,
    "{field} should not contain half of a surrogate pair",
    "The string is cut within a character.",
    "Send complete characters.",
)
NOT_A_BOOLEAN = Refusal(
    "WH035", 400, "{field} should be true or false", "The value is neither.", "Send true or false without quotes."
)
NOT_A_MOMENT = Refusal(
    "WH036",
    400,
    "{field} should be a moment as 2019-06-13T03:21:29Z or 2019-06-13T05:21:29.933672+02:00",
    "The value is not an RFC 3339 timestamp with an offset, or the day does not exist.",
    "Send a date, time and offset. In a URL, encode + as %2B.",
)
NOT_AN_ARRAY = Refusal("WH037", 400, "{field} should be an array", "The value is of another type.", "Send an array.")
TOO_MANY_ELEMENTS = Refusal(
    "WH038", 400, "{field} should have at most {limit} elements", "The array is too long.", "Send several requests."
)
NOT_A_PAYMENT = Refusal(
    "WH039",
    400,
    "A payment should be a JSON object",
    "An element of Payments is not an object.",
    "Send an object for each payment.",
)

# Idempotency keys.
KEY_TWICE = Refusal(
    "WH041",
    400,
    "Idempotency-Key should be given once",
    "The request has the header more than once.",
    "Send the header once.",
)
KEY_NOT_UTF8 = Refusal(
    "WH042", 400, "Idempotency-Key should be valid UTF-8", "The header is not valid UTF-8.", "Send ASCII or UTF-8."
)
KEYS_DIFFER = Refusal(
    "WH043",
    400,
    "Idempotency-Key and IdempotencyKey should be the same",
    "The header and the field have different keys.",
    "Send only one of the two.",
)
KEY_MISNAMED = Refusal(
    "WH044",
    400,
    "Unknown header {field}; the idempotency key is in Idempotency-Key",
    "The header looks like a misspelt Idempotency-Key. Without a key, the request is not safe to repeat.",
    "Send the key in the header Idempotency-Key.",
)

# API keys.
NO_API_KEY = Refusal(
    "WA002",
    401,
    "Authorization should be given once, as Bearer and an API key",
    "The service requires an API key. The header is missing, malformed or repeated.",
    "Send the header Authorization: Bearer with the secret of a key.",
)

# Web pages.
FOREIGN_PAGE = Refusal(
    "WF003",
    403,
    "The request comes from a foreign web page",
    "API keys are not required, and Sec-Fetch-Site or Origin shows that a page of another site sent the request.",
    "Require API keys (WALLET_AUTH=required), and allow the page's origin (WALLET_CORS_ORIGINS).",
)
FOREIGN_HOST = Refusal(
    "WF004",
    403,
    "The Host of the request is no name of this service",
    "API keys are not required, and the request uses a host name that is not configured.",
    "Use localhost, or add the host to WALLET_HOSTS.",
)
NOT_ALLOWED_BY_CORS = Refusal(
    "WH006",
    400,
    "The origin, the method or a header is not allowed",
    "A browser's preflight request failed: the page may not send this request.",
    "Add the page's origin to WALLET_CORS_ORIGINS.",
)

# The service is temporarily unavailable.
NO_CONNECTION = Refusal(
    "WU001",
    503,
    f"The database is out of reach or too busy at the moment; {_NOTHING_DONE}",
    "No connection to the database became free in time.",
    _REPEAT,
)
TOO_BUSY = Refusal(
    "WU002",
    503,
    f"Too many requests are waiting; {_NOTHING_DONE}",
    "The queue for the database is full.",
    f"{_REPEAT} If this persists, run more instances.",
)
TOO_MANY_CLIENTS = Refusal(
    "WU003",
    503,
    f"Too many clients are connected; {_NOTHING_DONE}",
    "More clients are connected than WALLET_CONNECTIONS allows.",
    f"{_REPEAT} If this persists, run more instances.",
)
STOPPING = Refusal(
    "WU004",
    503,
    "The instance is about to stop",
    "/readyz only: the instance received SIGTERM.",
    "Send requests to another instance.",
)
NO_DATABASE = Refusal(
    "WU005",
    503,
    "The database does not answer, or there is no wallet in it",
    "/readyz only: the database is unreachable or not migrated.",
    "Check DATABASE_URL and the log. Run server.py migrate.",
)
READ_ONLY = Refusal(
    "WU006",
    503,
    "The database accepts no changes at the moment",
    "/readyz only: the server is a standby or read-only.",
    "Wait for the failover to end, or connect to the primary.",
)
OTHER_VERSION = Refusal(
    "WU007",
    503,
    "The database is not at this version of the wallet",
    "/readyz only: another version migrated the database.",
    "Replace the instance, or run server.py migrate.",
)
POOL_EMPTY = Refusal(
    "WU008",
    503,
    "A pool of this instance has no connection to the database",
    "/readyz only: the database refuses connections, because max_connections or a role's limit is reached.",
    "Raise the limit, or run fewer instances. docs/operations.md gives the number of connections of an instance.",
)
POOLER_CHANGED = Refusal(
    "WU009",
    503,
    "The pooler in front of the database has changed its mode",
    "/readyz only: the pooler now shares sessions between transactions. The instance reconnects.",
    "Wait some seconds.",
)
UNKNOWN_OUTCOME = Refusal(
    "WU010",
    503,
    f"The database did not answer before the connection to it was lost or given up; {_LOOK}",
    "The connection broke after the call was sent to the database. The call may or may not have taken effect.",
    _REPEAT_BY_KEY,
)
BALANCER_REQUEST_LATE = Refusal(
    "WU021", 408, "The request did not arrive in time", "HAProxy timed out waiting for the request.", "Repeat it."
)
BALANCER_LOST = Refusal(
    "WU022",
    502,
    f"The instance was lost before it answered; {_LOOK}",
    "HAProxy lost its connection to the instance. The request may or may not have taken effect.",
    _REPEAT_BY_KEY,
)
BALANCER_NO_INSTANCE = Refusal(
    "WU023", 503, f"No instance can answer at the moment; {_NOTHING_DONE}", "HAProxy has no ready instance.", _REPEAT
)
BALANCER_TIMEOUT = Refusal(
    "WU024",
    504,
    f"The instance did not answer in time; {_LOOK}",
    "HAProxy timed out waiting for the instance. The request may or may not have taken effect.",
    _REPEAT_BY_KEY,
)
INTERNAL = Refusal(
    "XX000",
    500,
    "Internal error",
    "A fault in the service. The log has the details under the request's ID.",
    "Check the log and report the fault. Repeat the request only with its idempotency key.",
)

# PostgreSQL's own SQLSTATEs. The call was rolled back, and may succeed when it is repeated.
_MIGRATED = "The database and this instance have different versions: a migration is running or has just ended."
BY_STATE = {
    state: Refusal(state, 503, f"{sentence}; {_NOTHING_DONE}", cause, cure)
    for state, sentence, cause, cure in (
        (
            "40001",
            "The accounts changed at the same time",
            "Another transaction changed the same rows first.",
            _REPEAT,
        ),
        (
            "40P01",
            "The accounts were locked crosswise",
            "A deadlock: a transaction with several calls, for example in psql, locks accounts in another order.",
            _REPEAT,
        ),
        (
            "55P03",
            "An account is locked by somebody else for too long",
            "Another transaction holds the lock of the account for longer than WALLET_LOCK_TIMEOUT.",
            f"{_REPEAT} docs/operations.md shows how to find the transaction.",
        ),
        (
            "57014",
            "The database took too long",
            "The call took longer than WALLET_STATEMENT_TIMEOUT, or was cancelled.",
            _REPEAT,
        ),
        (
            "25006",
            "The database accepts no changes at the moment",
            "The server is a standby or read-only.",
            _REPEAT,
        ),
        (
            "26000",
            "The connection to the database has changed",
            "A pooler in front of the database switched the connection to another session.",
            _REPEAT,
        ),
        ("3F000", "The database is not at this version of the wallet yet", _MIGRATED, _REPEAT),
        ("0A000", "The database changes to another version of the wallet", _MIGRATED, _REPEAT),
        ("42703", "The database is not at this version of the wallet yet", _MIGRATED, _REPEAT),
        ("42883", "The database is not at this version of the wallet yet", _MIGRATED, _REPEAT),
        (
            "53000",
            "The database has no resources left at the moment",
            "PostgreSQL is out of memory, disk space or connections. This code stands for its whole class 53.",
            f"{_REPEAT} Check PostgreSQL's log.",
        ),
    )
}


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
    own = [found for found in globals().values() if isinstance(found, Refusal)]
    return sorted({*own, *BY_STATE.values(), *of_rulebook().values()})


_DOCUMENT = """# Errors

Every refusal has a code, which never changes. Over HTTP, the code is in the header `Error-Code`; in the results of a
batch, it is in `Code`; in psql, it is the SQLSTATE (`\\set VERBOSITY verbose`). `Error-Field`, or `Field` in a batch,
names the field or parameter that caused the refusal, if a single one did. The body is `{"Error":"…"}`. With
`Accept: application/problem+json`, it is an RFC 9457 problem with the members `code` and `field`.

After a 503 that says "nothing was done", repeat the request as it is. After a 5xx that says "look whether …", repeat it
only with its idempotency key.

`make errors` generates this file from `db/functions/_refuse.sql` and `wallet_api/http/refusals.py`.

"""


def document() -> str:
    """docs/errors.md: all refusals by code, with cause and cure."""
    rows = [("code", "status", "Error", "cause", "cure"), ("---",) * 5]
    rows += [(f"`{found.code}`", str(found.status), found.example, found.cause, found.cure) for found in registry()]
    return _DOCUMENT + "".join(f"| {' | '.join(row)} |\n" for row in rows)


if __name__ == "__main__":
    print(document(), end="")
