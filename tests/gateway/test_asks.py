"""What each route reads of a request: every field that metering goes by, at its least and at its most."""

from __future__ import annotations

import json
from typing import Any

import pytest
from asking import LIMITS, USUAL

from epad.gateway.dialects.dialect import Ask, Endpoint, Habits
from epad.gateway.dialects.routes import Routes
from epad.gateway.errors import RequestError

ROUTES = Routes(LIMITS)
CHAT, TEXT, VECTORS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
RESPONSES, MESSAGES, COUNT = "/v1/responses", "/v1/messages", "/v1/messages/count_tokens"
O_CHAT, O_GENERATE, O_EMBED, O_OLD = "/api/chat", "/api/generate", "/api/embed", "/api/embeddings"
SAID = [{"role": "user", "content": "hello"}]
LEAST: dict[str, dict[str, Any]] = {
    CHAT: {"messages": SAID}, TEXT: {"prompt": "hello"}, VECTORS: {"input": "hello"}, RESPONSES: {"input": "hello"},
    MESSAGES: {"messages": SAID}, COUNT: {"messages": SAID}, O_CHAT: {"messages": SAID},
    O_GENERATE: {"prompt": "hello"}, O_EMBED: {"input": "hello"}, O_OLD: {"prompt": "hello"},
}  # fmt: skip
AT_THE_SERVER = "runs at the server and asks the model as often as it likes, so nothing bounds its tokens"
# stream, wish, choices, wants_usage, prompts, context_wish, generates, bounded
PLAIN = (False, None, 1, True, 1, 0, True, True)


def endpoint(path: str) -> Endpoint:
    found = ROUTES.endpoint("POST", path)
    assert found is not None
    return found


def body(path: str, **more: Any) -> bytes:
    return json.dumps({"model": "m", **LEAST[path], **more}).encode()


def parsed(path: str, **more: Any) -> Ask:
    return endpoint(path).parse(body(path, **more))


def read(path: str, **more: Any) -> tuple[Any, ...]:
    ask = parsed(path, **more)
    assert ask.model == "m"
    return (
        ask.stream, ask.wish, ask.choices, ask.wants_usage, ask.prompts, ask.context_wish, ask.generates,
        ask.prompt_bound is not None,
    )  # fmt: skip


def but(plain: tuple[Any, ...] = PLAIN, **changes: Any) -> tuple[Any, ...]:
    names = ("stream", "wish", "choices", "wants_usage", "prompts", "context_wish", "generates", "bounded")
    return tuple(changes.get(name, value) for name, value in zip(names, plain, strict=True))


VECTOR = but(wish=0, generates=False)
STREAM = but(stream=True)


