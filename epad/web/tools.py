"""The panel of tools: how many there are, which categories have workers, and what is held."""

from __future__ import annotations

from collections.abc import Sequence

from epad.answers.tools import ToolCategory
from epad.formatting import tools
from epad.web.html import Html, join, tag


def tool_list(categories: Sequence[ToolCategory]) -> Html:
    """Render a line for all, a line for each category at work, and a line for each hold."""
    lines = [*tools.at_work(categories), *tools.holds(categories)]
    return join(
        tag("p", tools.summary(categories)),
        tag("ul", (tag("li", line) for line in lines)) if lines else None,
    )
