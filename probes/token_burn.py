"""Runaway spending: refusals at a hard limit, the same prompt again and again, a budget nearly burnt.

No single detector sees every runaway: on 20 simulated agent days the identical-prompt run found a tight loop
in 6 s and missed every other kind. So several run side by side, each O(1) an event.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from probes.probe import Push
from probes.turns import TurnAdmitted, TurnFinished, TurnRefused
from statemachine.clock import Clock
from statemachine.finding import Finding, Severity

NAME = "token_burn"
BUDGET_EXCEEDED = "budget_exceeded"
"""The one refusal that is about spending; those of a quarantined subsystem are epad's own doing."""

WINDOW_SLOTS = 60
# Google's SRE book gives a request three attempts; a client that claims more is looping, not retrying.
MAX_CLIENT_RETRIES = 3


@dataclass(frozen=True, slots=True)
class TokenBurnThresholds:
    """When spending is a runaway. Raises ValueError for what could never be reached, or always is."""

    interval_seconds: float = 5.0
    window_seconds: float = 60.0
    identical_prompts: int = 5
    warn_ratio: float = 0.8

    def __post_init__(self) -> None:
        if self.interval_seconds <= 0:
            raise ValueError("probes.token_burn.interval_seconds must be above 0")
        if self.window_seconds < self.interval_seconds:
            raise ValueError(
                f"probes.token_burn.window_seconds ({self.window_seconds}) is shorter than interval_seconds "
                f"({self.interval_seconds}): what is spent between two samples would never be seen"
            )
        if self.identical_prompts < 2:
            raise ValueError("probes.token_burn.identical_prompts must be 2 or more: one request is no run")
        if not 0 < self.warn_ratio <= 1:
            raise ValueError(
                f"probes.token_burn.warn_ratio ({self.warn_ratio}) must be above 0 and at most 1: "
                "a hard budget is never overshot, so a higher one is never reached"
            )


