"""Hold a turn's usage, as an upstream counts it: the same value in any dialect."""

from __future__ import annotations

from msgspec import Struct


class TokenUsage(Struct, frozen=True):
    """The upstream's own count; None where it gave none, which is not 0.

    The same meaning in every dialect: `input_tokens` is the whole prompt, of which `cached_read_tokens` were
    read from a cache and `cache_write_tokens` written to one, `cache_write_hour_tokens` of these for an hour;
    `reasoning_tokens` are among `output_tokens`.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    cache_write_hour_tokens: int = 0


FREE = TokenUsage(0, 0)
