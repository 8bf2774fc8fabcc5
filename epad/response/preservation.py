"""Persist ledger, state and the critical files of subsystems into a verified checkpoint."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from epad.checkpoint.bundle import Bundle, Label, create, verify
from epad.checkpoint.retention import Retention, list_bundles, prune
from epad.checkpoint.source import BytesSource, ReportSource, Source
from epad.configuration.schema import CheckpointConfig
from epad.control_loop.step import Operation, Step, StepFailedError
from epad.copying.errors import CheckpointError, DiskFullError
from epad.ledger.head import Signer
from epad.metrics.registry import Metrics
from epad.response.metrics import CHECKPOINT_OK, CHECKPOINT_VERIFIED
from statemachine.clock import Clock


async def _nobody() -> Sequence[str]:
    return ()


@dataclass(frozen=True, slots=True)
class Safeguards:
    """Checks a copy before it is marked VERIFIED.

    `state` is the state directory whose keys and sound copies a bundle is compared with, `signer` signs it. `doubts`
    names the datastores known to be damaged: while there is one, no checkpoint is promoted and none is removed.
    `ask_to_save` lets processes write their data out, and names those that did not.
    """

    state: Path | None = None
    signer: Signer | None = None
    doubts: Callable[[], Sequence[str]] = tuple
    ask_to_save: Callable[[], Awaitable[Sequence[str]]] = _nobody


@dataclass(frozen=True, slots=True)
class NewestCheckpoint:
    """The newest checkpoint there is, and why it is not one to restore from, if it is not."""

    id: str
    faults: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.faults

    @property
    def sentence(self) -> str:
        """Describe it in one line for a person."""
        if self.ok:
            return f"{self.id} written and verified"
        return f"{self.id} written, NOT verified: {'; '.join(self.faults)}"


class Preservation:
    """Makes checkpoints. The operation's key is the checkpoint's name, so a retry finishes the same one."""

    def __init__(
        self,
        directory: Path,
        config: CheckpointConfig,
        sources: Callable[[], list[Source]],
        facts: Callable[[], Mapping[str, Any]],
        clock: Clock,
        metrics: Metrics,
        safeguards: Safeguards | None = None,
    ) -> None:
        self._directory = directory
        self._config = config
        self._sources = sources
        self._facts = facts
        self._clock = clock
        self._metrics = metrics
        self._safeguards = safeguards or Safeguards()
        self._newest: NewestCheckpoint | None = None

    @property
    def newest(self) -> NewestCheckpoint | None:
        """Return the newest one, good or not; None if there is none."""
        return self._newest

    def last_verified(self) -> Bundle | None:
        """Return the bundle to restore from. One that cannot be listed counts as absent."""
        try:
            return list_bundles(self._directory).newest_verified
        except CheckpointError:
            return None

    def observe(self) -> None:
        """Show the age of the previous run's last checkpoint."""
        if (bundle := self.last_verified()) is not None:
            self._metrics.of(CHECKPOINT_VERIFIED).set(bundle.manifest.at.timestamp())
        newest = self._newest_there_is()
        if newest is not None:
            why = newest.manifest.gaps or ("it was not read back, or not as it was made",)
            self._made(newest.id, () if newest.verified else why)

    async def checkpoint(self, step: Step, operation: Operation) -> str:
        """Do a `checkpoint` step. Raises StepFailedError if nothing could be written."""
        silent = await self._safeguards.ask_to_save()
        try:
            bundle = await self._make(step, operation)
            doubts = tuple(self._safeguards.doubts())
            verification = await verify(
                bundle.path,
                deadline_seconds=self._config.deadline_seconds,
                state=self._safeguards.state,
                doubts=doubts,
            )
        except CheckpointError as error:
            raise StepFailedError(str(error)) from error
        remarks = "".join(f"; {remark}" for remark in silent)
        made = self._made(bundle.id, verification.faults)
        if not verification.ok:
            # What is damaged is saved as it is: salvage needs it, and the manifest says what is wrong with it.
            # No verified one is removed for it: among them is the last good copy of what is damaged or missing now.
            undone = await self._tidy_up(frozen=True)
            return f"{made.sentence}; rotation is frozen{remarks}{undone}"
        self._metrics.of(CHECKPOINT_VERIFIED).set(bundle.manifest.at.timestamp())
        return f"{made.sentence}{remarks}{await self._tidy_up(frozen=False)}"

    def _made(self, identity: str, faults: Sequence[str]) -> NewestCheckpoint:
        """Take note of the newest one, and show whether it is good."""
        self._newest = NewestCheckpoint(identity, tuple(faults))
        self._metrics.of(CHECKPOINT_OK).set(self._newest.ok)
        return self._newest

    def _newest_there_is(self) -> Bundle | None:
        try:
            return next(iter(list_bundles(self._directory).bundles), None)
        except CheckpointError:
            return None

    def _wanted(self) -> list[Source]:
        """Return the sources.

        One that the last good bundle has is missed if it is gone, though it may be absent at first.
        """
        last = self.last_verified()
        had = {part.name for part in last.manifest.files} if last else set()
        return [
            source
            if isinstance(source, BytesSource | ReportSource) or source.name not in had
            else replace(source, optional=False)
            for source in self._sources()
        ]

    async def _make(self, step: Step, operation: Operation) -> Bundle:
        now = self._clock.utc()
        label = Label(operation.key, "checkpoint", step.arguments["reason"], now, self._facts())
        try:
            return await create(
                self._directory,
                self._wanted(),
                label,
                deadline_seconds=self._config.deadline_seconds,
                signer=self._safeguards.signer,
            )
        except DiskFullError:
            # Room for the next attempt.
            await prune(self._directory, Retention(keep=1, frozen=bool(self._safeguards.doubts())))
            raise

    async def _tidy_up(self, *, frozen: bool) -> str:
        """Remove old checkpoints. That they stay is no reason to call the new one failed: it is safe."""
        config = self._config
        retention = Retention(config.keep, config.daily, config.weekly, config.free_ratio)
        if frozen:
            retention = Retention(config.keep, frozen=True)
        try:
            await prune(self._directory, retention)
        except CheckpointError as error:
            return f"; older ones could not be removed: {error}"
        return ""