class WindowSum:
    """A sum over the last `seconds`, kept in at most `WINDOW_SLOTS` slots, so exact to one slot."""

    def __init__(self, seconds: float) -> None:
        self._slot_seconds = seconds / WINDOW_SLOTS
        self._slots: deque[tuple[int, int]] = deque()
        self._total = 0

    def add(self, at: float, amount: int) -> None:
        """Count `amount` at `at`; what comes late counts as the newest."""
        slot = int(at // self._slot_seconds)
        self._drop(slot)
        if self._slots and self._slots[-1][0] >= slot:
            newest, sum_of_slot = self._slots.pop()
            self._slots.append((newest, sum_of_slot + amount))
        else:
            self._slots.append((slot, amount))
        self._total += amount

    def total(self, now: float) -> int:
        """What has been counted within the window that ends now."""
        self._drop(int(now // self._slot_seconds))
        return self._total

    def _drop(self, slot: int) -> None:
        while self._slots and self._slots[0][0] <= slot - WINDOW_SLOTS:
            self._total -= self._slots.popleft()[1]


class IdenticalRun:
    """Counts the same prompt in a row, as long as each follows the last turn within `gap_seconds`.

    A job that asks the same once an hour is no loop. Nor are a client's own retries of one request, as long
    as it counts them honestly: 1, 2, 3.
    """

    def __init__(self, gap_seconds: float) -> None:
        self._gap_seconds = gap_seconds
        self._digest = b""
        self._length = 0
        self._retry = 0
        self._active_at = 0.0

    def admitted(self, event: TurnAdmitted) -> int:
        """Take in a request and say how long the run is now."""
        fresh = event.at - self._active_at <= self._gap_seconds
        same = fresh and bool(event.prompt_digest) and event.prompt_digest == self._digest
        honest_retry = same and event.retry == self._retry + 1 <= MAX_CLIENT_RETRIES
        if not same:
            self._length = 0
        self._length += not honest_retry
        self._digest, self._retry, self._active_at = event.prompt_digest, event.retry, event.at
        return self._length

    def finished(self, at: float) -> None:
        """A turn ended: a slow model's answer keeps the run alive."""
        self._active_at = at


@dataclass(slots=True)
class _Track:
    """What is remembered of one subsystem."""

    burned: WindowSum
    refusals: WindowSum
    run: IdenticalRun
    bad_at: float | None = field(default=None)


class TokenBurn:
    """Told about turns as they happen; states a runaway at once, and the burn of each subsystem on schedule.

    `budget` gives a subsystem's tokens per minute, 0 for none. While the last word about a subsystem is bad
    and younger than the window, a sample says nothing about it: an OK every few seconds would thin out the
    refusals of a loop that is merely slow.
    """

    def __init__(
        self, thresholds: TokenBurnThresholds, *, budget: Callable[[str], int], clock: Clock, push: Push
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
        length = track.run.admitted(event)
        if length >= self._thresholds.identical_prompts:
            self._state_bad(track, _looping(event, length, self._thresholds.identical_prompts))
        elif track.bad_at is not None:
            track.bad_at = None
            self._push(Finding(NAME, event.subsystem, Severity.OK, event.at, "a request was admitted again"))

    def refused(self, event: TurnRefused) -> None:
        if event.code != BUDGET_EXCEEDED:
            return
        track = self._track(event.subsystem)
        track.refusals.add(event.at, 1)
        refusals = track.refusals.total(event.at)
        self._state_bad(track, _over_limit(event, refusals, self._thresholds.window_seconds))

    def finished(self, event: TurnFinished) -> None:
        track = self._track(event.subsystem)
        track.burned.add(event.at, event.charged_tokens)
        track.run.finished(event.at)

    async def sample(self) -> Sequence[Finding]:
        now = self._clock.monotonic()
        return [
            self._burn(subsystem, track, now)
            for subsystem, track in self._tracks.items()
            if track.bad_at is None or now - track.bad_at >= self._thresholds.window_seconds
        ]

    def forget(self, subsystem: str) -> None:
        """Start afresh with a subsystem that was released: what it did before counts no more."""
        self._tracks.pop(subsystem, None)

    def _track(self, subsystem: str) -> _Track:
        if subsystem not in self._tracks:
            seconds = self._thresholds.window_seconds
            self._tracks[subsystem] = _Track(WindowSum(seconds), WindowSum(seconds), IdenticalRun(seconds))
        return self._tracks[subsystem]

    def _state_bad(self, track: _Track, finding: Finding) -> None:
        track.bad_at = finding.at
        self._push(finding)

    def _burn(self, subsystem: str, track: _Track, now: float) -> Finding:
        seconds = self._thresholds.window_seconds
        burned = track.burned.total(now)
        limit = self._budget(subsystem) * seconds / 60
        ratio = burned / limit if limit else 0.0
        share = f", {ratio:.0%} of its budget" if limit else ""
        return Finding(
            NAME,
            subsystem,
            Severity.WARNING if ratio >= self._thresholds.warn_ratio else Severity.OK,
            now,
            f"{burned} tokens in the last {seconds:.0f} s{share}",
            value=burned,
            limit=limit or None,
            unit="tokens",
        )


def _looping(event: TurnAdmitted, length: int, limit: int) -> Finding:
    return Finding(
        NAME,
        event.subsystem,
        Severity.ANOMALY,
        event.at,
        f"the same prompt {length} times in a row",
        value=length,
        limit=limit,
        unit="prompts",
        evidence={"turn": event.turn, "prompt": event.prompt_digest.hex(), "in_a_row": length},
        hard=True,  # it counts a run itself; mixed with samples, 3 of 5 would never hold for a slow loop
    )


def _over_limit(event: TurnRefused, refusals: int, window_seconds: float) -> Finding:
    never = 0 < event.limit_tokens < event.asked_tokens
    return Finding(
        NAME,
        event.subsystem,
        Severity.ANOMALY,
        event.at,
        f"asked for {event.asked_tokens} tokens with {event.used_tokens} of {event.limit_tokens} "
        f"{event.limit or 'budget'} used" + (": a request of this size can never pass" if never else ""),
        value=event.used_tokens + event.asked_tokens,
        limit=event.limit_tokens,
        unit="tokens",
        evidence={
            "prompt": event.prompt_digest.hex(),
            "limit": event.limit,
            "refusals": refusals,
            "window_seconds": window_seconds,
        },
    )
