"""What is asked last, out of bodies of every dialect; and nothing that anybody sends breaks it."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest

from runners.intent.asked import MOST_CHARACTERS, WINDOW_WORDS, texts_of, windows

SAID = "please sort the list"
CASES: dict[str, Any] = {
    "openai": {"messages": [{"role": "system", "content": "be kind"}, {"role": "user", "content": SAID}]},
    "parts": {
        "messages": [{"role": "user", "content": [{"type": "text", "text": SAID}, {"type": "image_url"}]}]
    },
    "behind an answer": {
        "messages": [
            {"role": "user", "content": "hello"},
            {"role": "assistant", "content": "yes?"},
            {"role": "user", "content": SAID},
        ]
    },
    "a tool's result": {
        "messages": [
            {"role": "assistant", "tool_calls": []},
            {"role": "tool", "content": SAID, "tool_call_id": "1"},
        ]
    },
    "anthropic's result": {
        "messages": [
            {"role": "assistant", "content": []},
            {
                "role": "user",
                "content": [{"type": "tool_result", "content": [{"type": "text", "text": SAID}]}],
            },
        ]
    },
    "responses, a text": {"input": SAID},
    "responses, a list": {
        "input": [{"role": "developer", "content": "be kind"}, {"role": "user", "content": SAID}]
    },
    "responses, a call's output": {"input": [{"type": "function_call_output", "output": SAID}]},
    "a prompt": {"prompt": SAID},
    "several prompts": {"prompt": [SAID]},
}


@pytest.mark.parametrize("body", CASES.values(), ids=CASES)
def test_the_last_of_what_is_asked_is_found(body: object) -> None:
    """And nothing else: no system prompt, no answer, no name of a field."""
    assert texts_of(json.dumps(body).encode()) == [SAID]


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"null", b"{", b"\xff\xfe", b'{"messages": 7}', b'{"messages": [null, 3, []]}',
        b'{"prompt": {"a": 1}}',
        b'{"messages": [{"role": "user", "content": null}]}', b'{"input": ""}',
        b'{"prompt": ' + b"[" * 400 + b"]" * 400 + b"}",
    ],
)  # fmt: skip
def test_what_says_nothing_has_no_text(body: bytes) -> None:
    """Whatever it is."""
    assert texts_of(body) == []


def test_a_conversation_that_ends_with_the_assistant_is_seen_as_a_whole() -> None:
    """Its words are what the next answer goes on from."""
    body = {"messages": [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]}
    assert texts_of(json.dumps(body).encode()) == ["one two"]


def test_windows_cover_a_text_and_overlap() -> None:
    """Each word is in one; two neighbours have words in common; the last is not all of the one before."""
    words = [f"w{number}" for number in range(1_000)]
    found = windows(" ".join(words))
    assert {word for one in found for word in one.split()} == set(words)
    assert all(len(one.split()) <= WINDOW_WORDS for one in found)
    assert all(set(one.split()) & set(other.split()) for one, other in pairwise(found))
    assert windows("") == windows("  \n ") == []
    assert len(windows("word " * WINDOW_WORDS)) == 1


def test_of_a_very_long_text_both_ends_are_seen() -> None:
    """Its middle is not: the cost of a request has a bound."""
    text = f"begin {'x ' * MOST_CHARACTERS} end"
    found = windows(text)
    assert found[0].startswith("begin")
    assert found[-1].endswith("end")
    assert sum(map(len, found)) < 2 * MOST_CHARACTERS
