"""Have the child look at the vault, hold what it finds against the ledger, and remember it for the probe.

The child tells what it finds in the rows and the versions. The rows behind the ledger's newest root are held against
the turns that appended them: each has to be of a turn that the ledger has as opened, and end where that turn's record
says.

No root is written before the first look has found all sound, nor while a fault stands: whoever rewrote the rows while
epad was down gets no root of theirs into the ledger.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from structlog.typing import FilteringBoundLogger

from epad import EpadError
from epad.ledger.errors import LedgerError
from epad.ledger.roots import ACCEPTED, RESTORED, restores_taken, turns_named
from epad.storage.restores import newest_restore
from epad.tools.own import OwnToolError
from epad.vault.child import VaultChild
from epad.vault.roots import (
    BATCH,
    BATCH_SECONDS,
    DAILY,
    DAY_SECONDS,
    ORDER,
    STORE,
    RootLedger,
    Roots,
    SuspectError,
)
from probes.probe import ProbeError
from probes.vault import VaultCheck
from statemachine.clock import Clock

FILE: Final = "vault.db"
_DOCUMENTS: Final = ("version ", "versions/")
"""How the faults begin that are of documents alone."""
_RESTORED: Final = ("/vault/", "/ledger.db")
"""The parts of a checkpoint whose restore leaves other rows than the ledger's newest root is over."""


class UnsoundError(EpadError):
    """The vault was changed around epad: nothing is ordered about it until that is settled."""


