"""The machine's GPUs and its own state, as status shows them and as series; nothing old is shown as new."""

from __future__ import annotations

from datetime import UTC, datetime

from epad.answers import status
from epad.metrics.registry import Metrics
from epad.operations.metrics import (
    DISK_FREE,
    DISK_SIZE,
    GPU_EXHAUSTION,
    GPU_INFO,
    GPU_READ,
    GPU_RESERVED,
    GPU_SUBSYSTEM,
    GPU_TOTAL,
    GPU_UNATTRIBUTED,
    GPU_USED,
    GPU_XID,
    INODES_FREE,
    LOOP_LAG,
    PRESSURE,
)
from probes.host import Host
from probes.vram.attribution import GpuState
from probes.vram.probe import Vram
from statemachine.clock import Clock

VANISHING = (
    GPU_USED,
    GPU_TOTAL,
    GPU_RESERVED,
    GPU_UNATTRIBUTED,
    GPU_SUBSYSTEM,
    GPU_EXHAUSTION,
    PRESSURE,
)
"""What is shown only while it can be read."""


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
        """Return the machine itself; without figures while they are old."""
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
        for family in VANISHING:
            metrics.of(family).clear()
        for state in self._vram.states():
            self._show_gpu(state)
        for xid, at in self._vram.xids.items():
            metrics.of(GPU_XID).labels(xid.gpu, str(xid.number)).set(at)
        self._show_host()

    def _show_gpu(self, state: GpuState) -> None:
        metrics, reading = self._metrics, state.reading
        metrics.of(GPU_INFO).labels(reading.gpu, reading.uuid, reading.vendor, reading.name).set(1)
        age = reading.age_seconds(self._clock.monotonic())
        metrics.of(GPU_READ).labels(reading.gpu).set(self._clock.utc().timestamp() - age)
        if not self._vram.is_fresh(reading):
            return
        metrics.of(GPU_USED).labels(reading.gpu).set(reading.used_bytes)
        metrics.of(GPU_TOTAL).labels(reading.gpu).set(reading.total_bytes)
        metrics.of(GPU_RESERVED).labels(reading.gpu).set(reading.reserved_bytes)
        if reading.unattributed_bytes is not None:
            metrics.of(GPU_UNATTRIBUTED).labels(reading.gpu).set(reading.unattributed_bytes)
        if state.exhaustion_seconds is not None:
            metrics.of(GPU_EXHAUSTION).labels(reading.gpu).set(state.exhaustion_seconds)
        for name, held in state.subsystems.items():
            metrics.of(GPU_SUBSYSTEM).labels(reading.gpu, name).set(held)

    def _show_host(self) -> None:
        metrics, reading = self._metrics, self._host.fresh_reading()
        metrics.of(LOOP_LAG).set(self._host.worst_lag_seconds)
        if reading is None:
            return
        for name, pressure in reading.pressure.items():
            metrics.of(PRESSURE).labels(name, "some").set(pressure.some)
            metrics.of(PRESSURE).labels(name, "full").set(pressure.full)
        metrics.of(DISK_FREE).set(reading.disk.free_bytes)
        metrics.of(DISK_SIZE).set(reading.disk.total_bytes)
        if reading.disk.free_inodes is not None:
            metrics.of(INODES_FREE).set(reading.disk.free_inodes)

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
