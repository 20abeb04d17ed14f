"""Which API key a request comes with. What the key may do, the functions decide, each time that they are called."""

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
# For so many seconds it is remembered whose a secret is; in the second half of them it is looked up again, so that its
# last use is noted. That a key was revoked meanwhile, or has expired, the functions see.
_REMEMBERED = 60.0


class Key(NamedTuple):
    """An API key that there is."""

    id: Int8
    name: str


class Keys:
    """Finds the keys of requests, which they have to have if that is `required`."""

    def __init__(self, database: Database, *, required: bool) -> None:
        self._database = database
        self.required = required
        # by the hashes of the secrets, with the time of the event loop until which each is remembered
        self._known: dict[bytes, tuple[Key, float]] = {}
        self._looking: dict[bytes, asyncio.Task[Key]] = {}

    async def identify(self, scope: Scope) -> None:
        """Puts a request's key into its scope, as `wallet.key`. Raises a 401, or what the look-up raises."""
        scope["wallet.key"] = await self._find(_secret_hash(scope))

    async def _find(self, secret_hash: bytes) -> Key:
        known, until = self._known.get(secret_hash, (None, 0.0))
        left = until - asyncio.get_running_loop().time()
        if known is not None and left > 0:
            if left < _REMEMBERED / 2 and secret_hash not in self._looking:
                self._look_up(secret_hash)  # ahead of time: behind many who have no key, it would be a long wait
            return known
        try:
            # not the request's own, which may be cancelled: others may be waiting for the same
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
        task.add_done_callback(lambda done: done.cancelled() or done.exception())  # if nobody is left who waits for it
        return task


def _secret_hash(scope: Scope) -> bytes:
    """SHA-256 of the secret in a request's head: the secret itself goes no further."""
    values = [value for name, value in scope["headers"] if name == b"authorization"]
    scheme, _, secret = (values[0] if len(values) == 1 else b"").partition(b" ")
    if scheme.lower() != b"bearer" or not secret.strip():
        raise Refused(refusals.NO_API_KEY)
    return hashlib.sha256(secret.strip()).digest()


def key_id(scope: Scope) -> Int8 | None:
    """What functions know the key of a request by."""
    key: Key | None = scope.get("wallet.key")
    return None if key is None else key.id
