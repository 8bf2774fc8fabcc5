"""Measures of a score, each against a plain count or a case that can be worked out by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runners.wargame.consensus.measures import (
    FamilyPairs,
    auc,
    brier,
    calibration_error,
    catch_at,
    clustered_interval,
    log_loss,
    matthews,
    precision_at,
    reliability,
    roc,
    sigmoid,
    threshold_at,
)

SCORED = st.lists(st.tuples(st.integers(0, 20).map(lambda n: n / 20), st.booleans()), max_size=60)


@given(SCORED)
def test_auc_is_the_share_of_pairs_that_are_ranked_right(scored: list[tuple[float, bool]]) -> None:
    """Counted pair by pair, ties for half."""
    attacks = [p for p, is_attack in scored if is_attack]
    benign = [p for p, is_attack in scored if not is_attack]
    if not attacks or not benign:
        assert auc(scored) is None
        return
    wins = sum((a > b) + (a == b) / 2 for a in attacks for b in benign)
    assert auc(scored) == pytest.approx(wins / (len(attacks) * len(benign)))


@given(SCORED, st.sampled_from([0.0, 0.01, 0.05, 0.3]))
def test_a_threshold_keeps_its_ceiling_where_it_was_set(
    scored: list[tuple[float, bool]], ceiling: float
) -> None:
    """On the very rounds that it was set on, false alarms stay within the ceiling, and no lower one does better."""
    threshold = threshold_at(scored, ceiling)
    benign = [p for p, is_attack in scored if not is_attack]
    assert sum(p > threshold for p in benign) <= ceiling * len(benign)
    found = catch_at(scored, ceiling)
    attacks = [p for p, is_attack in scored if is_attack]
    if found is not None:
        assert found == pytest.approx(sum(p > threshold for p in attacks) / len(attacks))


@given(SCORED)
def test_the_roc_only_rises(scored: list[tuple[float, bool]]) -> None:
    """From nothing flagged to everything flagged, with no step back."""
    points = [(point.false_alarm, point.catch) for point in roc(scored)]
    assert points[0] == (0.0, 0.0)
    assert points == sorted(points)


@given(SCORED)
def test_reliability_bins_hold_every_round_once(scored: list[tuple[float, bool]]) -> None:
    """Their numbers add up, and their means are of what they hold."""
    bins = reliability(scored)
    assert sum(one.rounds for one in bins) == len(scored)
    assert sum(one.rounds * one.mean_score for one in bins) == pytest.approx(sum(p for p, _ in scored))


def test_known_values() -> None:
    """Worked out by hand."""
    half = [(0.5, True), (0.5, False)]
    assert brier(half) == 0.25
    assert log_loss(half) == pytest.approx(math.log(2))
    assert log_loss([(0.0, True)]) < 21
    assert precision_at(0.9, 0.05, 0.01) == pytest.approx(0.1538, abs=1e-4)
    assert precision_at(0.0, 0.0, 0.5) is None
    assert matthews(5, 0, 0, 5) == 1.0
    assert matthews(5, 0, 5, 0) is None
    assert calibration_error(half) is None
    assert calibration_error(half * 100) == 0.0
    assert sigmoid(-800.0) == 0.0
    assert sigmoid(800.0) == 1.0


@given(st.lists(SCORED, min_size=1, max_size=4), st.data())
def test_the_auc_of_drawn_families_is_that_of_their_rounds(
    families: list[list[tuple[float, bool]]], data: st.DataObject
) -> None:
    """Whichever are drawn, and as often as they are; ranking all rounds anew took a night's report a minute."""
    drawn = data.draw(st.lists(st.integers(0, len(families) - 1), max_size=6))
    together = auc([one for number in drawn for one in families[number]])
    assert FamilyPairs.of(families).auc(drawn) == (None if together is None else pytest.approx(together))


def test_families_are_drawn_whole() -> None:
    """Two families of opposite kind give a wide interval, however many rounds they have; one family gives none."""

    def mean(rows: list[tuple[float, ...]]) -> float:
        return sum(row[0] for row in rows) / len(rows)

    clusters = [[(0.0,)] * 500, [(1.0,)] * 500]
    assert clustered_interval(clusters, mean) == (0.0, 1.0)
    assert clustered_interval(clusters[:1], mean) is None
