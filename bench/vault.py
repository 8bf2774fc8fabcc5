"""The knowledge vault: rewrites round epad that the next look finds, clean days on which it finds none, an idle look.

`python bench/vault.py [--quick] [--json FILE]`.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import structlog
from _harness import Row, run

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/support"))

from vault_campaign import clean_days, rewrites

REWRITES, QUICK_REWRITES = 1_000, 54
DAYS, QUICK_DAYS = 1_000, 10
SEED = 2_026
COMMAND = "python bench/vault.py"


def measure(quick: bool) -> Sequence[Row]:
    """Live through both campaigns, each on a vault of its own."""
    structlog.configure(processors=[lambda *_: (_ for _ in ()).throw(structlog.DropEvent)])
    count, days = (QUICK_REWRITES, QUICK_DAYS) if quick else (REWRITES, DAYS)
    with tempfile.TemporaryDirectory() as folder:
        done = asyncio.run(rewrites(Path(folder), count, SEED))
    with tempfile.TemporaryDirectory() as folder:
        lived = asyncio.run(clean_days(Path(folder), days, SEED))
    found = sum(done.found.values())
    return [
        Row("rewrites round epad found at the next look", found, "rewrites", f"{count}", found == count, n=count,
            command=COMMAND),
        Row("kinds of rewrites", len(done.found), "kinds", "", None, n=count, command=COMMAND),
        Row("findings between them, once the right bytes are back", len(done.false), "findings", "0",
            not done.false, n=count, command=COMMAND),
        Row("findings on clean days", len(lived.told), "findings", "0", not lived.told, n=days, command=COMMAND),
    ]  # fmt: skip


if __name__ == "__main__":
    sys.exit(run("vault", measure))
