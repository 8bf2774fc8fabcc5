"""Name the tools and the categories of tools that can be held, as targets beside the subsystems. Pure.

| target | it holds |
|---|---|
| `tools-git` | each tool of a category |
| `tool:git_commit` | one tool |
| `tools-git@agent`, `tool:git_commit@agent` | the same, for the calls of one subsystem alone |

A target is in the ladder of containment only while something asks for its hold. It has no process of its own, so its
firmest hold is a block. That hold is all there is to do about it: a recovery restarts no tool, whatever the age of what
was found. While there are tools, the configuration names no subsystem after a category.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

CATEGORY_PREFIX: Final = "tools-"
TOOL_PREFIX: Final = "tool:"
_OF: Final = "@"


def category_target(category: str, subsystem: str = "") -> str:
    """Return the target that is a category, for the calls of one subsystem if it is named."""
    return CATEGORY_PREFIX + category + (_OF + subsystem if subsystem else "")


def tool_target(tool: str, subsystem: str = "") -> str:
    """Return the target that is a tool, for the calls of one subsystem if it is named."""
    return TOOL_PREFIX + tool + (_OF + subsystem if subsystem else "")


def targets_of(subsystem: str, category: str, tool: str) -> tuple[str, ...]:
    """Return every target that one call comes under, the widest first."""
    return (
        category_target(category),
        tool_target(tool),
        category_target(category, subsystem),
        tool_target(tool, subsystem),
    )


def whose(target: str) -> str:
    """Return the subsystem that a target is held for alone; empty where it is held for everybody."""
    return target.partition(_OF)[2]


def without_subsystem(target: str) -> str:
    """Return the tool or the category that a target is about."""
    return target.partition(_OF)[0]


def is_tool_target(name: str, subsystems: Iterable[str]) -> bool:
    """Tell if a name is a target; the name of one of these subsystems is none."""
    return name.startswith((CATEGORY_PREFIX, TOOL_PREFIX)) and name not in frozenset(subsystems)
