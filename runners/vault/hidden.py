"""Show hidden characters of texts that others wrote as their numbers, so that whoever reads sees them. Pure.

Line breaks and tabs stay, and the two joiners that scripts and emoji need.
"""

from __future__ import annotations

import re
from typing import Final

_HIDDEN: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e0fff]"
)
"""Controls with ANSI's escape, marks of direction, blanks without width, tags and the selectors beside them."""


def revealed(text: str) -> str:
    """Return a text with each hidden character as its number."""
    return _HIDDEN.sub(lambda found: f"\\u{{{ord(found[0]):x}}}", text)