class Watch:
    """Looks at the vault. One look is under way at a time."""

    def __init__(
        self, child: VaultChild, ledger: RootLedger, restores: Path, clock: Clock, log: FilteringBoundLogger
    ) -> None:
        self._child = child
        self._roots = Roots(child, ledger)
        self._ledger = ledger
        self._restores = restores
        self._clock = clock
        self._log = log
        self._check: VaultCheck | None = None
        self._accepted: frozenset[str] = frozenset()
        self._full_at: float | None = None
        self._rooted_at: float | None = None
        self._lock = asyncio.Lock()
        self._batch: asyncio.Task[None] | None = None
        child.wrote = self._wrote

    @property
    def faults(self) -> Sequence[str]:
        """Return the faults that the newest look has found."""
        return () if self._check is None else self._check.faults

    async def check(self, full_seconds: float) -> VaultCheck | None:
        """Look, at all of it if the last full look is older than that; None while there is nothing to look at.

        Raises ProbeError where nothing could be seen.
        """
        try:
            if not (self._child.directory / FILE).exists() and not await self._roots.known():
                return None
            now = self._clock.monotonic()
            return await self.look(full=self._full_at is None or now - self._full_at >= full_seconds)
        except (OwnToolError, LedgerError) as error:
            raise ProbeError(f"the vault cannot be looked at: {error}") from error

    async def look(self, *, full: bool = False) -> VaultCheck:
        """Look at the rows and the versions as they are now. Raises OwnToolError, LedgerError."""
        async with self._lock:
            return await self._look(full)

    async def _look(self, full: bool) -> VaultCheck:
        if self._check is None:
            await self._begin()
        check = self._check = await self._looked(full)
        now = self._clock.monotonic()
        self._full_at = now if full else self._full_at
        if check.is_sound:
            is_due = self._rooted_at is None or now - self._rooted_at >= DAY_SECONDS
            self._rooted_at = now if is_due else self._rooted_at
            await self._note(DAILY if is_due else BATCH)
        return check

    async def before_order(self, by: str) -> None:
        """Record that an order will append rows. Raises UnsoundError, OwnToolError, LedgerError."""
        async with self._lock:
            check = await self._look(False)
            if not check.is_sound:
                raise UnsoundError(f"the vault was changed around epad: {check.faults[0]}")
            try:
                await self._roots.note(ORDER, by)
            except SuspectError as error:
                raise UnsoundError(f"{error}; order again") from error

    async def settle(self) -> None:
        """Record the root over what was appended since the newest one."""
        async with self._lock:
            await self._note(BATCH)

    async def accept(self, by: str) -> Sequence[str]:
        """Take what is there as it is, at a person's word; return the faults. Raises OwnToolError, LedgerError."""
        async with self._lock:
            found = list((await self._look(True)).faults)
            await self._child.ask("put_aside", {})
            accepted = sorted(self._accepted | set(found))
            try:
                await self._roots.note(ACCEPTED, by, accepted)
            except SuspectError as error:
                raise OwnToolError(str(error), "accept again") from error
            self._accepted = frozenset(accepted)
            await self._look(True)
            return found

    async def close(self) -> None:
        """Record the root behind the last writes."""
        if self._batch is not None and not self._batch.done():
            self._batch.cancel()
            await self.settle()

    async def abandon(self) -> None:
        """Forget the root that is due, as a daemon that is killed does."""
        if self._batch is not None:
            self._batch.cancel()

    def _wrote(self) -> None:
        """Have the root behind a batch of writes recorded soon."""
        if self._check is not None and self._check.is_sound and (self._batch is None or self._batch.done()):
            self._batch = asyncio.ensure_future(self._settle_soon())

    async def _settle_soon(self) -> None:
        await asyncio.sleep(BATCH_SECONDS)
        await self.settle()

    async def _note(self, cause: str) -> None:
        """Record a root, while the newest look has found all sound and none is under way.

        Without one, the rows are held against the turns that have appended them.
        """
        if self._check is None or not self._check.is_sound:
            return
        try:
            await self._roots.note(cause)
        except SuspectError:
            self._log.info("vault.looked_at_soon")  # the next look reads all rows, and takes the root
        except (LedgerError, OwnToolError) as error:
            self._log.warning("vault.root_not_noted", error=str(error))

    async def _begin(self) -> None:
        """Take up what a person has accepted, and the restore of a checkpoint that nobody has taken up yet."""
        for root in await self._roots.known():
            if root.cause == ACCEPTED:
                self._accepted = frozenset(root.accepted)
        restored = await asyncio.to_thread(newest_restore, self._restores, _RESTORED)
        if restored is None or not await self._roots.known():
            return
        taken = await self._ledger.read(lambda connection: restores_taken(connection, STORE))
        if restored not in taken:
            await self._looked(True)
            await self._child.ask("put_aside", {})
            await self._roots.note(RESTORED, restored)
            self._log.warning("vault.restored", restore=restored)

    async def _looked(self, full: bool) -> VaultCheck:
        roots = [(root.size, root.root.hex()) for root in await self._roots.known()]
        answer: dict[str, Any] = {"done": False}
        while not answer["done"]:
            answer = await self._child.ask("look", {"roots": roots, "full": full})
        faults = [*answer["faults"], *await self._unaccounted(answer.get("beyond", ()))]
        return _check([one for one in faults if one not in self._accepted], answer)

    async def _unaccounted(self, beyond: Sequence[Sequence[str]]) -> list[str]:
        """Return the faults of rows behind the newest root: those that no call on record has appended."""
        known = await self._roots.known()
        if not beyond or (known and known[-1].cause == ORDER):
            return []
        turns = await self._ledger.read(
            lambda connection: turns_named(connection, (turn for turn, _ in beyond), STORE)
        )
        heads = {head for _, head in beyond}
        return [
            f"rows behind the ledger's newest root say that turn {name[:32]!r} appended them, and the ledger does not"
            for name, turn in turns.items()
            if not turn.is_opened or turn.is_before or (turn.is_done and turn.after not in heads)
        ]


def _check(faults: Sequence[str], result: dict[str, Any]) -> VaultCheck:
    documents = [one for one in faults if one.startswith(_DOCUMENTS)]
    return VaultCheck(
        rows=[one for one in faults if one not in documents],
        documents=documents,
        size=int(result.get("size", 0)),
        versions=int(result.get("versions", 0)),
        is_full=bool(result.get("full")),
    )
