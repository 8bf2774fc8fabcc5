"""Find burn without progress: tokens are spent and the reported work does not grow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from probes.all_clear import AllClear
from probes.settings import EnforcedSettings
from probes.subsystems import Snapshots, SubsystemSnapshot, SubsystemState
from probes.turns import TurnAdmitted, TurnFinished, TurnRefused
from statemachine.clock import Clock
from statemachine.finding import Finding, Severity
from statemachine.value_types import Count, Seconds

NAME = "progress"

# What is frozen or stopped cannot progress: to judge it would hold it for ever.
_HELD = frozenset(
    {
        SubsystemState.QUARANTINED,
        SubsystemState.PAUSED,
        SubsystemState.STOPPED,
        SubsystemState.FAILED,
    }
)

Void = Callable[[float, float], bool]
"""Whether epad itself stood still at any time between these two."""


def never_void(_: float, __: float) -> bool:
    """Return a daemon that is always awake."""
    return False


class ProgressSettings(EnforcedSettings, frozen=True, forbid_unknown_fields=True):
    """Sets the limits of burning tokens without progress."""

    stall_seconds: Seconds
    min_tokens: Count


@dataclass(slots=True)
class _Track:
    """Holds a subsystem's last progress, and the tokens burnt since."""

    done: int
    total: int | None
    at: float
    tokens: int = 0
    burning_since: float | None = None
    burned_at: float | None = None


class Progress:
    """Compares the cost of turns with the progress that subsystems report.

    Any change of the reported progress is progress, a step back too (work begun anew). A restart that reports the same
    number again is not. While epad itself has just stood still nothing is reported, since reports may have been missed.
    """

    def __init__(
        self,
        settings: ProgressSettings,
        *,
        snapshots: Snapshots,
        clock: Clock,
        void: Void = never_void,
    ) -> None:
        self._settings = settings
        self._snapshots = snapshots
        self._clock = clock
        self._void = void
        self._tracks: dict[str, _Track] = {}
        self._all_clear = AllClear()

    @property
    def name(self) -> str:
        return NAME

    @property
    def interval_seconds(self) -> float:
        return self._settings.interval_seconds

    def admitted(self, event: TurnAdmitted) -> None:
        """Do nothing: no token has been burnt yet."""

    def refused(self, event: TurnRefused) -> None:
        """Do nothing: a refused turn burns no tokens."""

    def finished(self, event: TurnFinished) -> None:
        track = self._tracks.get(event.subsystem)
        if track is not None:
            track.tokens += event.charged_tokens
            track.burned_at = event.at
            if track.burning_since is None:
                track.burning_since = event.at

    async def sample(self) -> Sequence[Finding]:
        now = self._clock.monotonic()
        snapshots = self._snapshots()
        known = {snapshot.name for snapshot in snapshots}
        self._tracks = {name: track for name, track in self._tracks.items() if name in known}
        self._all_clear.keep(known)
        for snapshot in snapshots:
            self._follow(snapshot, now)
        if self._void(now, now):
            return []
        judged = [self._judge(snapshot, now) for snapshot in snapshots if snapshot.state not in _HELD]
        return [
            finding
            for finding in judged
            if self._all_clear.is_news(finding.subsystem, well=finding.severity is Severity.OK)
        ]

    def forget(self, subsystem: str) -> None:
        """Start afresh with a subsystem that was released: its stall begins to count anew."""
        track = self._tracks.get(subsystem)
        if track is not None:
            track.at, track.tokens, track.burning_since = self._clock.monotonic(), 0, None

    def _follow(self, snapshot: SubsystemSnapshot, now: float) -> None:
        done, total = snapshot.progress_done, snapshot.progress_total
        if done is None:
            return
        track = self._tracks.get(snapshot.name)
        if track is None or (track.done, track.total) != (done, total):
            progressed_at = now if snapshot.progressed_at is None else snapshot.progressed_at
            self._tracks[snapshot.name] = _Track(done, total, progressed_at)

    def _judge(self, snapshot: SubsystemSnapshot, now: float) -> Finding:
        track = self._tracks.get(snapshot.name)
        if track is None:
            return Finding(NAME, snapshot.name, Severity.OK, now, "it reports no progress")
        if track.total is not None and 0 < track.total <= track.done:
            return self._state(snapshot.name, track, now, Severity.OK, f"finished: {_position(track)}")
        if not self._stalled(track, now):
            return self._state(snapshot.name, track, now, Severity.OK, f"at {_position(track)}")
        burning_seconds = now - (track.burning_since or now)
        reason = f"{track.tokens} tokens in {burning_seconds:.0f} s and still at {_position(track)}"
        return self._state(snapshot.name, track, now, Severity.ANOMALY, reason)

    def _stalled(self, track: _Track, now: float) -> bool:
        """Idle time is no stall: it counts from the first tokens burnt since the last progress."""
        limits = self._settings
        if track.burning_since is None or track.burned_at is None:
            return False
        burns_on = now - track.burned_at < limits.stall_seconds
        long_enough = now - track.burning_since >= limits.stall_seconds
        return burns_on and long_enough and track.tokens >= limits.min_tokens

    def _state(self, name: str, track: _Track, now: float, severity: Severity, reason: str) -> Finding:
        evidence = {
            "done": track.done,
            "total": track.total,
            "tokens": track.tokens,
            "unmoved_seconds": round(now - track.at, 3),
        }
        limit = self._settings.min_tokens
        return Finding(
            NAME,
            name,
            severity,
            now,
            reason,
            value=track.tokens,
            limit=limit,
            unit="tokens",
            evidence=evidence,
        )


def _position(track: _Track) -> str:
    return str(track.done) if track.total is None else f"{track.done}/{track.total}"
