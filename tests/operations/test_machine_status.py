"""GPUs and the host in status and metrics: nothing old is shown as new."""

from __future__ import annotations

import json

import msgspec
import pytest
from shipped_settings import PROBES

from epad.answers import status
from epad.metrics.registry import Metrics
from epad.operations.machine_status import MachineView
from probes.host import Disk, Host, HostReading, Pressure
from probes.loop_lag import LoopLag
from probes.probe import ProbeError
from probes.vram import GpuProcess, GpuReading, GpuSample, Xid
from probes.vram.probe import Vram
from statemachine.clock import ManualClock

MIB = 1 << 20


class Bench:
    """A card of which one subsystem holds a part; it can be made to vanish."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.error: Exception | None = None
        self.absence = ""
        self.vram = Vram(
            PROBES.vram,
            sources=[self],
            owner_of={7: "chat"}.get,
            clock=self.clock,
            tell=lambda _: None,
        )
        lag = LoopLag(beat_seconds=0.25, lag_seconds=1.0, settle_seconds=10.0, clock=self.clock)
        self.host = Host(PROBES.host, read=self.read_host, lag=lag, clock=self.clock)
        self.metrics = Metrics()
        self.view = MachineView(self.vram, self.host, self.clock, self.metrics)

    async def read(self) -> GpuSample:
        if self.error is not None:
            raise self.error
        processes = (GpuProcess(7, 500 * MIB), GpuProcess(8, 100 * MIB))
        now = self.clock.monotonic()
        card = GpuReading("0", "GPU-1", "Card", 10_000 * MIB, 650 * MIB, 400 * MIB, processes, now)
        return GpuSample((card,), xids=(Xid("0", 13),))

    async def read_host(self) -> HostReading:
        return HostReading({"memory": Pressure(0.5, 0.25)}, Disk(100, 40, 10, 4))

    async def close(self) -> None:
        """Nothing is open."""

    def value(self, series: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(series, labels)


async def test_everything_that_was_read_is_shown() -> None:
    """Once for people and scripts, once for Prometheus."""
    bench = Bench()
    await bench.vram.sample()
    await bench.host.sample()
    bench.view.show()
    (gpu,) = json.loads(json.dumps(bench.view.gpus()))
    host = json.loads(json.dumps(bench.view.host()))
    assert (msgspec.convert(gpu, status.Gpu), msgspec.convert(host, status.Host)) == (gpu, host)
    assert (gpu["fresh"], gpu["age_seconds"], gpu["ratio"]) == (True, 0.0, 0.105)
    assert (gpu["subsystems"], gpu["foreign_bytes"]) == ({"chat": 500 * MIB}, 100 * MIB)
    assert (gpu["unattributed_bytes"], gpu["xids"]) == (50 * MIB, {"13": "2026-01-01T00:00:00+00:00"})
    assert bench.value("epad_gpu_subsystem_memory_bytes", gpu="0", subsystem="chat") == 500 * MIB
    assert bench.value("epad_gpu_unattributed_memory_bytes", gpu="0") == 50 * MIB
    assert bench.value("epad_gpu_info", gpu="0", uuid="GPU-1", vendor="nvidia", name="Card") == 1
    assert bench.value("epad_host_pressure_ratio", resource="memory", kind="full") == 0.25
    assert bench.value("epad_state_filesystem_free_bytes") == 40
    assert bench.view.host()["disk_free_bytes"] == 40


async def test_what_is_old_is_marked_and_its_series_are_taken_away() -> None:
    """But for the time at which it was last read: a rule can see how old that is."""
    bench = Bench()
    await bench.vram.sample()
    await bench.host.sample()
    bench.view.show()
    read_at = bench.value("epad_gpu_last_read_timestamp_seconds", gpu="0")
    bench.error = ProbeError("hung")
    bench.clock.advance(60)
    with pytest.raises(ProbeError):
        await bench.vram.sample()
    bench.view.show()
    (gpu,) = bench.view.gpus()
    assert (gpu["fresh"], gpu["age_seconds"]) == (False, 60.0)
    for name in ("used", "total", "reserved"):
        assert bench.value(f"epad_gpu_memory_{name}_bytes", gpu="0") is None
    assert bench.value("epad_gpu_subsystem_memory_bytes", gpu="0", subsystem="chat") is None
    assert bench.value("epad_gpu_last_read_timestamp_seconds", gpu="0") == read_at
    assert bench.value("epad_host_pressure_ratio", resource="memory", kind="full") is None
    assert bench.view.host() == {
        "fresh": False,
        "pressure": {},
        "memory_bytes": None,
        "available_bytes": None,
        "disk_free_bytes": None,
        "disk_total_bytes": None,
        "free_inodes": None,
        "lag_seconds": 0.0,
    }
