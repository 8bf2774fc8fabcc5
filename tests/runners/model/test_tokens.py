"""Tokens are counted as they are streamed, and never more than the bytes that the gateway reserves."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runners.model import tokens


@given(st.text())
def test_the_pieces_make_up_the_text(text: str) -> None:
    """Nothing is lost or invented between a text and its tokens."""
    assert "".join(tokens.split(text)) == text
    assert tokens.count(text) == len(tokens.split(text))


@given(st.text())
def test_never_more_tokens_than_bytes(text: str) -> None:
    """The gateway reserves a prompt's bytes; a tokenizer above that would make it overshoot."""
    assert tokens.count(text) <= len(text.encode("utf-8", "surrogatepass"))