@pytest.mark.parametrize(
    ("path", "more", "expected"),
    [
        (CHAT, {}, PLAIN),
        (CHAT, {"stream": False}, PLAIN),
        (CHAT, {"stream": True}, but(stream=True, wants_usage=False)),
        (CHAT, {"stream": True, "stream_options": {"include_usage": True}}, STREAM),
        (
            CHAT,
            {"stream": True, "stream_options": {"include_usage": False}},
            but(stream=True, wants_usage=False),
        ),
        (CHAT, {"stream": True, "stream_options": None}, but(stream=True, wants_usage=False)),
        (CHAT, {"max_tokens": 7}, but(wish=7)),
        (CHAT, {"max_completion_tokens": 7, "max_tokens": 9}, but(wish=9)),
        (CHAT, {"max_tokens": 1}, but(wish=1)),
        (CHAT, {"max_tokens": 0}, PLAIN),
        (CHAT, {"max_tokens": -1}, PLAIN),
        (CHAT, {"n": 3}, but(choices=3)),
        (CHAT, {"web_search_options": {}}, but(bounded=False)),
        (CHAT, {"plugins": []}, but(bounded=False)),
        (CHAT, {"chat_template": "x"}, but(bounded=False)),
        (CHAT, {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]}, PLAIN),
        (CHAT, {"messages": [{"content": [{"type": "refusal"}, {"type": "thinking"}]}]}, PLAIN),
        (CHAT, {"messages": [{"content": [{"type": "image_url"}]}]}, but(bounded=False)),
        (
            CHAT,
            {"messages": [*SAID, {"content": [{"type": "text"}, {"type": "input_audio"}]}]},
            but(bounded=False),
        ),
        (CHAT, {"messages": [{"content": [{"text": "x"}]}]}, but(bounded=False)),
        (CHAT, {"messages": [{"role": "assistant", "audio": {"id": "x"}}]}, but(bounded=False)),
        (CHAT, {"messages": []}, PLAIN),
        (TEXT, {}, PLAIN),
        (TEXT, {"stream": True}, but(stream=True, wants_usage=False)),
        (TEXT, {"max_tokens": 7, "n": 2}, but(wish=7, choices=2)),
        (TEXT, {"prompt": ["a", "b", "c"], "n": 2}, but(choices=6, prompts=3)),
        (TEXT, {"prompt": [1, 2, 3]}, PLAIN),
        (TEXT, {"prompt": [[1, 2], [3]]}, but(choices=2, prompts=2)),
        (TEXT, {"prompt": []}, PLAIN),
        (TEXT, {"prompt_embeds": "x"}, but(bounded=False)),
        (TEXT, {"max_tokens": 0, "echo": True}, but(wish=0)),
        (TEXT, {"max_tokens": 0, "echo": False}, PLAIN),
        (TEXT, {"max_tokens": 5, "echo": True}, but(wish=5)),
        (TEXT, {"echo": True}, PLAIN),
        (TEXT, {"max_tokens": 0}, PLAIN),
        (VECTORS, {}, VECTOR),
        (VECTORS, {"input": ["a", "b"]}, but(VECTOR, prompts=2)),
        (VECTORS, {"input": [1, 2]}, VECTOR),
        (VECTORS, {"input": None, "messages": SAID}, but(VECTOR, bounded=False)),
        (RESPONSES, {}, PLAIN),
        (RESPONSES, {"stream": True}, STREAM),
        (RESPONSES, {"max_output_tokens": 7}, but(wish=7)),
        (RESPONSES, {"background": False}, PLAIN),
        (RESPONSES, {"previous_response_id": "x"}, but(bounded=False)),
        (RESPONSES, {"conversation": "x"}, but(bounded=False)),
        (RESPONSES, {"prompt": {"id": "x"}}, but(bounded=False)),
        (
            RESPONSES,
            {"tools": [{"type": name} for name in ("function", "custom", "local_shell", "apply_patch")]},
            PLAIN,
        ),
        *(
            (RESPONSES, {"input": [{"type": name}]}, PLAIN)
            for name in ("message", "function_call", "function_call_output", "custom_tool_call",
                         "custom_tool_call_output", "reasoning")
        ),
        *(
            (RESPONSES, {"input": [{"content": [{"type": name}]}]}, PLAIN)
            for name in ("input_text", "output_text", "refusal", "summary_text", "reasoning_text", "text")
        ),
        (RESPONSES, {"input": [{"role": "user", "content": "x"}]}, PLAIN),
        (RESPONSES, {"input": [{"type": "item_reference"}]}, but(bounded=False)),
        (RESPONSES, {"input": [{"content": [{"type": "input_image"}]}]}, but(bounded=False)),
        (RESPONSES, {"input": [{"content": [{"text": "x"}]}]}, but(bounded=False)),
        (
            RESPONSES,
            {"input": [{"type": "function_call_output", "output": [{"type": "input_file"}]}]},
            but(bounded=False),
        ),
        (
            RESPONSES,
            {"input": [{"type": "function_call_output", "output": [{"type": "input_text"}]}]},
            PLAIN,
        ),
        (MESSAGES, {}, PLAIN),
        (MESSAGES, {"stream": True}, STREAM),
        (MESSAGES, {"max_tokens": 7}, but(wish=7)),
        (MESSAGES, {"tools": [{"name": "f"}, {"type": "custom"}, {"type": None}]}, PLAIN),
        *(
            (MESSAGES, {"tools": [{"type": f"{name}20250124"}]}, but(bounded=False))
            for name in ("bash_", "text_editor_", "computer_", "memory_", "browser_toolset_")
        ),
        (MESSAGES, {"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}}, PLAIN),
        (MESSAGES, {"context_management": {"edits": []}}, PLAIN),
        *(
            (MESSAGES, {"messages": [{"content": [{"type": name}]}]}, PLAIN)
            for name in ("text", "tool_use", "tool_result", "thinking", "redacted_thinking")
        ),
        (MESSAGES, {"messages": [{"content": [{"type": "image"}]}]}, but(bounded=False)),
        (
            MESSAGES,
            {"messages": [*SAID, {"content": [{"type": "tool_result", "content": [{"type": "image"}]}]}]},
            but(bounded=False),
        ),
        (COUNT, {}, VECTOR),
        (COUNT, {"stream": True, "max_tokens": 7}, VECTOR),
        (O_CHAT, {}, STREAM),
        (O_CHAT, {"stream": True}, STREAM),
        (O_CHAT, {"stream": False}, PLAIN),
        (O_CHAT, {"options": {"num_predict": 7, "num_ctx": 512}}, but(STREAM, wish=7, context_wish=512)),
        (O_CHAT, {"options": {"num_predict": -1, "num_ctx": -5}}, STREAM),
        (O_CHAT, {"options": {}}, STREAM),
        (O_CHAT, {"messages": [{"role": "user", "content": "x", "images": ["eA=="]}]}, but(STREAM, bounded=False)),
        (O_CHAT, {"messages": [{"role": "user", "content": "x", "images": []}]}, STREAM),
        (O_GENERATE, {}, STREAM),
        (O_GENERATE, {"images": ["eA=="]}, but(STREAM, bounded=False)),
        (O_GENERATE, {"images": []}, STREAM),
        (O_GENERATE, {"template": "x"}, but(STREAM, bounded=False)),
        (O_GENERATE, {"template": ""}, STREAM),
        (O_EMBED, {}, VECTOR),
        (O_EMBED, {"input": ["a", "b"]}, but(VECTOR, prompts=2)),
        (O_EMBED, {"input": []}, VECTOR),
        (O_EMBED, {"options": {"num_ctx": 512}}, but(VECTOR, context_wish=512)),
        (O_OLD, {}, VECTOR),
        (O_OLD, {"stream": True, "prompt": ["a", "b"]}, VECTOR),
        (O_OLD, {"options": {"num_ctx": 512}}, but(VECTOR, context_wish=512)),
    ],
)  # fmt: skip
def test_what_metering_goes_by_is_read(path: str, more: dict[str, Any], expected: tuple[Any, ...]) -> None:
    assert read(path, **more) == expected


@pytest.mark.parametrize(
    ("path", "more", "words"),
    [
        (CHAT, {"messages": None}, "messages: a list of messages is needed"),
        (MESSAGES, {"messages": None}, "messages: a list of messages is needed"),
        (
            CHAT,
            {"tools": [{"type": "function"}, {"type": "w" * 90}]},
            f"tools: '{'w' * 80}' {AT_THE_SERVER}; metered: custom, function",
        ),
        (CHAT, {"tools": [{}]}, f"tools: 'one without a type' {AT_THE_SERVER}; metered: custom, function"),
        (TEXT, {"prompt": None}, "prompt: text, token ids, or a list of either is needed"),
        (TEXT, {"prompt": {}}, "prompt: text, token ids, or a list of either is needed"),
        (VECTORS, {"input": 7}, "input: text, token ids, or a list of either is needed"),
        (
            RESPONSES,
            {"background": True},
            "background: the answer comes after the turn, so its tokens could not be counted",
        ),
        (
            RESPONSES,
            {"context_management": []},
            "context_management: a summary is another request, which nothing bounds",
        ),
        (
            RESPONSES,
            {"tools": [{"type": "function"}, {"type": "w" * 90}]},
            f"tools: '{'w' * 80}' {AT_THE_SERVER}; metered: apply_patch, custom, function, local_shell",
        ),
        (
            RESPONSES,
            {"tools": [{}]},
            f"tools: '' {AT_THE_SERVER}; metered: apply_patch, custom, function, local_shell",
        ),
        (
            MESSAGES,
            {"tools": [{"type": "bash_1"}, {"type": "w" * 90}]},
            f"tools: '{'w' * 80}' {AT_THE_SERVER}; metered: tools of the client's own",
        ),
        (
            MESSAGES,
            {"mcp_servers": []},
            "mcp_servers: the server would work by itself, so nothing bounds its tokens",
        ),
        (
            MESSAGES,
            {"container": "x"},
            "container: the server would work by itself, so nothing bounds its tokens",
        ),
        (
            MESSAGES,
            {"context_management": {"edits": [{"type": "clear_x"}, {"type": "compact_x"}]}},
            "context_management: a summary is another request, which no usage counts",
        ),
        (
            MESSAGES,
            {"context_management": {"edits": [{}]}},
            "context_management: a summary is another request, which no usage counts",
        ),
    ],
)
def test_what_cannot_be_metered_is_refused_in_these_words(
    path: str, more: dict[str, Any], words: str
) -> None:
    with pytest.raises(RequestError) as caught:
        parsed(path, **more)
    assert str(caught.value) == words


@pytest.mark.parametrize(("deep", "fine"), [(8, True), (9, False)])
def test_blocks_within_blocks_are_read_to_a_depth(deep: int, fine: bool) -> None:
    content: Any = "x"
    for _ in range(deep):
        content = [{"type": "tool_result", "content": content}]
    said = [{"role": "user", "content": content}]
    if fine:
        assert parsed(MESSAGES, messages=said).prompt_bound is not None
    else:
        with pytest.raises(RequestError, match="messages: blocks within blocks, more than 8 deep"):
            parsed(MESSAGES, messages=said)


DIGESTED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    CHAT: ({"model": "x", "messages": [], "tools": [{"type": "function"}]}, {"stream": True, "n": 2}),
    TEXT: ({"model": "x", "prompt": "x"}, {"stream": True, "n": 2}),
    VECTORS: ({"model": "x", "input": "x", "messages": [1]}, {"stream": True}),
    RESPONSES: (
        {
            "model": "x", "instructions": "x", "input": "x", "tools": [], "previous_response_id": "x",
            "conversation": "x",
        },
        {"stream": True, "max_output_tokens": 5},
    ),
    MESSAGES: ({"model": "x", "system": "x", "messages": [], "tools": []}, {"stream": True, "max_tokens": 5}),
    COUNT: ({"model": "x", "system": "x", "messages": [], "tools": []}, {"stream": True}),
    O_CHAT: ({"model": "x", "messages": [], "tools": [1]}, {"stream": False, "options": {}}),
    O_GENERATE: (
        {"model": "x", "system": "x", "prompt": "x", "suffix": "x", "context": [1]},
        {"stream": False, "options": {}},
    ),
    O_EMBED: ({"model": "x", "input": "x"}, {"options": {}}),
    O_OLD: ({"model": "x", "prompt": "x"}, {"options": {}}),
}  # fmt: skip


