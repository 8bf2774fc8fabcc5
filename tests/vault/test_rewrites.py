"""Whoever rewrites the vault round epad is found at the next look; and nobody else ever is."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from vault_campaign import clean_days, rewrites
from vault_rewrites import REWRITES


def test_each_kind_of_rewrite_is_found_at_the_next_look(tmp_path: Path) -> None:
    """Twice each, while epad runs and while it does not; all is sound again once the right bytes are back."""
    result = asyncio.run(rewrites(tmp_path, 2 * len(REWRITES), seed=19))
    assert result.missed == []
    assert result.false == []
    assert set(result.found) == set(REWRITES)


@pytest.mark.slow
def test_a_thousand_rewrites_are_found(tmp_path: Path) -> None:
    """With another seed."""
    result = asyncio.run(rewrites(tmp_path, 1_000, seed=2_026))
    assert result.missed == []
    assert sum(result.found.values()) == 1_000


def test_clean_days_are_silent(tmp_path: Path) -> None:
    """Writes, retractions, restarts, crashes, checkpoints and their restores, and jumps of the clock."""
    result = asyncio.run(clean_days(tmp_path, 25, seed=7))
    assert result.told == []
    assert all(result.done.values()), result.done


@pytest.mark.slow
def test_a_thousand_clean_days_are_silent(tmp_path: Path) -> None:
    """With another seed."""
    assert asyncio.run(clean_days(tmp_path, 1_000, seed=2_026)).told == []
