"""Declare the tools of the category `monitor` that the daemon answers: of subsystems, by what epad knows of them.

`epad/tools/own_services.py` answers them.
"""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta

from runners.tools.signature import Args, Result, meta

MOST_LINES: Final = 500


class ServiceArgs(Args, frozen=True):
    """Holds the name of a subsystem."""

    name: str


class ServiceResult(Result, frozen=True):
    """Holds a subsystem's state, its hold with the reason, and its restarts since the daemon began."""

    phase: str
    state: str
    hold: str
    reason: str
    restarts: int


SERVICE_STATUS: Final = meta(
    "service_status",
    ServiceArgs,
    ServiceResult,
    risk="R2",
    timeout=10,
    description="State, hold and restarts of a subsystem of epad.",
    examples=({"name": "agent"},),
)
service_status = SERVICE_STATUS.answered_by_daemon()


class LogsArgs(Args, frozen=True):
    """Holds the name of a subsystem, and how many lines of its output are wanted."""

    subsystem: str
    lines: Annotated[int, Meta(ge=1, le=MOST_LINES)] = 100


class LogsResult(Result, frozen=True):
    """Holds the last lines, oldest first, as far as they fit; control characters are shown as escapes."""

    lines: list[str]
    truncated: bool


LOGS_TAIL: Final = meta(
    "logs_tail",
    LogsArgs,
    LogsResult,
    risk="R2",
    timeout=15,
    description="The last lines that a subsystem of epad has printed.",
    examples=({"subsystem": "agent", "lines": 10},),
)
logs_tail = LOGS_TAIL.answered_by_daemon()
