"""The series of walls."""

from __future__ import annotations

from epad.confinement.cells import Confinement
from epad.confinement.metrics import show_cells
from epad.metrics.registry import Metrics


def test_walls_are_counted_by_subsystem() -> None:
    """What is open has none, and misses none."""
    metrics = Metrics()
    read = metrics.registry.get_sample_value
    told = {"agent": Confinement("workspace", {"network": "a", "files": "a"}), "model": Confinement("open")}
    show_cells(metrics, told)
    assert read("epad_subsystem_confined", {"subsystem": "agent"}) == 1
    assert read("epad_subsystem_confined", {"subsystem": "model"}) == 0
    assert read("epad_subsystem_walls_missing", {"subsystem": "agent"}) == 2
    show_cells(metrics, {**told, "agent": Confinement("workspace")})
    assert read("epad_subsystem_walls_missing", {"subsystem": "agent"}) == 0
