"""What is heard of a message of any shape: what is listened to, what is only weighed, and what is no text at all."""

from __future__ import annotations

from typing import Any

import pytest

from epad.gateway.dialects.hearing import hear, hear_call
from epad.gateway.dialects.reply import Reply

SAID = ["content", "text", "refusal", "transcript", "output_text", "response", "audio", "message", "delta"]
THOUGHT = ["thinking", "reasoning_content", "reasoning", "reasoning_details", "thoughts", "summary"]
ARGUMENTS = ["arguments", "input", "parameters", "args", "action", "code", "query", "queries", "operation"]
CALLS = ["tool_calls", "function_call", "tool_call", "custom"]
STRUCTURE = [
    "role", "type", "index", "id", "call_id", "status", "object", "name", "model", "finish_reason", "stop_reason",
    "annotations", "citations", "cache_control", "logprobs", "format", "closed", "phase", "caller", "created_at",
    "container", "expires_at", "stop_sequence", "item_id", "output_index", "content_index", "sequence_number",
]  # fmt: skip


def heard(said: Any, *, thought: bool = False) -> tuple[list[str], int, bytes]:
    """The pieces, the bytes in all, and the digest."""
    reply = Reply()
    hear(said, reply, thought=thought)
    size = reply.size
    return reply.take(), size, reply.digest()


def as_if(*said: str, thought: tuple[str, ...] = (), calls: tuple[tuple[str, str], ...] = ()) -> bytes:
    reply = Reply()
    for text in said:
        reply.say(text)
    for text in thought:
        reply.think(text)
    for name, arguments in calls:
        reply.call(name, arguments)
    return reply.digest()


@pytest.mark.parametrize(
    ("said", "pieces", "size"),
    [
        ("hi", ["hi"], 2),
        (["a", ["b"], {"text": "c"}], ["a", "b", "c"], 3),
        *(({name: "hi"}, ["hi"], 2) for name in SAID),
        *(({name: {"text": ["a", "b"]}}, ["a", "b"], 2) for name in SAID),
    ],
)
def test_what_is_said_is_listened_to_and_digested(said: Any, pieces: list[str], size: int) -> None:
    assert heard(said) == (pieces, size, as_if(*pieces))


@pytest.mark.parametrize(
    "said",
    [
        *({name: "hm"} for name in THOUGHT),
        *({name: [{"text": "hm"}]} for name in THOUGHT),
        {"type": "thinking", "text": "hm"},
        {"type": "redacted_thinking", "text": "hm"},
        {"type": "reasoning.text", "text": "hm"},
        {"type": "thought_summary", "content": [{"text": "hm"}]},
    ],
)
def test_what_is_thought_is_listened_to_and_not_digested(said: Any) -> None:
    assert heard(said) == (["hm"], 2, b"")
    assert heard([said, "so"])[2] == as_if("so")


@pytest.mark.parametrize("said", ["hm", ["hm"], {"text": "hm"}, [{"content": ["hm"]}]])
def test_all_of_a_thought_is_one(said: Any) -> None:
    assert heard(said, thought=True) == (["hm"], 2, b"")


@pytest.mark.parametrize(
    "said",
    [None, True, False, [], {}, [None], *({name: "x"} for name in STRUCTURE), *({n: None} for n in SAID)],
)
def test_what_is_no_text_weighs_nothing(said: Any) -> None:
    assert heard(said) == ([], 0, b"")


@pytest.mark.parametrize(
    ("said", "size"),
    [
        (7, 1),
        (1.5, 3),
        ({"new": "abc"}, 3),
        ({"new": [1, 2]}, 5),
        ({"new": {"a": "b"}}, 9),
        ({"new": True}, 4),
    ],
)
def test_what_is_not_known_is_weighed(said: Any, size: int) -> None:
    assert heard(said) == ([], size, b"")


@pytest.mark.parametrize("name", CALLS)
def test_a_call_is_heard_wherever_it_stands(name: str) -> None:
    call = {"name": "f", "arguments": "{}"}
    expected = (["{}"], 3, as_if(calls=(("f", "{}"),)))
    assert heard({name: call}) == heard({name: [call]}) == expected
    assert heard({name: [call, call]}) == (["{}", "{}"], 6, as_if(calls=(("f", "{}"), ("f", "{}"))))


