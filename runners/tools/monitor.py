"""Tools of the category `monitor`. Those of subsystems are answered by the daemon: `services.py`."""

from __future__ import annotations

from typing import Final

from runners.tools.health import HEALTH_PROBE, UPTIME_CHECK, health_probe, uptime_check
from runners.tools.services import LOGS_TAIL, SERVICE_STATUS, logs_tail, service_status

TOOLS: Final = (HEALTH_PROBE, LOGS_TAIL, SERVICE_STATUS, UPTIME_CHECK)

__all__ = ["TOOLS", "health_probe", "logs_tail", "service_status", "uptime_check"]
