"""Phrase the verdicts of the detectors of repetition, with figures."""

from __future__ import annotations

from typing import Any

from probes.token_burn.rounds import Question
from probes.token_burn.settings import TokenBurnSettings
from probes.token_burn.verdict import Detector, Verdict
from probes.turns import TurnAdmitted
from statemachine.finding import Severity


def identical(t: TokenBurnSettings, event: TurnAdmitted, question: Question) -> Verdict:
    """Return the verdict on one repeated prompt with one answer."""
    times = question.in_a_row + 1
    return _verdict(
        t,
        Detector.IDENTICAL_PROMPTS,
        f"the same prompt {times} times in a row, each after the same answer",
        times,
        t.identical_prompts,
        {"turn": event.turn, "prompt": event.prompt_digest.hex(), "in_a_row": times},
    )


def cycle(t: TokenBurnSettings, event: TurnAdmitted, looping: list[Question], needed: int) -> Verdict:
    """Return a few prompts in turn."""
    of = len(looping)
    times = sum(max(0, question.in_a_row - 1) for question in looping)
    return _verdict(
        t,
        Detector.DUPLICATE_PROMPTS,
        f"{of} prompts in turn, over and over, with the same answers: {times} turns have brought nothing new",
        times,
        needed * (1 + of) / 2,
        {"turn": event.turn, "prompt": event.prompt_digest.hex(), "out_of": of},
    )


def sampled(t: TokenBurnSettings, event: TurnAdmitted, times: int, of: int) -> Verdict:
    """More draws than any sampling takes."""
    what = "the same prompt" if of <= 1 else f"the same {of} prompts in turn"
    return _verdict(
        t,
        Detector.SAMPLED_PROMPTS,
        f"{what} {times} times, one answer after the other, without a pause: no sampling takes as many",
        times,
        t.sampled_prompts,
        {"turn": event.turn, "prompt": event.prompt_digest.hex(), "out_of": of},
    )


def unanswered(t: TokenBurnSettings, event: TurnAdmitted, times: int) -> Verdict:
    """More tries than any library makes."""
    return _verdict(
        t,
        Detector.SAMPLED_PROMPTS,
        f"the same prompt {times} times, and each time it gave up before the answer or asked what cannot be answered",
        times,
        t.sampled_prompts,
        {"turn": event.turn, "prompt": event.prompt_digest.hex(), "unanswered": times},
    )


def appended(
    t: TokenBurnSettings,
    event: TurnAdmitted,
    times: int,
    first_tokens: int,
    of: int,
    *,
    answers_differ: bool,
) -> Verdict:
    """Return a prompt that grows by the same message."""
    what = "the same message" if of <= 1 else f"the same {of} messages in turn"
    answered = "" if answers_differ else " with the same answers"
    return _verdict(
        t,
        Detector.APPENDED_LOOP,
        f"its prompt grows and nothing comes of it: {what} appended {times} times{answered}, "
        f"from {first_tokens} to {event.prompt_tokens} tokens",
        times,
        t.appended_loops if answers_differ else t.identical_prompts,
        {
            "turn": event.turn,
            "conversation": event.conversation,
            "message": event.last_message.hex(),
            "first_tokens": first_tokens,
            "prompt_tokens": event.prompt_tokens,
        },
        "messages",
    )


def renumbered(t: TokenBurnSettings, event: TurnAdmitted, question: Question) -> Verdict:
    """Return a prompt with a counter, a time or an id in it."""
    times = question.in_a_row + 1
    return _verdict(
        t,
        Detector.RENUMBERED_PROMPTS,
        f"prompts that differ in numbers alone, {times} in a row, each after the same answer",
        times,
        t.identical_prompts,
        {"turn": event.turn, "prompt": event.prompt_digest.hex(), "in_a_row": times},
    )


def _verdict(
    t: TokenBurnSettings,
    detector: Detector,
    reason: str,
    value: float,
    limit: float,
    evidence: dict[str, Any],
    unit: str = "prompts",
) -> Verdict:
    return Verdict(detector, Severity.ANOMALY, t.rung(detector), reason, value, limit, unit, evidence)
