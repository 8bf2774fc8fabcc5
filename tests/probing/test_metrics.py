"""The series of the subsystems follow what was read."""

from __future__ import annotations

from epad.metrics.registry import Metrics
from epad.probing.metrics import SubsystemSeries
from probes.memory import Footprint
from probes.subsystems import SubsystemSnapshot, SubsystemState


def test_memory_and_cpu_follow_what_was_read() -> None:
    """Memory goes with the processes; CPU time only ever rises, whatever becomes of who was read."""
    metrics, footprints = Metrics(), dict[str, Footprint]()
    series, read = SubsystemSeries(metrics, list, lambda: footprints), metrics.registry.get_sample_value
    for memory, cpu in ((100, 2.5), (300, 4.0), (50, 3.0)):
        footprints["chat"] = Footprint(memory, cpu, 1)
        series.show()
    assert read("epad_subsystem_memory_bytes", {"subsystem": "chat"}) == 50
    assert read("epad_subsystem_cpu_seconds_total", {"subsystem": "chat"}) == 4.0
    footprints.clear()
    series.show()
    assert read("epad_subsystem_memory_bytes", {"subsystem": "chat"}) is None
    assert read("epad_subsystem_cpu_seconds_total", {"subsystem": "chat"}) == 4.0


def test_one_state_of_a_subsystem_is_1() -> None:
    """And its progress is shown once it has told any."""
    metrics, snapshots = Metrics(), list[SubsystemSnapshot]()
    series, read = SubsystemSeries(metrics, lambda: snapshots, dict), metrics.registry.get_sample_value
    for state, done in ((SubsystemState.STARTING, None), (SubsystemState.RUNNING, 7)):
        snapshots[:] = [
            SubsystemSnapshot("chat", "process", state, essential=False, since=0.0, progress_done=done)
        ]
        series.show()
        shown = {
            one: read("epad_subsystem_state", {"subsystem": "chat", "state": one}) for one in SubsystemState
        }
        assert shown == {one: float(one is state) for one in SubsystemState}
        assert read("epad_subsystem_progress_done", {"subsystem": "chat"}) == done
