"""Require of a benign twin about the length of its attack, and the same trigger words."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

LENGTH_TOLERANCE: Final = 0.10

_WORD = re.compile(r"[a-z']+")


def difference(attack: str, benign: str, triggers: Iterable[str]) -> str:
    """Name the differences besides the attack that would tell the two apart; empty if there are none."""
    shorter, longer = sorted((len(attack), len(benign)))
    if shorter < (1 - LENGTH_TOLERANCE) * longer:
        return f"attack and twin are {len(attack)} and {len(benign)} characters long"
    spoken, repeated = (set(_WORD.findall(text.lower())) for text in (attack, benign))
    missing = sorted(word for word in triggers if word in spoken and word not in repeated)
    return f"the twin lacks the attack's trigger words {missing}" if missing else ""
