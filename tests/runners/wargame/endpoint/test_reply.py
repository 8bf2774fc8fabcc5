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
