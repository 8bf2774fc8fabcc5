"""Read a server's own usage: each number for itself, in any place its dialect may have it.

A count is a whole number of 0 or more, an integral float too. Any other value counts as missing, and a detail of
another shape costs that detail alone. A number that no context comes near, or a negative one, is absurd: its turn is
charged its reservation, and a finding is stated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from epad.gateway.dialects.loose import as_dict
from epad.gateway.dialects.usage import TokenUsage

# The longest contexts there are have some ten million tokens.
MOST_TOKENS = 1_000_000_000

_INPUT = ("prompt_tokens", "input_tokens", "promptTokenCount", "prompt_token_count")
_OUTPUT = ("completion_tokens", "output_tokens", "candidatesTokenCount", "candidates_token_count")
_TOTAL = ("total_tokens", "totalTokenCount", "total_token_count")
_INPUT_DETAILS = ("prompt_tokens_details", "input_tokens_details")
_OUTPUT_DETAILS = ("completion_tokens_details", "output_tokens_details")
# The nested place counts first; the others are DeepSeek's, Moonshot's, LiteLLM's and OpenRouter's, Gemini's.
_CACHED = ("cached_tokens", "cache_read_input_tokens", "cache_read_tokens")
_CACHED_AT_TOP = (
    "prompt_cache_hit_tokens", *_CACHED, "cachedContentTokenCount", "cached_content_token_count",
)  # fmt: skip
_WRITTEN = ("cache_write_tokens", "cache_creation_input_tokens", "cache_creation_tokens")
_WRITTEN_BY_TIME = ("cache_creation", "cache_creation_token_details")
_HOUR, _MINUTES = "ephemeral_1h_input_tokens", "ephemeral_5m_input_tokens"
_REASONING = ("reasoning_tokens", "thinking_tokens", "thoughtsTokenCount", "thoughts_token_count")


_PLAIN = frozenset({"prompt_tokens", "completion_tokens", "total_tokens"})


class Counts(Struct, frozen=True):
    """Holds the numbers as they came; None if none was given. `beside`: cached tokens are not among the input."""

    input: int | None = None
    output: int | None = None
    total: int | None = None
    cached_read: int | None = None
    cache_write: int | None = None
    cache_write_hour: int | None = None
    reasoning: int | None = None
    beside: bool = False
    absurd: str = ""

    def raised(self, other: Counts) -> Counts:
        """Return the larger of each number: counts are of all so far, so that one that falls is none."""
        return Counts(
            _larger(self.input, other.input),
            _larger(self.output, other.output),
            _larger(self.total, other.total),
            _larger(self.cached_read, other.cached_read),
            _larger(self.cache_write, other.cache_write),
            _larger(self.cache_write_hour, other.cache_write_hour),
            _larger(self.reasoning, other.reasoning),
            self.beside or other.beside,
            self.absurd or other.absurd,
        )

    def usage(self) -> TokenUsage:
        """Return the same in epad's words.

        A total that exceeds its parts has reasoning beside the output in it; a missing part is the other's rest of the
        total. Without a total, reasoning that exceeds the output is no part of it.
        """
        read, written, hour = self.cached_read or 0, self.cache_write or 0, self.cache_write_hour or 0
        written = max(written, hour)
        tokens, output, reasoning = self.input, self.output, self.reasoning or 0
        plain = tokens is not None and output is not None and not (read or written or reasoning)
        if plain and (self.total or 0) <= (tokens or 0) + (output or 0):
            return TokenUsage(tokens, output)  # the parts are all there is
        if tokens is not None and self.beside:
            tokens += read + written
        if self.total is not None and tokens is not None:
            output = (
                max(output or 0, self.total - tokens) if output is not None else max(0, self.total - tokens)
            )
        elif self.total is not None and output is not None:
            tokens = max(0, self.total - output)
        elif output is not None and reasoning > output:
            output += reasoning
        prompt = tokens or 0
        read = min(read, prompt)
        written = min(written, prompt - read)
        return TokenUsage(
            tokens,
            output,
            read,
            written,
            min(reasoning, output or 0),
            cache_write_hour_tokens=min(hour, written),
        )

    @property
    def says_something(self) -> bool:
        """Tell if any number above 0 is there."""
        return bool(self.input or self.output or self.total or self.cached_read or self.cache_write)


def openai_counts(usage: object) -> Counts | None:
    """Read `usage` as OpenAI has it, and whoever is compatible; None if it is no object."""
    if not isinstance(usage, dict):
        return None
    if _PLAIN.issuperset(usage) or _PLAIN.issuperset([k for k, value in usage.items() if value is not None]):
        plain = Counts(usage.get("prompt_tokens"), usage.get("completion_tokens"), usage.get("total_tokens"))
        if _are_counts(plain.input, plain.output, plain.total):
            return plain  # as most servers write it: the places of the others are not looked through
    prompt = _details(usage, _INPUT_DETAILS)
    output = _details(usage, _OUTPUT_DETAILS)
    by_time = {**_details(usage, _WRITTEN_BY_TIME), **_details(prompt, _WRITTEN_BY_TIME)}
    return Counts(
        input=_first(usage, _INPUT),
        output=_first(usage, _OUTPUT),
        total=_first(usage, _TOTAL),
        cached_read=_either(_first(prompt, _CACHED), _first(usage, _CACHED_AT_TOP)),
        cache_write=_either(_first(prompt, _WRITTEN), _first(usage, _WRITTEN)),
        cache_write_hour=_first(by_time, (_HOUR,)),
        reasoning=_either(_first(output, _REASONING), _first(usage, _REASONING)),
        absurd=_absurd(usage, (*_INPUT, *_OUTPUT, *_TOTAL)),
    )


def anthropic_counts(usage: object) -> Counts | None:
    """Read `usage` as Anthropic has it: tokens read from a cache or written to one stand beside the input."""
    if not isinstance(usage, dict):
        return None
    by_time = as_dict(usage.get("cache_creation"))
    hour, minutes = _first(by_time, (_HOUR,)), _first(by_time, (_MINUTES,))
    written = _first(usage, ("cache_creation_input_tokens",))
    if hour is not None or minutes is not None:
        written = max(written or 0, (hour or 0) + (minutes or 0))
    output = as_dict(usage.get("output_tokens_details"))
    names = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    return Counts(
        input=_first(usage, ("input_tokens",)),
        output=_first(usage, ("output_tokens",)),
        total=_first(usage, _TOTAL),
        cached_read=_first(usage, ("cache_read_input_tokens",)),
        cache_write=written,
        cache_write_hour=hour,
        reasoning=_either(_first(output, _REASONING), _first(usage, _REASONING)),
        beside=True,
        absurd=_absurd(usage, (*names, *_TOTAL)) or _absurd(by_time, (_HOUR, _MINUTES)),
    )


def ollama_counts(answer: Mapping[str, Any]) -> Counts:
    """Read the counts that stand in an answer of Ollama's itself."""
    names = ("prompt_eval_count", "eval_count")
    return Counts(
        input=_first(answer, names[:1]), output=_first(answer, names[1:]), absurd=_absurd(answer, names)
    )


