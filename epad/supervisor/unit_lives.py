"""Count a unit's deaths between two looks, from systemd's properties of it. Pure.

systemd restarts a unit by itself: between two lives it is `activating` (`auto-restart`), with no main process; then it
is `active` again with another. A look may fall into any of these moments, or miss several lives, and one death shows
itself up to three times: the main process is gone, NRestarts rises (when the restart begins, so later), and there is
another main process. So the death before an `auto-restart` is added to NRestarts. Without such a state, the deaths told
before NRestarts has risen are remembered, and taken off its next rise.

NRestarts begins anew at 0 with `systemctl start`, `restart` or `reset-failed`; its value then counts deaths since. A
main process that is replaced within one run (a daemon that executes itself anew, MAINPID=) keeps the InvocationID and
is no death.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

RUNNING = frozenset({"active", "reloading", "refreshing"})
DOWN = frozenset({"inactive", "failed"})
AUTO_RESTART = "auto-restart"
SUCCESS = "success"
OOM_KILL = "oom-kill"
# Of more lives between two looks than this no more is said: they are a second apart.
MOST_DEATHS = 50


@dataclass(frozen=True, slots=True)
class UnitFacts:
    """Holds systemd's properties of a unit, as far as a decision needs them.

    `began` and `ended` are of the last main process, in seconds of CLOCK_MONOTONIC; 0 where it has not.
    """

    active: str
    frozen: bool
    watchdog: bool
    pid: int | None
    restarts: int = 0
    sub: str = ""
    result: str = ""
    invocation: bytes = b""
    group: str = ""
    began: float = 0.0
    ended: float = 0.0

    @classmethod
    def read(cls, found: Mapping[str, Any]) -> UnitFacts:
        return cls(
            active=str(found.get("ActiveState", "inactive")),
            frozen=found.get("FreezerState") in {"frozen", "freezing"},
            # Infinity is what systemd writes where no watchdog is set after all.
            watchdog=0 < int(found.get("WatchdogUSec", 0)) < 2**64 - 1,
            pid=int(found.get("MainPID", 0)) or None,
            restarts=int(found.get("NRestarts", 0)),
            sub=str(found.get("SubState", "")),
            result=str(found.get("Result", "")),
            invocation=bytes(found.get("InvocationID", b"")),
            group=str(found.get("ControlGroup", "")),
            began=int(found.get("ExecMainStartTimestampMonotonic", 0)) / 1e6,
            ended=int(found.get("ExecMainExitTimestampMonotonic", 0)) / 1e6,
        )

    @property
    def ended_well(self) -> bool:
        """Tell if systemd reports a good end.

        It does so, too, once the next run has begun, regardless of the last end.
        """
        return self.active != "failed" and self.result == SUCCESS


@dataclass(frozen=True, slots=True)
class Deaths:
    """Holds one look's news: `crashes` not told before, or one `orderly` end; `told_early` is carried on."""

    crashes: int = 0
    orderly: bool = False
    told_early: int = 0


def deaths_between(before: UnitFacts, now: UnitFacts, told_early: int) -> Deaths:
    """Count the lives that ended between two looks. `told_early` were told before NRestarts has shown them."""
    begun_anew = now.restarts < before.restarts
    if begun_anew:
        told_early = 0
    # In `auto-restart` NRestarts lacks the death that the unit is waiting after: it rises when the wait is over.
    waits_after = int(now.sub == AUTO_RESTART) - int(before.sub == AUTO_RESTART)
    risen = now.restarts + max(0, waits_after) if begun_anew else now.restarts - before.restarts + waits_after
    risen = max(0, risen)
    crashes = max(0, risen - told_early)
    told_early = max(0, told_early - risen)
    ended = _has_ended(before, now)
    orderly = False
    if ended and not crashes and not risen:
        if now.ended_well:
            orderly = True  # a person's stop or restart, or its work is done
        else:
            crashes, told_early = 1, told_early + 1
    if now.active == "failed" and before.active not in DOWN and not ended:
        crashes += 1  # it failed to start; or systemd's own limit of starts is reached, which is news as well
    if now.active in RUNNING or now.active in DOWN:
        told_early = 0  # a restart that was to come has been counted by now, or does not come
    return Deaths(min(crashes, MOST_DEATHS), orderly, told_early)


def life_between(before: UnitFacts, now: UnitFacts, deaths: int) -> float:
    """Return how long each run lasted that ended between two looks, in seconds; 0 if unknown.

    Where the next run has begun meanwhile, it is the time from one begin to the next, the pause in between included.
    """
    if 0 < now.began < now.ended:
        return now.ended - now.began
    return (now.began - before.began) / max(1, deaths) if 0 < before.began < now.began else 0.0


def _has_ended(before: UnitFacts, now: UnitFacts) -> bool:
    """Tell if the run that was up at the last look is over."""
    if before.active not in RUNNING:
        return False
    if now.active in DOWN:
        return True
    if before.invocation and before.invocation == now.invocation:
        return False
    if before.pid is None:
        return False  # a run without a main process (oneshot, RemainAfterExit=) ends with its unit alone
    # While it is being stopped its main process may be gone already: how it ended shows with the next state.
    return now.active != "deactivating" and now.pid != before.pid
