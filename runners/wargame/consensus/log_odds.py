"""Add up evidence: each role's vote counts as much as its record allows, tempered, since roles err together.

Sensitivity and specificity are Beta posteriors, so it has an answer before the first label, and a missing vote (an
abstention, an invalid reply, an error) is evidence of its own kind.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from runners.wargame.consensus.measures import log_loss, sigmoid
from runners.wargame.consensus.rounds import Judged, held_out_scores
from runners.wargame.consensus.weighted import Ballot
from runners.wargame.outcomes import VoteKind

PRIOR_RIGHT: Final = 2.0
PRIOR_WRONG: Final = 1.0
"""Beta(2, 1): a defender is presumed somewhat better than a coin."""
TEMPERS: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@dataclass(frozen=True, slots=True)
class Evidence:
    """The log-likelihood ratios of one role's three answers."""

    attack: float
    benign: float
    missing: float


NO_EVIDENCE: Final = Evidence(math.log(2), -math.log(2), 0.0)
"""Of a role without any record: Beta(2, 1) on both sides."""


@dataclass(frozen=True, slots=True)
class LogOdds:
    """The learnt rule; its score is a probability at even odds."""

    roles: Mapping[str, Evidence]
    temper: float = 1.0

    def score(self, ballots: Sequence[Ballot]) -> float:
        return sigmoid(self.temper * sum(self._evidence(ballot) for ballot in ballots))

    def _evidence(self, ballot: Ballot) -> float:
        known = self.roles.get(ballot.role, NO_EVIDENCE)
        match ballot.kind:
            case VoteKind.ATTACK:
                return known.attack
            case VoteKind.BENIGN:
                return known.benign
            case _:
                return known.missing


def fit(rounds: Sequence[Judged]) -> LogOdds:
    """Count each role's record."""
    roles = {ballot.role for one in rounds for ballot in one.ballots}
    return LogOdds({role: _evidence(role, rounds) for role in sorted(roles)})


def fit_tempered(rounds: Sequence[Judged]) -> LogOdds:
    """Count, and choose the temper that predicts held-out families best; 1 would mean independent errors."""
    plain = fit(rounds)
    scored = held_out_scores(rounds, fit)
    odds = [(math.log(p / (1 - p)), is_attack) for p, is_attack in scored if 0 < p < 1]
    if not odds:
        return plain
    best = min(TEMPERS, key=lambda t: log_loss([(sigmoid(t * x), is_attack) for x, is_attack in odds]))
    return LogOdds(plain.roles, best)


def _evidence(role: str, rounds: Sequence[Judged]) -> Evidence:
    kinds = [(one.is_attack, b.kind) for one in rounds for b in one.ballots if b.role == role]

    def number(is_attack: bool, kind: VoteKind) -> int:
        return sum(truth == is_attack and said is kind for truth, said in kinds)

    caught, missed = number(True, VoteKind.ATTACK), number(True, VoteKind.BENIGN)
    passed, alarmed = number(False, VoteKind.BENIGN), number(False, VoteKind.ATTACK)
    sensitivity = (caught + PRIOR_RIGHT) / (caught + missed + PRIOR_RIGHT + PRIOR_WRONG)
    specificity = (passed + PRIOR_RIGHT) / (passed + alarmed + PRIOR_RIGHT + PRIOR_WRONG)
    attacks, benign = sum(truth for truth, _ in kinds), sum(not truth for truth, _ in kinds)
    gone_attack = (attacks - caught - missed + 1) / (attacks + 2)
    gone_benign = (benign - passed - alarmed + 1) / (benign + 2)
    return Evidence(
        math.log(sensitivity / (1 - specificity)),
        math.log((1 - sensitivity) / specificity),
        math.log(gone_attack / gone_benign),
    )
