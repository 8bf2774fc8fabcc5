"""Provide readings: one source a vendor, each behind a prober of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from probes.vram import GpuProcess, GpuReading, GpuSample

ABSENT_RETRY_SECONDS = 600.0
"""How often a machine without a vendor's driver is asked whether it has one now."""


class GpuSource(Protocol):
    """The GPUs of one vendor."""

    @property
    def absence(self) -> str:
        """Return why nothing is watched here; empty while something is."""
        ...

    async def read(self) -> GpuSample:
        """Look at all of them. Raises ProbeError when they could not be seen."""
        ...

    async def close(self) -> None:
        """End the worker it has started."""
        ...


def reading(gpu: Mapping[str, Any], vendor: str, at: float) -> GpuReading:
    """Build the reading of one GPU from a prober's answer."""
    processes = gpu["processes"]
    return GpuReading(
        gpu=gpu["gpu"],
        uuid=gpu["uuid"],
        name=gpu["name"],
        total_bytes=gpu["total_bytes"],
        used_bytes=gpu["used_bytes"],
        reserved_bytes=gpu["reserved_bytes"],
        processes=None if processes is None else tuple(GpuProcess(pid, used) for pid, used in processes),
        at=at,
        vendor=vendor,
    )
