"""NVIDIA GPUs, through NVML in a prober."""

from __future__ import annotations

from collections.abc import Mapping

from probes.probe import ProbeError
from probes.vram import GpuFailure, GpuSample, Xid
from probes.vram.prober import Prober
from probes.vram.source import ABSENT_RETRY_SECONDS, reading
from statemachine.clock import Clock

_DRIVER_NOT_LOADED = 9
_LIBRARY_NOT_FOUND = 12
_GPU_IS_LOST = 15
_RESET_REQUIRED = 16
_NOT_SUPPORTED = 3

_ABSENT: Mapping[int, str] = {
    _LIBRARY_NOT_FOUND: "no NVIDIA driver here (libnvidia-ml.so.1 not found)",
    _DRIVER_NOT_LOADED: "no NVIDIA driver here (its kernel module is not loaded)",
}
_GONE = frozenset({_GPU_IS_LOST, _RESET_REQUIRED})


class NvidiaGpus:
    """Reads every NVIDIA GPU of this machine. A missing driver is asked for again now and then."""

    def __init__(self, prober: Prober, clock: Clock) -> None:
        self._prober = prober
        self._clock = clock
        self._seen: set[str] = set()
        self._absence = ""
        self._silent_until: float | None = None

    @property
    def absence(self) -> str:
        return self._absence

    async def read(self) -> GpuSample:
        if self._silent_until is not None and self._clock.monotonic() < self._silent_until:
            return GpuSample()
        answer = await self._prober.ask()
        if "code" in answer:
            return await self._no_driver(int(answer["code"]), str(answer["message"]))
        gpus = answer["gpus"]
        if not gpus:
            return await self._nothing_here("an NVIDIA driver is here, but no GPU")
        now = self._clock.monotonic()
        readings = tuple(
            reading(gpu, "nvidia", now) for gpu in gpus if "code" not in gpu and gpu["total_bytes"] > 0
        )
        failures = tuple(
            GpuFailure(gpu["gpu"], gpu["code"], gpu["message"], lost=gpu["code"] in _GONE)
            for gpu in gpus
            if "code" in gpu and gpu["code"] != _NOT_SUPPORTED
        )
        self._seen |= {one.gpu for one in readings}
        # Cards that share the host's memory do not support the question.
        watched = bool(readings or failures)
        self._absence = "" if watched else "no GPU here tells how much memory it has"
        self._silent_until = None
        return GpuSample(
            readings, failures, tuple(Xid(gpu, number) for gpu, number in answer.get("xids", ()))
        )

    async def close(self) -> None:
        await self._prober.close()

    async def _no_driver(self, code: int, message: str) -> GpuSample:
        if code in _GONE:
            return GpuSample(failures=(GpuFailure("0", code, message, lost=True),))
        if code not in _ABSENT:
            raise ProbeError(f"NVML could not be used: {message} (code {code})")
        return await self._nothing_here(_ABSENT[code])

    async def _nothing_here(self, why: str) -> GpuSample:
        if self._seen:
            raise ProbeError(f"GPU {min(self._seen)} was here before; now: {why}")
        self._absence = why
        self._silent_until = self._clock.monotonic() + ABSENT_RETRY_SECONDS
        await self._prober.rest()
        return GpuSample()
