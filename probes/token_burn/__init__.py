"""Runaway spending: several detectors side by side, each O(1) an event, since none sees every runaway."""

from __future__ import annotations

from probes.token_burn.probe import TokenBurn
from probes.token_burn.settings import BurnWindow, SubsystemBudget, TokenBurnSettings
from probes.token_burn.verdict import DETECTORS, GENTLE_NAME, NAME, Detector, Verdict

__all__ = [
    "DETECTORS",
    "GENTLE_NAME",
    "NAME",
    "BurnWindow",
    "Detector",
    "SubsystemBudget",
    "TokenBurn",
    "TokenBurnSettings",
    "Verdict",
]
