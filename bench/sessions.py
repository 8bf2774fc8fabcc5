"""Random sequences of session operations beside a model: escalations, and tokens that are not accounted for.

`python bench/sessions.py [--quick] [--json FILE]`. The sequences are those of tests/support/session_world.py: the
daemon's own parts (book, budgets, sessions, questions, spawning) beside a model that knows the rules alone. The bugs of
tests/support/session_bugs.py are planted one by one; each has to be seen.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from _harness import Peers, Row, run

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/support"))

from session_bugs import BUGS, planted
from session_world import OPERATIONS, BrokenError, ConservationError, EscalationError, play

SEQUENCES, QUICK_SEQUENCES, UNTIL_SEEN, PART = 10_000, 400, 300, 100
KINDS = {
    EscalationError: "escalations: a tier, an agent or a life that no rule allows",
    ConservationError: "budgets that are not conserved to the token",
    BrokenError: "other answers than the rules give",
}


Found = tuple[Counter[str], Counter[str], list[str]]
"""How often each thing happened, how often each kind of fault, and the faults."""


def played(seeds: range) -> Found:
    """Play sequences."""
    counts: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    told: list[str] = []
    for seed in seeds:
        try:
            counts.update(asyncio.run(play(seed)))
        except BrokenError as error:
            wrong[type(error).__name__] += 1
            told.append(str(error))
    return counts, wrong, told


def all_played(sequences: int) -> Found:
    """Play so many sequences, on every core."""
    counts, wrong, told = Counter[str](), Counter[str](), list[str]()
    parts = [range(first, min(first + PART, sequences)) for first in range(0, sequences, PART)]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for found in pool.map(played, parts):
            counts.update(found[0])
            wrong.update(found[1])
            told += found[2]
    return counts, wrong, told


def first_seen(bug: str) -> int | None:
    """The sequence that shows a planted bug; None if none does."""
    with planted(bug):
        for seed in range(UNTIL_SEEN):
            try:
                asyncio.run(play(seed))
            except AssertionError:
                return seed
    return None


def main(*, quick: bool) -> list[Row]:
    command = "python bench/sessions.py" + (" --quick" if quick else "")
    sequences = QUICK_SEQUENCES if quick else SEQUENCES
    counts, wrong, told = all_played(sequences)
    for line in told[:20]:
        print(line)
    refused = {row: float(n) for row, n in sorted(counts.items()) if row.startswith("spawn/")}
    seen = {bug: first_seen(bug) for bug in BUGS}
    missed: Peers = {f"not seen: {bug}": "" for bug, seed in seen.items() if seed is None}
    latest = max((seed for seed in seen.values() if seed is not None), default=0)
    happened = ("turn", "end", "parent's end", "crash", "consent given", "consent denied")
    return [
        *(
            Row(
                f"{words}, in {sequences:,} sequences of {OPERATIONS}",
                wrong[kind.__name__],
                "",
                "0",
                not wrong[kind.__name__],
                n=sequences,
                command=command,
            )
            for kind, words in KINDS.items()
        ),
        Row(
            "agents spawned in them",
            counts["spawned"],
            "",
            "",
            None,
            {what: float(counts[what]) for what in happened},
            sequences,
            command,
        ),
        Row(
            "refusals in them, each expected",
            sum(refused.values()),
            "",
            "",
            None,
            dict(refused),
            sequences,
            command,
        ),
        Row(
            "planted bugs that are seen",
            sum(seed is not None for seed in seen.values()),
            f"of {len(BUGS)}",
            f"{len(BUGS)}",
            not missed,
            missed,
            len(BUGS),
            command,
        ),
        Row(
            "sequences until the last of them is seen",
            latest + 1,
            "",
            "",
            None,
            n=UNTIL_SEEN,
            command=command,
        ),
    ]


if __name__ == "__main__":
    sys.exit(run("sessions", lambda quick: main(quick=quick)))
