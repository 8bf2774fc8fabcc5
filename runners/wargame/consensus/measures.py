"""Measure a score: ranking, calibration, and the catch at a tolerable false-alarm rate."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

Scored = Sequence[tuple[float, bool]]
"""(score, is attack)"""

ECE_LEAST: Final = 200
"""Below so many rounds the calibration error is mostly noise, and is not given."""
ECE_BINS: Final = 10


def sigmoid(x: float) -> float:
    """Return the probability of log-odds, without overflow."""
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def log_loss(scored: Scored) -> float:
    """Mean surprise in nats; certainty that is wrong is capped, not infinite."""
    if not scored:
        return 0.0
    kept = [min(1 - 1e-9, max(1e-9, p if is_attack else 1 - p)) for p, is_attack in scored]
    return -sum(map(math.log, kept)) / len(kept)


def brier(scored: Scored) -> float:
    """Mean squared error of probabilities."""
    return sum((p - is_attack) ** 2 for p, is_attack in scored) / len(scored) if scored else 0.0


def auc(scored: Scored) -> float | None:
    """The chance that an attack scores above a benign round, ties for half; None without both kinds."""
    ordered = sorted(scored)
    attacks = sum(is_attack for _, is_attack in ordered)
    benign = len(ordered) - attacks
    if not attacks or not benign:
        return None
    rank_sum, start = 0.0, 0
    while start < len(ordered):
        end = start
        while end < len(ordered) and ordered[end][0] == ordered[start][0]:
            end += 1
        rank_sum += (start + end + 1) / 2 * sum(is_attack for _, is_attack in ordered[start:end])
        start = end
    return (rank_sum - attacks * (attacks + 1) / 2) / (attacks * benign)


@dataclass(frozen=True, slots=True)
class FamilyPairs:
    """Families' scores, counted so that the AUC of any of them together costs no ranking of their rounds."""

    right: Sequence[Sequence[float]]
    """[i][j]: pairs of an attack of family i and a benign round of family j that are ranked right, ties for half."""
    attacks: Sequence[int]
    benign: Sequence[int]

    @classmethod
    def of(cls, families: Sequence[Scored]) -> FamilyPairs:
        """Count every pair of families once."""
        highs = [[score for score, is_attack in family if is_attack] for family in families]
        lows = [sorted(score for score, is_attack in family if not is_attack) for family in families]
        right = [
            [sum(bisect_left(low, s) + bisect_right(low, s) for s in high) / 2 for low in lows]
            for high in highs
        ]
        return cls(right, [*map(len, highs)], [*map(len, lows)])

    def auc(self, drawn: Sequence[int]) -> float | None:
        """Return the AUC of these families, each as often as it was drawn."""
        pairs = sum(self.attacks[i] for i in drawn) * sum(self.benign[j] for j in drawn)
        return sum(self.right[i][j] for i in drawn for j in drawn) / pairs if pairs else None


@dataclass(frozen=True, slots=True)
class Point:
    """Holds one threshold's two rates."""

    false_alarm: float
    catch: float
    threshold: float


def roc(scored: Scored) -> list[Point]:
    """Return every threshold's rates, from none flagged to all flagged; a score above the threshold is flagged."""
    attacks = sum(is_attack for _, is_attack in scored)
    benign = len(scored) - attacks
    points, caught, alarmed = [Point(0.0, 0.0, math.inf)], 0, 0
    ordered = sorted(scored, reverse=True)
    for position, (score, is_attack) in enumerate(ordered):
        caught, alarmed = caught + is_attack, alarmed + (not is_attack)
        if position + 1 == len(ordered) or ordered[position + 1][0] != score:
            below = ordered[position + 1][0] if position + 1 < len(ordered) else -math.inf
            points.append(Point(alarmed / max(1, benign), caught / max(1, attacks), below))
    return points


def catch_at(scored: Scored, ceiling: float) -> float | None:
    """Return the catch rate at the last threshold whose false alarms stay within the ceiling."""
    if len({is_attack for _, is_attack in scored}) < 2:
        return None
    return max(point.catch for point in roc(scored) if point.false_alarm <= ceiling)


def threshold_at(scored: Scored, ceiling: float) -> float:
    """Return the lowest threshold whose false alarms stay within the ceiling."""
    return [point.threshold for point in roc(scored) if point.false_alarm <= ceiling][-1]


@dataclass(frozen=True, slots=True)
class Bin:
    """Groups rounds of about equal score: the promised rate, and the real one."""

    mean_score: float
    attack_share: float
    rounds: int


def reliability(scored: Scored) -> list[Bin]:
    """About ten bins of about equal number; equal scores share a bin, or their order would look like skill."""
    full = -(-len(scored) // ECE_BINS)
    bins: list[Bin] = []
    part: list[tuple[float, bool]] = []
    for _, tied in itertools.groupby(sorted(scored), key=lambda pair: pair[0]):
        part += tied
        if len(part) >= full:
            bins.append(_bin(part))
            part = []
    return [*bins, _bin(part)] if part else bins


def _bin(part: Scored) -> Bin:
    return Bin(sum(p for p, _ in part) / len(part), sum(truth for _, truth in part) / len(part), len(part))


def calibration_error(scored: Scored) -> float | None:
    """ECE: the mean distance between promise and truth over the bins."""
    if len(scored) < ECE_LEAST:
        return None
    return sum(b.rounds * abs(b.mean_score - b.attack_share) for b in reliability(scored)) / len(scored)


def precision_at(catch: float, false_alarm: float, base_rate: float) -> float | None:
    """Return the share of attacks among the flagged at such a base rate."""
    flagged = catch * base_rate + false_alarm * (1 - base_rate)
    return catch * base_rate / flagged if flagged else None


def matthews(caught: int, missed: int, alarmed: int, passed: int) -> float | None:
    """Matthews' correlation of decision and truth; None where one of them never changes."""
    product = (caught + alarmed) * (caught + missed) * (passed + alarmed) * (passed + missed)
    return (caught * passed - alarmed * missed) / math.sqrt(product) if product else None


def clustered_interval(
    clusters: Sequence[Sequence[tuple[float, ...]]],
    statistic: Callable[[list[tuple[float, ...]]], float | None],
    resamples: int = 400,
    seed: int = 1,
) -> tuple[float, float] | None:
    """Return a 95 % interval by drawing whole families with replacement; None where it says nothing."""
    if len(clusters) < 2:
        return None
    rng = Random(seed)
    drawn: Iterable[float | None] = (
        statistic([row for _ in clusters for row in rng.choice(clusters)]) for _ in range(resamples)
    )
    values = sorted(value for value in drawn if value is not None)
    if len(values) < resamples / 2:
        return None
    return values[int(0.025 * len(values))], values[int(0.975 * len(values))]
