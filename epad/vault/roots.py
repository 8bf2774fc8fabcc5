"""Write the root over the vault's rows to the ledger: behind each batch of writes, each day, and around orders.

| a crash comes | the ledger has | the next look |
|---|---|---|
| behind rows, before their root | the turns that appended them | finds each row's turn on record |
| behind the record of an order, before their root | that an order was given | takes the rows with or without it |
| behind the root | all of it | |
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, Protocol, TypeVar

import apsw

from epad import EpadError
from epad.ledger.entry import NoteRoot
from epad.ledger.record import Rooted
from epad.ledger.roots import BASELINES, roots_of
from epad.vault.answers import EFFECT
from epad.vault.child import VaultChild

STORE: Final = EFFECT
BATCH, DAILY, ORDER = "batch", "daily", "order"
"""What a root is taken for, beside the causes of baselines."""
BATCH_SECONDS: Final = 1.0
"""Writes of so long share one root."""
DAY_SECONDS: Final = 86_400.0

T = TypeVar("T")


class RootLedger(Protocol):
    """The part of the ledger that roots are recorded in."""

    def note_root(self, root: NoteRoot) -> asyncio.Future[int]: ...

    async def read(self, work: Callable[[apsw.Connection], T]) -> T: ...


class SuspectError(EpadError):
    """Somebody else has written to the store since the last look: no root is taken before the next one."""


class Roots:
    """Knows the roots that the ledger has, from the newest baseline on."""

    def __init__(self, child: VaultChild, ledger: RootLedger) -> None:
        self._child = child
        self._ledger = ledger
        self._known: list[Rooted | NoteRoot] | None = None
        self._lock = asyncio.Lock()

    async def known(self) -> Sequence[Rooted | NoteRoot]:
        """Return the roots, oldest first. Raises LedgerError."""
        if self._known is None:
            self._known = [*await self._ledger.read(lambda connection: roots_of(connection, STORE))]
        return self._known

    async def note(self, cause: str, by: str = "", accepted: Sequence[str] = ()) -> None:
        """Record the root over the rows as they are now; of a batch, unless the newest is of these rows.

        Raises SuspectError, LedgerError, OwnToolError.
        """
        async with self._lock:
            known, found = [*await self.known()], await self._child.ask("root", {})
            if found.get("suspect"):
                raise SuspectError("somebody else has written to the store since the last look")
            newest, digest = known[-1] if known else None, bytes.fromhex(found["root"])
            is_same = newest is not None and (newest.size, newest.root) == (found["size"], digest)
            if cause == BATCH and is_same and newest is not None and newest.cause != ORDER:
                return
            root = NoteRoot(STORE, found["size"], digest, cause, by, tuple(accepted))
            await self._ledger.note_root(root)
            self._known = [root] if cause in BASELINES else [*known, root]
