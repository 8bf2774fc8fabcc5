"""A secrets vault for tests: a way of sealing that is quick, and notes of the uses."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Mapping
from pathlib import Path

from epad.runtime.clock import SystemClock
from epad.secrets.age_key import AgeKey
from epad.secrets.errors import LockedError
from epad.secrets.purpose import Purpose
from epad.secrets.sealed_file import SecretFiles, damaged
from epad.secrets.sealing import SealedBy, Sealers
from epad.secrets.uses import Use
from epad.secrets.vault import Vault


class QuickSealer:
    """Seals by a stream of SHA-256 and a MAC, bound to the name: no program is started."""

    def __init__(self, lacks: str = "") -> None:
        self.key = os.urandom(32)
        self.lacks = lacks
        self.opened = 0

    async def seal(self, name: str, payload: bytes) -> bytes:
        nonce = os.urandom(16)
        hidden = bytes(a ^ b for a, b in zip(payload, self._stream(nonce, len(payload)), strict=True))
        return nonce + self._mac(name, nonce + hidden) + hidden

    async def open(self, name: str, sealed: bytes) -> bytes:
        if self.lacks:
            raise LockedError(f"the secret {name} is locked")
        nonce, mac, hidden = sealed[:16], sealed[16:48], sealed[48:]
        if not hmac.compare_digest(mac, self._mac(name, nonce + hidden)):
            raise damaged(name, "it was sealed by another key")
        self.opened += 1
        return bytes(a ^ b for a, b in zip(hidden, self._stream(nonce, len(hidden)), strict=True))

    def missing(self) -> str:
        return self.lacks

    def _mac(self, name: str, data: bytes) -> bytes:
        return hmac.digest(self.key, name.encode() + b"\0" + data, "sha256")

    def _stream(self, nonce: bytes, length: int) -> bytes:
        return hashlib.shake_256(self.key + nonce).digest(length)


class NotedUses:
    """Remembers each use."""

    def __init__(self) -> None:
        self.noted: list[tuple[str, Purpose]] = []

    def note(self, name: str, purpose: Purpose) -> None:
        self.noted.append((name, purpose))

    def last(self) -> Mapping[str, Use]:
        return {name: Use("now", one.subsystem, one.host) for name, one in self.noted}


def quick_vault(directory: Path, sealer: QuickSealer | None = None) -> tuple[Vault, NotedUses]:
    """Return a vault that seals quickly, and its uses."""
    uses = NotedUses()
    ways = {SealedBy.HOST: sealer or QuickSealer()}
    sealers = Sealers(ways, AgeKey(directory, os.environ))
    return Vault(SecretFiles(directory), sealers, uses, SystemClock()), uses
