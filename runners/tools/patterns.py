"""Match paths against glob patterns in time that grows with both lengths, not with the ways to match."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Sequence
from typing import Final

from runners.tools.signature import ToolError

_MOST_PARTS: Final = 64


def matcher(pattern: str) -> Callable[[str], bool]:
    """Return a test of paths. A pattern without a slash is for the last name; `**` stands for any directories."""
    if "\0" in pattern or not pattern.strip("/"):
        raise ToolError(f"{pattern!r} is not a pattern", "as in *.py, src/**/*.md, data/2026-??.csv")
    parts = pattern.removeprefix("./").strip("/").split("/")
    if len(parts) > _MOST_PARTS:
        raise ToolError(f"the pattern has over {_MOST_PARTS} parts", "use ** for any number of directories")
    if len(parts) == 1 and parts[0] != "**":
        one = re.compile(fnmatch.translate(parts[0])).match
        return lambda path: one(path.rpartition("/")[2]) is not None
    tests = [None if part == "**" else re.compile(fnmatch.translate(part)).match for part in parts]
    return lambda path: _matches(path.split("/"), tests)


def _matches(names: list[str], tests: Sequence[Callable[[str], re.Match[str] | None] | None]) -> bool:
    """Tell if the names match; `reached` has the counts of names that the tests so far can have taken."""
    reached = {0}
    for test in tests:
        if test is None:
            reached = set(range(min(reached), len(names) + 1))
        else:
            reached = {at + 1 for at in reached if at < len(names) and test(names[at])}
        if not reached:
            return False
    return len(names) in reached
