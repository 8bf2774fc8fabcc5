"""An answer that is not whole is never `ok`, whatever its status says."""

from __future__ import annotations

import json

import pytest

from runners.wargame.endpoint.endpoint import Dialect
from runners.wargame.endpoint.reply import classify
from runners.wargame.outcomes import CallOutcome


def answer(content: object, finish: str | None = "stop", **more: object) -> bytes:
    """A chat completion."""
    return json.dumps(
        {"choices": [{"message": {"content": content}, "finish_reason": finish}], **more}
    ).encode()


@pytest.mark.parametrize(
    ("status", "raw", "outcome"),
    [
        (200, answer("yes"), CallOutcome.OK),
        (200, answer("yes", None), CallOutcome.OK),
        (200, answer(""), CallOutcome.EMPTY),
        (200, answer(" \n"), CallOutcome.EMPTY),
        (200, answer(None), CallOutcome.EMPTY),
        (200, answer("ye", "length"), CallOutcome.TRUNCATED),
        (200, answer("", "length"), CallOutcome.TRUNCATED),
        (200, answer(["yes"]), CallOutcome.BAD_BODY),
        (200, b"<html>busy</html>", CallOutcome.BAD_BODY),
        (200, b"", CallOutcome.BAD_BODY),
        (200, b"{}", CallOutcome.BAD_BODY),
        (200, b"[]", CallOutcome.BAD_BODY),
        (200, b"null", CallOutcome.BAD_BODY),
        (200, b'{"choices": []}', CallOutcome.BAD_BODY),
        (200, b'{"choices": [null]}', CallOutcome.BAD_BODY),
        (200, b'{"choices": [{"message": "x"}]}', CallOutcome.BAD_BODY),
        (200, b"[" * 100_000, CallOutcome.BAD_BODY),
        (204, b"", CallOutcome.BAD_BODY),
        (302, b"", CallOutcome.BAD_BODY),
        (400, b"bad", CallOutcome.HTTP_4XX),
        (400, b'{"error": {"code": "context_length_exceeded"}}', CallOutcome.CONTEXT_TRUNCATED),
        (403, b"quarantined", CallOutcome.HTTP_4XX),
        (429, b"slow down", CallOutcome.HTTP_429),
        (500, answer("yes"), CallOutcome.HTTP_5XX),
        (503, b"", CallOutcome.HTTP_5XX),
    ],
)
def test_outcomes(status: int, raw: bytes, outcome: CallOutcome) -> None:
    """Each answer has one outcome, from its status and its body alone."""
    assert classify(status, {}, raw).outcome is outcome


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("0.5", 0.5),
        ("-1", 0.0),
        ("1e999", 0.0),
        ("", 0.0),
        ("\udcff", 0.0),
        ("nan", 0.0),
        ("inf", 0.0),
        ("Sun, 22 Nov", 0.0),
    ],
)
def test_retry_after(header: str, seconds: float) -> None:
    """Seconds are honoured; what is no number of seconds is left to our own pause."""
    assert classify(429, {"Retry-After": header}, b"").retry_after_seconds == seconds


@pytest.mark.parametrize("dialect", ["openai", "ollama"])
def test_half_a_character_is_replaced(dialect: Dialect) -> None:
    """JSON can spell an unpaired surrogate, which neither the store nor the next question could hold."""
    message = {"content": "a \ud83d b \U0001f600", "\udc00": 1}
    body = {
        "choices": [{"message": message, "finish_reason": "\udfff"}],
        "message": message,
        "done_reason": "\udfff",
    }
    reply = classify(200, {}, json.dumps(body).encode(), dialect)
    assert (reply.content, reply.finish_reason) == ("a \ufffd b \U0001f600", "\ufffd")


def test_usage_that_is_nonsense_counts_as_nothing() -> None:
    """Token counts are numbers or zero."""
    reply = classify(200, {}, answer("x", usage={"prompt_tokens": 5, "completion_tokens": "many"}))
    assert (reply.prompt_tokens, reply.completion_tokens) == (5, 0)


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [
        *[
            (reason, CallOutcome.OK)
            for reason in (
                "stop", "STOP", "Stop", "FINISH_REASON_STOP", "eos", "eos_token", "end_turn", "stop_sequence",
                "COMPLETE", "tool_calls", "tool_use", "function_call", None, "", " stop ",
            )
        ],
        *[
            (reason, CallOutcome.TRUNCATED)
            for reason in (
                "length", "max_tokens", "MAX_TOKENS", "model_length", "max_length", "max_output_tokens",
                "model_context_window_exceeded",
            )
        ],
        *[
            (reason, CallOutcome.BROKEN_OFF)
            for reason in ("error", "ERROR", "abort", "cancelled", "load", "unload", "insufficient_system_resource")
        ],
        *[
            (reason, CallOutcome.CUT)
            for reason in (
                "content_filter", "SAFETY", "RECITATION", "refusal", "ERROR_TOXIC", "pause_turn", "OTHER",
                "stopped by an operator", "nonstop", "\udfff",
            )
        ],
    ],
)  # fmt: skip
@pytest.mark.parametrize("dialect", ["openai", "ollama"])
def test_only_its_own_stop_ends_an_answer(dialect: Dialect, reason: str | None, outcome: CallOutcome) -> None:
    """In every dialect's words; what is not known is no end."""
    message = {"role": "assistant", "content": "First, take the"}
    body = {
        "choices": [{"message": message, "finish_reason": reason}],
        "message": message,
        "done_reason": reason,
    }
    reply = classify(200, {}, json.dumps(body).encode(), dialect)
    assert reply.outcome is outcome
    assert reply.content == "First, take the"
    assert bool(reply.detail) == (outcome is not CallOutcome.OK)


@pytest.mark.parametrize("reason", ["content_filter", "length", "error"])
def test_what_was_cut_is_cut_also_where_nothing_was_said(reason: str) -> None:
    """Empty is the word for a model that ended and had nothing to say."""
    assert classify(200, {}, answer("", reason)).outcome is not CallOutcome.EMPTY
