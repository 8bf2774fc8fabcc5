"""Memory of a real process: shown, warned of, and ended above its limit, where no control group does that."""

from __future__ import annotations

import sys
import urllib.request
from typing import Any

import pytest
from installed import QUICK, Installation, installation
from patience import PATIENCE_SECONDS

from epad.supervisor.cgroup import NoCgroupError, cgroup_of, delegated, mount_point

# Takes 300 MiB a second after its start, in steps, and lives on.
HOG = "import time; time.sleep(1); x = [bytearray(b'a') * (50 << 20) for _ in range(6)]; time.sleep(600)"
CONFIG = f"""{QUICK}
[daemon]
engine = "plain"
[probes.memory]
interval_seconds = 0.5
growth_window_seconds = 5.0
[hysteresis.memory]
raise_after = 2
out_of = 3
clear_after_seconds = 600.0
flap_window_seconds = 3600.0
flap_hold_max_seconds = 1800.0
[subsystems.hog]
command = ["{sys.executable}", "-S", "-c", "{HOG}"]
memory_max = "200MiB"
stop_seconds = 1.0
[subsystems.other]
command = ["{sys.executable}", "-S", "-c", "{HOG}"]
[subsystems.bystander]
command = ["sleep", "600"]
"""


def has_memory_control() -> bool:
    """Whether what is made below our own control group has a memory controller."""
    try:
        own = delegated(managed=False)
        # The daemon itself is in it: the kernel lets it pass a controller on only if it is the root, or did so before.
        where = "cgroup.controllers" if own.path == mount_point() else "cgroup.subtree_control"
        return "memory" in (own.path / where).read_text().split()
    except (NoCgroupError, OSError):
        return False


needs_memory_control = pytest.mark.skipif(
    not has_memory_control(), reason="no writable cgroup v2 with a memory controller here"
)


@pytest.mark.skipif(has_memory_control(), reason="the kernel holds it here: a memory controller is there")
def test_a_hog_above_its_limit_is_stopped_and_the_same_without_a_limit_is_shown() -> None:
    """One line says who, how much, and which limit; nobody else is held, and what is shown is everywhere."""
    with installation(CONFIG) as house:
        house.start()
        house.wait(lambda: house.subsystem("hog")["hold"]["rung"] == "stop", "the hog to be stopped")
        house.wait(lambda: house.subsystem("hog")["pid"] is None, "its end")
        reason = house.subsystem("hog")["hold"]["reason"]
        assert "above its memory_max of 200 MiB; stopped, it gives it back" in reason
        house.wait(lambda: house.subsystem("hog")["memory_bytes"] is None, "nothing of it to be left")
        house.wait(
            lambda: (house.subsystem("other")["memory_bytes"] or 0) >= 300 << 20, "the other one's size"
        )
        for name in ("other", "bystander"):
            assert house.subsystem(name)["hold"]["rung"] == "open"
        (line,) = [line for line in house.ctl("status").stdout.splitlines() if line.startswith("other ")]
        assert " MiB " in line
        assert "memory    3" in house.ctl("status", "other").stdout
        with urllib.request.urlopen(house.status()["metrics"]["url"], timeout=PATIENCE_SECONDS) as answer:
            series = answer.read().decode()
        assert 'epad_subsystem_memory_bytes{subsystem="other"} 3' in series
        assert 'epad_subsystem_cpu_seconds_total{subsystem="other"}' in series
        assert [e["subsystem"] for e in house.events("anomaly.raised")] == ["hog"]
        assert house.stop() == 0


@needs_memory_control
def test_a_hog_in_a_control_group_is_ended_by_the_kernel_at_its_limit() -> None:
    """And told as that: what the kernel holds is left to it, and the supervisor says why it died."""
    with installation(CONFIG) as house:
        house.start()
        house.wait(lambda: bool(ends_of_memory(house)), "the kernel to end it")
        assert {event["subsystem"] for event in ends_of_memory(house)} == {"hog"}
        assert house.subsystem("bystander")["hold"]["rung"] == "open"
        assert house.stop() == 0


@needs_memory_control
def test_one_above_its_memory_high_is_slowed_by_the_kernel_and_lives() -> None:
    """Its group says how often it was held back; nobody holds or ends it."""
    with installation(CONFIG.replace('memory_max = "200MiB"', 'memory_high = "150MiB"')) as house:
        house.start()
        group = cgroup_of(house.subsystem("hog")["pid"])
        assert group is not None
        assert (group.path / "memory.high").read_text() == f"{150 << 20}\n"
        house.wait(lambda: "high 0" not in (group.path / "memory.events").read_text(), "it to be slowed")
        assert house.subsystem("hog")["restarts"] == 0
        assert ends_of_memory(house) == []
        assert house.stop() == 0


def ends_of_memory(house: Installation) -> list[dict[str, Any]]:
    ends = house.events("subsystem.exited")
    return [event for event in ends if "out of memory" in event["fields"]["status"]]
