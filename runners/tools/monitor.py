"""Tools of the category `monitor`. Those of subsystems are answered by the daemon: `services.py`."""

from __future__ import annotations

from typing import Final

from runners.tools.services import LOGS_TAIL, SERVICE_STATUS, logs_tail, service_status

TOOLS: Final = (LOGS_TAIL, SERVICE_STATUS)

__all__ = ["TOOLS", "logs_tail", "service_status"]
