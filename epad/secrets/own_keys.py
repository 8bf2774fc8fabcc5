"""Keep epad's own keys sealed, where this machine seals by itself: by a TPM, or by a host key that is there already.

A key that a person would have to unlock is none for this: what it opens has to be there when the daemon starts. And the
host key is not made for it. Where nothing seals, the file holds the key as it is, for its owner alone.
"""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Final

from epad.secrets.errors import DamagedError, SecretError
from epad.secrets.sealed_file import replace_private
from epad.secrets.sealing import SealedBy, Sealers
from epad.secrets.systemd_creds import SystemdCreds

_MAGIC: Final = b"epad-sealed/1 "
_OF_EPAD: Final = "epad-own-"


class OwnKeys:
    """Writes and reads files of keys, each sealed under a name."""

    def __init__(self, sealers: Sealers) -> None:
        self._sealers = sealers

    def way(self) -> SealedBy | None:
        """Return what seals; None if nothing does."""
        for kind in (SealedBy.TPM2, SealedBy.HOST):
            way = self._sealers.ways.get(kind)
            makes_key = isinstance(way, SystemdCreds) and way.would_make_key()
            if way is not None and not way.missing() and not makes_key:
                return kind
        return None

    async def keep(self, path: Path, name: str, key: bytes) -> None:
        """Write a key in the place of a file, sealed if anything seals. Raises OSError."""
        kind, data = self.way(), key
        if kind is not None:
            try:
                sealed = await self._sealers.of(kind).seal(_OF_EPAD + name, key)
                data = _MAGIC + kind.encode() + b"\n" + base64.b64encode(sealed)
            except SecretError:  # a TPM that is there and does not work: as where there is none
                data = key
        await asyncio.to_thread(replace_private, path, data)

    async def read(self, path: Path, name: str) -> bytes:
        """Return the key of a file, sealed or not. Raises OSError, SecretError."""
        data = await asyncio.to_thread(path.read_bytes)
        if not data.startswith(_MAGIC):
            return data
        kind, _, coded = data[len(_MAGIC) :].partition(b"\n")
        try:
            sealed = base64.b64decode(coded, validate=True)
        except ValueError:
            raise DamagedError(f"{path} is not as epad has written it") from None
        return await self._sealers.of(kind.decode("ascii", "replace")).open(_OF_EPAD + name, sealed)
