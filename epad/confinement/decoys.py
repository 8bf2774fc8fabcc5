"""Plant keys that open nothing, and recognise them in the data that a subsystem sends: only a thief of keys sends one.

Each subsystem has its own, made from a secret of this installation, so it is the same at each start and no decoy has
to be remembered. All of them share a text of twelve characters, so a body is searched once, however many there are.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Collection
from pathlib import Path
from typing import Final

from epad.confinement.places import OWN
from epad.confinement.policy import Access, Policy
from epad.runtime.owner_file import write_for_owner

_SECRET_BYTES: Final = 32
_SHARED: Final = 12
_OWN: Final = 28
"""Together 40 characters, as a secret key of AWS has."""
_ID: Final = 16
FILE: Final = ".env"
"""In a home of the cell's own: where tools and people keep keys, and no program looks without being told to."""


class Decoys:
    """Makes the decoys of subsystems from a secret."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._shared = self._text("shared", _SHARED)

    def key(self, subsystem: str) -> str:
        """Return a subsystem's decoy."""
        return self._shared + self._text(f"key {subsystem}", _OWN)

    def variables(self, subsystem: str) -> dict[str, str]:
        """Return the variables that show it. No library reads these names."""
        identity = self._text(f"id {subsystem}", _ID).upper()
        return {
            "BACKUP_AWS_ACCESS_KEY_ID": f"AKIA{identity}",
            "BACKUP_AWS_SECRET_ACCESS_KEY": self.key(subsystem),
        }

    def files(self, policy: Policy) -> tuple[tuple[str, str], ...]:
        """Return the files that show it, each with its text: in each home that is the cell's own."""
        text = "".join(f"{name}={value}\n" for name, value in self.variables(policy.subsystem).items())
        homes = [path for path in policy.paths(Access.OWN) if path not in {*OWN, "/run"}]
        return tuple((f"{home}/{FILE}", text) for home in homes)

    def seen_in(self, body: bytes, subsystems: Collection[str]) -> str:
        """Return whose decoy is in a body; empty if there is none."""
        if self._shared.encode() not in body:
            return ""
        return next((name for name in subsystems if self.key(name).encode() in body), "")

    def _text(self, what: str, length: int) -> str:
        digest = hmac.digest(self._secret, what.encode(), hashlib.sha256)
        letters = base64.b64encode(digest, altchars=b"xY").decode()
        return letters.rstrip("=")[:length]


def load_decoys(file: Path) -> Decoys:
    """Return the decoys of an installation, whose secret is made where there is none. Raises OSError."""
    try:
        secret = file.read_bytes()
    except FileNotFoundError:
        secret = b""
    if len(secret) != _SECRET_BYTES:
        secret = secrets.token_bytes(_SECRET_BYTES)
        write_for_owner(file, secret)
    return Decoys(secret)
