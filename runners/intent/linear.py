"""Fit linear classifiers with numpy alone: logistic regression by Newton's steps, ridge scores for several groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from runners.intent.arrays import Matrix, Vector

RIDGE: Final = 0.3
_STEPS: Final = 12
_CLOSE: Final = 1e-7


def logistic(rows: Matrix, labels: Vector, ridge: float = RIDGE) -> tuple[Vector, float]:
    """Return weights and bias of a logistic regression in which both labels weigh the same; `labels` are 0 and 1."""
    count, width = rows.shape
    share = max(labels.mean(), 1e-9)
    importance = np.where(labels > 0, 0.5 / share, 0.5 / max(1 - share, 1e-9))
    wide = np.hstack([rows, np.ones((count, 1))])
    penalty = np.full(width + 1, ridge)
    penalty[-1] = 1e-6
    found = np.zeros(width + 1)
    for _ in range(_STEPS):
        chance = sigmoid(wide @ found)
        slope = wide.T @ (importance * (chance - labels)) + penalty * found
        curve = (wide * (importance * chance * (1 - chance))[:, None]).T @ wide + np.diag(penalty)
        step = np.linalg.solve(curve, slope)
        found -= step
        if np.abs(step).max() < _CLOSE:
            break
    return found[:-1], float(found[-1])


def sigmoid(values: Vector) -> Vector:
    """Return 1 / (1 + e^-x), for large values too."""
    return 0.5 * (1 + np.tanh(0.5 * values))


def groups(rows: Matrix, names: Sequence[str], ridge: float = RIDGE) -> tuple[tuple[str, ...], Matrix]:
    """Return the groups, and one row of weights each (bias last): each against all others."""
    known = tuple(sorted(set(names)))
    fitted = [logistic(rows, np.array([float(name == one) for name in names]), ridge) for one in known]
    return known, np.array([[*weights, bias] for weights, bias in fitted])


def scores(rows: Matrix, weights: Matrix) -> Matrix:
    """Return the score of each row in each group."""
    return rows @ weights[:, :-1].T + weights[:, -1]