@pytest.mark.parametrize("path", DIGESTED)
def test_the_digest_is_of_the_prompt_and_of_nothing_else(path: str) -> None:
    plain = parsed(path).prompt_digest
    changing, other = DIGESTED[path]
    digests = [parsed(path, **{name: value}).prompt_digest for name, value in changing.items()]
    assert len({plain, *digests}) == len(digests) + 1
    assert parsed(path, **other).prompt_digest == plain


def test_to_count_and_then_to_ask_is_no_repetition() -> None:
    assert parsed(COUNT).prompt_digest != parsed(MESSAGES).prompt_digest


@pytest.mark.parametrize("path", LEAST)
def test_the_bound_grows_with_the_body_and_has_the_templates_tokens(path: str) -> None:
    if path == COUNT:
        assert parsed(path).prompt_bound == 0
        return
    texts = json.dumps(LEAST[path]).replace("hello", "hello" * 100)
    more = parsed(path, **json.loads(texts)).prompt_bound
    plain = parsed(path).prompt_bound
    assert plain is not None
    assert more is not None
    assert (more - plain, plain >= 5 + LIMITS.template_tokens) == (495, True)


@pytest.mark.parametrize("path", [CHAT, RESPONSES, MESSAGES, O_CHAT])
def test_a_conversation_has_a_history(path: str) -> None:
    said = {"input" if path == RESPONSES else "messages": SAID}
    first = parsed(path, **said).history
    before = {RESPONSES: "instructions", MESSAGES: "system"}.get(path)
    assert first != parsed(TEXT).history
    if before is not None:
        assert parsed(path, **said, **{before: "x"}).history != first
    if path == RESPONSES:
        for name in ("previous_response_id", "conversation", "prompt"):
            assert parsed(path, **said, **{name: "x"}).history == parsed(TEXT).history


