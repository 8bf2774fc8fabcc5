"""Find subsystems that should run and do not: hung ones, and those without restarts left."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from probes.all_clear import AllClear
from probes.progress import Void, never_void
from probes.settings import EnforcedSettings
from probes.subsystems import Snapshots, SubsystemSnapshot, SubsystemState
from statemachine.clock import Clock
from statemachine.finding import Finding, Severity

NAME = "liveness"
_BAD = frozenset({SubsystemState.FAILED, SubsystemState.HUNG})


class LivenessSettings(EnforcedSettings, frozen=True, forbid_unknown_fields=True):
    """Sets how soon a subsystem that hangs or has failed is found."""


class Liveness:
    """Reads the supervisor's snapshots.

    `parked` names the subsystems that recovery has given up on: each is stopped for good and known to be, so nothing
    more is found about it. `is_victim` tells if a subsystem's silence is a symptom of another's trouble, such as an
    upstream that does not answer: then the root is reported instead.
    """

    def __init__(
        self,
        settings: LivenessSettings,
        *,
        snapshots: Snapshots,
        parked: Callable[[], Collection[str]],
        clock: Clock,
        void: Void = never_void,
        is_victim: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._settings = settings
        self._snapshots = snapshots
        self._parked = parked
        self._clock = clock
        self._void = void
        self._is_victim = is_victim
        self._all_clear = AllClear()

    @property
    def name(self) -> str:
        return NAME

    @property
    def interval_seconds(self) -> float:
        return self._settings.interval_seconds

    async def sample(self) -> Sequence[Finding]:
        now, parked = self._clock.monotonic(), self._parked()
        looked_at = [s for s in self._snapshots() if s.kind != "client" and s.name not in parked]
        self._all_clear.keep({s.name for s in looked_at})
        return [finding for s in looked_at if (finding := self._news(s, now))]

    def _news(self, snapshot: SubsystemSnapshot, now: float) -> Finding | None:
        trouble = self._trouble(snapshot, now)
        if not self._all_clear.is_news(snapshot.name, well=trouble is None):
            return None
        return trouble or Finding(NAME, snapshot.name, Severity.OK, now, f"it is {snapshot.state}")

    def _trouble(self, snapshot: SubsystemSnapshot, now: float) -> Finding | None:
        if snapshot.state not in _BAD:
            return None
        evidence = {"pid": snapshot.pid, "restarts": snapshot.restarts, "last_exit": snapshot.last_exit}
        if snapshot.state is SubsystemState.FAILED:
            reason = f"it has failed: {snapshot.status_text}"
            return Finding(NAME, snapshot.name, _gravity(snapshot), now, reason, evidence=evidence, hard=True)
        # Its words may lie unread while epad's own loop stood still: then silence is no evidence.
        excused = self._is_victim(snapshot.name) or self._void(now, now)
        if snapshot.state is SubsystemState.HUNG and not excused:
            reason = f"it hangs: {snapshot.hung_reason}"
            return Finding(NAME, snapshot.name, Severity.ANOMALY, now, reason, evidence=evidence)
        return None


def _gravity(failed: SubsystemSnapshot) -> Severity:
    """Grade a failure. An expendable subsystem must not pause the rest of the house.

    Of an exit the cascade probe has told; the same told twice would count as two troubles.
    """
    if failed.essential:
        return Severity.CRITICAL
    return Severity.WARNING if failed.last_exit else Severity.ANOMALY
