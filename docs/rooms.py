"""Write the rooms of epad/ into docs/design.md, from what each says of itself and what it imports.

`.venv/bin/python docs/rooms.py`; a test holds the document against it.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests/support"))

from rooms import LAYERS, between_files, between_rooms, parsed  # noqa: E402

DOCUMENT = ROOT / "docs/design.md"
BEGIN, END = "<!-- python docs/rooms.py -->", "<!-- end of rooms -->"


def table() -> str:
    """The rooms from the ground up, a line between two layers."""
    files = parsed()
    graph = between_rooms(between_files(files))
    rows = ["| layer | room | purpose | imports |", "|---|---|---|---|"]
    for floor, rooms in enumerate(LAYERS, 1):
        for room in rooms:
            says = (ast.get_docstring(files[f"epad/{room}/__init__.py"]) or "").partition("\n\n")[0]
            below = [other for layer in LAYERS for other in layer if other in graph.get(room, ())]
            rows.append(
                f"| {floor} | `{room}/` | {says.rstrip('.')} | {', '.join(below) or 'nothing of epad'} |"
            )
    return "\n".join(rows)


def written(text: str) -> str:
    """A document with the table in its place."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n{table()}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    DOCUMENT.write_text(written(DOCUMENT.read_text()))
