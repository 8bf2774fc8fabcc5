"""Find cascades: take in exits and looks, and report crash loops, failures, and their common roots."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from probes.cascade.attribution import Attribution, CascadeIncident
from probes.cascade.crashes import Crashes, CrashTrack
from probes.cascade.graph import DependencyGraph
from probes.cascade.node import Look
from probes.cascade.settings import CascadeSettings
from probes.probe import Push
from probes.subsystems import SubsystemExited
from statemachine.clock import Clock
from statemachine.finding import HOST, Finding, Severity
from statemachine.rung import Rung

NAME = "cascade"
CALM_INTERVALS = 2
AFTER_SLEEP_SECONDS = 60.0
"""What dies so soon after the machine woke up lost a device by that; of each subsystem once a wake."""
_LONG_SECONDS = 600.0


def exited_cleanly(event: SubsystemExited) -> bool:
    """Tell if a process ended by itself because its work was done: no failure, and no restart wanted."""
    return event.status == "exit 0" and not event.will_restart


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """Gives the probe its inputs: the looks at each node, and the dependencies.

    `looks` returns the looks since the last call. `answers_for` names the subsystem that a node's trouble is stated
    about, HOST for a node that is not ours. `subsystems` returns their number.
    """

    graph: DependencyGraph = field(default_factory=DependencyGraph)
    looks: Callable[[], Iterable[Look]] = tuple
    answers_for: Callable[[str], str] = str
    subsystems: Callable[[], int] = int


class Cascade:
    """Told about every exit, and looks at every node on schedule; states roots and leaves victims alone.

    Exits that the daemon wanted, and those that `completed` says were the end of the work, are no crashes.
    `void` says whether a stretch of time is no evidence, since epad itself lagged in it; `slept_until`, when the
    machine last woke up before a time.
    """

    def __init__(
        self,
        settings: CascadeSettings,
        *,
        clock: Clock,
        push: Push,
        completed: Callable[[SubsystemExited], bool] = exited_cleanly,
        neighbourhood: Neighbourhood | None = None,
        void: Callable[[float, float], bool] = lambda _, __: False,
        slept_until: Callable[[float], float] = lambda _: float("-inf"),
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._push = push
        self._completed = completed
        around = neighbourhood or Neighbourhood()
        self._looks, self._answers_for, self._subsystems = around.looks, around.answers_for, around.subsystems
        self._void, self._slept_until = void, slept_until
        self._excused: dict[str, float] = {}
        self._crashes = Crashes(settings.window_seconds)
        self._attribution = Attribution(around.graph, settings.look_rule, settings.settle_seconds)
        self._looked_at = self._began_at = clock.monotonic()
        self._stated: set[str] = set()
        self._untold_crash = False
        self._given_up: dict[str, SubsystemExited] = {}

    @property
    def name(self) -> str:
        return NAME

    @property
    def interval_seconds(self) -> float:
        """Twice as long while nothing fails: of 100 subsystems a look takes a quarter of an idle daemon's time."""
        return self._settings.interval_seconds * (CALM_INTERVALS if self._attribution.is_calm else 1)

    def exited(self, event: SubsystemExited) -> None:
        if event.wanted:
            return
        name, before = event.subsystem, self.victims()
        if self._completed(event) or self._is_excused(event):
            self._attribution.forget(name, event.at)
            return
        self._attribution.observe(Look(name, event.at, f"it ended with {event.status}", hard=True, told=True))
        self._count(event)
        self._excuse_victims(before, event.at)

    def _is_excused(self, event: SubsystemExited) -> bool:
        """Tell if an exit is no crash: the process was asked to end, or the machine slept and took its devices away."""
        if self._crashes.was_asked(event):
            return True
        slept_until = self._slept_until(event.at)
        if not event.will_restart or event.at - slept_until > AFTER_SLEEP_SECONDS:
            return False
        excused, self._excused[event.subsystem] = self._excused.get(event.subsystem), slept_until
        return excused is None or slept_until - excused > AFTER_SLEEP_SECONDS

    async def sample(self) -> Sequence[Finding]:
        """Look at every node; state the roots that stand, and those that have become quiet."""
        now, before = self._clock.monotonic(), self.victims()
        void, self._looked_at = self._void(self._looked_at, now), now
        for look in self._looks():
            if look.hard or not void:
                self._attribution.observe(look)
        if void:
            self._attribution.postpone(now)
        self._excuse_victims(before, now)
        due = [incident for incident in self.incidents() if incident.settled and not incident.told]
        failing = [self._failing(incident, now) for incident in due]
        return [*failing, *self._quiet(now, failing), *self._together(now)]

    def incidents(self) -> list[CascadeIncident]:
        """Return every root as of now with the subsystems that are its victims, settled or not."""
        return [
            replace(incident, victims=tuple(n for n in incident.victims if self._answers_for(n) == n))
            for incident in self._attribution.incidents(self._clock.monotonic())
        ]

    def victims(self) -> Mapping[str, str]:
        """Return the subsystems that suffer from another subsystem's trouble, each with the name of that one.

        Providers stand first. Victims of a root outside of this house are left out: no recovery here can mend that.
        """
        return self._victims_of(self.incidents())

    def is_victim(self, name: str) -> bool:
        """Say whether a subsystem's trouble is a symptom of something else's, be that ours or not."""
        return self._attribution.is_victim(name)

    def waiting(self) -> Mapping[str, str]:
        """Return the victims that are to wait until their root is well.

        Where an upstream is the root, and the process that serves it runs, nobody has to: the gateway answers for it.
        """
        return self._victims_of(
            [each for each in self.incidents() if self._answers_for(each.root) == each.root]
        )

    def _victims_of(self, incidents: Sequence[CascadeIncident]) -> dict[str, str]:
        found: dict[str, str] = {}
        for incident in incidents:
            root = self._answers_for(incident.root)
            for name in incident.victims:
                if root not in {HOST, name}:
                    found.setdefault(name, root)
        return found

    def remember(self, subsystem: str, failed_at: Iterable[float]) -> None:
        """Count a failure of before this daemon was started; it is reported only if the row continues.

        Of one that needs another it counts for nothing: it may have been a victim, and nobody remembers that.
        """
        reason = "before epad was started"
        for at in failed_at:
            self._crashes.add(
                SubsystemExited(subsystem, at, "unknown", wanted=False, will_restart=True, reason=reason)
            )

    def forget(self, subsystem: str) -> None:
        """Start afresh with a subsystem that was released: its former crashes and looks count no more."""
        self._crashes.forget([subsystem])
        self._given_up.pop(subsystem, None)
        self._excused.pop(subsystem, None)
        self._attribution.forget(subsystem, self._clock.monotonic())

    def _count(self, event: SubsystemExited) -> None:
        if self._attribution.is_victim(event.subsystem):
            self._excuse(event)
            return
        if self._attribution.graph.above(event.subsystem):
            self._crashes.drop_before(event.subsystem, self._began_at)
        track = self._crashes.add(event)
        self._untold_crash = True
        limits = self._settings
        is_loop = len(track.crashed_at) >= limits.crashes or limits.goes_on(track.row, event.at)
        if track.given_up or is_loop:
            self._push(self._crashing(event, track))
        for finding in self._together(event.at):
            self._push(finding)

    def _excuse(self, event: SubsystemExited) -> None:
        """Hold a crash against nobody; one that is not restarted is stated once its root is well."""
        if not event.will_restart:
            self._given_up[event.subsystem] = event

    def _excuse_victims(self, before: Mapping[str, str], now: float) -> None:
        """Hold no crash against a victim; and say at once who has become one, or is one no longer."""
        victims = self.victims()
        for name in filter(self._attribution.is_victim, self._crashes.names()):
            self._excuse(self._crashes.last(name))
            self._crashes.forget([name])
        for name in [name for name in self._given_up if not self._attribution.is_victim(name)]:
            self._count(replace(self._given_up.pop(name), at=now))
        changed = {name for name, _ in victims.items() ^ before.items()}
        for name in sorted(changed):
            reason = f"a victim of {victims[name]}" if name in victims else f"{before[name]} is well again"
            self._push(Finding(NAME, name, Severity.OK, now, reason))

    def _quiet(self, now: float, failing: Sequence[Finding]) -> list[Finding]:
        """Return an OK for each subsystem that has become quiet. The others were stated when they failed."""
        self._crashes.drop(now)
        seconds = self._settings.window_seconds
        names = set(self._crashes.take_quiet())
        over, self._stated = self._stated, {finding.subsystem for finding in failing}
        names |= over
        if len(self._unhealed(now)) < self._settings.subsystems:
            names.add(HOST)
        names -= self._stated | set(self._crashes.names())
        return [Finding(NAME, n, Severity.OK, now, f"quiet for {seconds:.0f} s") for n in sorted(names)]

    def _together(self, now: float) -> list[Finding]:
        """Several roots at once are no coincidence; but who is a root shows only after the settle time.

        One crash that has healed is none: two programs that each died once and came back need nothing more.
        """
        crashed = self._unhealed(now)
        settled = [at for at, _ in crashed if now - at >= self._settings.settle_seconds]
        if len(settled) < self._settings.subsystems or not self._untold_crash:
            return []
        self._untold_crash = False
        return [self._several(crashed, now)]

    def _unhealed(self, now: float) -> list[tuple[float, str]]:
        """Return the crashes since this daemon began; who was whose victim before that is not known."""
        return self._crashes.unhealed(self._settings.together_seconds, now, self._began_at)

    def _severity(self, incident: CascadeIncident | None) -> Severity:
        """Critical once it takes along more of the subsystems than may be held without a checkpoint first."""
        hurt = len(incident.victims) if incident else 0
        too_many = hurt + 1 > self._settings.blast_ratio * self._subsystems()
        return Severity.CRITICAL if hurt and too_many else Severity.ANOMALY

    def _crashing(self, event: SubsystemExited, track: CrashTrack) -> Finding:
        """Name a rung for a burst, a continued row, or an end without another start; none for other loops.

        Between two crashes that are far apart it works, and stopping it would help no one: such a loop is only
        reported. A loop that goes on is held, since no one can rely on it and each start costs as much as loading a
        model.
        """
        limits = self._settings
        burst = track.within(limits.together_seconds, event.at)
        is_burst, goes_on = burst >= limits.crashes, limits.goes_on(track.row, event.at)
        count, seconds = len(track.crashed_at), limits.window_seconds
        if is_burst:
            count, seconds = burst, limits.together_seconds
        elif goes_on and track.row is not None:
            count, seconds = track.row.crashes, event.at - track.row.began
        calls = is_burst or goes_on or track.given_up
        incident = next((i for i in self.incidents() if i.root == event.subsystem), None)
        victims = incident.victims if incident else ()
        lived = f", {track.lived}" if track.lived and not is_burst else ""
        in_a_row = " in a row" if goes_on and not is_burst else ""
        reason = f"crashed {count} times{in_a_row} in {_span(seconds)}{lived}, last with {event.status}"
        if track.given_up:
            reason = f"it ended with {event.status} and is not restarted: {event.reason}"
        return Finding(
            NAME,
            event.subsystem,
            self._severity(incident) if calls else Severity.ANOMALY,
            event.at,
            reason + _taking_along(victims),
            value=count,
            limit=limits.crashes,
            unit="crashes",
            evidence={
                "status": event.status,
                "crashes": count,
                "seconds": seconds,
                "given_up": track.given_up,
                "victims": list(victims),
            },
            hard=True,
            rung=None if calls else Rung.OPEN,
        )

    def _failing(self, incident: CascadeIncident, now: float) -> Finding:
        """Return a root that looks failed, and of which nobody else says so: shown, and left to RECOVERY."""
        subsystem = self._answers_for(incident.root)
        severity = self._severity(incident)
        if (
            subsystem != incident.root
        ):  # an upstream: the gateway answers for it, so its victims are in no danger
            severity = Severity.WARNING if subsystem == HOST else Severity.ANOMALY
        return Finding(
            NAME,
            subsystem,
            severity,
            now,
            f"{incident.root} fails: {incident.reason}{_taking_along(incident.victims)}",
            value=1 + len(incident.victims),
            unit="subsystems",
            evidence={
                "root": incident.root,
                "victims": list(incident.victims),
                "flapping": incident.flapping,
            },
            rung=Rung.OPEN,
        )

    def _several(self, crashed: list[tuple[float, str]], at: float) -> Finding:
        names = [name for _, name in crashed]
        return Finding(
            NAME,
            HOST,
            Severity.CRITICAL,
            at,
            f"{len(names)} subsystems crashed within {self._settings.together_seconds:.0f} s and none needs "
            f"another, {names[0]} first: {', '.join(names)}",
            value=len(names),
            limit=self._settings.subsystems,
            unit="subsystems",
            evidence={
                "subsystems": names,
                "first_crashes": {name: first for first, name in crashed},
                "statuses": {name: self._crashes.last(name).status for name in names},
            },
            hard=True,
        )


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < _LONG_SECONDS else f"{seconds / 60:.0f} min"


def _taking_along(victims: Sequence[str]) -> str:
    return f"; {', '.join(victims)} suffer from it" if victims else ""
