"""What a server objects to in a request, where it is something that epad wrote into it: then it is asked again.

A refusal of 400 or 422 has cost nothing. What a client wrote itself is its own affair, and so is the refusal.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from epad.gateway.dialects.dialect import Ask

USAGE_OPTION = "stream_options"
OBJECTING = frozenset({400, 422})
MOST_OBJECTION_BYTES = 64 << 10

OTHER_NAME = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
"""OpenAI's newer models refuse the one, most others know no other."""

_WORD = r"(?<![A-Za-z0-9_]){}(?![A-Za-z0-9_])"
_NUMBER = re.compile(r"(?<![\w.])\d+(?![\w.]*\w)|(?<==)\d+")
_PROMPT = re.compile(
    r"(\d+)\s+(?:input tokens|in the (?:messages|prompt)|tokens from the input|`inputs` tokens)"
)


def names_objected(ask: Ask, body: bytes, written: Collection[str]) -> tuple[str, ...]:
    """The fields of those `written` by epad that a refusal names; none of them is the client's own."""
    text = body[:MOST_OBJECTION_BYTES].decode("utf-8", "replace")
    return tuple(
        name
        for name in written
        if name not in ask.fields.values and re.search(_WORD.format(re.escape(name)), text)
    )


def smaller_cap(body: bytes, cap: int, prompt_bound: int) -> tuple[int, int] | None:
    """The limit that a refusal of too large a cap names, and the cap that fits it; None if it is no such refusal.

    vLLM, SGLang, TGI and OpenAI say the cap that they refuse, the limit, and most of them the prompt's tokens.
    """
    text = body[:MOST_OBJECTION_BYTES].decode("utf-8", "replace")
    numbers = {int(number) for number in _NUMBER.findall(text) if len(number) < 10}
    if cap not in numbers:
        return None
    prompt = _PROMPT.search(text)
    read = int(prompt[1]) if prompt else None
    limits = [number for number in numbers if 1 < number < cap and number != read]
    if not limits:
        return None
    limit = max(limits)
    # Where the prompt's tokens are not told, they are at most its bytes, and a quarter of these most likely.
    taken = read if read is not None else min(prompt_bound, limit // 2)
    return (limit, limit - taken) if limit > taken else None
