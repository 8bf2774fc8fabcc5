"""`epactl upgrade`: the daemon becomes what is installed now, and what it supervises runs on."""

from __future__ import annotations

import time

from epad.control.client import NotRunningError, UnreachableError
from epad.ctl_commands import EXIT_OK, Call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

UPGRADE_SECONDS = 60.0
POLL_SECONDS = 0.05


def upgrade(call: Call) -> int:
    """`epactl upgrade --reason R`: ordered, and waited for until the daemon answers again."""
    before = call.client.get("/v1/status")
    answer = call.client.order("/v1/upgrade", call.arguments.reason)
    began = time.monotonic()
    while (after := _younger_than(call, before)) is None:
        if time.monotonic() - began > UPGRADE_SECONDS:
            raise NotRunningError("the daemon has not come back", "its log says why: journalctl -u epad")
        time.sleep(POLL_SECONDS)
    away = time.monotonic() - began
    versions = f"epad {before['version']} -> {after['version']}"
    kept = sum(_pids(before)[name] == pid for name, pid in _pids(after).items() if name in _pids(before))
    line = f"{versions}: back after {away:.1f} s, {kept} of {len(_pids(before))} processes run on"
    call.terminal.show({**answer, "version": after["version"], "away_seconds": round(away, 3)}, [line])
    return EXIT_OK


def _younger_than(call: Call, before: dict[str, Any]) -> dict[str, Any] | None:
    """The status of a daemon that was started after that one, with all in its care; None while there is none."""
    try:
        status: dict[str, Any] = call.client.get("/v1/status")
    except (NotRunningError, UnreachableError):
        return None
    if status["uptime_seconds"] >= before["uptime_seconds"] or _pids(before).keys() - _pids(status).keys():
        return None
    return status


def _pids(status: dict[str, Any]) -> dict[str, int]:
    return {one["name"]: one["pid"] for one in status["subsystems"] if one["pid"]}
