"""When a process hangs, and why it is not ready."""

from __future__ import annotations

import pytest

from epad.configuration.schema import HealthConfig, SubsystemConfig
from epad.supervisor.health import Health
from epad.supervisor.liveness import why_hung, why_not_ready
from epad.supervisor.self_report import Report

SPEC = SubsystemConfig(command=("x",), health=HealthConfig(tcp="127.0.0.1:1", failures=3), ready_seconds=30.0)
SICK = Health(0.0, failures=3, reason="refused")


@pytest.mark.parametrize(
    ("ready", "beating", "health", "reason"),
    [
        (True, False, Health(0.0), ""),
        (True, True, Health(0.0), "no WATCHDOG=1 for over 15 s"),
        (False, True, SICK, "no WATCHDOG=1 for over 15 s"),
        (True, False, SICK, "3 health checks failed: refused"),
        (True, False, Health(0.0, failures=2, reason="refused"), ""),
        (False, False, SICK, ""),
    ],
)
def test_it_hangs_once_it_is_silent_or_sick(ready: bool, beating: bool, health: Health, reason: str) -> None:
    """One that has never beaten is not silent, and one that is not ready yet is not sick."""
    report = Report(ready, beating, heard_at=0.0)
    assert why_hung(report, health, SPEC, 15.5, 15.0) == reason


def test_a_watchdog_in_time_is_no_silence() -> None:
    """To the second."""
    assert why_hung(Report(True, True, heard_at=0.5), Health(0.0), SPEC, 15.5, 15.0) == ""


def test_the_way_to_become_ready_is_named() -> None:
    """By word of its own, or by its check; and the setting that gives it more time."""
    speaks = SubsystemConfig(command=("x",), ready_seconds=30.0, notifies=True)
    by_word = why_not_ready("it", speaks, Health(0.0))
    assert by_word.startswith("no READY=1 within 30 s: raise subsystems.it.ready_seconds, or set notifies")
    silent = SubsystemConfig(command=("x",), health=SPEC.health, ready_seconds=30.0, notifies=False)
    by_check = "its health check did not pass within 30 s ({}): raise subsystems.it.ready_seconds"
    assert why_not_ready("it", silent, SICK) == by_check.format("refused")
    assert why_not_ready("it", silent, Health(0.0)) == by_check.format("it has not been asked yet")
