"""The persist step: ledger, state and what subsystems declare critical, into a verified checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from epad.checkpoint.bundle import Label, create, verify
from epad.checkpoint.errors import CheckpointError
from epad.checkpoint.retention import prune
from epad.checkpoint.source import Source
from epad.config import CheckpointConfig
from epad.metrics import Metrics
from epad.response.step import Operation, Step, StepFailedError
from statemachine.clock import Clock


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
    ) -> None:
        self._directory = directory
        self._config = config
        self._sources = sources
        self._facts = facts
        self._clock = clock
        self._metrics = metrics

    async def checkpoint(self, step: Step, operation: Operation) -> str:
        """Do a `checkpoint` step. Raises StepFailedError if nothing could be written."""
        now = self._clock.utc()
        label = Label(operation.key, "checkpoint", step.arguments["reason"], now, self._facts())
        try:
            bundle = await create(
                self._directory, self._sources(), label, deadline_seconds=self._config.deadline_seconds
            )
            verification = await verify(bundle.path, deadline_seconds=self._config.deadline_seconds)
        except CheckpointError as error:
            raise StepFailedError(str(error)) from error
        if not verification.ok:
            # What is damaged is saved as it is: salvage needs it, and the manifest says what is wrong with it.
            faults = "; ".join(verification.faults)
            return f"{bundle.path.name} written, NOT verified: {faults}{await self._tidy_up()}"
        self._metrics.checkpoint_verified.set(bundle.manifest.at.timestamp())
        return f"{bundle.path.name} written and verified{await self._tidy_up()}"

    async def _tidy_up(self) -> str:
        """Remove old checkpoints. That they stay is no reason to call the new one failed: it is safe."""
        try:
            await prune(self._directory, self._config.keep)
        except CheckpointError as error:
            return f"; older ones could not be removed: {error}"
        return ""
