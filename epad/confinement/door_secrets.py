"""Remember which secrets each door of the way out was given, by a keyed digest: no value is kept for it."""

from __future__ import annotations

import hashlib
import os
from dataclasses import astuple

from runners.egress.messages import Secret


class DoorSecrets:
    """The secrets that the doors of one process have."""

    def __init__(self) -> None:
        self._key = os.urandom(32)
        self._digests: dict[str, bytes] = {}

    def has(self, door: str) -> bool:
        """Tell if a door was given any."""
        return door in self._digests

    def differ(self, door: str, secrets: tuple[Secret, ...]) -> bool:
        """Tell if a door has not been given exactly these."""
        return self._digests.get(door) != self._digest(secrets)

    def given(self, door: str, secrets: tuple[Secret, ...]) -> None:
        """Take note that a door has these now."""
        self._digests[door] = self._digest(secrets)

    def forget(self, door: str) -> None:
        """Forget a door that was closed."""
        self._digests.pop(door, None)

    def _digest(self, secrets: tuple[Secret, ...]) -> bytes:
        text = repr([astuple(one) for one in secrets]).encode()
        return hashlib.blake2b(text, key=self._key).digest()
