"""Define the facts about subsystems that the supervisor gives the probes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from msgspec import Struct


class SubsystemState(StrEnum):
    """Names the state of a subsystem. The gateway-only kind is always running or quarantined."""

    STARTING = "starting"
    RUNNING = "running"
    HUNG = "hung"
    THROTTLED = "throttled"
    QUARANTINED = "quarantined"
    PAUSED = "paused"
    STOPPED = "stopped"
    FAILED = "failed"
    RECOVERING = "recovering"


class SubsystemSnapshot(Struct, frozen=True):
    """A subsystem as of now, for status, metrics and probes. Times are `Clock.monotonic()` seconds.

    A msgspec struct, since 100 of them are made several times a second; a frozen dataclass takes five times as long.
    """

    name: str
    kind: str
    state: SubsystemState
    essential: bool
    since: float
    pid: int | None = None
    restarts: int = 0
    hung: bool = False
    hung_reason: str = ""
    status_text: str = ""
    progress_done: int | None = None
    progress_total: int | None = None
    progressed_at: float | None = None
    last_exit: str = ""
    vram_wanted_bytes: int | None = None


Snapshots = Callable[[], Sequence[SubsystemSnapshot]]


@dataclass(frozen=True, slots=True)
class SubsystemExited:
    """A supervised process ended: `wanted` if the daemon ended it, `will_restart` as the policy decided.

    `life_seconds` is how long it ran; 0 where nobody knows.
    """

    subsystem: str
    at: float
    status: str
    wanted: bool
    will_restart: bool
    reason: str
    life_seconds: float = 0.0


class SubsystemObserver(Protocol):
    """Receives the events of supervised processes; every method must be O(1)."""

    def exited(self, event: SubsystemExited) -> None: ...
