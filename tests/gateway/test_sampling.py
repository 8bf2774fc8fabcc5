"""What draws another answer, told apart from what does not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from epad.gateway.dialects.dialect import OutputLimits
from epad.gateway.dialects.ollama import Chat, Ollama
from epad.gateway.dialects.openai import ChatCompletions, OpenAI
from epad.gateway.sampling import Sampling, sampling_of

LIMITS = OutputLimits(100, 1_000, 16)
OPENAI, OLLAMA = ChatCompletions(OpenAI(), LIMITS), Chat(Ollama(), LIMITS)
MESSAGES = [{"role": "user", "content": "hi"}]


def openai(**fields: Any) -> Sampling:
    return sampling_of(OPENAI.parse(json.dumps({"model": "m", "messages": MESSAGES, **fields}).encode()))


def ollama(**options: Any) -> Sampling:
    body = {"model": "m", "messages": MESSAGES, "options": options}
    return sampling_of(OLLAMA.parse(json.dumps(body).encode()))


def test_a_request_that_says_nothing_of_it_has_no_digest_and_is_drawn() -> None:
    assert openai() == openai(stream=True, user="me", metadata={"a": "b"}) == Sampling(b"", random=True)


@pytest.mark.parametrize(("one", "other"), [
    ({"seed": 1}, {"seed": 2}),
    ({"temperature": 0.1}, {"temperature": 0.2}),
    ({"n": 2}, {"n": 3}),
    ({"max_tokens": 5}, {"max_completion_tokens": 5}),
    ({"stop": ["a"]}, {"stop": ["b"]}),
    ({"response_format": {"type": "text"}}, {"response_format": {"type": "json_object"}}),
    ({"seed": 1}, {}),
    ({"presence_penalty": 1}, {"frequency_penalty": 1}),
    ({"best_of": 4}, {"best_of": 5}),
])  # fmt: skip
def test_what_draws_another_answer_has_another_digest(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert openai(**one).digest != openai(**other).digest


def test_the_same_request_has_the_same_digest() -> None:
    assert openai(seed=1, n=2).digest == openai(n=2, seed=1).digest != b""
    assert ollama(seed=1).digest == ollama(seed=1).digest != ollama(seed=2).digest


@pytest.mark.parametrize(("fields", "random"), [
    ({"temperature": 0}, False), ({"temperature": 0.0}, False), ({"temperature": 0.7}, True), ({"top_k": 1}, False),
    ({"top_k": 40}, True), ({"temperature": None}, True), ({"temperature": "0"}, True), ({"do_sample": False}, False),
    ({"temperature": [0]}, True), ({"seed": 0}, True),
])  # fmt: skip
def test_the_likeliest_answer_is_not_drawn(fields: dict[str, Any], random: bool) -> None:
    assert openai(**fields).random is random


@pytest.mark.parametrize(("options", "random"), [
    ({"temperature": 0}, False), ({"temperature": 1}, True), ({"top_k": 1, "seed": 4}, False), ({}, True),
])  # fmt: skip
def test_ollama_has_it_among_its_options(options: dict[str, Any], random: bool) -> None:
    assert ollama(**options).random is random


@pytest.mark.parametrize(("fields", "drawn"), [
    ({"temperature": 0.7}, True), ({"temperature": 0}, False), ({"temperature": 0, "seed": 4}, False), ({}, False),
    ({"max_tokens": 5}, False), ({"n": 1}, False), ({"n": 2}, True), ({"best_of": 4}, True), ({"seed": 4}, False),
    ({"temperature": None}, False), ({"temperature": "warm"}, False), ({"temperature": 1, "top_k": 1}, False),
])  # fmt: skip
def test_a_request_may_ask_for_a_sample_itself(fields: dict[str, Any], drawn: bool) -> None:
    """Else it is left to the server, or the likeliest answer is wanted."""
    assert openai(**fields).drawn is drawn


def test_ollama_asks_for_a_sample_among_its_options() -> None:
    assert ollama(temperature=0.8).drawn
    assert not ollama(num_predict=5).drawn
