"""Judge by a process's own reports and its health checks if it hangs, and say why it is not ready. Pure."""

from __future__ import annotations

from epad.configuration.schema import SubsystemConfig
from epad.supervisor.health import Health
from epad.supervisor.self_report import Report


def why_hung(
    report: Report, health: Health, spec: SubsystemConfig, now: float, watchdog_seconds: float
) -> str:
    """Say why a running process counts as hanging now; empty if it does not."""
    if report.is_silent(now, watchdog_seconds):
        return f"no WATCHDOG=1 for over {watchdog_seconds:g} s"
    if report.ready and health.failures >= spec.health.failures:
        return f"{health.failures} health checks failed: {health.reason}"
    return ""


def why_not_ready(name: str, spec: SubsystemConfig, health: Health) -> str:
    """Say what a process did not do within its time to become ready, and what to change."""
    raise_it = f"raise subsystems.{name}.ready_seconds"
    if spec.notifies:
        said = f"no READY=1 within {spec.ready_seconds:g} s"
        return f"{said}: {raise_it}, or set notifies = false if it does not speak sd_notify"
    why = health.reason or "it has not been asked yet"
    return f"its health check did not pass within {spec.ready_seconds:g} s ({why}): {raise_it}"
