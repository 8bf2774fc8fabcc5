"""The table of tools in docs/tools.md, written from their own metadata.

`python docs/tools.py` writes it anew; `tests/docs/test_tools.py` keeps the two together.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from runners.tools import catalogue

DOCUMENT = Path(__file__).parent / "tools.md"
BEGIN, END = "<!-- python docs/tools.py -->", "<!-- end of tools -->"


def _shown(definition: dict[str, Any]) -> str:
    return f"`{definition['name']}` {definition['risk']}"


def table() -> str:
    """A row for each category: its tools, each with its risk."""
    definitions = sorted(catalogue.definitions(), key=lambda one: (one["category"], one["name"]))
    rows = [f"{len(definitions)} tools:", "", "| category | tools, each with its risk |", "|---|---|"]
    for category, tools in itertools.groupby(definitions, key=lambda one: one["category"]):
        rows.append(f"| {category} | {', '.join(map(_shown, tools))} |")
    return "\n".join(rows)


def written(text: str) -> str:
    """A document with the table in its place."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n{table()}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    DOCUMENT.write_text(written(DOCUMENT.read_text()))
