"""Decide the next step after each answer of one chat turn, without I/O."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

QUARANTINE_WAIT_SECONDS: Final = 5.0
LONGEST_WAIT_SECONDS: Final = 60.0
ANSWER_TOKENS: Final = 64


class TurnOutcome(StrEnum):
    """Names the outcome of a turn."""

    OK = "ok"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Turn:
    """Follows one question to its outcome."""

    outcome: TurnOutcome
    status: int = 0
    text: str = ""
    tokens: int = 0
    retry_after_seconds: float = 0.0


def request_body(model: str, question: str) -> dict[str, Any]:
    """Return the request in the OpenAI dialect."""
    return {
        "model": model,
        "messages": [{"role": "user", "content": question}],
        "max_tokens": ANSWER_TOKENS,
    }


def read_turn(status: int, headers: Mapping[str, str], body: object) -> Turn:
    """Class an answer. A refusal is a 4xx or a 503 that says when to come back."""
    if status == 200:
        try:
            text = body["choices"][0]["message"]["content"]  # type: ignore[index]
            tokens = body.get("usage", {}).get("total_tokens", 0)  # type: ignore[attr-defined]
        except (LookupError, TypeError, AttributeError):
            return Turn(TurnOutcome.FAILED, status, "the answer is no chat completion")
        return Turn(TurnOutcome.OK, status, str(text), int(tokens))
    wait = _seconds(headers.get("Retry-After", ""))
    is_refusal = 400 <= status < 500 or (status == 503 and wait > 0)
    return Turn(TurnOutcome.REFUSED if is_refusal else TurnOutcome.FAILED, status, "", 0, wait)


def wait_seconds(turn: Turn, interval_seconds: float) -> float:
    """Return how long a well-behaved client stays quiet after this turn."""
    if turn.outcome is TurnOutcome.OK:
        return interval_seconds
    if turn.retry_after_seconds:
        return min(max(turn.retry_after_seconds, interval_seconds), LONGEST_WAIT_SECONDS)
    return max(QUARANTINE_WAIT_SECONDS, interval_seconds)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        return 0.0
    return max(0.0, seconds) if math.isfinite(seconds) else 0.0
