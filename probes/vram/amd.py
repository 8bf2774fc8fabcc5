"""AMD GPUs, through the files of amdgpu and KFD, read in a prober: a file of a GPU in reset can hang its reader."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from probes.probe import ProbeError
from probes.vram import GpuFailure, GpuSample
from probes.vram.prober import Prober
from probes.vram.source import ABSENT_RETRY_SECONDS, reading
from statemachine.clock import Clock

VENDOR = "0x1002"


def cards(root: Path) -> Iterator[Path]:
    """Yield every card of amdgpu's, `card1` and not its connector `card1-DP-1`. This wakes no driver."""
    for card in sorted(root.glob("sys/class/drm/card*")):
        with suppress(OSError):
            vendor = (card / "device/vendor").read_text().strip()
            if card.name.removeprefix("card").isdecimal() and vendor == VENDOR:
                yield card


class AmdGpus:
    """Reads every AMD GPU of this machine; its prober is started only if there is one."""

    def __init__(self, prober: Prober, clock: Clock, is_present: Callable[[], bool]) -> None:
        self._prober = prober
        self._clock = clock
        self._is_present = is_present
        self._seen: set[str] = set()
        self._absent_until: float | None = None

    @property
    def absence(self) -> str:
        return "" if self._absent_until is None else "no AMD GPU"

    async def read(self) -> GpuSample:
        now = self._clock.monotonic()
        if self._absent_until is not None and now < self._absent_until:
            return GpuSample()
        if not self._seen and not self._is_present():
            self._absent_until = now + ABSENT_RETRY_SECONDS
            return GpuSample()
        self._absent_until = None
        answer = await self._prober.ask()
        now, gpus = self._clock.monotonic(), answer["gpus"]
        readings = tuple(reading(gpu, "amd", now) for gpu in gpus if "message" not in gpu)
        failures = [GpuFailure(gpu["gpu"], 0, gpu["message"]) for gpu in gpus if "message" in gpu]
        gone = self._seen - {gpu["gpu"] for gpu in gpus}
        failures += [GpuFailure(gpu, 0, "it is not there any more") for gpu in sorted(gone)]
        self._seen |= {one.gpu for one in readings}
        if not gpus and not failures:
            raise ProbeError("an AMD GPU was here a moment ago, and none is now")
        return GpuSample(readings, tuple(failures))

    async def close(self) -> None:
        await self._prober.close()