@pytest.mark.parametrize(
    "kind", ["tool_use", "server_tool_use", "function_call", "web_search_call", "function"]
)
def test_a_part_that_is_a_call_by_its_type_is_one(kind: str) -> None:
    said = {"type": kind, "id": "x", "name": "f", "input": '"q"'}
    assert heard(said) == (['"q"'], 4, as_if(calls=(("f", '"q"'),)))
    assert heard({**said, "type": kind + "s"})[2] == b""


@pytest.mark.parametrize("name", ARGUMENTS)
@pytest.mark.parametrize("call", [
    lambda arguments: {"name": "f", **arguments},
    lambda arguments: {"function": {"name": "f", **arguments}},
    lambda arguments: {"custom": {"name": "f", **arguments}, "id": "x", "type": "custom"},
    lambda arguments: {"name": "f", "function": arguments},
    lambda arguments: {"function": "f", **arguments},
    lambda arguments: {"function": {"name": "f"}, **arguments},
])  # fmt: skip
def test_arguments_are_heard_by_any_name_and_in_any_shape(name: str, call: Any) -> None:
    def of(value: Any) -> tuple[list[str], int, bytes]:
        reply = Reply()
        hear_call(call({name: value}), reply)
        size = reply.size
        return reply.take(), size, reply.digest()

    assert of('{"a":1}') == (['{"a":1}'], 8, as_if(calls=(("f", '{"a":1}'),)))
    # An object is no text to listen to; it is digested as it would be written.
    assert of({"b": 2, "a": 1}) == ([], 14, as_if(calls=(("f", '{"a":1,"b":2}'),)))
    assert of(None) == of({}) == ([], 1, as_if(calls=(("f", ""),)))


def test_a_piece_of_a_call_has_no_name() -> None:
    reply = Reply()
    hear_call({"index": 0, "function": {"name": None, "arguments": "ab"}}, reply)
    assert (reply.take(), reply.size) == (["ab"], 2)
    assert heard({"partial_json": "ab"})[:2] == (["ab"], 2)
    assert heard({"partial_json": ["ab"]})[:2] == ([], 0)


@pytest.mark.parametrize(
    ("call", "size"),
    [
        (None, 0), ("text", 4), (7, 1), ([1], 3), ({"name": "f", "new": "abc"}, 4), ({"function": 7}, 0),
        ({"name": 7}, 0),
        ({"function": {"name": "f", "new": "abc"}}, 4), ({"function": {"name": "f"}, "new": "abc"}, 4),
    ],
)  # fmt: skip
def test_what_is_not_known_of_a_call_is_weighed(call: Any, size: int) -> None:
    reply = Reply()
    hear_call(call, reply)
    assert (reply.take(), reply.size) == ([], size)


@pytest.mark.parametrize(
    ("more", "times"),
    [
        ({}, 1),
        ({"reasoning_content": "hm"}, 1),
        ({"reasoning_content": "hm!"}, 2),
        ({"reasoning_details": [{"text": "h"}, {"text": "m"}]}, 1),
        ({"reasoning_details": [{"summary": "hm"}]}, 1),
        ({"reasoning_details": [{"text": "h"}, {"summary": "m"}], "reasoning_content": "hm"}, 1),
        ({"reasoning_details": [{"text": "hm"}, {"text": "!"}]}, 3),
        ({"reasoning_details": []}, 1),
        ({"reasoning_details": "hm"}, 2),
    ],
)
def test_a_thought_that_is_told_twice_is_heard_once(more: dict[str, Any], times: int) -> None:
    """Servers as vLLM and OpenRouter have it under two names; what differs is not the same."""
    assert len(heard({"reasoning": "hm", **more})[0]) == times


def test_what_stands_beside_an_empty_thought_is_heard() -> None:
    """Two empty ones are not the same thought."""
    assert heard({"reasoning": "", "reasoning_content": "hm"})[0] == ["hm"]
    assert heard({"reasoning": "", "reasoning_details": [{"text": ""}, {"data": "abc"}]})[1] == 3
    assert heard({"reasoning": ["hm"], "reasoning_content": ["hm"]})[0] == ["hm", "hm"]
