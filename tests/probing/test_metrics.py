"""The series of memory and processor time."""

from __future__ import annotations

from epad.metrics.registry import Metrics
from epad.probing.metrics import FootprintSeries
from probes.memory import Footprint


def test_memory_and_cpu_follow_what_was_read() -> None:
    """Memory goes with the processes; CPU time only ever rises, whatever becomes of who was read."""
    metrics = Metrics()
    series, read = FootprintSeries(metrics), metrics.registry.get_sample_value
    for memory, cpu in ((100, 2.5), (300, 4.0), (50, 3.0)):
        series.show({"chat": Footprint(memory, cpu, 1)})
    assert read("epad_subsystem_memory_bytes", {"subsystem": "chat"}) == 50
    assert read("epad_subsystem_cpu_seconds_total", {"subsystem": "chat"}) == 4.0
    series.show({})
    assert read("epad_subsystem_memory_bytes", {"subsystem": "chat"}) is None
    assert read("epad_subsystem_cpu_seconds_total", {"subsystem": "chat"}) == 4.0
