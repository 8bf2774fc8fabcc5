"""Tiers of sessions: their order, and the tier without a setting."""

from __future__ import annotations

from typing import get_args

import pytest

from epad.gate.tiers import Tier, TierName, tier_of


def test_the_names_of_settings_are_those_of_the_tiers():
    """A tier that cannot be configured, or a setting that names none, fails here."""
    assert [tier.label for tier in Tier] == list(get_args(TierName))


@pytest.mark.parametrize("tier", Tier)
@pytest.mark.parametrize("has_workspace", [True, False])
def test_a_configured_tier_counts(tier, has_workspace):
    """A workspace changes nothing about a tier that is configured."""
    assert tier_of(tier.label, has_workspace=has_workspace) is tier


def test_a_workspace_makes_an_author():
    """Without a setting a session reads, and writes only where it has a workspace."""
    assert tier_of(None, has_workspace=True) is Tier.AUTHOR
    assert tier_of(None, has_workspace=False) is Tier.READER
