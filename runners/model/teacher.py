"""`embedded-oracle-teacher`: repeats the truth that it is told, in the form of a verdict. It judges nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Final

from runners.model.conversation import turns_to_judge
from runners.model.engine import Message, last_user_text
from runners.model.verdicts import verdict_json

_TRUTH: Final = re.compile(r"<truth>\s*(\{.*?\})\s*</truth>", re.DOTALL)


class OracleTeacher:
    """Knows the label because the question holds it; without one it abstains by being unsure."""

    name = "embedded-oracle-teacher"

    def reply(self, messages: Sequence[Message], seed: int) -> str:
        del seed  # the truth has no randomness
        marked = _TRUTH.search(last_user_text(messages))
        if marked is None:
            return verdict_json(0.5, "none", 0)
        try:
            truth = json.loads(marked[1])
            is_attack, category = truth["label"] == "attack", str(truth["category"])
        except (ValueError, TypeError, KeyError):
            return verdict_json(0.5, "none", 0)
        turns = min(len(turns_to_judge(messages)), 8)
        known = category if category != "hard_negative" else "none"
        return verdict_json(0.99 if is_attack else 0.01, known, turns)
