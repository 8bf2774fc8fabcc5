"""Hand every event to every detector, and state their verdicts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from probes.probe import Push
from probes.token_burn.burn import BurnRate
from probes.token_burn.cusum import BusyCusum
from probes.token_burn.output import LoopingOutput
from probes.token_burn.pile_up import OpenTurn, OpenTurns
from probes.token_burn.prompts import Repetition
from probes.token_burn.ratios import Ratios
from probes.token_burn.settings import CLIMBING, SubsystemBudget, TokenBurnSettings
from probes.token_burn.verdict import NAME, Detector, Verdict, firmest
from probes.token_burn.window import WindowSum
from probes.turns import TurnAdmitted, TurnFinished, TurnRefused, TurnStreamed
from statemachine.clock import Clock
from statemachine.containment import Rung
from statemachine.finding import Finding, Severity

BUDGET_EXCEEDED = "budget_exceeded"
"""The one refusal that is about spending; those of a quarantined subsystem are epad's own doing."""

ANY_IN_FLIGHT = 64
"""How many turns a subsystem without a cap of them is taken to have in flight."""

IN_FLIGHT = "max_in_flight"
MICROUSD = "microusd"
EPISODE_SECONDS = 90.0
"""What a detector says again within this time is the same trouble: under a throttle it is heard once in 10 s."""

OF_SPENDING = frozenset({Detector.BURN_RATE, Detector.BUSY_CUSUM})
RESTATE_SECONDS = 1.0
"""A detector that says the same as before is heard once in this time: a loop may ask a thousand times in it."""


def always(_: str) -> bool:
    """Return a subsystem whose answers may be ended."""
    return True


def never_progressed(_: str) -> float:
    """Return a subsystem that says nothing of its progress."""
    return float("-inf")


@dataclass(slots=True)
class _Track:
    """Remembers the detectors and the last statement about one subsystem."""

    burned: WindowSum
    refusals: WindowSum
    early: WindowSum
    repetition: Repetition
    ratios: Ratios
    open: OpenTurns
    burn: BurnRate
    cusum: BusyCusum
    told_until: float = float("-inf")
    bad_at: float | None = None
    judged_at: float = float("-inf")
    stated: dict[Detector, tuple[float, Rung]] = field(default_factory=dict)
    episodes: dict[Detector, tuple[float, float]] = field(default_factory=dict)
    degenerate: int = 0


