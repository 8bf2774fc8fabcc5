"""The judge of scores, against what is known: a perfect one, a blind one, a bound that holds on new texts."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from runners.intent.judging import auc, band, calibration, gain, held_out, interval
from runners.intent.linear import logistic, sigmoid

CHANCE = np.random.default_rng(3)


def by_pairs(scores: np.ndarray, attacks: np.ndarray) -> float:
    pairs = list(itertools.product(scores[attacks], scores[~attacks]))
    return sum(1.0 if bad > good else 0.5 if bad == good else 0.0 for bad, good in pairs) / len(pairs)


@pytest.mark.parametrize("ties", [False, True])
def test_the_area_is_the_share_of_pairs_in_order(ties: bool) -> None:
    """Counted one by one, ties as half."""
    for _ in range(20):
        scores = CHANCE.normal(size=40)
        scores = np.round(scores) if ties else scores
        attacks = CHANCE.random(40) < 0.4
        assert auc(scores, attacks) == pytest.approx(by_pairs(scores, attacks))


def test_a_blind_score_has_an_interval_around_a_half_and_a_perfect_one_is_told() -> None:
    """Over families: with few of them the interval is wide."""
    families = [f"f{number // 10}" for number in range(400)]
    attacks = np.arange(400) % 2 == 0
    blind = interval(CHANCE.normal(size=400), attacks, families, 300)
    assert blind.low < 0.5 < blind.high
    perfect = interval(attacks.astype(float), attacks, families, 300)
    assert (perfect.value, perfect.low) == (1.0, 1.0)
    assert not blind.overlaps(perfect)
    few = interval(
        np.where(attacks, 0.3, 0.0) + CHANCE.normal(size=400), attacks, [f[:2] for f in families], 300
    )
    assert few.high - few.low > 0


def test_the_gain_of_the_same_scores_is_nothing() -> None:
    """In each draw; and a better score has all of its interval above 0."""
    families, attacks = [f"f{number // 8}" for number in range(400)], np.arange(400) % 2 == 0
    noise = CHANCE.normal(size=400)
    same = gain(noise, noise, attacks, families, 200)
    assert (same.low, same.value, same.high) == (0.0, 0.0, 0.0)
    assert gain(noise, noise + 2.0 * attacks, attacks, families, 200).low > 0


def test_a_family_is_scored_by_fits_that_have_not_seen_it() -> None:
    """All of it at once."""
    families = ["a", "b", "a", "c"]
    seen: list[tuple[list[int], list[int]]] = []

    def score(learnt: list[int], asked: list[int]) -> np.ndarray:
        seen.append((list(learnt), list(asked)))
        return np.array(asked, dtype=float)

    assert held_out(families, score).tolist() == [0.0, 1.0, 2.0, 3.0]  # type: ignore[arg-type]
    assert seen == [([1, 3], [0, 2]), ([0, 2, 3], [1]), ([0, 1, 2], [3])]


def test_the_band_keeps_its_promise_on_later_texts() -> None:
    """Averaged over many draws, no more of the benign above it and of the attacks below it than was said."""
    alarms, misses = [], []
    for _ in range(300):
        attacks = np.arange(200) % 2 == 0
        found = band(CHANCE.normal(size=200) + 1.0 * attacks, attacks, 0.05, 0.10)
        alarms.append(float(np.mean(CHANCE.normal(size=400) >= found.high)))
        misses.append(float(np.mean(CHANCE.normal(size=400) + 1.0 <= found.low)))
        assert found.low <= found.high
    assert 0.03 < np.mean(alarms) <= 0.052
    assert 0.07 < np.mean(misses) <= 0.102


def test_a_band_of_few_texts_says_nothing_rather_than_too_much() -> None:
    """Ten benign texts cannot bound one alarm in twenty."""
    attacks = np.arange(20) % 2 == 0
    assert band(CHANCE.normal(size=20), attacks, 0.05, 0.01).high == float("inf")


def test_where_scores_part_there_is_no_band() -> None:
    """The two meet in the middle."""
    attacks = np.arange(200) % 2 == 0
    found = band(10.0 * attacks + CHANCE.normal(size=200), attacks, 0.05, 0.05)
    assert found.low == found.high
    assert 1.5 < found.low < 9.0


def test_calibration_of_a_true_chance_is_near() -> None:
    """And of one that is always sure, far."""
    chances = CHANCE.random(4_000)
    attacks = CHANCE.random(4_000) < chances
    assert calibration(chances, attacks)[1] < 0.04
    assert calibration(np.where(chances > 0.5, 0.99, 0.01), attacks)[1] > 0.15


def test_the_regression_finds_what_made_the_labels() -> None:
    """Its weights point where those that made them do, and both labels weigh the same."""
    rows, truth = CHANCE.normal(size=(3_000, 4)), np.array([1.0, -2.0, 0.5, 0.0])
    labels = (CHANCE.random(3_000) < sigmoid(rows @ truth)).astype(float)
    weights, bias = logistic(rows, labels, ridge=0.01)
    assert np.allclose(weights, truth, atol=0.25)
    assert abs(bias) < 0.2
    rare = labels.copy()
    rare[CHANCE.random(3_000) < 0.8] = 0.0
    assert np.mean(rows[rare > 0] @ logistic(rows, rare)[0]) > np.mean(
        rows[rare == 0] @ logistic(rows, rare)[0]
    )
    assert sigmoid(np.array([-1e4, 0.0, 1e4])).tolist() == [0.0, 0.5, 1.0]
