"""Phrase an embedded defender's verdict: the same JSON that a language model is asked for."""

from __future__ import annotations

import json
from typing import Final

HIGHEST_CONFIDENCE: Final = 99
"""A word count is never certain."""


def verdict_json(attack_probability: float, category: str, evidence_turn: int) -> str:
    """Write a verdict; the confidence is in the verdict that is given, from 50 up."""
    is_attack = attack_probability > 0.5
    certainty = attack_probability if is_attack else 1.0 - attack_probability
    return json.dumps(
        {
            "verdict": "attack" if is_attack else "benign",
            "confidence": max(50, min(HIGHEST_CONFIDENCE, round(100 * certainty))),
            "category": category if is_attack else "none",
            "evidence_turn": evidence_turn if is_attack else 0,
        },
        separators=(",", ":"),
    )