class TokenBurn:
    """Takes in turns as they happen; states a runaway at once, and the burn of each subsystem on schedule.

    `budget` returns a subsystem's budget. While the last word about a subsystem is bad and younger than the window, a
    sample states nothing good about it: an OK every few seconds would thin out the refusals of a slow loop.
    `progressed_at` is when a subsystem last reported progress: its earlier requests led somewhere.
    """

    def __init__(
        self,
        settings: TokenBurnSettings,
        *,
        budget: Callable[[str], SubsystemBudget],
        clock: Clock,
        push: Push,
        progressed_at: Callable[[str], float] = never_progressed,
        may_end: Callable[[str], bool] = always,
    ) -> None:
        self._settings = settings
        self._budget = budget
        self._clock = clock
        self._push = push
        self._progressed_at = progressed_at
        self._may_end = may_end
        self._tracks: dict[str, _Track] = {}

    @property
    def name(self) -> str:
        return NAME

    @property
    def interval_seconds(self) -> float:
        return self._settings.interval_seconds

    def admitted(self, event: TurnAdmitted) -> None:
        track = self._track(event.subsystem)
        track.open.admitted(event)
        track.burn.admitted(event.at)
        track.cusum.reserved(event.at, event.reserved_tokens)
        verdicts = self._repeated(event, track)
        retrying = track.ratios.admitted(event)
        if retrying is not None:
            verdicts.append(retrying)
        verdicts += self._of_the_moment(event.subsystem, track, event.at)
        bad = bool(verdicts) and self._state(event.subsystem, track, verdicts, event.at)
        if not bad and track.bad_at is not None:
            track.bad_at = None
            self._push(Finding(NAME, event.subsystem, Severity.OK, event.at, "a request was admitted again"))

    def refused(self, event: TurnRefused) -> None:
        track = self._track(event.subsystem)
        failing = track.ratios.refused(event)
        if failing is not None:
            self._state(event.subsystem, track, [failing], event.at)
        track.repetition.refused(event.at)
        if event.limit == IN_FLIGHT:
            cap = self._budget(event.subsystem).max_in_flight
            if event.limit_tokens not in (0, cap):
                return  # the cap on everyone together: others may be the ones that pile up
            track.open.refused_at_cap(
                event.at, cap, told=event.retry_after_seconds, waited=event.waited_seconds
            )
            self._state(
                event.subsystem, track, self._of_the_moment(event.subsystem, track, event.at), event.at
            )
        elif event.code == BUDGET_EXCEEDED:
            track.refusals.add(event.at, 1)
            if event.at < track.told_until:
                track.early.add(event.at, 1)
            track.told_until = event.at + event.retry_after_seconds
            if self._hammers(event, track):
                track.bad_at = event.at
                self._push(self._over_limit(event, track).finding(event.subsystem, event.at))

    def streamed(self, event: TurnStreamed) -> str:
        """Take in streamed text; return the reason to end the answer here, if it is degenerate."""
        track = self._tracks.get(event.subsystem)
        turn = track.open.streaming(event.turn, event.at) if track is not None else None
        if track is None or turn is None:
            return ""
        if turn.output is None:
            turn.output = LoopingOutput(self._settings)
        looping = turn.output.streamed(event)
        # Between two chunks nothing is reserved or spent: only time can have changed what the sums say.
        due = event.at - track.judged_at >= RESTATE_SECONDS
        if looping is None and not due:
            return ""
        verdicts = self._of_the_moment(event.subsystem, track, event.at) if due else []
        if looping is not None:
            verdicts += self._degenerate(event, track, turn, looping)
        self._state(event.subsystem, track, verdicts, event.at)
        return looping.reason if looping is not None and self._may_end(event.subsystem) else ""

    def finished(self, event: TurnFinished) -> None:
        track = self._track(event.subsystem)
        ended = track.open.finished(event.turn)
        track.burned.add(event.at, event.charged_tokens)
        track.burn.spent(event.at, event.charged_tokens)
        track.repetition.finished(event)
        if ended is not None and ended.output is not None and not ended.told:
            track.degenerate = 0
        failing = track.ratios.finished(event)
        if failing is not None:
            self._state(event.subsystem, track, [failing], event.at)

    async def sample(self) -> Sequence[Finding]:
        now = self._clock.monotonic()
        findings = []
        for subsystem, track in self._tracks.items():
            verdict = firmest(self._of_the_moment(subsystem, track, now))
            if verdict is not None and verdict.bad:
                track.bad_at = now
                track.cusum.taint()
                findings.append(verdict.finding(subsystem, now))
            elif track.bad_at is None or now - track.bad_at >= self._settings.window_seconds:
                findings.append(self._burn(subsystem, track, verdict, now))
        return findings

    def forget(self, subsystem: str) -> None:
        """Forget the past of a released subsystem, so that it begins afresh."""
        self._tracks.pop(subsystem, None)

    def _repeated(self, event: TurnAdmitted, track: _Track) -> list[Verdict]:
        """Return the verdicts on repetition, unless the subsystem's own work has progressed meanwhile."""
        verdicts = track.repetition.admitted(event)
        if verdicts and self._progressed_at(event.subsystem) >= track.repetition.since:
            track.repetition.clear(event.at)
            return []
        return verdicts

    def _degenerate(
        self, event: TurnStreamed, track: _Track, turn: OpenTurn, looping: Verdict
    ) -> list[Verdict]:
        """Tell once of an answer that says nothing new, since it is ended.

        It is an anomaly if many in a row are such, or if one goes on: then nobody has ended it.
        """
        if turn.told:
            return [looping]
        turn.told = True
        track.degenerate += 1
        if track.degenerate >= self._settings.output_answers:
            return [replace(looping, reason=f"{track.degenerate} answers in a row: {looping.reason}")]
        warned = replace(looping, severity=Severity.WARNING, rung=Rung.OPEN)
        evidence = {**warned.evidence, "ended": True, "in_a_row": track.degenerate}
        self._push(replace(warned, evidence=evidence).finding(event.subsystem, event.at))
        return []

    def _track(self, subsystem: str) -> _Track:
        track = self._tracks.get(subsystem)
        if track is None:
            t = self._settings
            track = self._tracks[subsystem] = _Track(
                burned=WindowSum(t.window_seconds),
                refusals=WindowSum(t.window_seconds),
                early=WindowSum(t.window_seconds),
                repetition=Repetition(t),
                ratios=Ratios(t),
                open=OpenTurns(t),
                burn=BurnRate(dict(t.burn)),
                cusum=BusyCusum(t),
            )
        return track

    def _of_the_moment(self, subsystem: str, track: _Track, now: float) -> list[Verdict]:
        """Return the verdicts on reserved and spent tokens and the turns in flight; called at every event."""
        track.judged_at = now
        budget = self._budget(subsystem)
        verdicts = (
            track.burn.verdict(now, budget.tokens_per_day, track.open.reserved_tokens),
            track.cusum.verdict(now),
            track.open.verdict(now, budget.max_in_flight),
            track.ratios.verdict(now),
        )
        return [verdict for verdict in verdicts if verdict is not None]

    def _state(self, subsystem: str, track: _Track, verdicts: list[Verdict], at: float) -> bool:
        """Push the bad verdicts, each detector once a while; tell if there were any."""
        bad = [self._climbed(track, verdict, at) for verdict in verdicts if verdict.bad]
        for verdict in bad:
            stated_at, rung = track.stated.get(verdict.detector, (float("-inf"), Rung.OPEN))
            if at - stated_at >= RESTATE_SECONDS or verdict.rung > rung:
                track.stated[verdict.detector] = (at, verdict.rung)
                self._push(verdict.finding(subsystem, at))
        if bad:
            track.bad_at = at
            track.cusum.taint()
        return bool(bad)

    def _climbed(self, track: _Track, verdict: Verdict, at: float) -> Verdict:
        """Freeze a loop that goes on long under its throttle; add the growth of prompts to a verdict on spending."""
        if verdict.detector in OF_SPENDING:
            return replace(verdict, reason=verdict.reason + track.repetition.growth())
        since, last = track.episodes.get(verdict.detector, (at, at))
        since = since if at - last <= EPISODE_SECONDS else at
        track.episodes[verdict.detector] = (since, at)
        long_enough = at - since >= self._settings.climb_seconds
        if not (long_enough and verdict.detector in CLIMBING and verdict.rung is Rung.THROTTLE):
            return verdict
        reason = f"{verdict.reason}, and still so after {at - since:.0f} s"
        return replace(verdict, rung=Rung.FREEZE, reason=reason)

    def _burn(self, subsystem: str, track: _Track, warning: Verdict | None, now: float) -> Finding:
        """Compare the tokens of the window with its budget, or state a detector's warning."""
        seconds = self._settings.window_seconds
        burned = track.burned.total(now)
        limit = self._budget(subsystem).tokens_per_minute * seconds / 60
        ratio = burned / limit if limit else 0.0
        nearly = ratio >= self._settings.warn_ratio
        if warning is not None and not nearly:
            return warning.finding(subsystem, now)
        share = f", {ratio:.0%} of its budget" if limit else ""
        return Finding(
            NAME,
            subsystem,
            Severity.WARNING if nearly else Severity.OK,
            now,
            f"{burned} tokens in the last {seconds:.0f} s{share}",
            value=burned,
            limit=limit or None,
            unit="tokens",
        )

    def _hammers(self, event: TurnRefused, track: _Track) -> bool:
        """Say whether a client goes on asking before the time that it was told.

        A limit that works is no anomaly: each of the turns in flight may be refused once when it comes back, and
        libraries that ask again after 1, 2, 4, 8 seconds do so in few parts of the window.
        """
        in_flight = self._budget(event.subsystem).max_in_flight or ANY_IN_FLIGHT
        most = max(self._settings.hammering_refusals, 3 * in_flight)
        early = track.early
        return early.total(event.at) > most and early.slots(event.at) >= self._settings.hammering_slots

    def _over_limit(self, event: TurnRefused, track: _Track) -> Verdict:
        never = 0 < event.limit_tokens < event.asked_tokens
        money = event.unit == MICROUSD
        used, allowed = (
            f"${amount / 1_000_000:.6f}" if money else str(amount)
            for amount in (event.used_tokens, event.limit_tokens)
        )
        asked = f"${event.asked_tokens / 1_000_000:.6f}" if money else f"{event.asked_tokens} {event.unit}"
        return Verdict(
            Detector.HARD_LIMIT,
            Severity.ANOMALY,
            self._settings.rung(Detector.HARD_LIMIT),
            f"{track.early.total(event.at)} times in {self._settings.window_seconds:.0f} s it asked again before the "
            f"time it was told: {asked} with {used} of {allowed} {event.limit or 'budget'} used"
            + (", and a request of this size can never pass" if never else "")
            + track.repetition.growth(),
            event.used_tokens + event.asked_tokens,
            event.limit_tokens,
            event.unit,
            {
                "prompt": event.prompt_digest.hex(),
                "limit": event.limit,
                "refusals": track.refusals.total(event.at),
                "early": track.early.total(event.at),
                "window_seconds": self._settings.window_seconds,
            },
        )
