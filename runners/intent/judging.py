"""Judge scores: the area under the ROC curve with its interval over families, calibration, the band of "unsure"."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from runners.intent.arrays import Flags, Vector

SEED: Final = 7
RESAMPLES: Final = 2_000

Scorer = Callable[[Sequence[int], Sequence[int]], Vector]
"""Learns from texts, by their numbers, and returns the scores of others."""


@dataclass(frozen=True, slots=True)
class Interval:
    """Holds a figure and its 95 % interval over resampled families."""

    value: float
    low: float
    high: float

    def overlaps(self, other: Interval) -> bool:
        """Tell if the two intervals have a value in common."""
        return self.low <= other.high and other.low <= self.high

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def auc(scores: Vector, attacks: Flags) -> float:
    """Return the chance that an attack scores above a benign text; ties count half."""
    order = np.argsort(scores, kind="stable")
    ranked = scores[order]
    _, inverse, counts = np.unique(ranked, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks = np.empty(len(scores))
    ranks[order] = (last - (counts - 1) / 2)[inverse]
    some, others = int(attacks.sum()), int((~attacks).sum())
    return float((ranks[attacks].sum() - some * (some + 1) / 2) / (some * others))


def held_out(families: Sequence[str], score: Scorer) -> Vector:
    """Return the score of each text by a fit that has seen no text of its family."""
    names = np.array(families)
    scores = np.zeros(len(names))
    for one in sorted(set(families)):
        asked = np.flatnonzero(names == one)
        scores[asked] = score(np.flatnonzero(names != one).tolist(), asked.tolist())
    return scores


def interval(scores: Vector, attacks: Flags, families: Sequence[str], resamples: int = RESAMPLES) -> Interval:
    """Return the area and its interval: families are drawn, not texts."""
    values = [auc(scores[rows], attacks[rows]) for rows in _draws(attacks, families, resamples)]
    low, high = _middle(values)
    return Interval(auc(scores, attacks), low, high)


def gain(
    before: Vector, after: Vector, attacks: Flags, families: Sequence[str], resamples: int = RESAMPLES
) -> Interval:
    """Return how much larger the second area is, and the interval of that difference in the same draws."""
    values = [
        auc(after[rows], attacks[rows]) - auc(before[rows], attacks[rows])
        for rows in _draws(attacks, families, resamples)
    ]
    low, high = _middle(values)
    return Interval(auc(after, attacks) - auc(before, attacks), low, high)


def _middle(values: Sequence[float]) -> tuple[float, float]:
    """Return the bounds of the middle 95 %."""
    return float(np.quantile(values, 0.025)), float(np.quantile(values, 0.975))


def _draws(attacks: Flags, families: Sequence[str], resamples: int) -> list[Vector]:
    random, names = np.random.default_rng(SEED), np.array(families)
    known = sorted(set(families))
    rows = {one: np.flatnonzero(names == one) for one in known}
    drawn = (
        np.concatenate([rows[one] for one in random.choice(known, len(known))]) for _ in range(resamples)
    )
    return [each for each in drawn if 0 < attacks[each].sum() < len(each)]


@dataclass(frozen=True, slots=True)
class Band:
    """Holds the scores between which nothing is said: "unsure" begins above `low` and ends below `high`."""

    low: float
    high: float


def band(scores: Vector, attacks: Flags, alarms: float, misses: float) -> Band:
    """Return the band by split conformal prediction on held-out scores.

    Of later benign texts like these at most the share `alarms` scores `high` or more; of attacks at most the share
    `misses` scores `low` or less. Where the two would cross there is no band, and they meet in the middle.
    """
    benign, bad = np.sort(scores[~attacks]), np.sort(scores[attacks])
    top = int(np.ceil((len(benign) + 1) * (1 - alarms))) - 1
    bottom = int(np.floor((len(bad) + 1) * misses)) - 1
    high = float(np.nextafter(benign[top], np.inf)) if top < len(benign) else float("inf")
    low = float(np.nextafter(bad[bottom], -np.inf)) if bottom >= 0 else float("-inf")
    if low >= high:
        low = high = (low + high) / 2
    return Band(low, high)


@dataclass(frozen=True, slots=True)
class Bin:
    """Holds texts whose score, read as a chance, is alike: the mean of that chance, and the true share of attacks."""

    texts: int
    said: float
    true: float


def calibration(chances: Vector, attacks: Flags, bins: int = 5) -> tuple[list[Bin], float]:
    """Return bins of equally many texts, and the mean distance of what was said to what was true."""
    parts = np.array_split(np.argsort(chances, kind="stable"), bins)
    found = [Bin(len(each), float(chances[each].mean()), float(attacks[each].mean())) for each in parts]
    return found, sum(one.texts * abs(one.said - one.true) for one in found) / len(chances)
