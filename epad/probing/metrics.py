"""The series of the probes' looks, and of the subsystems: their states, ends, memory and processor time."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from epad.metrics.family import counter, gauge
from epad.metrics.registry import Metrics
from probes.memory import Footprint
from probes.subsystems import Snapshots, SubsystemState

PROBE_SUCCESS = gauge("epad_probe_success", "1 if the probe could see.", "probe")
PROBE_DURATION = gauge("epad_probe_duration_seconds", "How long it looked.", "probe")
PROBE_LAST = gauge("epad_probe_last_success_timestamp_seconds", "When the probe last could see.", "probe")
STATE = gauge("epad_subsystem_state", "1 for the state a subsystem is in.", "subsystem", "state", leaves=True)
PROGRESS = gauge("epad_subsystem_progress_done", "X_EPAD_PROGRESS as reported.", "subsystem", leaves=True)
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


class SubsystemSeries:
    """Shows the states of the subsystems, and their memory and processor time since they were first seen."""

    def __init__(
        self, metrics: Metrics, snapshots: Snapshots, footprints: Callable[[], Mapping[str, Footprint]]
    ) -> None:
        self._state, self._progress = metrics.of(STATE), metrics.of(PROGRESS)
        self._memory, self._cpu = metrics.of(MEMORY), metrics.of(CPU)
        self._snapshots, self._footprints = snapshots, footprints
        self._cpu_shown: dict[str, float] = {}

    def show(self) -> None:
        """Bring all of them up to date; a subsystem without processes has no memory."""
        for snapshot in self._snapshots():
            for state in SubsystemState:
                self._state.labels(snapshot.name, state).set(state is snapshot.state)
            if snapshot.progress_done is not None:
                self._progress.labels(snapshot.name).set(snapshot.progress_done)
        self._memory.clear()
        for name, footprint in self._footprints().items():
            self._memory.labels(name).set(footprint.memory_bytes)
            shown = self._cpu_shown.get(name, 0.0)
            self._cpu.labels(name).inc(max(0.0, footprint.cpu_seconds - shown))
            self._cpu_shown[name] = max(shown, footprint.cpu_seconds)
