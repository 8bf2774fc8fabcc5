"""The vocabulary of responses: steps, and the operations they belong to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import groupby
from typing import Any

from epad import EpadError


class StepName(StrEnum):
    """Lists every step of a response. Each is idempotent: done twice is done once."""

    HOLD = "hold"
    CHECKPOINT = "checkpoint"
    RESTART = "restart"
    REPAIR_LEDGER = "repair_ledger"
    RESTORE_DATASTORE = "restore_datastore"
    REPLAY = "replay"
    FIRST_TIER = "first_tier"
    LIFEBOAT = "lifeboat"


MUST_BE_ON_DISK = frozenset(
    {StepName.RESTART, StepName.REPAIR_LEDGER, StepName.RESTORE_DATASTORE, StepName.REPLAY}
)
"""Steps that wait until the journal is on the disk: they spend, or a next life must know that they had begun."""


class Lane(StrEnum):
    """Containment must not wait behind a checkpoint, nor a checkpoint behind a model: each has its own worker."""

    CONTAINMENT = "containment"
    PHASE = "phase"
    MAINTENANCE = "maintenance"
    REPLAY = "replay"


class StepState(StrEnum):
    """Names the state of a step, or of a whole operation."""

    PENDING = "pending"
    DONE = "done"
    FAILED = "failed"
    ABORTED = "aborted"


WAVE = "wave"
"""The argument of steps that are done at once: all of one plan that have the same number."""


@dataclass(frozen=True, slots=True)
class Step:
    """Describes one step on one target. `arguments` hold JSON values."""

    name: StepName
    target: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps to do in order, those of one wave at once; why, and in which lane."""

    lane: Lane
    purpose: str
    steps: Sequence[Step]


@dataclass(frozen=True, slots=True)
class StepRecord:
    """A step as journalled."""

    id: int
    step: Step
    state: StepState
    attempts: int = 0
    result: str = ""


@dataclass(frozen=True, slots=True)
class Operation:
    """Holds a plan as journalled. `key` names its product (a checkpoint directory), the same on every retry."""

    id: int
    key: str
    lane: Lane
    purpose: str
    steps: tuple[StepRecord, ...]

    def waves(self) -> Iterator[tuple[StepRecord, ...]]:
        """Yield the steps in order, those that are done at once together."""
        for (_, wave), records in groupby(
            self.steps, key=lambda r: (r.step.name, r.step.arguments.get(WAVE))
        ):
            if wave is None:
                yield from ((record,) for record in records)
            else:
                yield tuple(records)


@dataclass(frozen=True, slots=True)
class OperationEnded:
    """Reports the end of an operation, from the responder."""

    operation: Operation
    state: StepState
    failures: tuple[str, ...] = ()

    @property
    def undone(self) -> tuple[str, ...]:
        """Say what was not done, and why; empty if all was."""
        if self.state is StepState.ABORTED:
            return ("called off: a later decision took its place; `epactl explain` tells which",)
        return self.failures


class StepFailedError(EpadError):
    """A step could not be done; the message names the thing, the place and the reason."""
