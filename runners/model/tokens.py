"""Tokenize for the embedded models: the counted tokens are exactly those read and streamed."""

from __future__ import annotations

import re
from typing import Final

# Word pieces of at most six characters with their leading space, single marks, trailing space. Every
# character belongs to exactly one piece, so a text has as many tokens as its stream has pieces, and
# never more than it has bytes, which is the bound that the gateway reserves.
PIECE: Final = re.compile(r"\s*\w{1,6}|\s*[^\w\s]|\s+")


def split(text: str) -> list[str]:
    """Cut a text into its tokens; joined again they are the text."""
    return PIECE.findall(text)


def count(text: str) -> int:
    """Return how many tokens a text has."""
    return len(split(text))
