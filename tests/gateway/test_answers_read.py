"""What each route reads of a whole answer: its count, its text, whether it is one at all, and what it says if not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from asking import LIMITS

from epad.gateway.dialects.dialect import Endpoint
from epad.gateway.dialects.routes import Routes
from epad.gateway.dialects.seen import Fault, Seen
from epad.gateway.dialects.usage import FREE, TokenUsage

ROUTES = Routes(LIMITS)
CHAT, TEXT, VECTORS, RESPONSES = (
    "/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses",
)  # fmt: skip
MESSAGES, COUNT, O_CHAT, O_EMBED = "/v1/messages", "/v1/messages/count_tokens", "/api/chat", "/api/embed"
NONE, UNREADABLE = Fault.NO_ANSWER, Fault.UNREADABLE
COUNTED = {"prompt_tokens": 3, "completion_tokens": 4}
# How many choices were looked for, and what was found of them.
SIZES = ((CHAT, (0,)), (VECTORS, ()), (RESPONSES, (0,)), (MESSAGES, (0,)), (COUNT, ()), (O_CHAT, (0,)))
BOTH = {"input_tokens": 3, "output_tokens": 4}
USAGE = TokenUsage(3, 4)
MESSAGE = {"type": "message", "role": "assistant", "content": [{"type": "text", "text": "hi"}]}
RESPONSE = {
    "object": "response",
    "output": [{"type": "message", "content": [{"type": "output_text", "text": "hi"}]}],
}
LINE = {"model": "m", "message": {"role": "assistant", "content": "hi"}, "done": True}


def endpoint(path: str) -> Endpoint:
    found = ROUTES.endpoint("POST", path)
    assert found is not None
    return found


def choice(text: str = "hi", **more: Any) -> dict[str, Any]:
    return {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop", **more}


def done(size: int = 2, usage: TokenUsage = USAGE) -> Seen:
    return Seen(usage, final=True, choice_bytes=(size,))


@pytest.mark.parametrize(
    ("path", "answer", "seen", "pieces"),
    [
        # chat and completions
        (CHAT, {"choices": [choice()], "usage": COUNTED}, done(), ["hi"]),
        (CHAT, {"choices": [choice()]}, Seen(choice_bytes=(2,)), ["hi"]),
        (CHAT, {"choices": [choice()], "usage": None}, Seen(choice_bytes=(2,)), ["hi"]),
        (CHAT, {"choices": [choice()], "usage": {}}, Seen(TokenUsage(), choice_bytes=(2,)), ["hi"]),
        (
            CHAT,
            {"choices": [choice()], "usage": {**COUNTED, "completion_tokens": 0}},
            Seen(TokenUsage(3, 0), choice_bytes=(2,)),
            ["hi"],
        ),
        (CHAT, {"choices": [choice("")], "usage": {**COUNTED, "completion_tokens": 0}}, done(0, TokenUsage(3, 0)), []),
        (
            CHAT,
            {"choices": [choice()], "usage": {"total_tokens": 9}},
            Seen(TokenUsage(), final=True, total_tokens=9, choice_bytes=(2,)),
            ["hi"],
        ),
        (
            CHAT,
            {"choices": [choice()], "usage": {**COUNTED, "completion_tokens": -4}},
            Seen(TokenUsage(3, None), choice_bytes=(2,), absurd="completion_tokens = -4"),
            ["hi"],
        ),
        (
            CHAT,
            {"choices": [choice(), choice("abc", index=1), choice("defg", index=2)], "usage": COUNTED},
            Seen(USAGE, final=True, choice_bytes=(2, 3, 4)),
            ["hi"],
        ),
        (
            CHAT,
            {"choices": [choice(new="x"), choice("abc", index=1, new="xy")], "usage": COUNTED},
            Seen(USAGE, final=True, choice_bytes=(3, 5)),
            ["hi"],
        ),
        (CHAT, {"choices": [choice(index="0")], "usage": COUNTED}, done(), ["hi"]),
        (CHAT, {"choices": ["abc", choice()], "usage": COUNTED}, done(5), ["hi"]),
        (CHAT, {"choices": [], "usage": COUNTED}, done(0), []),
        (CHAT, {"choices": [{"index": 0, "text": "hi"}], "usage": COUNTED}, done(), ["hi"]),
        (
            CHAT,
            {"choices": [{"message": {"reasoning_content": "hm", "content": "hi", "refusal": "no"}}], "usage": COUNTED},
            done(6),
            ["hm", "hi", "no"],
        ),
        (
            CHAT,
            {"choices": [{"message": {"reasoning": "hm", "reasoning_content": "hm"}}], "usage": COUNTED},
            done(2),
            ["hm"],
        ),
        (
            CHAT,
            {"choices": [{"message": {"reasoning": "so", "reasoning_content": "hm"}}], "usage": COUNTED},
            done(4),
            ["hm", "so"],
        ),
        (
            CHAT,
            {
                "choices": [
                    {"message": {"content": None, "tool_calls": [
                        {"id": "x", "type": "function", "function": {"name": "f", "arguments": "{}"}}, {"id": "y"},
                    ]}},
                ],
                "usage": COUNTED,
            },
            done(3),
            ["{}"],
        ),
        (TEXT, {"choices": [{"index": 0, "text": "hi", "logprobs": {"x": "y"}}], "usage": COUNTED}, done(), ["hi"]),
        (
            TEXT,
            [{"choices": [{"text": "hi"}], "usage": COUNTED}, {"choices": [{"text": "abc", "index": 1}]}],
            Seen(choice_bytes=(2, 3)),
            ["hi"],
        ),
        # vectors
        (VECTORS, {"data": [[1.0]], "usage": {"prompt_tokens": 3}}, Seen(TokenUsage(3, 0), final=True), []),
        (VECTORS, {"data": [[1.0]], "usage": COUNTED}, Seen(USAGE, final=True), []),
        (
            VECTORS,
            {"data": [[1.0]], "usage": {"prompt_tokens": 3, "total_tokens": 5}},
            Seen(TokenUsage(3, 2), final=True),
            [],
        ),
        (VECTORS, {"data": [[1.0]], "usage": {"prompt_tokens": 0}}, Seen(TokenUsage(None, 0), final=True), []),
        (VECTORS, {"data": [[1.0]], "usage": {"total_tokens": 5}}, Seen(TokenUsage(5, 0), final=True), []),
        (VECTORS, {"data": [[1.0]]}, Seen(), []),
        (VECTORS, {"embeddings": [[1.0]], "usage": {"prompt_tokens": 3}}, Seen(TokenUsage(3, 0), final=True), []),
        # responses
        (RESPONSES, {**RESPONSE, "usage": BOTH}, done(), ["hi"]),
        (RESPONSES, {**RESPONSE, "error": None, "usage": BOTH}, done(), ["hi"]),
        (RESPONSES, RESPONSE, Seen(choice_bytes=(2,)), ["hi"]),
        (RESPONSES, {"object": "response", "usage": BOTH}, done(0), []),
        (RESPONSES, {"output": [], "usage": BOTH}, done(0), []),
        # messages
        (MESSAGES, {**MESSAGE, "usage": BOTH}, done(), ["hi"]),
        (MESSAGES, MESSAGE, Seen(choice_bytes=(2,)), ["hi"]),
        (
            MESSAGES,
            {
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "abc"},
                    {"type": "tool_use", "id": "x", "name": "f", "input": {"a": 1}},
                ],
                "usage": BOTH,
            },
            done(2 + 3 + 1 + 8),
            ["hm"],
        ),
        (
            MESSAGES,
            {"content": [{"type": "text", "text": "hi", "new": "abc"}], "usage": BOTH},
            done(5),
            ["hi"],
        ),
        (MESSAGES, {"content": "hi", "usage": BOTH}, done(), ["hi"]),
        (COUNT, {"input_tokens": 7}, Seen(FREE, final=True), []),
        # Ollama
        (O_CHAT, {"response": "hi"}, Seen(choice_bytes=(2,)), ["hi"]),
        (O_CHAT, {"message": {"content": "hi"}}, Seen(choice_bytes=(2,)), ["hi"]),
        (O_CHAT, {"done": True}, Seen(choice_bytes=(0,)), []),
        (O_CHAT, {**LINE, "prompt_eval_count": 3, "eval_count": 4}, done(), ["hi"]),
        (O_CHAT, {**LINE, "eval_count": 4}, done(usage=TokenUsage(None, 4)), ["hi"]),
        (O_CHAT, LINE, Seen(choice_bytes=(2,)), ["hi"]),
        (O_CHAT, {**LINE, "done_reason": "stop"}, Seen(choice_bytes=(2,)), ["hi"]),
        (
            O_CHAT,
            {**LINE, "done": False, "prompt_eval_count": 3, "eval_count": 4},
            Seen(USAGE, choice_bytes=(2,)),
            ["hi"],
        ),
        *(
            (O_CHAT, {"done": True, "done_reason": reason, "response": ""}, done(0, TokenUsage(0, 0)), [])
            for reason in ("load", "unload")
        ),
        (
            O_CHAT,
            {"thinking": "hm", "response": "hi", "done": True, "prompt_eval_count": 3, "eval_count": 4},
            done(4),
            ["hm", "hi"],
        ),
        (
            O_CHAT,
            {**LINE, "eval_count": -4},
            Seen(TokenUsage(), choice_bytes=(2,), absurd="eval_count = -4"),
            ["hi"],
        ),
        (O_EMBED, {"embeddings": [[1.0]], "prompt_eval_count": 3}, Seen(TokenUsage(3, 0), final=True), []),
        (O_EMBED, {"embeddings": [[1.0]], "prompt_eval_count": 0}, Seen(TokenUsage(None, 0), final=True), []),
        (O_EMBED, {"embeddings": [[1.0]]}, Seen(TokenUsage(None, 0), final=True), []),
        (O_EMBED, {"embedding": [1.0], "prompt_eval_count": 3}, Seen(TokenUsage(3, 0), final=True), []),
    ],
)  # fmt: skip
def test_an_answer_is_read(path: str, answer: Any, seen: Seen, pieces: list[str]) -> None:
    body = json.dumps(answer).encode()
    whole = endpoint(path).read(body)
    assert whole.seen == seen
    assert (whole.fault, whole.failure) == (Fault.NONE, "")
    assert whole.reply.take() == pieces
    assert endpoint(path).reply(body).take() == pieces


@pytest.mark.parametrize(
    ("path", "answer", "seen", "failure"),
    [
        *(
            (path, {"error": {"message": "no"}}, Seen(choice_bytes=sizes, nothing_came=True), "no")
            for path, sizes in (*SIZES, (TEXT, (0,)))
        ),
        *(
            (path, {"detail": "Not Found"}, Seen(choice_bytes=sizes, nothing_came=True), "Not Found")
            for path, sizes in SIZES
        ),
        *(
            (path, [{"error": {"message": "no"}}], Seen(nothing_came=True), "no")
            for path in (CHAT, TEXT, VECTORS, RESPONSES, MESSAGES, COUNT, O_CHAT, O_EMBED)
        ),
        (CHAT, [], Seen(nothing_came=True), "nothing"),
        (
            CHAT,
            {"choices": None, "usage": COUNTED},
            Seen(USAGE, final=True, choice_bytes=(0,), nothing_came=True),
            '{"choices": null, "usage": {"prompt_tokens": 3, "completion_tokens": 4}}',
        ),
        (CHAT, {"choices": [choice()], "error": "no", "usage": COUNTED}, done(), "no"),
        (CHAT, {"choices": [choice(error={"message": "cut"})], "usage": COUNTED}, done(), None),
        (
            CHAT,
            {"choices": [choice("", error="a"), choice("", error="b")]},
            Seen(choice_bytes=(0,), nothing_came=True),
            None,
        ),
        (
            VECTORS,
            {"data": [], "usage": {"prompt_tokens": 3}},
            Seen(TokenUsage(3), nothing_came=True),
            '{"data": [], "usage": {"prompt_tokens": 3}}',
        ),
        (VECTORS, {"data": [[1.0]], "error": "no", "usage": COUNTED}, Seen(USAGE, final=True), "no"),
        (
            RESPONSES,
            {"status": "failed", "error": {"message": "no"}, **RESPONSE, "usage": BOTH},
            done(),
            "no",
        ),
        (
            MESSAGES,
            {"type": "error", "error": {"type": "x", "message": "no"}},
            Seen(choice_bytes=(0,), nothing_came=True),
            "no",
        ),
        (MESSAGES, {**MESSAGE, "type": "error", "usage": BOTH}, done(), "error"),
        (MESSAGES, {**MESSAGE, "error": "no", "usage": BOTH}, done(), "no"),
        (COUNT, {"input_tokens": 7, "error": "no"}, Seen(nothing_came=True), "no"),
        (O_CHAT, {**LINE, "error": "no", "prompt_eval_count": 3, "eval_count": 4}, done(), "no"),
        (O_EMBED, {"error": "no"}, Seen(TokenUsage(), nothing_came=True), "no"),
        (
            O_EMBED,
            {"embeddings": [[1.0]], "error": "no", "prompt_eval_count": 3},
            Seen(TokenUsage(3), nothing_came=True),
            "no",
        ),
        (O_EMBED, {"model": "m"}, Seen(TokenUsage(), nothing_came=True), '{"model": "m"}'),
    ],
)
def test_what_is_no_answer_is_told_and_what_it_counts_is_kept(
    path: str, answer: Any, seen: Seen, failure: str | None
) -> None:
    whole = endpoint(path).read(json.dumps(answer).encode())
    assert whole.fault is NONE
    assert failure is None or whole.failure == failure
    assert whole.seen == seen


@pytest.mark.parametrize("path", [CHAT, TEXT, VECTORS, RESPONSES, MESSAGES, COUNT, O_CHAT, O_EMBED])
@pytest.mark.parametrize(
    ("body", "fault", "failure"),
    [
        (b"<html>no</html>", NONE, "a page of HTML or XML"),
        (b"\n <?xml?>", NONE, "a page of HTML or XML"),
        (b"no", UNREADABLE, "what is no JSON"),
        (b"", UNREADABLE, "what is no JSON"),
        (b"7", UNREADABLE, "what is no JSON"),
        (b'"text"', UNREADABLE, "what is no JSON"),
        (b'{"choices": [', UNREADABLE, "what is no JSON"),
    ],
)
def test_what_is_no_json_is_an_error_page_or_unknown(
    path: str, body: bytes, fault: Fault, failure: str
) -> None:
    whole = endpoint(path).read(body)
    assert (whole.fault, whole.failure) == (fault, failure)
    assert whole.seen == (Seen(nothing_came=True) if fault is NONE else Seen(bounded=False))


@pytest.mark.parametrize(
    ("path", "answer", "usage"),
    [
        (CHAT, {"choices": [choice()], "usage": COUNTED}, USAGE),
        (CHAT, {"usage": COUNTED}, USAGE),
        (CHAT, {"choices": [choice()]}, None),
        (CHAT, {"usage": {"prompt_tokens": -3}}, None),
        (CHAT, [1], None),
        (VECTORS, {"data": [[1.0]], "usage": {"prompt_tokens": 3}}, TokenUsage(3, 0)),
        (VECTORS, {"data": [[1.0]], "usage": {"prompt_tokens": -3}}, None),
        (RESPONSES, {**RESPONSE, "usage": BOTH}, USAGE),
        (RESPONSES, {**RESPONSE, "usage": {"input_tokens": -3}}, None),
        (MESSAGES, {**MESSAGE, "usage": BOTH}, USAGE),
        (MESSAGES, {**MESSAGE, "usage": {"input_tokens": -3}}, None),
        (COUNT, {"input_tokens": 7}, FREE),
        (O_CHAT, {**LINE, "prompt_eval_count": 3, "eval_count": 4}, USAGE),
        (O_CHAT, {**LINE, "done": False, "prompt_eval_count": 3, "eval_count": 4}, None),
        (O_CHAT, {**LINE, "prompt_eval_count": -3, "eval_count": 4}, None),
        (O_EMBED, {"embeddings": [[1.0]], "prompt_eval_count": 3}, TokenUsage(3, 0)),
        (O_EMBED, {"error": "no", "prompt_eval_count": 3}, None),
        (O_EMBED, {"embeddings": [[1.0]], "prompt_eval_count": -3}, None),
    ],
)
def test_the_usage_of_an_answer_unless_it_is_absurd(path: str, answer: Any, usage: TokenUsage | None) -> None:
    assert endpoint(path).usage(json.dumps(answer).encode()) == usage


@pytest.mark.parametrize(
    "name",
    [
        "index", "finish_reason", "logprobs", "stop_reason", "token_ids", "prompt_token_ids", "prompt_logprobs",
        "matched_stop", "native_finish_reason", "content_filter_results", "content_filter_result", "seed",
        "content_filter_offsets", "routed_experts", "weight_version",
    ],
)  # fmt: skip
def test_what_a_choice_says_about_its_text_is_no_text(name: str) -> None:
    """The tokens once more, how it ended, what a filter thought of it: none of it was made by the model."""
    said = {"index": 0, "message": {"content": "hi", "new": "abc"}}
    seen = endpoint(CHAT).read(json.dumps({"choices": [{**said, name: ["much", "more"]}]}).encode()).seen
    assert seen.choice_bytes == (5,)
    assert endpoint(CHAT).read(
        json.dumps({"choices": [{**said, name.upper(): "x"}]}).encode()
    ).seen.choice_bytes == (6,)
