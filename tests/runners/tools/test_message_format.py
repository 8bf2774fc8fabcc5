"""Messages converted between dialects: there and back, and what is lost is said."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from direct_tool import direct
from hypothesis import given
from hypothesis import strategies as st
from tool_process import World

from runners.tools import prompt

DIALECTS = ("openai", "anthropic", "ollama")
PAIRS = list(itertools.permutations(DIALECTS, 2))
PNG = "iVBORw0KGgoAAAANSUhEUg=="

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
NAME = st.sampled_from(["read", "write"])
ARGUMENTS = st.dictionaries(
    TEXT, st.integers(-99, 99) | st.booleans() | TEXT | st.lists(st.none(), max_size=2), max_size=3
)


def image(dialect: str, data: str = PNG) -> dict[str, Any]:
    if dialect == "openai":
        return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
    return {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}


def user(dialect: str, text: str, *, picture: bool) -> dict[str, Any]:
    if dialect == "ollama":
        return {"role": "user", "content": text, **({"images": [PNG]} if picture else {})}
    content = [{"type": "text", "text": text}, image(dialect)] if picture else text
    return {"role": "user", "content": content}


def called(
    dialect: str, text: str, calls: list[tuple[str, str, dict[str, Any], str]]
) -> list[dict[str, Any]]:
    """The assistant's message with calls, and the answers to them."""
    if dialect == "anthropic":
        uses = [{"type": "tool_use", "id": i, "name": n, "input": a} for i, n, a, _ in calls]
        results = [{"type": "tool_result", "tool_use_id": i, "content": r} for i, _, _, r in calls]
        said = [{"type": "text", "text": text}, *uses] if text else uses
        return [{"role": "assistant", "content": said}, {"role": "user", "content": results}]
    if dialect == "ollama":
        asked = [{"id": i, "function": {"name": n, "arguments": a}} for i, n, a, _ in calls]
        results = [{"role": "tool", "tool_call_id": i, "tool_name": n, "content": r} for i, n, _, r in calls]
        return [{"role": "assistant", "content": text, "tool_calls": asked}, *results]
    asked = [
        {"id": i, "type": "function", "function": {"name": n, "arguments": compact(a)}}
        for i, n, a, _ in calls
    ]
    results = [{"role": "tool", "tool_call_id": i, "content": r} for i, _, _, r in calls]
    return [{"role": "assistant", "content": text or None, "tool_calls": asked}, *results]


def compact(arguments: dict[str, Any]) -> str:
    return json.dumps(arguments, ensure_ascii=False, separators=(",", ":"))


@st.composite
def conversations(draw: st.DrawFn) -> dict[str, dict[str, Any]]:
    """One conversation in all three dialects, of what all of them can say."""
    numbers = itertools.count(1)
    found: dict[str, list[dict[str, Any]]] = {each: [] for each in DIALECTS}
    for kind in draw(st.lists(st.sampled_from(["user", "said", "called"]), min_size=1, max_size=5)):
        text = draw(TEXT)
        if kind == "user":
            picture = draw(st.booleans())
            turns = {each: [user(each, text, picture=picture)] for each in DIALECTS}
        elif kind == "said":
            turns = {each: [{"role": "assistant", "content": text}] for each in DIALECTS}
        else:
            calls = [
                (f"id{next(numbers)}", draw(NAME), draw(ARGUMENTS), draw(TEXT))
                for _ in range(draw(st.integers(1, 3)))
            ]
            text = draw(st.just("") | TEXT)
            turns = {each: called(each, text, calls) for each in DIALECTS}
            turns = {each: [*made, {"role": "assistant", "content": "ok"}] for each, made in turns.items()}
        for each in DIALECTS:
            found[each] += turns[each]
    made: dict[str, dict[str, Any]] = {each: {"messages": found[each]} for each in DIALECTS}
    if system := draw(st.just("") | TEXT):
        made["anthropic"]["system"] = system
        for each in ("openai", "ollama"):
            made[each]["messages"].insert(0, {"role": "system", "content": system})
    return made


@given(conversations(), st.sampled_from(PAIRS))
def test_what_all_can_say_is_carried_over_whole(
    said: dict[str, dict[str, Any]], pair: tuple[str, str]
) -> None:
    """To the other dialect's own form, with nothing lost; so there and back is what it was."""
    source, dialect = pair
    found = direct(prompt.message_format, **said[source], source=source, dialect=dialect)
    assert found == {**said[dialect], "lost": []}


