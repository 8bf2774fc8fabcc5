"""Compare two texts by lines, as a unified diff."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Final

_MOST_PAIRS: Final = 4_000_000
"""Of lines to compare. More are told as one replaced block, since difflib is quadratic at its best."""


def unified(old: str, new: str, names: tuple[str, str] = ("a", "b"), context: int = 3) -> tuple[str, float]:
    """Return the diff, and the part of lines that both have: 1 for equal texts."""
    a, b = old.splitlines(keepends=True), new.splitlines(keepends=True)
    if len(a) * len(b) <= _MOST_PAIRS:
        lines = difflib.unified_diff(a, b, *names, n=context)
        matched = sum(block.size for block in difflib.SequenceMatcher(None, a, b).get_matching_blocks())
    else:
        lines, matched = _replaced_block(a, b, names, context)
    ratio = 2 * matched / (len(a) + len(b)) if a or b else 1.0
    return "".join(map(_ended, lines)), round(ratio, 4)


def _ended(line: str) -> str:
    return line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"


def _replaced_block(
    a: list[str], b: list[str], names: tuple[str, str], context: int
) -> tuple[Iterator[str], int]:
    """Return a diff with one block for all between the common beginning and end, and the number of common lines."""
    shorter = min(len(a), len(b))
    head = next((at for at in range(shorter) if a[at] != b[at]), shorter)
    tail = next((at for at in range(shorter - head) if a[-1 - at] != b[-1 - at]), shorter - head)
    if head + tail == len(a) == len(b):
        return iter(()), len(a)
    first, last = max(0, head - context), min(tail, context)
    a_end, b_end = len(a) - tail, len(b) - tail

    def lines() -> Iterator[str]:
        yield f"--- {names[0]}\n"
        yield f"+++ {names[1]}\n"
        yield f"@@ -{first + 1},{a_end + last - first} +{first + 1},{b_end + last - first} @@\n"
        yield from (f" {line}" for line in a[first:head])
        yield from (f"-{line}" for line in a[head:a_end])
        yield from (f"+{line}" for line in b[head:b_end])
        yield from (f" {line}" for line in a[a_end : a_end + last])

    return lines(), head + tail