@pytest.mark.parametrize(
    ("path", "more", "habits", "changed"),
    [
        (CHAT, {"max_tokens": 7}, USUAL, {}),
        (CHAT, {"max_tokens": 9}, USUAL, {"max_tokens": 7}),
        (CHAT, {}, USUAL, {"max_tokens": 7}),
        (CHAT, {}, Habits(("max_completion_tokens", "max_tokens")), {"max_completion_tokens": 7}),
        (CHAT, {"max_tokens": 5}, Habits(("max_completion_tokens", "max_tokens")), {}),
        (CHAT, {"stream": True, "max_tokens": 7}, USUAL, {"stream_options": {"include_usage": True}}),
        (CHAT, {"stream": True, "max_tokens": 7}, Habits(usage_option=False), {}),
        (CHAT, {"stream": True, "max_tokens": 7, "stream_options": {"include_usage": True}}, USUAL, {}),
        (
            CHAT,
            {"stream": True, "max_tokens": 7, "stream_options": {"x": 1}},
            USUAL,
            {"stream_options": {"x": 1, "include_usage": True}},
        ),
        (TEXT, {"stream": True}, USUAL, {"max_tokens": 7, "stream_options": {"include_usage": True}}),
        (VECTORS, {}, USUAL, {}),
        (RESPONSES, {}, USUAL, {"max_output_tokens": 7}),
        (RESPONSES, {"max_output_tokens": 9}, USUAL, {"max_output_tokens": 7}),
        (RESPONSES, {"max_output_tokens": 3, "stream": True}, USUAL, {}),
        (MESSAGES, {}, Habits(("max_completion_tokens",)), {"max_tokens": 7}),
        (MESSAGES, {"max_tokens": 3, "stream": True}, USUAL, {}),
        (COUNT, {}, USUAL, {}),
        (O_CHAT, {}, USUAL, {"options": {"num_predict": 7}}),
        (O_CHAT, {"options": {"x": 1}}, USUAL, {"options": {"x": 1, "num_predict": 7}}),
        (O_CHAT, {"options": {"num_predict": 9}}, USUAL, {"options": {"num_predict": 7}}),
        (O_CHAT, {"options": {"num_predict": 3}}, USUAL, {}),
        (O_CHAT, {"options": {"num_predict": 3}, "max_tokens": 9}, USUAL, {"max_tokens": 7}),
        (O_GENERATE, {}, USUAL, {"options": {"num_predict": 7}}),
        (O_EMBED, {}, USUAL, {}),
        (O_OLD, {"options": {"num_predict": 9}}, USUAL, {}),
    ],
)
def test_the_cap_and_the_wish_for_usage_are_all_that_is_changed(
    path: str, more: dict[str, Any], habits: Habits, changed: dict[str, Any]
) -> None:
    written = endpoint(path).write(parsed(path, **more), 7, habits)
    assert json.loads(written) == {"model": "m", **LEAST[path], **more, **changed}
    if not changed:
        assert written == body(path, **more)


def test_what_was_read_of_a_request_stays_as_it_is() -> None:
    ask = parsed(CHAT)
    for name in Ask.__struct_fields__:
        with pytest.raises(AttributeError):
            setattr(ask, name, 1)
