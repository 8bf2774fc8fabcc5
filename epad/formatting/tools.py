"""Word the categories of tools: how many there are, which have workers, and what is held."""

from __future__ import annotations

from epad.formatting.text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from epad.answers.tools import ToolCategory


def summary(categories: Sequence[ToolCategory]) -> str:
    """Return a line for all of them; empty without tools."""
    if not categories:
        return ""
    total = sum(len(one["tools"]) for one in categories)
    workers = sum(len(one["workers"]) for one in categories)
    calls = sum(one["calls"] for one in categories)
    return f"{total} in {len(categories)} categories, {workers} worker(s), {calls} call(s) under way"


def at_work(categories: Sequence[ToolCategory]) -> list[str]:
    """Return a line for each category that has workers or has lost one."""
    return [
        f"{one['name']} {one['state']}, {len(one['workers'])} worker(s){lost(one)}"
        for one in categories
        if one["workers"] or one["lost"]
    ]


def holds(categories: Sequence[ToolCategory]) -> list[str]:
    """Return a line for each hold."""
    return [hold["line"] for one in categories for hold in one["held"]]


def lost(category: ToolCategory) -> str:
    """Say how many workers ended unasked, behind a comma; empty if none did."""
    return f", {category['lost']} lost" if category["lost"] else ""


def in_full(category: ToolCategory) -> list[str]:
    """Return the lines about one category."""
    held = [hold["line"] for hold in category["held"]] or ["-"]
    lines = [
        f"{category['name']}: {category['state']}",
        f"  kind      {category['kind']}",
        f"  tools     {', '.join(category['tools'])}",
        f"  workers   {', '.join(map(str, category['workers'])) or '-'}",
        f"  calls     {category['calls']} under way",
        f"  lost      {category['lost']} worker(s), each replaced at the next call",
        *(f"  hold      {line}" for line in held),
    ]
    return [clean(line) for line in lines]
