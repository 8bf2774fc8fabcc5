"""Figures with their uncertainty: paired windows, win rates with intervals, rank correlation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, sqrt
from statistics import NormalDist, correlation, fmean, stdev

Z_95 = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure, its 95 % interval, and how many samples made it."""

    value: float
    low: float
    high: float
    n: int

    def as_json(self) -> dict[str, float | int]:
        return {"value": self.value, "low": self.low, "high": self.high, "n": self.n}


@dataclass(frozen=True, slots=True)
class Paired:
    """Compares one model with another on the same windows."""

    baseline_perplexity: float
    perplexity: float
    increase_percent: Interval
    delta_nll: Interval
    windows_worse: Interval

    def as_json(self) -> dict[str, object]:
        return {
            "baseline_perplexity": self.baseline_perplexity,
            "perplexity": self.perplexity,
            "increase_percent": self.increase_percent.as_json(),
            "delta_nll": self.delta_nll.as_json(),
            "windows_worse": self.windows_worse.as_json(),
        }


def mean_interval(values: Sequence[float]) -> Interval:
    """Mean with its normal interval over the windows."""
    mean = fmean(values)
    half = Z_95 * stdev(values) / sqrt(len(values)) if len(values) > 1 else 0.0
    return Interval(mean, mean - half, mean + half, len(values))


def share_interval(hits: int, n: int) -> Interval:
    """Return a share with Wilson's interval, which stays inside 0 and 1 and is honest at the ends."""
    share, z2 = hits / n, Z_95 * Z_95
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 * sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return Interval(share, max(0.0, centre - half), min(1.0, centre + half), n)


def paired(baseline: Sequence[float], candidate: Sequence[float]) -> Paired:
    """Compare mean losses window by window; both must have seen the same ones."""
    deltas = [after - before for before, after in zip(baseline, candidate, strict=True)]
    delta = mean_interval(deltas)
    worse = sum(change > 0 for change in deltas)
    percent = [100 * (exp(nats) - 1) for nats in (delta.value, delta.low, delta.high)]
    return Paired(
        baseline_perplexity=exp(fmean(baseline)),
        perplexity=exp(fmean(candidate)),
        increase_percent=Interval(percent[0], percent[1], percent[2], delta.n),
        delta_nll=delta,
        windows_worse=share_interval(worse, len(deltas)),
    )


def rank_correlation(left: Sequence[float], right: Sequence[float]) -> float:
    """Spearman's; 0 where one side does not vary."""
    if len(set(left)) < 2 or len(set(right)) < 2:
        return 0.0
    return correlation(_ranks(left), _ranks(right))


def _ranks(values: Sequence[float]) -> list[float]:
    """Equal values share the mean of their ranks."""
    ordered = sorted(values)
    return [ordered.index(value) + (ordered.count(value) - 1) / 2 for value in values]
