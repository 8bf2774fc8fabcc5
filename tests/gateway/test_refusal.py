"""Refusals say no in a way that no standard client mistakes for 'try again'."""

from __future__ import annotations

import json
import math

import pytest

from epad.gateway import refusal
from epad.gateway.budget import Refused
from epad.gateway.dialects.ollama import LineStream, Ollama
from epad.gateway.dialects.openai import ChunkStream, OpenAI
from epad.gateway.refusal import Refusal
from statemachine.containment import Rung

REPEATED_BY_CLIENTS = {408, 409, 429}  # and every 5xx


def window(wait: float, *, permanent: bool = False) -> Refused:
    return Refused("a", "tokens_per_minute", 100, 90, 20, wait, permanent)


@pytest.mark.parametrize(
    "permanent",
    [refusal.UNKNOWN_IDENTITY, refusal.quarantined("a", Rung.BLOCK, "x"), refusal.closed("gateway_closed", "x"),
     refusal.not_metered("GET", "/x", []), refusal.invalid_request("x"), refusal.body_too_large(1),
     refusal.unknown_model("m", "openai", []), refusal.over_budget(window(0, permanent=True)),
     refusal.over_budget(window(math.inf))],
)  # fmt: skip
def test_a_refusal_that_no_waiting_helps_with_is_not_repeated(permanent: Refusal) -> None:
    """Its status is none that clients repeat, and the header says it once more."""
    assert permanent.status not in REPEATED_BY_CLIENTS
    assert permanent.status < 500
    assert permanent.headers()["x-should-retry"] == "false"


@pytest.mark.parametrize(
    "passing",
    [refusal.over_budget(window(12.2)), refusal.LEDGER_UNAVAILABLE, refusal.STOPPING, refusal.upstream_failed("x"),
     refusal.over_budget(Refused("a", "max_in_flight", 8, 8, 1, 1.0)), refusal.throttled("a", "x", 9.5)],
)  # fmt: skip
def test_a_refusal_that_passes_says_when(passing: Refusal) -> None:
    """Retry-After within what every client obeys."""
    assert passing.status in REPEATED_BY_CLIENTS or passing.status >= 500
    assert "x-should-retry" not in passing.headers()
    assert 1 <= int(passing.headers()["Retry-After"]) <= 60


def test_a_budget_refusal_shows_its_figures() -> None:
    """Limit, use and wish can be read by people and by programs."""
    soon, late = refusal.over_budget(window(12.2)), refusal.over_budget(window(3_600))
    assert (soon.status, soon.type, soon.code) == (429, "rate_limit_exceeded", "budget_exceeded")
    assert (late.status, late.type, late.code) == (429, "rate_limit_exceeded", "budget_exceeded")
    assert (soon.retry_after_seconds, late.retry_after_seconds) == (13, 3_600)
    assert late.headers()["x-should-retry"] == "false"  # a client that ignores so long a time asks at once
    never = refusal.over_budget(window(math.inf))
    assert (never.status, never.type, never.retry_after_seconds) == (402, "insufficient_quota", None)
    error = json.loads(OpenAI().error_body(soon))["error"]
    assert error["code"] == "budget_exceeded"
    assert error["budget"] == {
        "scope": "a", "limit": "tokens_per_minute", "allowed": 100, "used": 90, "asked": 20,
    }  # fmt: skip


def test_each_dialect_has_its_own_shape_and_its_own_end() -> None:
    """An object with type and code for OpenAI, one line of text for Ollama; a cut stream is well-formed."""
    said = refusal.quarantined("a", Rung.FREEZE, "it loops")
    openai, ollama = OpenAI(), Ollama()
    assert set(json.loads(openai.error_body(said))["error"]) == {"message", "type", "param", "code"}
    assert json.loads(ollama.error_body(said))["error"] == said.message
    event, done, rest = ChunkStream(openai, b"", keep_usage=True).cut(said).split(b"\n\n")
    assert json.loads(event.removeprefix(b"data: "))["error"]["code"] == "subsystem_quarantined"
    assert (done, rest) == (b"data: [DONE]", b"")
    assert json.loads(LineStream(ollama).cut(said))["error"] == said.message
