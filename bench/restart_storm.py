"""What a child that exits at once costs the daemon: CPU time, beside the same daemon with a child that sleeps."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from _harness import Row, run

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/support"))
from installed import QUICK, Installation, installation

GOAL_PERCENT = 1.0
TICKS = os.sysconf("SC_CLK_TCK")
# As many restarts as it likes: what is measured is the back-off alone, not the end that the budget makes.
STORM = """
[containment]
cascade = "open"
[subsystems.it]
command = ["%s"]
[subsystems.it.restart]
policy = "always"
intensity = 1000000
"""
SLEEPER = '[subsystems.it]\ncommand = ["sleep", "3600"]\n'


def cpu_seconds(house: Installation) -> float:
    """Of the daemon alone, its reaped children apart."""
    assert house.process is not None
    fields = Path(f"/proc/{house.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def percent(config: str, seconds: float) -> tuple[float, int]:
    """CPU of one core while it runs for some seconds, from the moment it is ready; and the restarts."""
    with installation(QUICK + config) as house:
        house.start()
        began, before = time.monotonic(), cpu_seconds(house)
        time.sleep(seconds)
        used, passed = cpu_seconds(house) - before, time.monotonic() - began
        restarts = house.subsystem("it")["restarts"]
        house.stop()
        return 100 * used / passed, restarts


def measure(quick: bool) -> list[Row]:
    """The storm and the calm, one after the other."""
    seconds = 20.0 if quick else 120.0
    storm, restarts = percent(STORM % "/bin/true", seconds)
    calm, _ = percent(SLEEPER, seconds)
    return [
        Row(
            claim="CPU that a child which exits at once costs, above a child that sleeps",
            value=storm - calm,
            unit="% of a core",
            goal=f"under {GOAL_PERCENT:g} %",
            met=storm - calm < GOAL_PERCENT,
            peers={
                "the daemon in the storm (%)": storm,
                "the daemon at rest (%)": calm,
                "restarts": restarts,
            },
            n=1,
            command="python bench/restart_storm.py",
        )
    ]


if __name__ == "__main__":
    sys.exit(run("restart_storm", measure))
