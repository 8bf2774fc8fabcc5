"""Take out of a request's body what is asked last: the messages behind the assistant's last one, tools' results too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

MOST_CHARACTERS: Final = 64_000
"""Of a longer text the beginning and the end are looked at: half of the characters each."""
WINDOW_WORDS: Final = 64
STEP_WORDS: Final = 48
"""A text is judged in windows, since the average of a long one drowns what one sentence of it says."""
_MOST_DEPTH: Final = 8


def texts_of(body: bytes) -> list[str]:
    """Return the windows of what is asked, oldest first; none for a body that says nothing. Never raises."""
    try:
        fields = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []
    if not isinstance(fields, dict):
        return []
    return windows("\n".join(_asked(fields)))


def windows(text: str) -> list[str]:
    """Return a text in windows that overlap."""
    if len(text) > MOST_CHARACTERS:
        text = f"{text[: MOST_CHARACTERS // 2]} {text[-MOST_CHARACTERS // 2 :]}"
    words = text.split()
    last = max(1, len(words) - WINDOW_WORDS + STEP_WORDS)
    return [" ".join(words[at : at + WINDOW_WORDS]) for at in range(0, last, STEP_WORDS) if words]


def _asked(fields: dict[str, Any]) -> list[str]:
    for name in ("messages", "input"):
        if isinstance(said := fields.get(name), list):
            return list(_said(_last(said)))
    for name in ("input", "prompt"):
        if name in fields:
            return list(_said(fields[name]))
    return []


def _last(messages: Sequence[object]) -> list[object]:
    """Return the messages behind the assistant's last one; all, if it has the last word, since they lead on to it."""
    place = max((at for at, one in enumerate(messages) if _is_assistants(one)), default=-1)
    return list(messages[place + 1 :] or messages)


def _is_assistants(message: object) -> bool:
    return isinstance(message, dict) and message.get("role") in ("assistant", "model")


def _said(value: object, depth: int = 0) -> Iterator[str]:
    """Yield the texts in a message: its content, the parts of it, a tool's result. Pictures and calls have none."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list) and depth < _MOST_DEPTH:
        for one in value:
            yield from _said(one, depth + 1)
    elif isinstance(value, dict) and depth < _MOST_DEPTH and value.get("role") not in ("system", "developer"):
        for name in ("text", "content", "output"):
            yield from _said(value.get(name), depth + 1)
