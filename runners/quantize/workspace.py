"""A run's folder: where each thing lies, and the one way to do a unit of work so that a kill costs only that unit."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from runners.quantize.executor import BlockWork, Done, Executor
from runners.quantize.fault import HsaqError
from runners.quantize.journal import Journal, Note, Unit
from runners.quantize.reporter import Reporter
from runners.quantize.states import is_intact, read_verified, write_durably

Made = tuple[Mapping[str, torch.Tensor], tuple[Note, ...]]
"""A unit's tensors, and what is to be known of it."""


class Workspace:
    """Holds the folder's lock, its journal and its reporter."""

    def __init__(self, folder: Path, reporter: Reporter) -> None:
        self.folder, self.reporter = folder, reporter
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._lock)
            raise HsaqError(
                f"{folder}: another run works here; wait for it or choose another --work"
            ) from error
        self.journal = Journal(folder / "run.db")

    def close(self) -> None:
        self.journal.close()
        os.close(self._lock)

    def path(self, stage: str, index: int) -> Path:
        """Return the path of a unit's tensors."""
        return self.folder / stage / f"{index:04d}.safetensors"

    def is_done(self, stage: str, index: int) -> bool:
        """Tell if the unit is committed and its file intact; a damaged one is taken back."""
        unit = self.journal.unit(stage, index)
        if unit is None:
            return False
        if not unit.digest or is_intact(self.path(stage, index), unit.digest):
            return True
        self.journal.forget(stage, index)
        return False

    def tensor_stage(
        self, stage: str, indices: Sequence[int], work: BlockWork[Made], executor: Executor
    ) -> None:
        """Do a stage whose units are files of tensors; committed ones are not done again."""
        waiting = self.waiting(stage, indices)
        for done in executor.run(work, waiting):
            tensors, notes = done.result
            digest = write_durably(self.path(stage, done.index), tensors)
            self.commit(stage, done, digest, notes)

    def waiting(self, stage: str, indices: Sequence[int]) -> list[int]:
        """Begin a stage: the units that are still to be done."""
        left = [index for index in indices if not self.is_done(stage, index)]
        if left:
            self.reporter.stage(stage, len(indices), len(indices) - len(left))
        return left

    def commit(self, stage: str, done: Done[Any], digest: str = "", notes: tuple[Note, ...] = ()) -> None:
        """Record a unit whose result is durable already; without a digest it is kept elsewhere than in a file."""
        self.journal.commit(Unit(stage, done.index, digest, done.seconds, done.peak_bytes), notes)
        self.reporter.step(done.peak_bytes)

    def read(self, stage: str, index: int) -> dict[str, torch.Tensor]:
        """Return a committed unit's tensors."""
        unit = self.journal.unit(stage, index)
        if unit is None:
            raise HsaqError(f"{self.folder}: {stage} {index} was not made yet")
        return read_verified(self.path(stage, index), unit.digest)
