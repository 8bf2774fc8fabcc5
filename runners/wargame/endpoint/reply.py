"""Classify a model's reply strictly: only a whole, ended, non-empty answer is `ok`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from runners.wargame import wellformed
from runners.wargame.endpoint.ending import outcome_of_ending
from runners.wargame.endpoint.endpoint import Dialect
from runners.wargame.outcomes import CallOutcome

DETAIL_CHARACTERS: Final = 200


@dataclass(frozen=True, slots=True)
class Reply:
    """Holds the outcome of one call, with the figures for the reports."""

    outcome: CallOutcome
    content: str = ""
    detail: str = ""
    status: int = 0
    finish_reason: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    retry_after_seconds: float = 0.0
    latency_seconds: float = 0.0
    queue_seconds: float = 0.0
    attempts: int = 1


def classify(status: int, headers: Mapping[str, str], raw: bytes, dialect: Dialect = "openai") -> Reply:
    """Class a complete HTTP answer."""
    if status == 200:
        return _classify_body(raw, _READERS[dialect])
    reply = Reply(
        _outcome_of_status(status),
        detail=f"HTTP {status}: {raw[:DETAIL_CHARACTERS].decode(errors='replace')}",
        status=status,
        retry_after_seconds=_retry_after(headers),
    )
    if status == 400 and b"context_length_exceeded" in raw:
        return replace(reply, outcome=CallOutcome.CONTEXT_TRUNCATED)
    return reply


def _outcome_of_status(status: int) -> CallOutcome:
    if status == 429:
        return CallOutcome.HTTP_429
    if 400 <= status < 500:
        return CallOutcome.HTTP_4XX
    return CallOutcome.HTTP_5XX if status >= 500 else CallOutcome.BAD_BODY


@dataclass(frozen=True, slots=True)
class _Said:
    """Holds the relevant parts of an answer's body."""

    content: Any
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int


def _read_openai(body: Any) -> _Said:
    choice = body["choices"][0]
    usage = body.get("usage") or {}
    return _Said(
        choice["message"]["content"],
        str(choice.get("finish_reason") or ""),
        _count(usage.get("prompt_tokens")),
        _count(usage.get("completion_tokens")),
    )


def _read_ollama(body: Any) -> _Said:
    return _Said(
        body["message"]["content"],
        str(body.get("done_reason") or ""),
        _count(body.get("prompt_eval_count")),
        _count(body.get("eval_count")),
    )


_READERS: Final[Mapping[Dialect, Callable[[Any], _Said]]] = {"openai": _read_openai, "ollama": _read_ollama}


def _classify_body(raw: bytes, read: Callable[[Any], _Said]) -> Reply:
    try:
        said = read(wellformed.loads(raw))
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        shown = raw[:DETAIL_CHARACTERS].decode(errors="replace")
        return Reply(CallOutcome.BAD_BODY, detail=f"not a chat completion: {shown}", status=200)
    if not isinstance(said.content, str | None):
        return Reply(CallOutcome.BAD_BODY, detail="message.content is no text", status=200)
    text = said.content or ""
    outcome = _outcome_of_text(text, said.finish_reason)
    has_ended = outcome in {CallOutcome.OK, CallOutcome.EMPTY}
    return Reply(
        outcome,
        content=text,
        detail="" if has_ended else f"it ended by {said.finish_reason[:DETAIL_CHARACTERS]!r}",
        status=200,
        finish_reason=said.finish_reason,
        prompt_tokens=said.prompt_tokens,
        completion_tokens=said.completion_tokens,
    )


def _outcome_of_text(text: str, finish_reason: str) -> CallOutcome:
    ending = outcome_of_ending(finish_reason)
    if ending is not CallOutcome.OK:
        return ending
    return CallOutcome.OK if text.strip() else CallOutcome.EMPTY


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _retry_after(headers: Mapping[str, str]) -> float:
    """Return seconds to wait; the date form needs the wall clock, so it is left to our own pause."""
    try:
        seconds = float(headers.get("Retry-After", ""))
    except ValueError:
        return 0.0
    return max(0.0, seconds) if math.isfinite(seconds) else 0.0
