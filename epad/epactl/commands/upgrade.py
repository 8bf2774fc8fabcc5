"""`epactl upgrade`: the daemon becomes what is installed now, and what it supervises runs on."""

from __future__ import annotations

import time

from epad.api.client import NotRunningError, UnreachableError
from epad.epactl.call import EXIT_OK, Call
from epad.operations.registry import Operation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

UPGRADE_SECONDS = 60.0
ADOPTION_SECONDS = 10.0
"""How long one that does not come back, since it has ended meanwhile, is waited for."""

POLL_SECONDS = 0.05


def upgrade(call: Call) -> int:
    """`epactl upgrade --reason R`: ordered, and waited for until the daemon answers again."""
    before = call.client.get(Operation.STATUS_READ.path)
    answer = call.client.order(Operation.UPGRADE.path, call.arguments.reason)
    began = time.monotonic()
    after = _next(call, began)
    away = time.monotonic() - began
    while _pids(before).keys() - _pids(after).keys() and time.monotonic() - began < away + ADOPTION_SECONDS:
        time.sleep(POLL_SECONDS)
        after = call.client.get(Operation.STATUS_READ.path)
    kept = [name for name, pid in _pids(before).items() if _pids(after).get(name) == pid]
    versions = f"epad {before['version']} -> {after['version']}"
    line = f"{versions}: back after {away:.1f} s, {len(kept)} of {len(_pids(before))} processes run on"
    call.terminal.show(
        {**answer, "version": after["version"], "away_seconds": round(away, 3), "kept": kept}, [line]
    )
    return EXIT_OK


def _next(call: Call, began: float) -> dict[str, Any]:
    """Wait for a daemon that has run for no longer than since the order. Raises NotRunningError."""
    while True:
        try:
            status: dict[str, Any] = call.client.get(Operation.STATUS_READ.path)
        except (NotRunningError, UnreachableError):
            status = {"uptime_seconds": float("inf")}
        if status["uptime_seconds"] < time.monotonic() - began:
            return status
        if time.monotonic() - began > UPGRADE_SECONDS:
            raise NotRunningError("the daemon has not come back", "its log says why: journalctl -u epad")
        time.sleep(POLL_SECONDS)


def _pids(status: dict[str, Any]) -> dict[str, int]:
    return {one["name"]: one["pid"] for one in status["subsystems"] if one["pid"]}
