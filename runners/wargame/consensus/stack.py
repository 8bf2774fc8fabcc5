"""A ridge-penalised logistic regression over the votes: learns which roles only repeat each other.

Its confidence slope for each role equals Platt scaling: self-reported confidence saturates near 0.9 and means something
else in every model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from runners.wargame.consensus.measures import sigmoid
from runners.wargame.consensus.rounds import Judged
from runners.wargame.consensus.weighted import Ballot
from runners.wargame.outcomes import VoteKind

RIDGE: Final = 1.0
STEPS: Final = 12
ENOUGH: Final = 1e-6

_SIGN: Final = {VoteKind.ATTACK: 1.0, VoteKind.BENIGN: -1.0}


@dataclass(frozen=True, slots=True)
class Scale:
    """A role's usual confidence; `misses` says whether it ever failed to vote."""

    mean: float
    deviation: float
    misses: bool


@dataclass(frozen=True, slots=True)
class Stack:
    """The learnt rule; its score is a probability at the calibration set's base rate."""

    scales: Mapping[str, Scale]
    weights: tuple[float, ...]

    def score(self, ballots: Sequence[Ballot]) -> float:
        row = _features(ballots, self.scales)
        return sigmoid(sum(w * x for w, x in zip(self.weights, row, strict=True)))


def fit(rounds: Sequence[Judged]) -> Stack:
    """Learn by Newton's method; the intercept is not penalised."""
    scales = {role: _scale(role, rounds) for role in sorted({b.role for one in rounds for b in one.ballots})}
    rows = [_features(one.ballots, scales) for one in rounds]
    truths = [float(one.is_attack) for one in rounds]
    weights = [0.0] * (len(rows[0]) if rows else 1)
    for _ in range(STEPS):
        step = _newton_step(rows, truths, weights)
        weights = [w + s for w, s in zip(weights, step, strict=True)]
        if max(map(abs, step), default=0.0) < ENOUGH:
            break
    return Stack(scales, tuple(weights))


def _scale(role: str, rounds: Sequence[Judged]) -> Scale:
    ballots = [b for one in rounds for b in one.ballots if b.role == role]
    confidences = [b.confidence for b in ballots if b.counts]
    mean = sum(confidences) / len(confidences) if confidences else 0.0
    spread = sum((c - mean) ** 2 for c in confidences) / len(confidences) if confidences else 0.0
    return Scale(mean, math.sqrt(spread) or 1.0, any(not b.counts for b in ballots))


def _features(ballots: Sequence[Ballot], scales: Mapping[str, Scale]) -> list[float]:
    """Return a one, and for each role: the side it took, its confidence, and a mark if it took none."""
    by_role = {ballot.role: ballot for ballot in ballots}
    row = [1.0]
    for role, scale in scales.items():
        ballot = by_role.get(role)
        sign = _SIGN.get(ballot.kind, 0.0) if ballot else 0.0
        surety = (ballot.confidence - scale.mean) / scale.deviation if ballot else 0.0
        row += [sign, sign * surety]
        if scale.misses:
            row.append(float(not sign))
    return row


def _newton_step(
    rows: Sequence[Sequence[float]], truths: Sequence[float], weights: Sequence[float]
) -> list[float]:
    size = len(weights)
    gradient = [0.0 if i == 0 else -RIDGE * weights[i] for i in range(size)]
    hessian = [[0.0] * size for _ in range(size)]
    for row, truth in zip(rows, truths, strict=True):
        p = sigmoid(sum(w * x for w, x in zip(weights, row, strict=True)))
        error, curvature = truth - p, p * (1 - p)
        for i, x in enumerate(row):
            if x:
                gradient[i] += error * x
                line, factor = hessian[i], curvature * x
                for j in range(i + 1):
                    line[j] += factor * row[j]
    for i in range(size):
        hessian[i][i] += RIDGE if i else 1e-6
    return _solve(hessian, gradient)


def _solve(lower: list[list[float]], right: list[float]) -> list[float]:
    """Cholesky's factorisation in place, then two substitutions; the matrix is positive definite by its ridge."""
    size = len(right)
    for i in range(size):
        for j in range(i + 1):
            rest = lower[i][j] - sum(lower[i][k] * lower[j][k] for k in range(j))
            lower[i][j] = math.sqrt(max(rest, 1e-12)) if i == j else rest / lower[j][j]
    solved = list(right)
    for i in range(size):
        solved[i] = (solved[i] - sum(lower[i][k] * solved[k] for k in range(i))) / lower[i][i]
    for i in reversed(range(size)):
        solved[i] = (solved[i] - sum(lower[k][i] * solved[k] for k in range(i + 1, size))) / lower[i][i]
    return solved
