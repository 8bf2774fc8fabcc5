"""Identify the client: a bearer key per subsystem, of which only the hash is kept."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets

import apsw

from epad.gateway.errors import IdentityError
from epad.gateway.headers import Headers
from epad.storage.database import Database
from statemachine.clock import Clock

KEY_SCHEMA = """
CREATE TABLE IF NOT EXISTS subsystem_key (
  id INTEGER PRIMARY KEY,
  subsystem TEXT NOT NULL,
  key_sha256 BLOB NOT NULL UNIQUE CHECK (length(key_sha256) = 32),
  issued_utc TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS subsystem_key_by_subsystem ON subsystem_key (subsystem, id);
"""

_NAME = re.compile(r"^[a-z][a-z0-9_-]{0,31}$")
_RANDOM_BYTES = 32
_BEARER = "bearer "


class Identities:
    """The live keys. A subsystem may have several: children adopted after a restart keep theirs.

    The keys are random (256 bits) and looked up by their hash, so the time a lookup takes says nothing
    about a key that is not already known.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._owner_by_hash: dict[bytes, tuple[bytes, str]] = {}
        self._svids: dict[bytes, tuple[str, float]] = {}

    async def load(self) -> None:
        """Read the live keys into memory. Raises DatabaseError."""

        def work(connection: apsw.Connection) -> list[tuple[bytes, str]]:
            rows = connection.execute("SELECT key_sha256, subsystem FROM subsystem_key")
            return [(bytes(digest), str(name)) for digest, name in rows]

        rows = await self._database.read(work)
        self._owner_by_hash = {digest: (digest, name) for digest, name in rows}

    async def issue(self, subsystem: str, *, alone: bool = False) -> str:
        """Make a key, remember its hash, and return the key: this is the only time it is seen.

        `alone` revokes the former ones in the same write, since every start of a process waits for it.
        Raises IdentityError for an impossible name, DatabaseError if the hash could not be stored.
        """
        if not _NAME.match(subsystem):
            raise IdentityError(f"no key for {subsystem!r}: a subsystem's name matches {_NAME.pattern}")
        key = f"epad-{subsystem}-{secrets.token_urlsafe(_RANDOM_BYTES)}"
        digest = _digest(key)
        issued = self._clock.utc().isoformat(timespec="seconds")

        def work(connection: apsw.Connection) -> list[bytes]:
            doomed = _revoke(connection, subsystem, 0) if alone else []
            connection.execute(
                "INSERT INTO subsystem_key (subsystem, key_sha256, issued_utc) VALUES (?, ?, ?)",
                (subsystem, digest, issued),
            )
            return doomed

        for former in await self._database.write(work):
            self._owner_by_hash.pop(former, None)
        self._owner_by_hash[digest] = (digest, subsystem)
        return key

    def lend(self, subsystem: str) -> str:
        """Make a key that is in memory alone, for the daemon's own replays; `take_back` it."""
        key = f"epad-{subsystem}-{secrets.token_urlsafe(_RANDOM_BYTES)}"
        self._owner_by_hash[_digest(key)] = (_digest(key), subsystem)
        return key

    def take_back(self, key: str) -> None:
        """Make a lent key worthless."""
        self._owner_by_hash.pop(_digest(key), None)

    def accept(self, sha256: str, subsystem: str, until: float) -> None:
        """Take a JWT-SVID for a key of its subsystem, until then (seconds since 1970). All live equally long."""
        now = self._clock.monotonic()
        while self._svids and next(iter(self._svids.values()))[1] <= now:
            del self._svids[next(iter(self._svids))]
        left = until - self._clock.utc().timestamp()
        if left > 0:
            self._svids[bytes.fromhex(sha256)] = (subsystem, now + left)

    async def revoke(self, subsystem: str, *, except_newest: bool = False) -> int:
        """Forget a subsystem's keys, from this moment on; return how many. Raises DatabaseError."""
        kept = 1 if except_newest else 0
        doomed = await self._database.write(lambda connection: _revoke(connection, subsystem, kept))
        for digest in doomed:
            self._owner_by_hash.pop(digest, None)
        self._svids = {digest: svid for digest, svid in self._svids.items() if svid[0] != subsystem}
        return len(doomed)

    def resolve(self, headers: Headers) -> str | None:
        """Name the subsystem whose key or JWT-SVID a request carries; None for none, or an unknown one.

        `headers` must ignore case, as HTTP does. `Authorization` decides where it is given.
        """
        key = _presented_key(headers)
        if key is None:
            return None
        digest = _digest(key)
        stored, name = self._owner_by_hash.get(digest, (b"", ""))
        if hmac.compare_digest(stored, digest):
            return name
        owner, ends = self._svids.get(digest, ("", 0.0))
        return owner if owner and self._clock.monotonic() < ends else None


def presents_key(headers: Headers) -> bool:
    """Say whether a request carries anything that is meant to say who it is."""
    return "Authorization" in headers or "x-api-key" in headers


def _revoke(connection: apsw.Connection, subsystem: str, kept: int) -> list[bytes]:
    """Delete a subsystem's keys but the newest `kept`; return the hashes of those that went."""
    rows = connection.execute(
        "SELECT key_sha256 FROM subsystem_key WHERE subsystem = ? ORDER BY id DESC", (subsystem,)
    )
    doomed = [bytes(digest) for (digest,) in rows][kept:]
    connection.executemany("DELETE FROM subsystem_key WHERE key_sha256 = ?", [(digest,) for digest in doomed])
    return doomed


def _presented_key(headers: Headers) -> str | None:
    authorization = headers.get("Authorization")
    if authorization is None:
        return headers.get("x-api-key")
    if authorization[: len(_BEARER)].lower() != _BEARER:
        return None
    return authorization[len(_BEARER) :].strip()


def _digest(key: str) -> bytes:
    # Header bytes that are not UTF-8 arrive as lone surrogates; they match no key, but must not raise.
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
