"""The series of the probes' looks, of ended processes, and of the memory and processor time of subsystems."""

from __future__ import annotations

from collections.abc import Mapping

from epad.metrics.family import counter, gauge
from epad.metrics.registry import Metrics
from probes.memory import Footprint

PROBE_SUCCESS = gauge("epad_probe_success", "1 if the probe could see.", "probe")
PROBE_DURATION = gauge("epad_probe_duration_seconds", "How long it looked.", "probe")
PROBE_LAST = gauge("epad_probe_last_success_timestamp_seconds", "When the probe last could see.", "probe")
RESTARTS = counter("epad_subsystem_restarts_total", "Restarts after an exit.", "subsystem", begins=[()])
EXITS = counter("epad_subsystem_exits_total", "Exits nobody asked for.", "subsystem", begins=[()])
MEMORY = gauge(
    "epad_subsystem_memory_bytes",
    "Anonymous and shared memory of a subsystem's processes, in RAM or in the swap.",
    "subsystem",
    leaves=True,
)
CPU = counter(
    "epad_subsystem_cpu_seconds_total", "CPU time of a subsystem's processes.", "subsystem", begins=[()]
)


class FootprintSeries:
    """Shows memory and processor time; of the latter what a subsystem's processes have used since they were seen."""

    def __init__(self, metrics: Metrics) -> None:
        self._memory, self._cpu = metrics.of(MEMORY), metrics.of(CPU)
        self._cpu_shown: dict[str, float] = {}

    def show(self, footprints: Mapping[str, Footprint]) -> None:
        """Bring memory and CPU up to date; a subsystem without processes has no memory."""
        self._memory.clear()
        for name, footprint in footprints.items():
            self._memory.labels(name).set(footprint.memory_bytes)
            shown = self._cpu_shown.get(name, 0.0)
            self._cpu.labels(name).inc(max(0.0, footprint.cpu_seconds - shown))
            self._cpu_shown[name] = max(shown, footprint.cpu_seconds)
