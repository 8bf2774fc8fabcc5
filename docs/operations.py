"""Write the table of operations into docs/operations.md, from the rows of the registry and the gate's table.

`.venv/bin/python docs/operations.py`; a test holds the document against it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from epad.gate.permissions import Tier, allow
from epad.operations.registry import Operation

DOCUMENT = Path(__file__).parent / "operations.md"
BEGIN, END = "<!-- python docs/operations.py -->", "<!-- end of operations -->"
# Without [persons]; what an operator of those may not is in `epad diagram --gate`.
WHO = {"root": Tier.OWNER, "epad": Tier.OWNER, "operator": Tier.OWNER, "observer": Tier.OBSERVER}


def table(operations: Iterable[Operation] = Operation) -> str:
    """A row for each operation: what it does, how it is asked for, and who may."""
    heads = ("operation", "what it does", "`epactl`", "HTTP", *WHO)
    return "\n".join([_row(heads), "|---" * len(heads) + "|", *(_row(_cells(one)) for one in operations)])


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(operation: Operation) -> list[str]:
    command = f"{operation.command} NAME" if operation.about else operation.command
    asked = [
        f"`{command}`" if command else "",
        f"`{operation.method} {operation.path}`" if operation.path else "",
    ]
    done = ["done" if allow(tier, operation).allowed else "refused" for tier in WHO.values()]
    return [operation.value, operation.words, *asked, *done]


def written(text: str) -> str:
    """A document with the table in its place."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n{table()}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    DOCUMENT.write_text(written(DOCUMENT.read_text()))
