"""The series of the subsystems' states."""

from __future__ import annotations

from collections.abc import Iterable

from epad.metrics.family import gauge
from epad.metrics.registry import Metrics
from probes.subsystems import SubsystemSnapshot, SubsystemState

STATE = gauge("epad_subsystem_state", "1 for the state a subsystem is in.", "subsystem", "state", leaves=True)
PROGRESS = gauge("epad_subsystem_progress_done", "X_EPAD_PROGRESS as reported.", "subsystem", leaves=True)


def show_snapshots(metrics: Metrics, subsystems: Iterable[SubsystemSnapshot]) -> None:
    """Bring the series of the subsystems up to date."""
    states, progress = metrics.of(STATE), metrics.of(PROGRESS)
    for snapshot in subsystems:
        for state in SubsystemState:
            states.labels(snapshot.name, state).set(state is snapshot.state)
        if snapshot.progress_done is not None:
            progress.labels(snapshot.name).set(snapshot.progress_done)
