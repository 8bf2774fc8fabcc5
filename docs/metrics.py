"""The table of series in docs/monitoring.md, written from what the rooms declare.

`python docs/metrics.py` writes it anew; `tests/docs/test_metrics.py` keeps the two together.
"""

from __future__ import annotations

from pathlib import Path

from epad.daemon.metrics import FAMILIES

DOCUMENT = Path(__file__).parent / "monitoring.md"
BEGIN, END = "<!-- python docs/metrics.py -->", "<!-- end of series -->"


def table() -> str:
    """A row for each family: its name, kind, labels and meaning."""
    rows = ["| series | kind | labels | meaning |", "|---|---|---|---|"]
    for family in sorted(FAMILIES, key=lambda family: family.name):
        labels = ", ".join(family.labels)
        rows.append(f"| `{family.name}` | {family.kind} | {labels} | {family.words} |")
    return "\n".join(rows)


def written(text: str) -> str:
    """A document with the table in its place."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n{table()}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    DOCUMENT.write_text(written(DOCUMENT.read_text()))
