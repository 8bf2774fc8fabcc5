"""Profile: every layer's scores at every number of bits, block by block, into the sensitivity cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runners.quantize.cache import ScoreRow
from runners.quantize.device import MicroBatch
from runners.quantize.executor import Executor
from runners.quantize.journal import Note
from runners.quantize.network import Network
from runners.quantize.profiling import FEW_TOKENS, Method, profile_block
from runners.quantize.run import Run
from runners.quantize.stages.calibrate import GRADIENT, HIDDEN, calibrate
from runners.quantize.states import read_verified

PROFILE = "profile"


@dataclass(frozen=True, slots=True)
class StateFile:
    """A state on the disk and the digest that it must have."""

    path: Path
    digest: str


@dataclass(frozen=True, slots=True)
class ProfileBlock:
    """Scores one block from the states around it."""

    hidden: dict[int, StateFile]
    gradient: dict[int, StateFile]
    method: Method
    micro_batch: int

    def __call__(self, network: Network, index: int) -> list[ScoreRow]:
        before, behind = self.hidden[index], self.gradient[index + 1]
        hidden = read_verified(before.path, before.digest)[HIDDEN]
        gradient = read_verified(behind.path, behind.digest)[GRADIENT]
        micro = MicroBatch(self.micro_batch)
        return profile_block(network, index, hidden, gradient, self.method, micro)


def state_files(run: Run, stage: str) -> dict[int, StateFile]:
    """Return the committed states of one kind."""
    workspace = run.workspace
    return {
        i: StateFile(workspace.path(stage, i), u.digest) for i, u in workspace.journal.units(stage).items()
    }


def profile(run: Run, executor: Executor) -> dict[tuple[str, int], ScoreRow]:
    """Return every score; a block whose scores are cached is skipped, and if all are there is no pass at all."""
    key = run.score_key()
    held = run.cache.get(key)
    missing = [i for i in range(run.block_count) if not _has_block(held, i)]
    if not missing or not run.method.bits:
        return held
    calibrate(run)
    work = ProfileBlock(state_files(run, HIDDEN), state_files(run, GRADIENT), run.method, run.micro.size)
    run.workspace.reporter.stage(PROFILE, run.block_count, run.block_count - len(missing))
    for done in executor.run(work, missing):
        run.cache.put(key, done.result)
        run.workspace.commit(PROFILE, done, notes=tuple(_notes(done.result)))
    return run.cache.get(key)


def _has_block(held: dict[tuple[str, int], ScoreRow], index: int) -> bool:
    """A block's rows are filed in one transaction: one of them means all."""
    return any(f".layers.{index}." in layer for layer, _ in held)


def _notes(rows: Sequence[ScoreRow]) -> list[Note]:
    notes = [Note("fallback", row.layer, f"{row.solver} instead: {row.reason}") for row in rows if row.reason]
    few = {row.layer: row.tokens for row in rows if row.tokens < FEW_TOKENS}
    return notes + [
        Note("few tokens", layer, f"{tokens} calibration tokens reached it") for layer, tokens in few.items()
    ]
