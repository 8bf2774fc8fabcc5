"""The machine's GPUs and its own state, as status shows them and as series; nothing old is shown as new."""

from __future__ import annotations

from datetime import UTC, datetime

from epad.answers import status
from epad.metrics.registry import Metrics
from probes.host import Host
from probes.vram.attribution import GpuState
from probes.vram.probe import Vram
from statemachine.clock import Clock


class MachineView:
    """Reads the last looks of the probes."""

    def __init__(self, vram: Vram, host: Host, clock: Clock, metrics: Metrics) -> None:
        self._vram = vram
        self._host = host
        self._clock = clock
        self._metrics = metrics

    def gpus(self) -> list[status.Gpu]:
        """Return every GPU that was ever seen, each with the age of its reading."""
        return [self._gpu(state) for state in self._vram.states()]

    def host(self) -> status.Host:
        """The machine itself; without figures while they are old."""
        reading = self._host.fresh_reading()
        pressure = {} if reading is None else reading.pressure
        return {
            "fresh": reading is not None,
            "pressure": {name: {"some": one.some, "full": one.full} for name, one in pressure.items()},
            "memory_bytes": None if reading is None else reading.memory_bytes,
            "available_bytes": None if reading is None else reading.available_bytes,
            "disk_free_bytes": None if reading is None else reading.disk.free_bytes,
            "disk_total_bytes": None if reading is None else reading.disk.total_bytes,
            "free_inodes": None if reading is None else reading.disk.free_inodes,
            "lag_seconds": round(self._host.worst_lag_seconds, 3),
        }

    def show(self) -> None:
        """Bring the series up to date. Those of a GPU that cannot be read now are taken away, but for its time."""
        metrics = self._metrics
        for gauge in (
            metrics.gpu_memory_used,
            metrics.gpu_memory_total,
            metrics.gpu_memory_reserved,
            metrics.gpu_memory_unattributed,
            metrics.gpu_memory_subsystem,
            metrics.gpu_exhaustion,
            metrics.pressure,
        ):
            gauge.clear()
        for state in self._vram.states():
            self._show_gpu(state)
        for xid, at in self._vram.xids.items():
            metrics.gpu_xid.labels(xid.gpu, str(xid.number)).set(at)
        self._show_host()

    def _show_gpu(self, state: GpuState) -> None:
        metrics, reading = self._metrics, state.reading
        metrics.gpu_info.labels(reading.gpu, reading.uuid, reading.vendor, reading.name).set(1)
        age = reading.age_seconds(self._clock.monotonic())
        metrics.gpu_read.labels(reading.gpu).set(self._clock.utc().timestamp() - age)
        if not self._vram.is_fresh(reading):
            return
        metrics.gpu_memory_used.labels(reading.gpu).set(reading.used_bytes)
        metrics.gpu_memory_total.labels(reading.gpu).set(reading.total_bytes)
        metrics.gpu_memory_reserved.labels(reading.gpu).set(reading.reserved_bytes)
        if reading.unattributed_bytes is not None:
            metrics.gpu_memory_unattributed.labels(reading.gpu).set(reading.unattributed_bytes)
        if state.exhaustion_seconds is not None:
            metrics.gpu_exhaustion.labels(reading.gpu).set(state.exhaustion_seconds)
        for name, held in state.subsystems.items():
            metrics.gpu_memory_subsystem.labels(reading.gpu, name).set(held)

    def _show_host(self) -> None:
        metrics, reading = self._metrics, self._host.fresh_reading()
        metrics.loop_lag.set(self._host.worst_lag_seconds)
        if reading is None:
            return
        for name, pressure in reading.pressure.items():
            metrics.pressure.labels(name, "some").set(pressure.some)
            metrics.pressure.labels(name, "full").set(pressure.full)
        metrics.disk_free.set(reading.disk.free_bytes)
        metrics.disk_size.set(reading.disk.total_bytes)
        if reading.disk.free_inodes is not None:
            metrics.inodes_free.set(reading.disk.free_inodes)

    def _gpu(self, state: GpuState) -> status.Gpu:
        reading, left, rate = state.reading, state.exhaustion_seconds, state.bytes_per_second
        now = self._clock.monotonic()
        return {
            "gpu": reading.gpu,
            "vendor": reading.vendor,
            "name": reading.name,
            "uuid": reading.uuid,
            "age_seconds": round(reading.age_seconds(now), 3),
            "fresh": self._vram.is_fresh(reading),
            "total_bytes": reading.total_bytes,
            "used_bytes": reading.used_bytes,
            "reserved_bytes": reading.reserved_bytes,
            "ratio": round(reading.ratio, 4),
            "subsystems": dict(state.subsystems),
            "foreign_bytes": state.foreign_bytes,
            "unattributed_bytes": reading.unattributed_bytes,
            "bytes_per_second": None if rate is None else round(rate),
            "exhaustion_seconds": None if left is None else round(left),
            "history": [
                *([max(0, round(now - at)), used] for at, used in state.trace),
                [max(0, round(now - reading.at)), reading.used_bytes],
            ],
            "xids": {
                str(xid.number): datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
                for xid, at in self._vram.xids.items()
                if xid.gpu == reading.gpu
            },
        }