ANY_TEXT = st.just("") | TEXT
BLOCK = st.one_of(
    st.builds(lambda text: {"type": "text", "text": text}, TEXT),
    st.just(image("anthropic")),
    st.just(image("anthropic", "AAAA")),
    st.just({"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}}),
    st.builds(lambda text: {"type": "thinking", "thinking": text, "signature": "s"}, TEXT),
    st.just({"type": "document", "source": {}}),
    st.builds(lambda text: {"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}, TEXT),
)
ANY_ANTHROPIC = st.lists(
    st.fixed_dictionaries(
        {
            "role": st.sampled_from(["user", "assistant"]),
            "content": st.lists(BLOCK, min_size=1, max_size=4) | TEXT,
        }
    ),
    max_size=4,
)


def plainly(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A lone text block, as most write it."""
    return [
        {**each, "content": each["content"][0]["text"]}
        if isinstance(each["content"], list)
        and len(each["content"]) == 1
        and each["content"][0].keys() == {"type", "text"}
        else each
        for each in messages
    ]


@given(ANY_ANTHROPIC, st.sampled_from(["openai", "ollama"]))
def test_whatever_comes_back_otherwise_was_said_to_be_lost(
    messages: list[dict[str, Any]], dialect: str
) -> None:
    """And nothing is said of a conversation that comes back as it was, but for ids that it never had."""
    there = direct(prompt.message_format, messages=messages, source="anthropic", dialect=dialect)
    back = direct(prompt.message_format, messages=there["messages"], source=dialect, dialect="anthropic")
    assert there["lost"] or plainly(back["messages"]) == plainly(messages)


ONE_CALL = {"role": "assistant", "tool_calls": [{"function": {"name": "read", "arguments": {"a": 1}}}]}
LOSSES: list[tuple[str, str, list[dict[str, Any]], str]] = [
    ("openai", "anthropic", [{"role": "developer", "content": "x"}], "developer"),
    (
        "openai",
        "anthropic",
        [{"role": "user", "content": "x"}, {"role": "system", "content": "y"}],
        "behind others",
    ),
    ("openai", "anthropic", [{"role": "system", "content": "x"}] * 2, "2 texts become one"),
    (
        "openai",
        "ollama",
        [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}],
        "input_audio",
    ),
    ("openai", "ollama", [{"role": "user", "content": "x", "name": "Ann"}], "messages[0]: `name`"),
    (
        "openai",
        "ollama",
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://a.b/c"}}]}],
        "by its URL",
    ),
    (
        "anthropic",
        "openai",
        [
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": "1", "content": "x", "is_error": True}],
            }
        ],
        "the call failed",
    ),
    (
        "anthropic",
        "openai",
        [
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": "1", "content": [image("anthropic")]}],
            }
        ],
        "image in the answer",
    ),
    (
        "anthropic",
        "openai",
        [{"role": "assistant", "content": [{"type": "thinking", "thinking": "x"}]}],
        "thinking",
    ),
    ("ollama", "anthropic", [{"role": "assistant", "content": "x", "thinking": "y"}], "no signature"),
    ("ollama", "openai", [{"role": "user", "content": "x", "images": ["AAAA"]}], "the type of an image"),
]


@pytest.mark.parametrize(("source", "dialect", "messages", "said"), LOSSES)
def test_what_a_dialect_cannot_say_is_named(
    world: World, source: str, dialect: str, messages: list[dict[str, Any]], said: str
) -> None:
    """With the message that it was in."""
    found = world.worker("message_format", messages=messages, source=source, dialect=dialect)
    assert any(said in each for each in found["lost"]), found


def test_calls_of_an_older_ollama_get_ids(world: World) -> None:
    """Two of one tool are answered in their order, and one of another by its name."""
    other = {"function": {"name": "write", "arguments": {}}}
    asked = {**ONE_CALL, "tool_calls": [*ONE_CALL["tool_calls"], other, *ONE_CALL["tool_calls"]]}
    answers = [{"role": "tool", "tool_name": name, "content": name} for name in ("read", "read", "write")]
    found = world.worker("message_format", messages=[asked, *answers], source="ollama", dialect="openai")
    assert [each["id"] for each in found["messages"][0]["tool_calls"]] == ["call_1", "call_2", "call_3"]
    assert [each["tool_call_id"] for each in found["messages"][1:]] == ["call_1", "call_3", "call_2"]


def arguments(text: str) -> list[dict[str, Any]]:
    return [
        {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": text}}]},
    ]


HOSTILE: list[tuple[str, list[Any], str]] = [
    ("openai", arguments('{"a": 1'), "are no JSON"),
    ("openai", arguments("[1]"), "no object"),
    ("openai", arguments('{"a": 1, "a": 2}'), "twice"),
    ("openai", arguments('{"a": NaN}'), "NaN"),
    ("openai", arguments('{"a": 1' + "0" * 5000 + "}"), "over 64 bits"),
    ("openai", arguments('{"a":' * 5000), "nested"),
    ("openai", [{"role": "robot", "content": "x"}], "messages[0].role is 'robot'"),
    ("openai", [{"content": "x"}], "role is missing"),
    ("openai", [{"role": "user", "content": {"text": "x"}}], "neither a text nor a list"),
    ("openai", [{"role": "tool", "content": "x"}], "tool_call_id is missing"),
    ("anthropic", [{"role": "system", "content": "x"}], "may be user, assistant"),
    ("anthropic", [{"role": "user", "content": ["x"]}], "content[0] is no object"),
    ("ollama", [{"role": "user", "content": ["x"]}], "content is no text"),
    ("ollama", [{"role": "tool", "content": "x"}], "is not there"),
    ("ollama", [{"role": "user", "images": [1]}], "no text of base64"),
]


@pytest.mark.parametrize(("source", "messages", "said"), HOSTILE)
def test_messages_that_are_none_are_refused(
    world: World, source: str, messages: list[Any], said: str
) -> None:
    """With the place; a call that was cut in its middle is not made whole by guessing."""
    for dialect in DIALECTS:
        assert said in world.worker.refusal(
            "message_format", messages=messages, source=source, dialect=dialect
        )


def test_a_system_prompt_beside_messages_is_anthropics(world: World) -> None:
    """Elsewhere it is a message."""
    found = {"messages": [], "source": "openai", "dialect": "anthropic", "system": "x"}
    assert "a message of the role system" in world.worker.refusal("message_format", **found)
