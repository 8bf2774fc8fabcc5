"""Answers of every dialect: text in places where few servers put it, errors beside text, and how each is broken off."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from asking import LIMITS

from epad.gateway.dialects.dialect import Endpoint, StreamMeter
from epad.gateway.dialects.loose import as_number, read
from epad.gateway.dialects.routes import Routes
from epad.gateway.dialects.seen import Fault, Seen
from epad.gateway.dialects.usage import TokenUsage
from epad.gateway.refusal import Refusal

ROUTES = Routes(LIMITS)
CHAT, TEXT, VECTORS, RESPONSES = (
    "/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses",
)  # fmt: skip
MESSAGES, COUNT = "/v1/messages", "/v1/messages/count_tokens"
O_CHAT, O_GENERATE, O_EMBED, O_OLD = "/api/chat", "/api/generate", "/api/embed", "/api/embeddings"
COUNTED, USAGE = {"prompt_tokens": 3, "completion_tokens": 4}, TokenUsage(3, 4)
LAST = {"done": True, "prompt_eval_count": 3, "eval_count": 4}
REFUSAL = Refusal(429, "rate_limit_error", "over_budget", "no more", details={"limit": 5})


def endpoint(path: str) -> Endpoint:
    found = ROUTES.endpoint("POST", path)
    assert found is not None
    return found


def meter(path: str, **more: Any) -> StreamMeter:
    asked = {"model": "m", "messages": [], "input": "x", "prompt": "x", "stream": True}
    if path == VECTORS:
        del asked["messages"]
    return endpoint(path).meter(endpoint(path).parse(json.dumps({**asked, **more}).encode()))


def as_event(path: str, event: Any) -> bytes:
    data = json.dumps(event).encode()
    return data + b"\n" if path.startswith("/api/") else b"data: " + data + b"\n\n"


BESIDE_CHOICES = [
    "content", "delta", "generated_text", "message", "output", "output_text", "reasoning", "reasoning_content",
    "response", "text", "thinking", "token", "tool_calls", "function_call",
]  # fmt: skip
BESIDE_LINES = [
    "content",
    "text",
    "delta",
    "choices",
    "output",
    "tool_calls",
    "reasoning",
    "reasoning_content",
]


@pytest.mark.parametrize("name", BESIDE_CHOICES)
@pytest.mark.parametrize("path", [CHAT, TEXT])
def test_text_beside_the_choices_is_heard(path: str, name: str) -> None:
    """Some servers set no choice around it; what is empty says nothing, nor does a message that is a word."""
    said = {"text": "hi"} if name == "message" else "hi"
    body = json.dumps({"choices": [], name: said, "usage": COUNTED}).encode()
    assert endpoint(path).read(body).seen == Seen(USAGE, final=True, choice_bytes=(2,))
    assert endpoint(path).reply(body).take() == ["hi"]
    other = json.dumps({"choices": [], name.upper(): said, name: "", "usage": COUNTED}).encode()
    assert endpoint(path).read(other).seen.choice_bytes == (0,)
    stream = meter(path)
    stream.feed(as_event(path, {name: said}))
    stream.finish()
    assert (stream.seen().chunks, stream.seen().choice_bytes, stream.seen().unread_bytes) == (1, (2,), 0)


def test_a_message_beside_the_choices_that_is_a_word_is_an_errors() -> None:
    body = json.dumps({"object": "error", "message": "no", "text": "hi"}).encode()
    whole = endpoint(CHAT).read(body)
    assert (whole.fault, whole.failure, whole.seen.choice_bytes) == (Fault.NO_ANSWER, "no", (2,))


@pytest.mark.parametrize("name", BESIDE_LINES)
@pytest.mark.parametrize("path", [O_CHAT, O_GENERATE])
def test_text_in_a_line_beside_ollamas_own_fields_counts(path: str, name: str) -> None:
    """Unless the line is an error, which may quote anything."""
    assert endpoint(path).read(json.dumps({name: "hi", **LAST}).encode()).seen == Seen(
        USAGE, final=True, choice_bytes=(2,)
    )
    assert endpoint(path).read(json.dumps({name.upper(): "hi", **LAST}).encode()).seen.choice_bytes == (0,)
    failed = endpoint(path).read(json.dumps({name: "hi", "error": "no"}).encode())
    assert (failed.seen, failed.failure) == (Seen(choice_bytes=(0,), nothing_came=True), "no")
    stream = meter(path)
    stream.feed(as_event(path, {name: "hi"}) + as_event(path, LAST))
    stream.finish()
    assert (stream.seen().usage, stream.seen().final, stream.seen().chunks) == (USAGE, True, 1)
    assert (stream.seen().choice_bytes, stream.failed) == ((2,), False)


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        (CHAT, {"choices": [{"message": {"content": "hi"}}]}),
        (TEXT, {"choices": [{"text": "hi"}]}),
        (RESPONSES, {"output": [{"content": [{"type": "output_text", "text": "hi"}]}]}),
        (MESSAGES, {"content": [{"type": "text", "text": "hi"}]}),
        (O_CHAT, {"message": {"content": "hi"}}),
        (O_GENERATE, {"response": "hi"}),
    ],
)
def test_what_was_said_before_an_error_is_kept_and_the_error_told(path: str, answer: dict[str, Any]) -> None:
    """It cost as much as it is long, and who listens for loops hears it."""
    whole = endpoint(path).read(json.dumps({**answer, "error": {"message": "out of memory"}}).encode())
    assert (whole.fault, whole.failure) == (Fault.NO_ANSWER, "out of memory")
    assert whole.seen == Seen(choice_bytes=(2,), nothing_came=False)
    assert whole.reply.take() == ["hi"]
    said = endpoint(path).read(json.dumps(answer).encode()).reply
    assert whole.reply.digest() == said.digest() != b""


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"), (401, "authentication_error"), (402, "billing_error"),
        (403, "permission_error"), (404, "not_found_error"), (408, "timeout_error"), (413, "request_too_large"),
        (429, "rate_limit_error"), (500, "api_error"), (502, "api_error"), (503, "api_error"), (409, "api_error"),
    ],
)  # fmt: skip
def test_anthropics_clients_are_told_a_status_in_their_own_word(status: int, kind: str) -> None:
    """By which their clients choose the exception."""
    said = endpoint(MESSAGES).dialect.error_body(Refusal(status, "any", "code", "no"))
    assert json.loads(said) == {
        "type": "error", "error": {"type": kind, "message": "no", "code": "code"}, "request_id": None,
    }  # fmt: skip


ERROR = {"message": "no more", "type": "rate_limit_error", "param": None, "code": "over_budget"}
BROKEN = {
    **dict.fromkeys([CHAT, TEXT, VECTORS], b"data: %b\n\ndata: [DONE]\n\n"),
    **dict.fromkeys([MESSAGES, COUNT], b"event: error\ndata: %b\n\n"),
    **dict.fromkeys([O_CHAT, O_GENERATE, O_EMBED, O_OLD], b"%b\n"),
}


@pytest.mark.parametrize("path", BROKEN)
def test_a_stream_of_any_route_is_broken_off_in_its_dialects_words(path: str) -> None:
    assert meter(path).cut(REFUSAL) == BROKEN[path] % endpoint(path).dialect.error_body(REFUSAL)


def test_an_error_is_an_object_for_openais_clients_and_a_line_for_ollamas() -> None:
    openai, ollama = endpoint(CHAT).dialect, endpoint(O_CHAT).dialect
    assert json.loads(openai.error_body(REFUSAL)) == {"error": {**ERROR, "budget": {"limit": 5}}}
    assert json.loads(openai.error_body(Refusal(503, "server_error", "gone", "it is gone"))) == {
        "error": {"message": "it is gone", "type": "server_error", "param": None, "code": "gone"}
    }
    assert json.loads(ollama.error_body(REFUSAL)) == {"error": "no more", "code": "over_budget"}


@pytest.mark.parametrize(
    ("vectors", "seen"),
    [
        ({"data": None}, None), ({"data": []}, None), ({"embeddings": []}, None), ({}, None),
        ({"data": None, "embeddings": [[1.0]]}, Seen(TokenUsage(3, 0), final=True)),
        ({"data": "AACAPw=="}, Seen(TokenUsage(3, 0), final=True)),
        ({"data": [{"embedding": [0.5], "new": 1}]}, Seen(TokenUsage(3, 0), final=True)),
    ],
)  # fmt: skip
def test_an_answer_of_vectors_has_some(vectors: dict[str, Any], seen: Seen | None) -> None:
    whole = endpoint(VECTORS).read(json.dumps({**vectors, "usage": {"prompt_tokens": 3}}).encode())
    assert whole.seen == (seen or Seen(TokenUsage(3), nothing_came=True))
    assert whole.fault is (Fault.NONE if seen else Fault.NO_ANSWER)
    assert whole.reply.take() == []
    assert endpoint(VECTORS).reply(json.dumps(vectors).encode()).take() == []


def test_vectors_that_come_as_an_event_are_one_chunk_of_no_text() -> None:
    stream = meter(VECTORS)
    stream.feed(as_event(VECTORS, {"data": [{"embedding": [0.5]}], "usage": {"prompt_tokens": 3}}))
    stream.finish()
    seen = stream.seen()
    assert (seen.chunks, seen.choice_bytes, seen.unread_bytes) == (1, (0,), 0)
    assert (seen.usage, stream.failed) == (TokenUsage(3, None), False)


def test_a_call_without_arguments_is_as_long_as_its_name() -> None:
    body = json.dumps({"content": [{"type": "tool_use", "id": "x", "name": "fun"}], "usage": {}}).encode()
    assert endpoint(MESSAGES).read(body).seen.choice_bytes == (3,)


@pytest.mark.parametrize(
    ("choice", "size"),
    [
        ({"message": {"tool_calls": [{"function": {"name": "f", "arguments": "{}", "new": "abc"}}]}}, 6),
        ({"message": {"tool_calls": [{"function": {"name": "f", "arguments": "{}"}, "new": "abc"}]}}, 6),
        ({"message": {"tool_calls": [{"function": {"name": "f"}}]}}, 1),
        ({"message": {"content": "hi", "new": "abc"}}, 5),
        ({"message": {"content": "hi"}, "new": "abc"}, 5),
        ({"message": {"content": "hi", "function_call": {"name": "f", "arguments": "{}"}}}, 5),
        ({"message": {"content": "hi", "audio": {"data": "abc", "transcript": "so"}}}, 7),
        ({"message": {"content": ["hi", {"type": "text", "text": "so"}]}}, 4),
        ({"message": "hi"}, 2),
        ({"delta": {"content": "hi"}, "message": None}, 2),
        ({}, 0),
    ],
)
def test_a_choice_is_as_long_as_all_that_may_be_text(choice: dict[str, Any], size: int) -> None:
    """Of the first, and of one beside it."""
    for index in (0, 1):
        body = json.dumps({"choices": [{"index": 0, "text": ""}, {**choice, "index": index}]}).encode()
        assert endpoint(CHAT).read(body).seen.choice_bytes == ((size,) if index == 0 else (0, size))


def test_no_more_choices_are_told_apart_than_anybody_asks_for() -> None:
    """The bytes of the others count with those of the second: nothing is lost, and memory stays bounded."""
    count = 4_100
    choices = [{"index": n, "text": "xy", "new": None} for n in range(count)]
    for each in (choices, [{**choice, "new": "z"} for choice in choices]):
        sizes = endpoint(TEXT).read(json.dumps({"choices": each}).encode()).seen.choice_bytes
        size = 2 if each is choices else 3
        assert len(sizes) == 4_097
        assert sum(sizes) == size * count
        assert sizes[1] == size * 4


@pytest.mark.parametrize("name", ["summary_index", "response_id", "obfuscation", "event_id"])
def test_what_a_piece_of_a_response_is_sent_with_is_no_text(name: str) -> None:
    event = {"type": "response.x.delta", "delta": {"text": "hi"}}
    for key, size in ((name, 2), (name.upper(), 5)):
        stream = meter(RESPONSES)
        stream.feed(as_event(RESPONSES, {**event, key: "abc"}))
        assert stream.seen().choice_bytes == (size,)


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (7, 7),
        (0, 0),
        (-1.5, -1.5),
        (None, 0),
        ("7", 0),
        ([7], 0),
        (math.nan, 0),
        (math.inf, 0),
        (-math.inf, 0),
    ],
)
def test_a_time_that_is_no_number_is_the_beginning(value: object, number: float) -> None:
    assert as_number(value) == number
    stream = meter(RESPONSES)
    if not isinstance(value, float):
        created = {"type": "response.created", "response": {"id": 5, "model": ["x"], "created_at": value}}
        stream.feed(as_event(RESPONSES, created))
        told = json.loads(stream.cut(REFUSAL).split(b"data: ")[2])["response"]
        assert (told["id"], told["model"], told["created_at"]) == ("", "m", number)


def test_json_of_any_size_is_read_the_first_way() -> None:
    """Only what the strict parser does not take has to be small."""
    text = json.dumps({"a": "x" * (1 << 20), "b": [1, 2.5, None, True]}).encode()
    assert read(text) == json.loads(text)
    assert read(b"true") is True


@pytest.mark.parametrize(
    ("path", "thought"),
    [
        (CHAT, {"choices": [{"message": {"reasoning_content": "hm", "content": "hi"}}]}),
        (CHAT, {"choices": [{"message": {"reasoning": "hm", "content": "hi"}}]}),
        (CHAT, {"choices": [{"message": {"reasoning_details": [{"text": "hm"}], "content": "hi"}}]}),
        (
            CHAT,
            {"choices": [{"message": {"content": [{"type": "thinking", "thinking": "hm"}, {"text": "hi"}]}}]},
        ),
        (
            RESPONSES,
            {
                "output": [
                    {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
                    {"type": "message", "content": [{"type": "output_text", "text": "hi"}]},
                ]
            },
        ),
        (MESSAGES, {"content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "hi"}]}),
        (
            MESSAGES,
            {
                "content": [
                    {"type": "thinking", "thinking": "hm", "new": None},
                    {"type": "text", "text": "hi"},
                ]
            },
        ),
        (O_CHAT, {"message": {"thinking": "hm", "content": "hi"}, "done": True}),
        (O_GENERATE, {"thinking": "hm", "response": "hi", "done": True}),
    ],
)
def test_what_is_thought_is_listened_to_and_no_part_of_the_answer(path: str, thought: dict[str, Any]) -> None:
    """Two answers that say the same are one, whatever was thought before; thoughts may loop as well."""
    whole = endpoint(path).read(json.dumps(thought).encode())
    assert whole.seen.choice_bytes == (4,)
    assert whole.reply.take() == ["hm", "hi"]
    plain = endpoint(path).reply(json.dumps(thought).replace("hm", "").encode())
    assert whole.reply.digest() == plain.digest() != b""
    other = endpoint(path).reply(json.dumps(thought).replace("hi", "so").encode())
    assert whole.reply.digest() != other.digest()
