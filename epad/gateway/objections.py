"""Find a server's objection to a value that epad wrote into a request, which is then sent again without it.

A refusal of 400 or 422 has cost nothing. A client's own values are its own affair, and so is their refusal. Many
servers send back the value they refuse, so a client can have words of its own in a refusal: a refusal is believed for
its turn alone, and remembered for others only once the server has taken the changed request.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from epad.gateway.dialects.dialect import Ask

USAGE_OPTION = "stream_options"
OBJECTING = frozenset({400, 422})
MOST_OBJECTION_BYTES = 64 << 10

OTHER_NAME = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
"""OpenAI's newer models refuse the one, most others know no other."""

_WORD = r"(?<![A-Za-z0-9_]){}(?![A-Za-z0-9_])"
# Without one of these a refusal that names a field is about its value.
_NOT_TAKEN = re.compile(
    r"unsupported|not.{0,20}support|unknown|unrecogni[sz]ed|unexpected|extra|forbidden|not permitted|not allowed"
    r"|duplicate|instead|not (?:a )?valid param|invalid param|mutually exclusive|both|conflict",
    re.IGNORECASE | re.DOTALL,
)
_NUMBER = r"`?(\d{1,9})(?![\d.]*\d)"
_CONTEXT = (
    r"exceed context limit: \d+ \+ \d+ > " + _NUMBER,
    r"maximum context length (?:is|of)\s*" + _NUMBER,
    r"max_model_len\s*(?:=|\(|is|of)\s*" + _NUMBER,
    r"`max_new_tokens` must be <=\s*" + _NUMBER,
    r"context (?:length|limit|window|size)[^\d.]{0,24}" + _NUMBER,
)
_OUTPUT = (
    r"supports at most\s*" + _NUMBER + r"\s*(?:completion|output)",
    r"less than or equal to\s*" + _NUMBER,
    r"valid range of \S+ is \[\d+,\s*" + _NUMBER,
    r"> " + _NUMBER + r", which is the maximum allowed number of output tokens",
    r"expected a value <=\s*" + _NUMBER,
    r"exceeds the (?:model|maximum output)\S* limit (?:is|of)\s*" + _NUMBER,
    r"supported range is from \d+ \(inclusive\) to\s*" + _NUMBER,
)
_PROMPT = (
    r"(\d{1,9}) (?:input tokens|in the (?:messages|prompt)|tokens from the input|`inputs` tokens)",
    r"exceed context limit: (\d{1,9}) \+",
)
# vLLM stops reading a prompt as soon as it is too long.
_AT_LEAST = re.compile(r"at least \d+ input tokens")
_CAP_WORD = re.compile(
    r"max\w*_tokens|max\w*Tokens|max_model_len|in the completion|for the completion|output tokens|maximum tokens"
)


@dataclass(frozen=True, slots=True)
class Limit:
    """Holds a server's own limit of a model's tokens: of an answer, or of its whole context."""

    tokens: int
    of_context: bool


def names_objected(ask: Ask, body: bytes, written: Collection[str]) -> tuple[str, ...]:
    """The fields of those `written` by epad that a server says it does not take; none is the client's own."""
    text = _text(body)
    if not _NOT_TAKEN.search(text):
        return ()
    return tuple(
        name
        for name in written
        if not ask.fields.has(name) and re.search(_WORD.format(re.escape(name)), text)
    )


def smaller_cap(body: bytes, cap: int, prompt_bound: int) -> tuple[Limit, int] | None:
    """The limit that a refusal of too large a cap names, and the cap that fits it; None if it is no such refusal."""
    text = _text(body)
    if not _CAP_WORD.search(text):
        return None
    most_output = _first(_OUTPUT, text)
    if most_output is not None:
        return (Limit(most_output, of_context=False), most_output) if 0 < most_output < cap else None
    context = _first(_CONTEXT, text)
    if context is None:
        return None
    read = _first(_PROMPT, text)
    if read is None or _AT_LEAST.search(text):
        # Where the prompt's tokens are not told, they are at most its bytes, and a good part of these most likely.
        read = max(read or 0, min(prompt_bound, context // 2))
    fits = context - read
    return (Limit(context, of_context=True), fits) if 0 < fits < cap else None


def _text(body: bytes) -> str:
    return body[:MOST_OBJECTION_BYTES].decode("utf-8", "replace")


def _first(patterns: Collection[str], text: str) -> int | None:
    for pattern in patterns:
        found = re.search(pattern, text)
        if found is not None:
            return int(found[1])
    return None
