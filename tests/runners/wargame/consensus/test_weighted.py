"""Weight times confidence, summed over the votes that took a side."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runners.wargame.consensus.weighted import Ballot, decide
from runners.wargame.outcomes import VoteKind

KINDS = st.sampled_from(list(VoteKind))
BALLOTS = st.lists(st.builds(Ballot, st.just("r"), st.floats(0.1, 5), KINDS, st.integers(1, 100)), max_size=8)


def ballot(kind: VoteKind, confidence: int, weight: float = 1.0) -> Ballot:
    return Ballot("r", weight, kind, confidence)


def test_confidence_can_outweigh_numbers() -> None:
    """Two sure voters against three that hardly know: 3 of 5 would have said benign."""
    ballots = [ballot(VoteKind.ATTACK, 95)] * 2 + [ballot(VoteKind.BENIGN, 55)] * 3
    decision = decide(ballots, quorum=3, threshold=0.5)
    assert decision is not None
    assert decision.flagged
    assert decision.score == pytest.approx(190 / 355)


def test_a_base_weight_counts() -> None:
    """The same votes with a heavier role come out the other way."""
    ballots = [ballot(VoteKind.ATTACK, 60, 3.0), ballot(VoteKind.BENIGN, 80), ballot(VoteKind.BENIGN, 80)]
    decision = decide(ballots, quorum=3, threshold=0.5)
    assert decision is not None
    assert decision.flagged


def test_an_exact_tie_is_no_alarm() -> None:
    """The share must exceed the threshold."""
    decision = decide([ballot(VoteKind.ATTACK, 80), ballot(VoteKind.BENIGN, 80)], quorum=2, threshold=0.5)
    assert decision is not None
    assert not decision.flagged


@given(BALLOTS, st.integers(1, 5))
def test_a_missing_vote_moves_neither_side(ballots: list[Ballot], quorum: int) -> None:
    """Errors, invalid replies and abstentions change nothing but the number of voters."""
    only = [b for b in ballots if b.kind in {VoteKind.ATTACK, VoteKind.BENIGN}]
    assert decide(ballots, quorum, 0.5) == decide(only, quorum, 0.5)
    if len(only) < quorum:
        assert decide(ballots, quorum, 0.5) is None


@given(BALLOTS)
def test_the_score_is_a_share(ballots: list[Ballot]) -> None:
    """From 0 to 1, at the ends exactly when all who took a side agree."""
    decision = decide(ballots, 1, 0.5)
    if decision is not None:
        assert 0.0 <= decision.score <= 1.0
        assert decision.flagged == (decision.score > 0.5)
