"""How each dialect's stream is ended by epad: all of what is written, whatever had come before."""

from __future__ import annotations

import json
from typing import Any

import pytest
from asking import LIMITS

from epad.gateway.dialects.dialect import StreamMeter
from epad.gateway.dialects.ending import ollama_line, openai_chunk
from epad.gateway.dialects.routes import Routes

CHAT, TEXT, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
MESSAGES, O_CHAT, O_GENERATE = "/v1/messages", "/api/chat", "/api/generate"
EPAD = {"code": "looping_output", "message": "epad ended this answer: it repeats itself"}
ENVELOPE = {
    "id": "c", "object": "o", "created": 5, "model": "m", "system_fingerprint": "fp", "service_tier": "flex",
}  # fmt: skip
BARE = {"id": "", "object": "chat.completion.chunk", "created": 0, "model": ""}
DONE = b"data: [DONE]\n\n"
COUNTS = {"prompt_tokens": 30, "completion_tokens": 4, "total_tokens": 34}


def meter(path: str, **more: Any) -> StreamMeter:
    endpoint = Routes(LIMITS).endpoint("POST", path)
    assert endpoint is not None
    asked = {"model": "m", "messages": [], "input": "x", "prompt": "x", "stream": True, **more}
    return endpoint.meter(endpoint.parse(json.dumps(asked).encode()))


def as_event(path: str, event: Any) -> bytes:
    data = json.dumps(event).encode()
    return data + b"\n" if path.startswith("/api/") else b"data: " + data + b"\n\n"


def stopped(path: str, *events: Any, **asked: Any) -> list[Any]:
    """What a stream that had these events is ended with: the name of each event, if it has any, and its data."""
    stream = meter(path, **asked)
    for event in events:
        stream.feed(event if isinstance(event, bytes) else as_event(path, event))
    said = stream.stop("it repeats itself", 30, 4)
    if path.startswith("/api/"):
        assert said.endswith(b"\n")
        return [json.loads(line) for line in said.splitlines()]
    blocks = said.removesuffix(b"\n\n").split(b"\n\n")
    assert said.endswith(b"\n\n")
    return [_read(block) for block in blocks]


def _read(block: bytes) -> Any:
    name, _, data = block.rpartition(b"data: ")
    read: Any = data if data == b"[DONE]" else json.loads(data)
    if name:
        assert name.endswith(b"\n")
        assert name[:-1] == b"event: " + read["type"].encode()
    return read


def chunk(index: int = 0, **choice: Any) -> dict[str, Any]:
    return {**ENVELOPE, "choices": [{"index": index, "delta": {"content": "so"}, **choice}], "x": 1}


def ends(*indexes: int, **text: Any) -> list[dict[str, Any]]:
    text = text or {"delta": {}}
    return [{"index": n, **text, "logprobs": None, "finish_reason": "length"} for n in indexes]


@pytest.mark.parametrize(("path", "text"), [(CHAT, {"delta": {}}), (TEXT, {"text": ""})])
def test_each_choice_that_goes_on_is_ended_as_one_of_its_route(path: str, text: dict[str, Any]) -> None:
    """The envelope is that of the chunks before; what else stood in them is not repeated."""
    last = {**ENVELOPE, "choices": [{"index": 0, **text}], "usage": None, "x": 1}
    assert stopped(path, last, stream_options={"include_usage": True}) == [
        {**ENVELOPE, "choices": ends(0, **text), "epad": EPAD}, {**ENVELOPE, "choices": [], "usage": COUNTS}, b"[DONE]",
    ]  # fmt: skip
    assert stopped(path, last) == [{**ENVELOPE, "choices": ends(0, **text), "epad": EPAD}, b"[DONE]"]
    assert stopped(path) == [{**BARE, "choices": ends(0, **text), "epad": EPAD}, b"[DONE]"]


@pytest.mark.parametrize(
    ("finished", "left"), [((), (0, 1, 2)), ((0,), (1, 2)), ((1,), (0, 2)), ((2, 0), (1,)), ((0, 1, 2), ())]
)
def test_a_choice_that_has_ended_is_not_ended_again(finished: tuple[int, ...], left: tuple[int, ...]) -> None:
    came = [chunk(n, finish_reason="stop") for n in finished]
    held = json.loads(as_event(CHAT, came[-1])[6:]) if came else None
    told = {**(ENVELOPE if came else BARE), "choices": ends(*left), "epad": EPAD}
    assert stopped(CHAT, *came, n=3) == [*([held] if held else []), told, b"[DONE]"]


