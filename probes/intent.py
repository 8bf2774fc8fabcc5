"""Tell when a subsystem's turns look like attacks more often than they used to. Told as a warning: it holds nobody.

A classifier of intents is wrong about many single turns (`docs/intent.md`), so one label is no finding. What is told is
a share that has risen above the subsystem's own: a CUSUM over its turns, of the likelihood of the raised share against
the usual one. What is usual begins as `usual_share`, weighs as much as `history_turns` turns, and follows the
subsystem's own; a rise that was told becomes part of it, so that it is told once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from msgspec import Struct

from probes.probe import Push
from probes.settings import ProbeSettings
from statemachine.finding import Finding, Severity
from statemachine.rung import Rung
from statemachine.value_types import Count, Positive

NAME: Final = "intent"
ATTACK: Final = "attack"
_MOST_SHARE: Final = 0.95


class TurnScreened(Struct, frozen=True, gc=False):
    """A turn was screened. `label` is attack, benign or unsure, `score` the chance of an attack as it was said."""

    subsystem: str
    at: float
    turn: str
    label: str
    group: str = ""
    score: float = 0.0


class IntentSettings(ProbeSettings, frozen=True, forbid_unknown_fields=True):
    """Sets how much more often than usual turns must look like attacks."""

    usual_share: Positive
    history_turns: Count
    times: Positive
    evidence: Positive


@dataclass(slots=True)
class _Usual:
    """Keeps a subsystem's share of attack-like turns, and the rise that is being summed up."""

    turns: float
    attacks: float
    total: float = 0.0
    rise_turns: int = 0
    rise_attacks: int = 0

    @property
    def share(self) -> float:
        """Return the share of turns that usually look like attacks."""
        return self.attacks / self.turns

    def add(self, hit: bool, times: float, most_turns: float) -> None:
        """Add a turn: to the rise while there is one, else to what is usual."""
        share = self.share
        raised = min(_MOST_SHARE, times * share)
        step = math.log(raised / share) if hit else math.log((1 - raised) / (1 - share))
        self.total = max(0.0, self.total + step)
        self.rise_turns += 1
        self.rise_attacks += hit
        if not self.total:
            self.learn(most_turns)

    def learn(self, most_turns: float) -> None:
        """Make what was summed up a part of what is usual; older turns count less and less."""
        self.turns += self.rise_turns
        self.attacks += self.rise_attacks
        self.total, self.rise_turns, self.rise_attacks = 0.0, 0, 0
        if self.turns > most_turns:
            self.attacks *= most_turns / self.turns
            self.turns = most_turns
        # A share of 0 or 1 would make the next turn infinitely likely or unlikely.
        self.attacks = min(max(self.attacks, 0.5), 0.5 * self.turns)


class Intent:
    """Implements `Probe`; it is told of each label. `emit` puts what is found among the events."""

    name = NAME

    def __init__(self, settings: IntentSettings, *, push: Push, emit: Callable[[Finding], None]) -> None:
        self._settings = settings
        self._push = push
        self._emit = emit
        self._usual: dict[str, _Usual] = {}

    @property
    def interval_seconds(self) -> float:
        return self._settings.interval_seconds

    def screened(self, event: TurnScreened) -> None:
        """Take note of a label, and tell at once of a rise. O(1)."""
        t = self._settings
        usual = self._usual.get(event.subsystem)
        if usual is None:
            usual = self._usual[event.subsystem] = _Usual(t.history_turns, t.usual_share * t.history_turns)
        usual.add(event.label == ATTACK, t.times, 20.0 * t.history_turns)
        if usual.total >= t.evidence:
            finding = self._finding(event, usual)
            usual.learn(20.0 * t.history_turns)
            self._emit(finding)
            self._push(finding)

    def forget(self, subsystem: str) -> None:
        """Start afresh with a subsystem that was released."""
        self._usual.pop(subsystem, None)

    async def sample(self) -> Sequence[Finding]:
        """State nothing: a rise is told as it happens."""
        return ()

    def _finding(self, event: TurnScreened, usual: _Usual) -> Finding:
        found, of = usual.rise_attacks, usual.rise_turns
        return Finding(
            NAME,
            event.subsystem,
            Severity.WARNING,
            event.at,
            f"{found} of its last {of} turns look like attacks, {usual.share:.0%} usually do: "
            "look at them; nothing is held by this",
            round(found / of, 3),
            round(usual.share, 3),
            "share of turns",
            {"turn": event.turn, "group": event.group, "turns": of, "attacks": found},
            rung=Rung.OPEN,
        )
