"""Each dialect gets the question in its own words, schema included."""

from __future__ import annotations

import json
from typing import Any

import pytest

from runners.wargame.endpoint.endpoint import Dialect, Endpoint, Structured
from runners.wargame.endpoint.question import Question, body, path
from runners.wargame.endpoint.reply import classify
from runners.wargame.verdict import SCHEMA

QUESTION = Question("m", [{"role": "user", "content": "x" * 300}], 96, seed=7, schema=SCHEMA)


@pytest.mark.parametrize(
    ("structured", "field"),
    [
        ("json_schema", "response_format"),
        ("structured_outputs", "structured_outputs"),
        ("guided_json", "guided_json"),
        ("none", None),
    ],
)
def test_openai_asks_for_structure_as_the_server_knows_it(structured: Structured, field: str | None) -> None:
    """Exactly one way, and none where the server has none."""
    value = body(QUESTION, Endpoint("e", "http://x/v1", structured=structured))
    assert [k for k in ("response_format", "structured_outputs", "guided_json") if k in value] == [
        f for f in [field] if f
    ]
    assert (value["max_tokens"], value["seed"], value["temperature"]) == (96, 7, 0)


def test_ollama_is_told_its_context_and_to_stay_loaded() -> None:
    """An unsaid num_ctx is 4,096, and a model that is unloaded loses its cache."""
    endpoint = Endpoint("e", "http://x", dialect="ollama", context_tokens=8_192)
    value = body(QUESTION, endpoint)
    assert path(endpoint) == "/api/chat"
    assert value["options"] == {"temperature": 0, "seed": 7, "num_predict": 96, "num_ctx": 8_192}
    assert (value["keep_alive"], value["stream"], value["format"]) == (-1, False, SCHEMA)


def answer(dialect: Dialect, text: str | None, reason: str) -> bytes:
    message = {"role": "assistant", "content": text}
    if dialect == "openai":
        value: dict[str, Any] = {"choices": [{"message": message, "finish_reason": reason}]}
        return json.dumps(value | {"usage": {"prompt_tokens": 5, "completion_tokens": 3}}).encode()
    return json.dumps(
        {"message": message, "done_reason": reason, "prompt_eval_count": 5, "eval_count": 3}
    ).encode()


@pytest.mark.parametrize("dialect", ["openai", "ollama"])
@pytest.mark.parametrize(
    ("text", "reason", "outcome"),
    [
        ("yes", "stop", "ok"),
        ("ye", "length", "truncated"),
        ("", "stop", "empty"),
        (None, "stop", "empty"),
        (" \n", "stop", "empty"),
    ],
)
def test_both_dialects_are_classed_alike(
    dialect: Dialect, text: str | None, reason: str, outcome: str
) -> None:
    """A cut or empty answer is the same thing in either."""
    reply = classify(200, {}, answer(dialect, text, reason), dialect)
    assert (str(reply.outcome), reply.prompt_tokens, reply.completion_tokens) == (outcome, 5, 3)


def test_one_dialects_answer_is_no_answer_in_the_other() -> None:
    """A wrong dialect in the configuration shows as a bad body, never as an empty reply."""
    assert str(classify(200, {}, answer("ollama", "yes", "stop"), "openai").outcome) == "bad_body"
    assert str(classify(200, {}, answer("openai", "yes", "stop"), "ollama").outcome) == "bad_body"
