"""Arguments as a person reads them before an answer: bounded, in one line, nothing hidden."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epad.tools.shown import MOST_CHARACTERS, cut, shown_arguments, visible

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=30) | st.dictionaries(st.text(), inner, max_size=30),
    max_leaves=60,
)


@given(st.dictionaries(st.text(max_size=300), JSON, max_size=40))
def test_whatever_an_agent_writes_is_one_bounded_line_of_seen_characters(
    arguments: dict[str, object],
) -> None:
    """No control, no line break, no mark of direction: each can be printed, and none is blank but a space."""
    shown = shown_arguments(arguments)
    assert len(shown) <= MOST_CHARACTERS
    assert shown.isprintable()
    assert visible(shown).replace("\\\\", "\\") == shown


@given(
    st.dictionaries(
        st.text("abcäß漢 \"'{}", max_size=20), st.text("abcäß漢 \"'{}:", max_size=100), max_size=5
    )
)
def test_short_arguments_are_shown_as_they_are(arguments: dict[str, object]) -> None:
    """The benign twin: letters of any script, quotes and braces read back as what was given."""
    assert json.loads(shown_arguments(arguments)) == arguments


@pytest.mark.parametrize(
    ("hidden", "shown"),
    [
        ("\u202e", "\\u202e"),
        ("\u200b", "\\u200b"),
        ("\x1b[2J", "\\u001b[2J"),
        ("\n", "\\u000a"),
        ("\U000e0041", "\\U000e0041"),
        ("\u3164", "\\u3164"),
        ("\ufe0f", "\\ufe0f"),
        ("\ud800", "\\ud800"),
    ],
)
def test_a_hidden_character_is_shown_as_its_number(hidden: str, shown: str) -> None:
    """In a path, and in arguments."""
    assert visible(f"safe{hidden}.txt") == f"safe{shown}.txt"
    if hidden != "\n":
        assert shown.lower() in shown_arguments({"path": f"safe{hidden}.txt"}).lower()


def test_a_number_that_an_agent_wrote_itself_is_told_apart() -> None:
    r"""The text `\u202e` is not the character."""
    assert visible("\\u202e") == "\\\\u202e"
    assert shown_arguments({"p": "\\u202e"}) == '{"p": "\\\\u202e"}'


def test_the_end_of_a_long_text_is_shown_too() -> None:
    """A deed cannot be pushed out of sight by words before it."""
    shown = shown_arguments({"script": "a" * 100_000 + "; rm -r /", "path": "b.txt"})
    assert "rm -r /" in shown
    assert "b.txt" in shown
    assert "characters)…" in shown
    assert len(cut("x" * 10_000, 300)) <= 300


def test_many_and_deep_arguments_are_counted() -> None:
    nested: object = "x"
    for _ in range(50):
        nested = [nested]
    shown = shown_arguments({"list": list(range(1_000)), "deep": nested, "number": 10**5_000})
    assert "+980 more" in shown
    assert "nested deeper" in shown
    assert "a number of many digits" in shown
