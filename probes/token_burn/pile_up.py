"""Track the turns in flight, their start and reservations: too many at once, or one for too long."""

from __future__ import annotations

from collections import OrderedDict

from msgspec import Struct

from probes.token_burn.output import LoopingOutput
from probes.token_burn.settings import TokenBurnSettings
from probes.token_burn.verdict import Detector, Verdict
from probes.token_burn.window import WindowSum
from probes.turns import TurnAdmitted
from statemachine.finding import Severity

MAX_OPEN_TURNS = 1_024
"""Of one subsystem. The gateway lets far fewer be in flight; what is above was lost, and the oldest go first."""

DEMAND_SECONDS = 1.0
"""A refused client is told to wait this long: within it, each refusal at the cap is one more caller."""

UNTOLD_RATIO = 2.0
"""Turns wanted at once, over the cap, where nobody was told when to come back: none of them can have waited."""


class OpenTurn(Struct):
    """Holds a turn in flight, the time of its last output, and the end of its streamed text."""

    at: float
    reserved_tokens: int
    output: LoopingOutput | None = None
    output_at: float = 0.0
    told: bool = False


class OpenTurns:
    """The turns in flight of one subsystem, oldest first."""

    def __init__(self, settings: TokenBurnSettings) -> None:
        self._settings = settings
        self._turns: OrderedDict[str, OpenTurn] = OrderedDict()
        self._refused, self._untold = WindowSum(DEMAND_SECONDS), WindowSum(DEMAND_SECONDS)
        self._above = WindowSum(settings.window_seconds)
        self.reserved_tokens = 0

    def __len__(self) -> int:
        return len(self._turns)

    def streaming(self, turn: str, at: float) -> OpenTurn | None:
        """Return a turn that has just put something out; None for one that is not in flight."""
        open_turn = self._turns.get(turn)
        if open_turn is None:
            return None
        open_turn.output_at = at
        return open_turn

    def admitted(self, event: TurnAdmitted) -> None:
        if event.turn in self._turns:
            self.finished(event.turn)
        self._turns[event.turn] = OpenTurn(event.at, event.reserved_tokens, None, event.at)
        self.reserved_tokens += event.reserved_tokens
        if len(self._turns) > MAX_OPEN_TURNS:
            _, lost = self._turns.popitem(last=False)
            self.reserved_tokens -= lost.reserved_tokens

    def finished(self, turn: str) -> OpenTurn | None:
        """Forget a turn; return it if it was in flight."""
        ended = self._turns.pop(turn, None)
        if ended is not None:
            self.reserved_tokens -= ended.reserved_tokens
        return ended

    def refused_at_cap(self, at: float, cap: int, *, told: float, waited: float = 0.0) -> None:
        """Count one more that would have been in flight, had waited, and was told to wait for `told` seconds, 0 if not.

        Who asks once in so long is refused once in it: each refusal stands for as many workers as that has seconds.
        """
        if told:
            self._refused.add(at, max(1, round(told + waited)))
        else:
            self._untold.add(at, 1)
        if cap and len(self._turns) + self._refused.total(at) > self._settings.pile_up_ratio * cap:
            self._above.add(at, 1)

    def verdict(self, now: float, cap: int) -> Verdict | None:
        """Return the verdict on the turns in flight.

        A full cap is a limit at work, and a client of many workers that each wait their second asks often: only a
        client that asks more often than that, and keeps on, hammers.
        """
        if cap and self._hammers(now, cap):
            wanted = len(self._turns) + self._refused.total(now) + self._untold.total(now)
            limit = self._settings.pile_up_ratio * cap
            if self._untold.total(now):
                limit = UNTOLD_RATIO * cap
            return self._state(
                f"{wanted} turns wanted in flight at once, {cap} may be, and it does not wait: is it fanning out?",
                wanted,
                limit,
                "turns",
                now,
            )
        turn, silent = self._most_silent(now)
        if silent > self._settings.oldest_seconds:
            return self._state(
                f"a turn has been in flight for {silent / 60:.0f} min without any output: is {turn} ever to end?",
                round(silent, 3),
                self._settings.oldest_seconds,
                "seconds",
                now,
            )
        return None

    def _hammers(self, now: float, cap: int) -> bool:
        if len(self._turns) <= cap and not (self._untold.at_most or self._refused.at_most):
            return False
        if len(self._turns) + self._untold.total(now) > UNTOLD_RATIO * cap:
            return True
        wanted = len(self._turns) + self._refused.total(now)
        sustained = self._above.slots(now) >= self._settings.hammering_slots
        return sustained and wanted > self._settings.pile_up_ratio * cap

    def _most_silent(self, now: float) -> tuple[str, float]:
        """Return the turn without output for the longest.

        Those that began later than `oldest_seconds` ago need no look.
        """
        silent, longest = "", 0.0
        for name, turn in self._turns.items():
            if now - turn.at <= self._settings.oldest_seconds:
                break
            if now - turn.output_at > longest:
                silent, longest = name, now - turn.output_at
        return silent, longest

    def _oldest_seconds(self, now: float) -> float:
        return now - next(iter(self._turns.values())).at if self._turns else 0.0

    def _state(self, reason: str, value: float, limit: float, unit: str, now: float) -> Verdict:
        return Verdict(
            Detector.PILE_UP,
            Severity.ANOMALY,
            self._settings.rung(Detector.PILE_UP),
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
