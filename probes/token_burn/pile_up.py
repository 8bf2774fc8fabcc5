"""Turns in flight: which, since when, what they reserve; too many at once, or one for too long."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from probes.token_burn.output import LoopingOutput
from probes.token_burn.thresholds import TokenBurnThresholds
from probes.token_burn.verdict import Detector, Verdict
from probes.token_burn.window import WindowSum
from probes.turns import TurnAdmitted
from statemachine.finding import Severity

MAX_OPEN_TURNS = 1_024
"""Of one subsystem. The gateway lets far fewer be in flight; what is above was lost, and the oldest go first."""

DEMAND_SECONDS = 1.0
"""A refused client is told to wait this long: within it, each refusal at the cap is one more caller."""


@dataclass(slots=True)
class OpenTurn:
    """A turn in flight, and the end of what it has streamed; of a client's own retry, no prompt."""

    at: float
    reserved_tokens: int
    prompt_digest: bytes = b""
    output: LoopingOutput | None = None


class OpenTurns:
    """The turns in flight of one subsystem, oldest first."""

    def __init__(self, thresholds: TokenBurnThresholds) -> None:
        self._thresholds = thresholds
        self._turns: OrderedDict[str, OpenTurn] = OrderedDict()
        self._refused = WindowSum(DEMAND_SECONDS)
        self.reserved_tokens = 0

    def __len__(self) -> int:
        return len(self._turns)

    def output(self, turn: str) -> LoopingOutput | None:
        """The end of what a turn has streamed; None for one that is not in flight."""
        open_turn = self._turns.get(turn)
        if open_turn is None:
            return None
        if open_turn.output is None:
            open_turn.output = LoopingOutput(self._thresholds)
        return open_turn.output

    def admitted(self, event: TurnAdmitted) -> None:
        self.finished(event.turn)
        prompt = b"" if event.retry else event.prompt_digest
        self._turns[event.turn] = OpenTurn(event.at, event.reserved_tokens, prompt)
        self.reserved_tokens += event.reserved_tokens
        if len(self._turns) > MAX_OPEN_TURNS:
            _, lost = self._turns.popitem(last=False)
            self.reserved_tokens -= lost.reserved_tokens

    def finished(self, turn: str) -> OpenTurn | None:
        """Forget a turn; what it was, if it was in flight."""
        ended = self._turns.pop(turn, None)
        if ended is not None:
            self.reserved_tokens -= ended.reserved_tokens
        return ended

    def refused_at_cap(self, at: float) -> None:
        """One more would have been in flight."""
        self._refused.add(at, 1)

    def verdict(self, now: float, cap: int) -> Verdict | None:
        """Say what piles up. What is refused at the cap counts: in flight there are never more than that; 0 is none."""
        wanted = len(self._turns) + self._refused.total(now)
        if cap and wanted > self._thresholds.pile_up_ratio * cap:
            return self._state(
                f"{wanted} turns wanted in flight at once, {cap} may be: is it fanning out?",
                wanted,
                self._thresholds.pile_up_ratio * cap,
                "turns",
                now,
            )
        age = self._oldest_seconds(now)
        if age > self._thresholds.oldest_seconds:
            return self._state(
                f"a turn has been in flight for {age / 60:.0f} min: is {next(iter(self._turns))} ever to end?",
                round(age, 3),
                self._thresholds.oldest_seconds,
                "seconds",
                now,
            )
        return None

    def _oldest_seconds(self, now: float) -> float:
        return now - next(iter(self._turns.values())).at if self._turns else 0.0

    def _state(self, reason: str, value: float, limit: float, unit: str, now: float) -> Verdict:
        return Verdict(
            Detector.PILE_UP,
            Severity.ANOMALY,
            self._thresholds.rung(Detector.PILE_UP),
            reason,
            value,
            limit,
            unit,
            {
                "in_flight": len(self._turns),
                "reserved_tokens": self.reserved_tokens,
                "oldest_seconds": round(self._oldest_seconds(now), 3),
            },
        )
