"""Hold the trust domain as the child serves it: its authorities, and who waits for a change of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import msgspec

from runners.identity.authority import Kept, next_kept, read_kept, with_new_signer
from runners.identity.messages import Start
from runners.identity.svid import Signer

LOOK_SECONDS: Final = 60.0
"""How often it is looked whether the authorities are due for a change: the wall clock may be set."""

Keep = Callable[[str, str], Awaitable[None]]
"""Puts the authorities on the disk, and says why they change. Raises OSError."""


class TrustDomain:
    """The authorities in force. `keep` is called with each change before it takes effect."""

    def __init__(self, start: Start, keep: Keep) -> None:
        self.name = start.trust_domain
        self.x509_seconds = start.x509_seconds
        self._lives = (start.x509_seconds, start.jwt_seconds)
        self._keep = keep
        self._changed = asyncio.Event()
        self._changing = asyncio.Lock()
        self.kept = Kept(self.name)
        with suppress(ValueError):  # a file that is torn: new authorities are made, and told as such
            self.kept = read_kept(start.kept, self.name)
        self._signer: Signer | None = None

    @property
    def signer(self) -> Signer:
        """Return what signs. Raises RuntimeError before `refresh`."""
        if self._signer is None:
            raise RuntimeError("the authorities are not ready")
        return self._signer

    async def refresh(self) -> None:
        """Make the changes that are due, and be ready to sign. Raises OSError where they cannot be kept."""
        async with self._changing:
            while True:
                kept, why = next_kept(self.kept, time.time())
                if not why:
                    break
                await self._take(kept, why)
            if self._signer is None:
                self._use(self.kept)

    async def rotate(self) -> None:
        """Have a new authority sign from now on. Raises OSError where it cannot be kept."""
        async with self._changing:
            await self._take(with_new_signer(self.kept, time.time()), "a person has ordered it")

    async def change(self, seconds: float | None) -> None:
        """Wait for the next change of the authorities, at most so long."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), seconds)

    async def _take(self, kept: Kept, why: str) -> None:
        await self._keep(msgspec.json.encode(kept).decode(), why)
        self._use(kept)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _use(self, kept: Kept) -> None:
        self.kept = kept
        if kept.signer is not None:
            self._signer = Signer(kept.signer, *self._lives)
