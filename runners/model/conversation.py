"""Find the conversation that an embedded model must judge: as marked data, never as orders."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Final

from runners.model.engine import Message, last_user_text

_MARKED: Final = re.compile(r"<conversation>\s*(\[.*?\])\s*</conversation>", re.DOTALL)


def turns_to_judge(messages: Sequence[Message]) -> tuple[str, ...]:
    """Return the turns between the conversation marks, or the whole request as a single turn."""
    text = last_user_text(messages)
    marked = _MARKED.search(text)
    if marked is None:
        return (text,)
    try:
        turns = tuple(str(turn["text"]) for turn in json.loads(marked[1]))
    except (ValueError, TypeError, KeyError):
        return (text,)
    return turns or (text,)
