"""Seal by age: to a key of the vault's own, which a passphrase or a security key (FIDO2) unlocks.

The key lies in the vault's directory, encrypted. Unlocked, it is in the daemon's memory until the daemon ends. All work
with it is a child's, which has the library and lives for one request.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from epad.secrets import programs
from epad.secrets.errors import DamagedError, LockedError, SecretError
from epad.secrets.sealed_file import damaged, replace_private

FILE: Final = "age.key"
_FORMAT: Final = 1
TOUCH_SECONDS: Final = 60.0
"""So long a person may take to touch a security key."""
_EXTRA: Final = "pip install 'epad[vault]'"


class UnlockedBy(StrEnum):
    """Names what unlocks the key."""

    PASSPHRASE = "passphrase"  # noqa: S105 - what it is called, not one
    SECURITY_KEY = "security-key"


class KeptKey(Struct, frozen=True, forbid_unknown_fields=True):
    """Holds the key as it lies on the disk. `credential` and `salt` are those of a security key."""

    format: int
    unlocked_by: UnlockedBy
    recipient: str
    sealed: bytes
    credential: bytes = b""
    salt: bytes = b""


class AgeKey:
    """The key of one vault, unlocked or not."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        self._directory = directory
        self._environment = environment
        self._identity = ""

    @property
    def is_unlocked(self) -> bool:
        """Tell if it opens secrets now."""
        return bool(self._identity)

    def kept(self) -> KeptKey | None:
        """Return the key as it lies there; None if there is none yet. Raises DamagedError, SecretError."""
        path = self._directory / FILE
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SecretError(f"{path} cannot be read: {error.strerror}") from error
        try:
            found = msgspec.json.decode(data, type=KeptKey)
        except msgspec.MsgspecError:
            found = None
        if found is None or found.format != _FORMAT or msgspec.json.encode(found) != data:
            raise DamagedError(
                f"{path} is not as epad has written it", "put the file of a backup in its place"
            )
        return found

    def missing(self) -> str:
        """Say what is lacking to seal by it; empty if nothing is."""
        if find_spec("pyrage") is None:
            return f"the package pyrage is not installed: {_EXTRA}"
        try:
            kept = self.kept()
        except SecretError as error:
            return str(error)
        if kept is None:
            return "there is no key yet: epactl secret unlock makes one, by a passphrase or a security key"
        return "" if self._identity else f"it is locked: epactl secret unlock, with its {kept.unlocked_by}"

    async def unlock(self, passphrase: str, by: UnlockedBy) -> str:
        """Unlock the key, or make it if there is none; return what was done. Raises SecretError.

        Of a security key `passphrase` is its PIN, which may be empty.
        """
        if find_spec("pyrage") is None:
            raise SecretError("the package pyrage is not installed", _EXTRA)
        kept = self.kept()
        if kept is None:
            await self._make(passphrase, by)
            return f"a key was made, which the {by} unlocks; it is unlocked"
        request = {
            "credential": _text(kept.credential),
            "salt": _text(kept.salt),
            "sealed": _text(kept.sealed),
        }
        answer = await self._ask(f"unlock-{kept.unlocked_by}", secret=passphrase, **request)
        if answer["recipient"] != kept.recipient:
            raise DamagedError(f"{self._directory / FILE} does not have the key that it names")
        self._identity = answer["identity"]
        return f"unlocked by the {kept.unlocked_by}"

    async def seal(self, name: str, payload: bytes) -> bytes:
        """Return the payload sealed. Raises LockedError, SecretError."""
        kept = self.kept()
        if kept is None or not self._identity:  # what cannot be opened again is not sealed either
            raise LockedError(f"the secret {name} cannot be sealed: {self.missing()}", "epactl secret unlock")
        return await self.seal_to(kept.recipient, payload)

    async def seal_to(self, recipient: str, payload: bytes) -> bytes:
        """Return a payload sealed to somebody's public key. Raises SecretError."""
        answer = await self._ask("seal", recipient=recipient, payload=_text(payload))
        return base64.b64decode(answer["sealed"])

    async def open(self, name: str, sealed: bytes) -> bytes:
        """Return what was sealed. Raises LockedError, DamagedError."""
        if not self._identity:
            raise LockedError(f"the secret {name} is locked", "epactl secret unlock")
        try:
            answer = await self._ask("open", identity=self._identity, sealed=_text(sealed))
        except SecretError as error:
            raise damaged(name, f"this vault's key does not open it ({error.what})") from error
        return base64.b64decode(answer["payload"])

    async def _make(self, passphrase: str, by: UnlockedBy) -> None:
        answer = await self._ask(f"make-{by}", secret=passphrase)
        key = KeptKey(
            _FORMAT,
            by,
            answer["recipient"],
            base64.b64decode(answer["sealed"]),
            base64.b64decode(answer.get("credential", "")),
            base64.b64decode(answer.get("salt", "")),
        )
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_private(self._directory / FILE, msgspec.json.encode(key))
        except OSError as error:
            raise SecretError(f"{self._directory / FILE} cannot be written: {error.strerror}") from error
        self._identity = answer["identity"]

    async def _ask(self, verb: str, **request: str) -> dict[str, Any]:
        given = json.dumps({"verb": verb, **request}).encode()
        done = await programs.run(programs.CHILD, given, self._environment, TOUCH_SECONDS)
        try:
            answer: dict[str, Any] = json.loads(done.output)
        except ValueError:
            raise SecretError(f"the child of age ended with status {done.status}") from None
        if "error" in answer:
            raise SecretError(answer["error"], answer.get("fix", ""))
        return answer


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
