"""What came back from a model, classed without mercy: only a whole, ended, non-empty answer is `ok`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from runners.wargame.outcomes import CallOutcome

DETAIL_CHARACTERS: Final = 200


@dataclass(frozen=True, slots=True)
class Reply:
    """The outcome of one call, with what the reports need of it."""

    outcome: CallOutcome
    content: str = ""
    detail: str = ""
    status: int = 0
    finish_reason: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    retry_after_seconds: float = 0.0
    latency_seconds: float = 0.0
    attempts: int = 1


def classify(status: int, headers: Mapping[str, str], raw: bytes) -> Reply:
    """Class a complete HTTP answer of the OpenAI dialect."""
    if status == 200:
        return _classify_body(raw)
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


def _classify_body(raw: bytes) -> Reply:
    try:
        body = json.loads(raw)
        choice = body["choices"][0]
        content = choice["message"]["content"]
        finish_reason = str(choice.get("finish_reason") or "")
        usage = body.get("usage") or {}
        tokens = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        shown = raw[:DETAIL_CHARACTERS].decode(errors="replace")
        return Reply(CallOutcome.BAD_BODY, detail=f"not a chat completion: {shown}", status=200)
    if not isinstance(content, str | None):
        return Reply(CallOutcome.BAD_BODY, detail="message.content is no text", status=200)
    text = content or ""
    return Reply(
        _outcome_of_text(text, finish_reason),
        content=text,
        status=200,
        finish_reason=finish_reason,
        prompt_tokens=tokens[0],
        completion_tokens=tokens[1],
    )


def _outcome_of_text(text: str, finish_reason: str) -> CallOutcome:
    if finish_reason == "length":
        return CallOutcome.TRUNCATED
    return CallOutcome.OK if text.strip() else CallOutcome.EMPTY


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _retry_after(headers: Mapping[str, str]) -> float:
    """Seconds to wait; the date form needs the wall clock, so it is left to our own pause."""
    try:
        seconds = float(headers.get("Retry-After", ""))
    except ValueError:
        return 0.0
    return max(0.0, seconds) if math.isfinite(seconds) else 0.0
