"""Tools of prompt that fill templates: whatever a template or a value says, nothing but names is replaced."""

from __future__ import annotations

from typing import Any

import pytest
from direct_tool import direct
from hypothesis import given
from hypothesis import strategies as st
from tool_process import World

from runners.tools import prompt, text

NAME = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)


def test_a_template_is_filled_once(world: World) -> None:
    """Values are data: what looks like a placeholder, a format or code in them stays as it is."""
    values = {"a": "{{b}} {{secret:x}}", "b": "{0.__class__} ${a} {% for x in y %}"}
    built = world.worker("prompt_build", template="{{a}}|{{ b }}|{{a}} {x} $a {{secret:key}}", values=values)
    assert built["text"] == f"{values['a']}|{values['b']}|{values['a']} {{x}} $a {{{{secret:key}}}}"
    assert built["tokens"] == text.tokens_of(built["text"])
    assert (
        world.worker("prompt_build", template='{"json": {"is": "kept"}}')["text"]
        == '{"json": {"is": "kept"}}'
    )


@given(
    st.lists(st.tuples(st.text(st.characters(exclude_characters="{}", exclude_categories=["Cs"])), NAME)),
    st.text(),
)
def test_what_is_built_is_the_template_with_its_values(pieces: list[tuple[str, str]], tail: str) -> None:
    """Compared with the pieces put together by hand."""
    tail = tail.replace("{", "").encode(errors="replace").decode()
    values = {name: f"<{name}{{{{x}}}}>" for _, name in pieces}
    built = direct(
        prompt.prompt_build,
        template="".join(f"{said}{{{{{name}}}}}" for said, name in pieces) + tail,
        values=values,
    )
    assert built["text"] == "".join(said + values[name] for said, name in pieces) + tail


def test_steps_are_ordered_by_what_they_need(world: World) -> None:
    """Those of one round can run at once; what no step answers is the chain's input."""
    steps = [
        {"name": "join", "text": "{{left}} {{right}} {{left}}"},
        {"name": "left", "text": "{{topic}}"},
        {"name": "right", "text": "{{topic}} {{reader}}"},
    ]
    found = world.worker("prompt_chain", steps=steps)
    assert [(each["name"], each["round"], each["needs"]) for each in found["steps"]] == [
        ("left", 1, []),
        ("right", 1, []),
        ("join", 2, ["left", "right"]),
    ]
    assert found["inputs"] == ["topic", "reader"]


HOSTILE: list[tuple[str, dict[str, Any], str]] = [
    ("prompt_build", {"template": "{{a}} {{b}}", "values": {"a": "1"}}, "no value for b"),
    ("prompt_build", {"template": "{{a}}", "values": {"a": "1", "c": "2"}}, "has no {{c}}"),
    ("prompt_build", {"template": "{{a.__class__.__init__.__globals__}}"}, "is no placeholder"),
    ("prompt_build", {"template": "{{ ''.__class__ }}"}, "is no placeholder"),
    ("prompt_build", {"template": "{{a|e}}", "values": {"a": "1"}}, "is no placeholder"),
    ("prompt_build", {"template": "{{a", "values": {"a": "1"}}, "is not closed"),
    ("prompt_build", {"template": "{{" * 200_000}, "is not closed"),
    ("prompt_build", {"template": "{{{{a}}}}", "values": {"a": "1"}}, "is not closed, or has braces"),
    ("prompt_build", {"template": "{{a}}" * 1000, "values": {"a": "x" * 100_000}}, "at most 4194304"),
    ("prompt_build", {"template": "{{a}}", "values": {"a": "x" * 200_000}}, "there is room for"),
    (
        "prompt_chain",
        {"steps": [{"name": "a", "text": "{{b}}"}, {"name": "b", "text": "{{a}}"}]},
        "circle: a needs b",
    ),
    ("prompt_chain", {"steps": [{"name": "a", "text": "{{a}}"}]}, "circle: a needs a"),
    ("prompt_chain", {"steps": [{"name": "a", "text": ""}, {"name": "a", "text": ""}]}, "two steps"),
    ("prompt_chain", {"steps": [{"name": "a b", "text": ""}]}, "no name of a step"),
    ("prompt_chain", {"steps": []}, "length >= 1"),
]


@pytest.mark.parametrize(("tool", "arguments", "said"), HOSTILE)
def test_hostile_templates_are_refused(world: World, tool: str, arguments: dict[str, Any], said: str) -> None:
    """Code, bombs and circles, each with the place."""
    assert said in world.worker.refusal(tool, **arguments)
