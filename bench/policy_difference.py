"""How exactly a change of a policy is told: random changes, each held against the judge of single requests.

`python bench/policy_difference.py [--quick] [--json FILE]`. The judge asks the old and the new policy about random
requests (`tests/support/policy_changes.py`); a request that passes now and did not before must be in a line, and no
other may be. The same judge must find each planted bug. Then the time for policies of a hundred rules.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from _harness import Row, run

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
from policy_changes import judge, planted

from epad.confinement.difference import widenings
from epad.confinement.policy import Access, FileRule, Policy
from runners.egress.rules import parse

CHANGES, QUICK_CHANGES = 20_000, 1_000
BUG_CHANGES = 1_000
ROUNDS = 20
SEED = 2_026
GOAL_MS = 5.0


def main(*, quick: bool) -> Sequence[Row]:
    """Judge the changes, then the planted bugs, then take the time."""
    command = "python bench/policy_difference.py" + (" --quick" if quick else "")
    found = judge(widenings, QUICK_CHANGES if quick else CHANGES, SEED)
    bugs = planted()
    seen = sum(not judge(bug, BUG_CHANGES, SEED).exact for bug in bugs.values())
    missed, false = len(found.missed), len(found.false)
    took = milliseconds()
    what = f"of {found.requests:,} requests, {found.changes:,} changes, {found.widening:,} of which widen"
    return [
        Row(f"widenings missed, {what}", missed, "", "0", missed == 0, n=found.requests, command=command),
        Row("lines that say what is not so", false, "", "0", false == 0, n=found.requests, command=command),
        Row(
            "planted bugs that the judge finds",
            seen,
            "",
            f"{len(bugs)}",
            seen == len(bugs),
            n=len(bugs),
            command=command,
        ),
        Row(
            "a difference of policies of 100 rules",
            took,
            "ms",
            f"{GOAL_MS:g}",
            took <= GOAL_MS,
            n=ROUNDS,
            command=command,
        ),
    ]


def milliseconds() -> float:
    """Return the processor time of the quickest of some differences between two policies of a hundred rules."""
    files = tuple(FileRule(f"/usr/{number}", Access.READ) for number in range(40))
    hosts = tuple(parse(f"h{number}.example") for number in range(60))
    old = Policy("agent", "workspace", "/w", "/w", (*files, FileRule("/w", Access.WRITE)), hosts)
    new = replace(old, hosts=(*hosts, parse("*.github.com")), files=old.files[1:])
    best = float("inf")
    for _ in range(ROUNDS):
        begun = time.process_time()
        widenings(old, new)
        best = min(best, time.process_time() - begun)
    return best * 1e3


if __name__ == "__main__":
    sys.exit(run("policy_difference", lambda quick: main(quick=quick)))
