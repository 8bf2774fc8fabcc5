"""What a unit is started with, as systemd is told it; real ones are in tests/systemd."""

from __future__ import annotations

from pathlib import Path

import pytest

from epad.configuration.schema import SubsystemConfig
from epad.configuration.sizes import size_bytes
from epad.runtime.environment_marks import STATE_MARK, SUBSYSTEM_MARK
from epad.supervisor.engine import Launch
from epad.supervisor.systemd_engine import _properties


@pytest.mark.parametrize(
    ("most", "high", "told"),
    [
        (0, 0, {}),
        ("4GiB", 0, {"MemoryMax": 4 << 30}),
        ("4GiB", "3GiB", {"MemoryMax": 4 << 30, "MemoryHigh": 3 << 30}),
        (0, 1_000_000, {"MemoryHigh": 1_000_000}),
    ],
)
def test_memory_limits_are_systemds_to_set(most: int | str, high: int | str, told: dict[str, int]) -> None:
    """As unsigned numbers of bytes; without a limit nothing is said, and the slice's own holds."""
    spec = SubsystemConfig(command=("sleep",), memory_max=most, memory_high=high)
    launch = Launch(
        spec.command,
        {},
        Path("/work"),
        Path("/logs/it.log"),
        {STATE_MARK: "/state", SUBSYSTEM_MARK: "it"},
        memory_max_bytes=size_bytes(spec.memory_max),
        memory_high_bytes=size_bytes(spec.memory_high),
    )
    found = _properties(launch, "/bin/sleep", Path("/run/it.env"))
    limits = {name: variant for name, variant in found.items() if name.startswith("Memory")}
    assert {name: variant.value for name, variant in limits.items()} == told
    assert {variant.signature for variant in limits.values()} <= {"t"}
