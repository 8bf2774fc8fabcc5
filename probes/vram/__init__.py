"""Watch GPU memory: the use of each card, its owners, the age of that knowledge, and the limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from probes.bounds import Bound
from probes.settings import EnforcedSettings
from statemachine.value_types import Count, Ratio, Seconds, Share

NAME = "vram"


class VramSettings(EnforcedSettings, frozen=True, forbid_unknown_fields=True):
    """Sets how full a GPU may be, how fast it may fill, and how long a driver call may take."""

    timeout_seconds: Seconds
    warn_ratio: Share
    limit_ratio: Ratio
    growth_window_seconds: Seconds
    exhaustion_seconds: Seconds
    ghost_bytes: Count
    root: str

    BOUNDS: ClassVar[tuple[Bound, ...]] = (Bound("warn_ratio", most="limit_ratio"),)


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """A process as the driver names it; None bytes where the driver does not say."""

    pid: int
    used_bytes: int | None


@dataclass(frozen=True, slots=True)
class GpuReading:
    """Holds one GPU as it was at `at` (`Clock.monotonic()`).

    `gpu` is its name in the vendor's tools: nvidia-smi's number, or amdgpu's `card1`. `used_bytes` excludes the
    driver's own reservation, `reserved_bytes`, if the driver tells them apart (else that is 0). `processes` is None if
    the driver's table was missing or implausible.
    """

    gpu: str
    uuid: str
    name: str
    total_bytes: int
    used_bytes: int
    reserved_bytes: int
    processes: tuple[GpuProcess, ...] | None
    at: float
    vendor: str = "nvidia"

    @property
    def ratio(self) -> float:
        """Return the share of the card that no allocation can have any more."""
        # The reserve counts: 400 of 12,227 MiB are 3.3 %, so that used alone never reaches a limit of 0.97.
        return (self.used_bytes + self.reserved_bytes) / self.total_bytes

    @property
    def free_bytes(self) -> int:
        """Return the bytes that an allocation can still have."""
        return max(0, self.total_bytes - self.used_bytes - self.reserved_bytes)

    @property
    def unattributed_bytes(self) -> int | None:
        """Return the used bytes that no process owns: a leak of the driver's, or a process we may not see."""
        if self.processes is None or any(process.used_bytes is None for process in self.processes):
            return None
        return max(0, self.used_bytes - sum(process.used_bytes or 0 for process in self.processes))

    def age_seconds(self, now: float) -> float:
        """Return the age of the reading; a reader shows no number without it."""
        return now - self.at


@dataclass(frozen=True, slots=True)
class GpuFailure:
    """Describes a GPU that could not be read: the driver's own code and text; `lost` if only a reset helps."""

    gpu: str
    code: int
    message: str
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Xid:
    """An error that the NVIDIA driver reported of one GPU, by its number."""

    gpu: str
    number: int


@dataclass(frozen=True, slots=True)
class GpuSample:
    """Holds one look at all GPUs of one vendor."""

    readings: tuple[GpuReading, ...] = ()
    failures: tuple[GpuFailure, ...] = ()
    xids: tuple[Xid, ...] = ()
