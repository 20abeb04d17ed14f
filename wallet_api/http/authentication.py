"""Finds the API key of a request. The functions check on every call what the key may do."""

import asyncio
import hashlib
from typing import NamedTuple

import psycopg
from psycopg.types.numeric import Int8
from starlette.types import Scope

from wallet_api.database.pool import ConnectionLost, Database
from wallet_api.http import errors, refusals
from wallet_api.http.refusals import Refused

_AUTHENTICATE = "select id, name from wallet.authenticate(p_secret_hash => %s)"
# The scope key of the ID of a request's API key, which is passed to functions. Missing or None if there is no API key.
KEY_ID = "wallet.key_id"
# With these, users log in to a proxy in front: they are no API keys.
_OTHER_SCHEMES = (b"basic", b"digest", b"negotiate")
# Seconds for which a key is cached. In the second half of them, a use looks the key up again, which records its last
# use. The functions notice a key that was revoked or has expired meanwhile.
_REMEMBERED = 60.0


class Key(NamedTuple):
    """A valid API key, or none."""

    id: Int8 | None
    name: str


_NO_KEY = Key(None, "")


class Keys:
    """Finds the API keys of requests. `required`: operations that call a function need one.

    If none is required, a key that is sent is checked all the same: so a test without WALLET_AUTH=required shows that a
    client sends the right one.
    """

    def __init__(self, database: Database, *, required: bool) -> None:
        self._database = database
        self.required = required
        # by the hash of the secret; with the event loop time at which the entry expires
        self._known: dict[bytes, tuple[Key, float]] = {}
        self._looking: dict[bytes, asyncio.Task[Key]] = {}

    async def identify(self, scope: Scope) -> Key:
        """The key of a request; if it sends none and none is required, one without an ID.

        Raises a 401, or the error of the look-up.
        """
        values = [value for name, value in scope["headers"] if name == b"authorization"]
        if not self.required and all(_scheme(value) in _OTHER_SCHEMES for value in values):
            return _NO_KEY
        secret_hash = _secret_hash(values)
        known, until = self._known.get(secret_hash, (None, 0.0))
        left = until - asyncio.get_running_loop().time()
        if known is not None and left > 0:
            if left < _REMEMBERED / 2 and secret_hash not in self._looking:
                self._look_up(secret_hash)  # early: later, it might queue behind many invalid keys
            return known
        try:
            # shielded: if this request is cancelled, others may still be waiting for the same look-up
            return await asyncio.shield(self._looking.get(secret_hash) or self._look_up(secret_hash))
        except (psycopg.Error, ConnectionLost) as error:
            if known is None or errors.is_refusal(error):
                self._known.pop(secret_hash, None)
                raise
            return known

    def _look_up(self, secret_hash: bytes) -> asyncio.Task[Key]:
        async def look_up() -> Key:
            try:
                [(id_, name)] = (await self._database.call(_AUTHENTICATE, [secret_hash])).values
                key = Key(Int8(int(id_)), name)
                self._known[secret_hash] = (key, asyncio.get_running_loop().time() + _REMEMBERED)
                return key
            finally:
                del self._looking[secret_hash]

        task = self._looking[secret_hash] = asyncio.create_task(look_up())
        task.add_done_callback(lambda done: done.cancelled() or done.exception())  # marks the exception as retrieved
        return task


def _scheme(value: bytes) -> bytes:
    return value.partition(b" ")[0].lower()


def _secret_hash(values: list[bytes]) -> bytes:
    """SHA-256 of the secret in the only Authorization header. The secret itself goes no further."""
    secret = values[0].partition(b" ")[2].strip() if len(values) == 1 else b""
    if not secret or _scheme(values[0]) != b"bearer":
        raise Refused(refusals.NO_API_KEY)
    return hashlib.sha256(secret).digest()