def test_the_last_chunk_that_has_choices_says_whose_it_is() -> None:
    """Of the bytes that came last: a comment, a count or what is no JSON says nothing of it."""
    first = as_event(CHAT, {"id": "one", "model": "m", "choices": []})
    second = as_event(CHAT, {"id": "two", "object": "o", "choices": None})
    for behind in (
        b"",
        b": wait\n\n",
        DONE,
        b"data: [1]\n\n",
        b"data: {\n\n",
        as_event(CHAT, {"id": "usage"}),
    ):
        assert openai_chunk(first + second + behind) == {"id": "two", "object": "o"}
    assert openai_chunk(second + first) == {"id": "one", "model": "m"}
    two = (
        b"data: "
        + json.dumps({"id": "a"}).encode()
        + b"\ndata: "
        + json.dumps({"id": "b", "choices": 0}).encode()
    )
    assert openai_chunk(two) == {"id": "b"}
    assert openai_chunk(b": nothing\n\n") == BARE
    assert stopped(CHAT, first + second)[0] == {"id": "two", "object": "o", "choices": ends(0), "epad": EPAD}


@pytest.mark.parametrize(
    ("before", "open_block"),
    [
        ([], None),
        ([("start", 0)], 0),
        ([("start", 0), ("stop", 0)], None),
        ([("start", 0), ("stop", 0), ("start", 1)], 1),
        ([("start", 2), ("delta", 2)], 2),
    ],
)
def test_a_message_ends_with_the_block_that_is_open(
    before: list[tuple[str, int]], open_block: int | None
) -> None:
    events = [{"type": f"content_block_{kind}", "index": index} for kind, index in before]
    closing = [] if open_block is None else [{"type": "content_block_stop", "index": open_block}]
    assert stopped(MESSAGES, *events) == [
        *closing,
        {
            "type": "message_delta", "delta": {"stop_reason": "max_tokens", "stop_sequence": None},
            "usage": {"output_tokens": 4}, "epad": EPAD,
        },
        {"type": "message_stop"},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "line", "said"),
    [
        (O_CHAT, {"message": {"content": "so"}}, {"message": {"role": "assistant", "content": ""}}),
        (O_GENERATE, {"response": "so"}, {"response": ""}),
    ],
)  # fmt: skip
def test_the_last_line_says_what_every_line_does_and_the_counts(
    path: str, line: dict[str, Any], said: dict[str, Any]
) -> None:
    last = {
        **said,
        "done": True,
        "done_reason": "length",
        "prompt_eval_count": 30,
        "eval_count": 4,
        "epad": EPAD,
    }
    begun = {"model": "m", "created_at": "now"}
    assert stopped(path, {**begun, **line, "done": False}) == [{**begun, **last}]
    # What is no line of an answer that goes on is not gone by.
    assert stopped(path, {**begun, **line, "done": False}, b"{\n") == [{**begun, **last}]
    # One that has more in it than usual is, and so is one that a server sends as an event.
    assert stopped(path, {**begun, **line, "new": 7}, {"new": 8}) == [{**begun, **last}]
    event = b"data: " + json.dumps({**begun, **line}).encode() + b"\n"
    assert stopped(path, event) == [{**begun, **last}]


@pytest.mark.parametrize("last", [b"", b"[]", b"7", b"{", b'{"message": 1}', b'{"thinking": "hm"}'])
def test_a_line_without_a_response_is_one_of_a_chat(last: bytes) -> None:
    assert ollama_line(last) == {"message": {"role": "assistant", "content": ""}}
    assert ollama_line(b'{"response": "", "model": "m", "done": false, "created_at": 1}') == {
        "model": "m", "created_at": 1, "response": "",
    }  # fmt: skip


def test_a_response_ends_as_one_that_is_not_complete() -> None:
    """With all that it began with, and the next number."""
    begun: dict[str, Any] = {
        "id": "r",
        "object": "kept",
        "model": "big",
        "status": "in_progress",
        "output": [],
        "usage": None,
    }
    usage = {"input_tokens": 30, "output_tokens": 4, "total_tokens": 34}
    more = {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}, "usage": usage}
    for count in range(3):
        pieces = [{"type": "response.output_text.delta", "delta": "so"}] * count
        [event] = stopped(RESPONSES, {"type": "response.created", "response": begun}, *pieces)
        assert event == {
            "type": "response.incomplete", "sequence_number": count + 1, "response": {**begun, **more}, "epad": EPAD,
        }  # fmt: skip
    [event] = stopped(RESPONSES)
    assert event == {
        "type": "response.incomplete", "sequence_number": 0, "epad": EPAD,
        "response": {"object": "response", "model": "m", **more},
    }  # fmt: skip
