"""Sessions, spawned agents and their budgets beside a model: no escalation, and every token accounted for."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from session_bugs import BUGS, planted
from session_world import play

QUICK, ALL, UNTIL_SEEN = 60, 10_000, 150


def played(seeds: range) -> Counter[str]:
    """Play sequences; raises BrokenError for one that goes otherwise than the model says."""
    counts: Counter[str] = Counter()
    for seed in seeds:
        counts.update(asyncio.run(play(seed)))
    return counts


def test_no_sequence_escalates_and_no_token_is_lost() -> None:
    """Each rule is met on the way; a sequence that met none would show nothing."""
    counts = played(range(QUICK))
    for what in ("spawned", "turn", "end", "crash", "parent's end", "consent given", "consent denied"):
        assert counts[what] > 5, (what, counts)
    for row in ("hold", "phase", "parents", "depth", "tier", "consent", "budget"):
        assert counts[f"spawn/{row}"] > 2, (row, counts)


@pytest.mark.slow
def test_10_000_sequences() -> None:
    counts = played(range(ALL))
    assert counts["spawned"] > ALL
    assert counts["spawn/fan_out"] > ALL / 100


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_seen(bug: str) -> None:
    with planted(bug), pytest.raises(AssertionError):
        played(range(UNTIL_SEEN))
