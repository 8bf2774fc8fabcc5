"""The GPUs: asked by the same killable children that the daemon asks."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

from epad.doctor.finding import Check, Verdict
from epad.runtime.clock import SystemClock
from probes.probe import ProbeError
from probes.vram import GpuSample
from probes.vram.amd import AmdGpus, cards
from probes.vram.nvidia import NvidiaGpus
from probes.vram.prober import DriverProber, worker
from probes.vram.source import GpuSource

# A driver answers its first question late: it may have to wake the card.
FIRST_ANSWER_SECONDS = 10.0


def check_gpus(root: Path = Path("/")) -> Iterator[Check]:
    """Check the GPUs that NVML and amdgpu report."""
    clock = SystemClock()
    timeout = FIRST_ANSWER_SECONDS
    nvml = DriverProber(worker("nvml_worker", os.environ), "NVIDIA", timeout_seconds=timeout)
    amdgpu = DriverProber(worker("amd_worker", os.environ, str(root)), "AMD", timeout_seconds=timeout)
    yield check_source(
        "nvidia", NvidiaGpus(nvml, clock), "nvidia-smi says more; the driver may need a reboot"
    )
    amd = AmdGpus(amdgpu, clock, lambda: any(cards(root)))
    yield check_source("amd", amd, "dmesg | grep amdgpu says more")


def check_source(name: str, source: GpuSource, fix: str) -> Check:
    """Ask one kind of GPU once."""

    async def ask() -> GpuSample:
        try:
            return await source.read()
        finally:
            await source.close()

    try:
        sample = asyncio.run(ask())
    except ProbeError as error:
        return Check(name, Verdict.BROKEN, str(error), fix)
    if sample.failures:
        return Check(name, Verdict.BROKEN, "; ".join(f"{f.gpu}: {f.message}" for f in sample.failures), fix)
    if not sample.readings:
        return Check(name, Verdict.ABSENT, source.absence or "no GPU of this kind")
    memory = ", ".join(f"{one.total_bytes / 2**30:.0f} GiB" for one in sample.readings)
    return Check(name, Verdict.OK, f"{len(sample.readings)} with {memory}")
