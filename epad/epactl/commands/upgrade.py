"""Replace the daemon by the installed version, while its subsystems run on: `epactl upgrade`."""

from __future__ import annotations

import time

from epad.api.client import NotRunningError, UnreachableError
from epad.epactl.call import EXIT_OK, Call
from epad.epactl.commands.orders import rehearse
from epad.operations.registry import Operation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from epad.answers.status import Status

UPGRADE_SECONDS = 60.0
ADOPTION_SECONDS = 10.0
"""How long one that does not come back, since it has ended meanwhile, is waited for."""

POLL_SECONDS = 0.05


def upgrade(call: Call) -> int:
    """`epactl upgrade --reason R`: ordered, and waited for until the daemon answers again."""
    if call.arguments.dry_run:
        return rehearse(call, Operation.UPGRADE)
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


def _next(call: Call, began: float) -> Status:
    """Wait for a daemon that has run for no longer than since the order. Raises NotRunningError."""
    while True:
        try:
            status: Status = call.client.get(Operation.STATUS_READ.path)
            if status["uptime_seconds"] < time.monotonic() - began:
                return status
        except (NotRunningError, UnreachableError):
            pass  # it is between two programs
        if time.monotonic() - began > UPGRADE_SECONDS:
            raise NotRunningError("the daemon has not come back", "its log says why: journalctl -u epad")
        time.sleep(POLL_SECONDS)


def _pids(status: Status) -> dict[str, int]:
    return {one["name"]: one["pid"] for one in status["subsystems"] if one["pid"]}
