"""GPU memory: what a card holds, how old that knowledge is, and when it is too much."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from statemachine.finding import HOST, Finding, Severity

NAME = "vram"
MAX_NAMED = 16
"""How many GPUs and processes the evidence names."""


@dataclass(frozen=True, slots=True)
class VramThresholds:
    """How full a GPU may be, and how long a driver call may take."""

    interval_seconds: float = 5.0
    timeout_seconds: float = 3.0
    warn_ratio: float = 0.90
    limit_ratio: float = 0.97

    def __post_init__(self) -> None:
        for key in ("interval_seconds", "timeout_seconds"):
            if getattr(self, key) <= 0:
                raise ValueError(f"probes.vram.{key} must be above 0")
        if not 0 < self.warn_ratio <= self.limit_ratio <= 1:
            raise ValueError(
                f"probes.vram.warn_ratio ({self.warn_ratio}) must be above 0 and at most limit_ratio "
                f"({self.limit_ratio}), which must be at most 1"
            )


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """A process as the driver names it; None bytes where the driver does not say."""

    pid: int
    used_bytes: int | None


@dataclass(frozen=True, slots=True)
class GpuReading:
    """One GPU as it was at `at` (`Clock.monotonic()`).

    `used_bytes` is without what the driver reserves for itself, `reserved_bytes`, where the driver tells
    them apart (else that is 0). `processes` is None if the driver's table was missing or implausible.
    """

    index: int
    uuid: str
    name: str
    total_bytes: int
    used_bytes: int
    reserved_bytes: int
    processes: tuple[GpuProcess, ...] | None
    at: float

    @property
    def ratio(self) -> float:
        """The share of the card that no allocation can have any more."""
        # The reserve counts: 400 of 12,227 MiB are 3.3 %, so that used alone never reaches a limit of 0.97.
        return (self.used_bytes + self.reserved_bytes) / self.total_bytes

    @property
    def unattributed_bytes(self) -> int | None:
        """What is used and no process owns to: a leak of the driver's, or a process we may not see."""
        if self.processes is None or any(process.used_bytes is None for process in self.processes):
            return None
        return max(0, self.used_bytes - sum(process.used_bytes or 0 for process in self.processes))

    def age_seconds(self, now: float) -> float:
        """How old this is; a reader shows no number without it."""
        return now - self.at


@dataclass(frozen=True, slots=True)
class GpuFailure:
    """One GPU that could not be read: the driver's own code, and its words."""

    index: int
    code: int
    message: str


def judge(readings: Sequence[GpuReading], thresholds: VramThresholds, now: float) -> Finding:
    """State the fullest GPU, for all of them.

    One finding a sample, whatever the number of GPUs: they share one anomaly, and three cards that are fine
    would outvote a full one in every two of three.
    """
    fullest = max(readings, key=lambda reading: reading.ratio)
    severity, limit = Severity.OK, thresholds.warn_ratio
    if fullest.ratio >= thresholds.warn_ratio:
        severity, limit = Severity.WARNING, thresholds.limit_ratio
    if fullest.ratio >= thresholds.limit_ratio:
        severity = Severity.ANOMALY
    return Finding(
        NAME,
        HOST,
        severity,
        now,
        f"GPU {fullest.index} ({fullest.name}) is {fullest.ratio:.1%} full: {_mebibytes(fullest)}",
        value=fullest.ratio,
        limit=limit,
        unit="ratio",
        evidence=_evidence(fullest, readings),
    )


def lost(failures: Iterable[GpuFailure], now: float) -> Finding:
    """State that GPUs are gone until the machine, or the card, is reset: a fact."""
    gone = list(failures)
    named = "; ".join(f"GPU {failure.index}: {failure.message}" for failure in gone[:MAX_NAMED])
    return Finding(
        NAME,
        HOST,
        Severity.CRITICAL,
        now,
        f"{named}: it needs a reset or a reboot",
        value=len(gone),
        limit=0,
        unit="gpus",
        evidence={"gpu": gone[0].index, "code": gone[0].code, "gpus": [f.index for f in gone[:MAX_NAMED]]},
        hard=True,
    )


def _mebibytes(reading: GpuReading) -> str:
    used, total = reading.used_bytes + reading.reserved_bytes, reading.total_bytes
    return f"{used >> 20} of {total >> 20} MiB"


def _evidence(fullest: GpuReading, readings: Sequence[GpuReading]) -> dict[str, Any]:
    processes = sorted(fullest.processes or (), key=lambda process: -(process.used_bytes or 0))
    return {
        "gpu": fullest.index,
        "uuid": fullest.uuid,
        "used_bytes": fullest.used_bytes,
        "reserved_bytes": fullest.reserved_bytes,
        "total_bytes": fullest.total_bytes,
        "unattributed_bytes": fullest.unattributed_bytes,
        "processes": [[process.pid, process.used_bytes] for process in processes[:MAX_NAMED]],
        "ratios": [[reading.index, round(reading.ratio, 4)] for reading in readings[:MAX_NAMED]],
    }
