"""Whatever JSON a model writes comes out as text that UTF-8 can spell, and otherwise unchanged."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from runners.wargame import wellformed

# Surrogates included, which hypothesis leaves out unless asked.
TEXT = st.text(st.characters(exclude_categories=()))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=8,
)


@given(JSON)
def test_no_surrogate_is_left_anywhere(value: object) -> None:
    """In names and values, at any depth."""
    read = wellformed.loads(json.dumps(value))
    json.dumps(read, ensure_ascii=False).encode()


@given(st.text())
def test_whole_characters_stay(text: str) -> None:
    """Pairs that make one character included."""
    assert wellformed.loads(json.dumps({text: [text]})) == {text: [text]}


@given(st.lists(TEXT.filter(lambda text: "\n" not in text)))
def test_lines_end_at_a_line_feed_alone(written: list[str]) -> None:
    """Whatever else Unicode calls the end of a line; without the last line feed there is one line less to end."""
    text = "".join(f"{line}\n" for line in written)
    assert wellformed.lines(text) == written
    if written and written[-1]:
        assert wellformed.lines(text.removesuffix("\n")) == written
