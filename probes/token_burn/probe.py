"""The probe: it hands every event to every detector, and states what they say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from probes.probe import Push
from probes.token_burn.burn import BurnRate
from probes.token_burn.cusum import BusyCusum
from probes.token_burn.pile_up import OpenTurns
from probes.token_burn.prompts import Repetition
from probes.token_burn.ratios import Ratios
from probes.token_burn.thresholds import SubsystemBudget, TokenBurnThresholds
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
RESTATE_SECONDS = 1.0
"""A detector that says the same as before is heard once in this time: a loop may ask a thousand times in it."""


@dataclass(slots=True)
class _Track:
    """What is remembered of one subsystem."""

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


class TokenBurn:
    """Told about turns as they happen; states a runaway at once, and the burn of each subsystem on schedule.

    `budget` says what a subsystem may spend. While the last word about a subsystem is bad and younger than the
    window, a sample says nothing good about it: an OK every few seconds would thin out the refusals of a loop
    that is merely slow.
    """

    def __init__(
        self,
        thresholds: TokenBurnThresholds,
        *,
        budget: Callable[[str], SubsystemBudget],
        clock: Clock,
        push: Push,
    ) -> None:
        self._thresholds = thresholds
        self._budget = budget
        self._clock = clock
        self._push = push
        self._tracks: dict[str, _Track] = {}

    @property
    def name(self) -> str:
        return NAME

    @property
    def interval_seconds(self) -> float:
        return self._thresholds.interval_seconds

    def admitted(self, event: TurnAdmitted) -> None:
        track = self._track(event.subsystem)
        track.open.admitted(event)
        track.burn.admitted(event.at)
        track.cusum.reserved(event.at, event.reserved_tokens)
        verdicts = track.repetition.admitted(event)
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
        if event.limit == IN_FLIGHT:
            if event.limit_tokens not in (0, self._budget(event.subsystem).max_in_flight):
                return  # the cap on everyone together: others may be the ones that pile up
            track.open.refused_at_cap(event.at)
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

    def streamed(self, event: TurnStreamed) -> None:
        track = self._tracks.get(event.subsystem)
        output = track.open.output(event.turn) if track is not None else None
        if track is None or output is None:
            return
        looping = output.streamed(event)
        # Between two chunks nothing is reserved or spent: only time can have changed what the sums say.
        due = event.at - track.judged_at >= RESTATE_SECONDS
        if looping is None and not due:
            return
        verdicts = self._of_the_moment(event.subsystem, track, event.at) if due else []
        if looping is not None:
            verdicts.append(looping)
        self._state(event.subsystem, track, verdicts, event.at)

    def finished(self, event: TurnFinished) -> None:
        track = self._track(event.subsystem)
        ended = track.open.finished(event.turn)
        track.burned.add(event.at, event.charged_tokens)
        track.burn.spent(event.at, event.charged_tokens)
        track.repetition.finished(event.at)
        if ended is not None and ended.prompt_digest and _came_to_nothing(event):
            track.repetition.unanswered(ended.prompt_digest)
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
            elif track.bad_at is None or now - track.bad_at >= self._thresholds.window_seconds:
                findings.append(self._burn(subsystem, track, verdict, now))
        return findings

    def forget(self, subsystem: str) -> None:
        """Start afresh with a subsystem that was released: what it did before counts no more."""
        self._tracks.pop(subsystem, None)

    def _track(self, subsystem: str) -> _Track:
        track = self._tracks.get(subsystem)
        if track is None:
            t = self._thresholds
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
        """What reserved and spent tokens, and the turns in flight, say now; asked at every event."""
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
        """Push what is bad, each detector once a while; say whether anything was."""
        bad = [verdict for verdict in verdicts if verdict.bad]
        for verdict in bad:
            stated_at, rung = track.stated.get(verdict.detector, (float("-inf"), Rung.OPEN))
            if at - stated_at >= RESTATE_SECONDS or verdict.rung > rung:
                track.stated[verdict.detector] = (at, verdict.rung)
                self._push(verdict.finding(subsystem, at))
        if bad:
            track.bad_at = at
            track.cusum.taint()
        return bool(bad)

    def _burn(self, subsystem: str, track: _Track, warning: Verdict | None, now: float) -> Finding:
        """The tokens of the window against the budget of it, or what a detector warns of."""
        seconds = self._thresholds.window_seconds
        burned = track.burned.total(now)
        limit = self._budget(subsystem).tokens_per_minute * seconds / 60
        ratio = burned / limit if limit else 0.0
        nearly = ratio >= self._thresholds.warn_ratio
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
        most = max(self._thresholds.hammering_refusals, 3 * in_flight)
        early = track.early
        return early.total(event.at) > most and early.slots(event.at) >= self._thresholds.hammering_slots

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
            self._thresholds.rung(Detector.HARD_LIMIT),
            f"{track.early.total(event.at)} times in {self._thresholds.window_seconds:.0f} s it asked again before the "
            f"time it was told: {asked} with {used} of {allowed} {event.limit or 'budget'} used"
            + (", and a request of this size can never pass" if never else ""),
            event.used_tokens + event.asked_tokens,
            event.limit_tokens,
            event.unit,
            {
                "prompt": event.prompt_digest.hex(),
                "limit": event.limit,
                "refusals": track.refusals.total(event.at),
                "early": track.early.total(event.at),
                "window_seconds": self._thresholds.window_seconds,
            },
        )


def _came_to_nothing(event: TurnFinished) -> bool:
    """Whether nobody answered, at no cost: the upstream could not be reached, or was not ready."""
    silent = event.http_status == 0 or event.http_status >= 500
    return event.outcome == "failed" and silent and not event.charged_tokens
