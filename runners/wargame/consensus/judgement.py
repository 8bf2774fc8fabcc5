"""From the votes of a run to its decisions: rules learnt on the calibration families, tried on the held-out ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from runners.wargame.consensus import log_odds, stack
from runners.wargame.consensus.measures import threshold_at
from runners.wargame.consensus.rounds import Fit, Judged, Rule, held_out_scores
from runners.wargame.consensus.weighted import Ballot, weighted_share
from runners.wargame.outcomes import VoteKind

COLD_BELOW: Final = 100
"""Labelled calibration rounds of each kind below which the stack has too little to learn from."""
LEAST_LABELS: Final = 20
"""And below which no threshold can be set either."""

WEIGHTED: Final = "weighted"
MAJORITY: Final = "majority"
LOG_ODDS: Final = "log_odds"
STACK: Final = "stack"


@dataclass(frozen=True, slots=True)
class Weighted:
    """The source's rule: the attack's share of role weight times confidence. A score, no probability."""

    def score(self, ballots: Sequence[Ballot]) -> float:
        share = weighted_share(ballots)
        return 0.5 if share is None else share


@dataclass(frozen=True, slots=True)
class Majority:
    """The share of votes for an attack."""

    def score(self, ballots: Sequence[Ballot]) -> float:
        sides = [b.kind is VoteKind.ATTACK for b in ballots if b.counts]
        return sum(sides) / len(sides) if sides else 0.5


@dataclass(frozen=True, slots=True)
class FixedRule:
    """A rule with the threshold above which it flags."""

    name: str
    rule: Rule
    threshold: float
    is_calibrated: bool

    def flags(self, one: Judged) -> bool:
        return self.rule.score(one.ballots) > self.threshold


@dataclass(frozen=True, slots=True)
class Judgement:
    """Holds every rule, ready to decide, and the one that counts."""

    rules: Mapping[str, FixedRule]
    chosen: str
    why: str

    @property
    def rule(self) -> FixedRule:
        return self.rules[self.chosen]


def learn(calibration: Sequence[Judged], ceiling: float, threshold: float) -> Judgement:
    """Fit all rules on the calibration rounds, thresholds included; nothing else is looked at."""
    rules = {
        WEIGHTED: FixedRule(WEIGHTED, Weighted(), threshold, is_calibrated=False),
        MAJORITY: FixedRule(MAJORITY, Majority(), 0.5, is_calibrated=False),
    }
    attacks = sum(one.is_attack for one in calibration)
    labels = min(attacks, len(calibration) - attacks)
    if labels < LEAST_LABELS:
        return Judgement(
            rules, WEIGHTED, f"{labels} calibration rounds of each kind; {LEAST_LABELS} are needed"
        )
    rules[LOG_ODDS] = _calibrated(LOG_ODDS, log_odds.fit_tempered, calibration, ceiling)
    if labels < COLD_BELOW:
        return Judgement(rules, LOG_ODDS, f"cold: {labels} calibration rounds of each kind")
    rules[STACK] = _calibrated(STACK, stack.fit, calibration, ceiling)
    return Judgement(rules, STACK, f"{labels} calibration rounds of each kind")


def _calibrated(name: str, fit: Fit, calibration: Sequence[Judged], ceiling: float) -> FixedRule:
    threshold = threshold_at(held_out_scores(calibration, fit), ceiling)
    return FixedRule(name, fit(calibration), threshold, is_calibrated=True)