def count(value: object) -> int | None:
    """Return the count that a value is; None if it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not 0 <= value <= MOST_TOKENS or value != math.floor(value):
        return None
    return int(value)


def _are_counts(*values: object) -> bool:
    for value in values:
        if value is not None and (type(value) is not int or not 0 <= value <= MOST_TOKENS):
            return False
    return True


def is_absurd(value: object) -> bool:
    """Say whether a value is a number that cannot be a count: negative, not finite, or beyond any context."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return not 0 <= value <= MOST_TOKENS


def _absurd(fields: Mapping[str, Any], names: tuple[str, ...]) -> str:
    for name in names:
        if is_absurd(fields.get(name)):
            return f"{name} = {_short(fields[name])}"
    return ""


def _short(value: float) -> str:
    """Return a number in few characters; an int of thousands of digits cannot even be written out."""
    if isinstance(value, int) and abs(value) > MOST_TOKENS:
        return f"{'-' if value < 0 else ''}2**{value.bit_length() - 1} or more"
    return str(value)


def _first(fields: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    for name in names:
        value = count(fields.get(name))
        if value is not None:
            return value
    return None


def _details(fields: Mapping[str, Any], names: tuple[str, ...]) -> Mapping[str, Any]:
    for name in names:
        if isinstance(fields.get(name), dict):
            return as_dict(fields[name])
    return {}


def _either(first: int | None, second: int | None) -> int | None:
    return second if first is None else first


def _larger(first: int | None, second: int | None) -> int | None:
    if first is None or second is None:
        return _either(first, second)
    return max(first, second)
