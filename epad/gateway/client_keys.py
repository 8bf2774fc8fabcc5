"""The keys that people handle: a client's lies in a file for the owner's eyes, and changes at a person's word."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

from epad.configuration.schema import SubsystemConfig
from epad.gateway.errors import IdentityError
from epad.gateway.identity import Identities


class Keys:
    """Gives keys out, exchanges them and takes them away. A key itself is never sent over the control socket."""

    def __init__(
        self, subsystems: Mapping[str, SubsystemConfig], identities: Identities, directory: Path
    ) -> None:
        self._subsystems = subsystems
        self._identities = identities
        self._directory = directory

    def configure(self, subsystems: Mapping[str, SubsystemConfig]) -> None:
        """Handle the keys of these from now on."""
        self._subsystems = subsystems

    async def forget(self, name: str) -> None:
        """Make every key of a subsystem that is configured no more worthless. Raises DatabaseError."""
        await self._identities.revoke(name)
        await asyncio.to_thread(self._file(name).unlink, missing_ok=True)

    async def give_to_clients(self) -> None:
        """A client that epad does not start finds its key in a file, made once. Raises OSError, DatabaseError.

        A file that a revocation left empty stays so: only a rotation fills it again.
        """
        for name, spec in self._subsystems.items():
            if spec.kind != "process" and spec.gateway and not self._file(name).exists():
                await self._write(name, await self._identities.issue(name))

    async def rotate(self, name: str) -> str:
        """Make a new key and the former ones worthless; a sentence on where the new one is.

        The file is written before the former keys go, so a crash in between leaves two keys, never none.
        A process has its key in its environment, so its new one comes with its next start.
        Raises IdentityError, OSError, DatabaseError.
        """
        self._require_gateway(name)
        if self._subsystems[name].kind == "process":
            revoked = await self._identities.revoke(name)
            return f"{revoked} key(s) revoked; {name} is refused until it is started again, with a new one"
        await self._write(name, await self._identities.issue(name))
        revoked = await self._identities.revoke(name, except_newest=True)
        return f"{revoked} former key(s) revoked; the new one is in {self._file(name)}"

    async def revoke(self, name: str) -> str:
        """Make every key worthless, at once. Raises IdentityError, OSError, DatabaseError."""
        self._require_gateway(name)
        revoked = await self._identities.revoke(name)
        if self._file(name).exists():
            await self._write(name, "")
        return f"{revoked} key(s) revoked; `epactl key rotate {name}` gives it a new one"

    def _require_gateway(self, name: str) -> None:
        if not self._subsystems[name].gateway:
            raise IdentityError(f"{name} has no key: subsystems.{name}.gateway is false")

    def _file(self, name: str) -> Path:
        return self._directory / f"{name}.key"

    async def _write(self, name: str, key: str) -> None:
        await asyncio.to_thread(_write_private, self._file(name), key)


def _write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text + "\n" if text else "")
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
