"""The consensus rules on simulated voters, beside the published table: what correlation costs and a stack wins back.

Five voters judge rounds of half attacks. A round's difficulty is shared with weight rho, so voters err together; 5 % of
votes are invalid. Rules learn from 200 labelled rounds each way and are tried on rounds that they have not seen.
"""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from _harness import Row, run

from runners.wargame.consensus import log_odds, stack
from runners.wargame.consensus.judgement import Majority, Weighted
from runners.wargame.consensus.measures import catch_at, reliability
from runners.wargame.consensus.rounds import Judged, Rule
from runners.wargame.consensus.weighted import Ballot
from runners.wargame.outcomes import VoteKind

INVALID_SHARE = 0.05
LEARN_ROUNDS = 400
COMMAND = "python bench/wargame_consensus.py"
STRENGTHS = (
    1.6,
    1.5,
    1.4,
    1.3,
    0.5,
)  # how far a voter's evidence lies apart, in standard deviations: one is weak

# A published simulation of such voters: (ECE, catch at 5 % false alarms) for each of the cases below, in order.
PUBLISHED = {
    "weighted": ((0.152, 0.846), (0.080, 0.636), (0.097, 0.626)),
    "majority": ((0.123, 0.709), (0.044, 0.437), (0.083, 0.437)),
    "log odds": ((0.017, 0.853), (0.087, 0.611), (0.088, 0.582)),
    "log odds, tempered": ((0.019, 0.853), (0.043, 0.611), (0.047, 0.582)),
    "stack": ((0.025, 0.883), (0.032, 0.735), (0.033, 0.710)),
}


@dataclass(frozen=True, slots=True)
class Case:
    """What the voters are like."""

    name: str
    rho: float
    flags_everything: bool = False


CASES = (
    Case("independent", 0.0),
    Case("rho 0.5", 0.5),
    Case("rho 0.5 and one voter that flags everything", 0.5, flags_everything=True),
)


def rounds(case: Case, number: int, rng: Random) -> list[Judged]:
    return [judged(case, index, rng) for index in range(number)]


def judged(case: Case, index: int, rng: Random) -> Judged:
    is_attack = rng.random() < 0.5
    shared, side = rng.gauss(0, 1), 1 if is_attack else -1
    ballots = []
    for number, strength in enumerate(STRENGTHS):
        own = rng.gauss(0, 1)
        evidence = side * strength / 2 + math.sqrt(case.rho) * shared + math.sqrt(1 - case.rho) * own
        if case.flags_everything and number == len(STRENGTHS) - 1:
            evidence = abs(evidence) + 0.5
        ballots.append(ballot(f"voter-{number}", strength * evidence, rng))
    return Judged(is_attack, f"family-{index % 10}", tuple(ballots), index)


def ballot(role: str, log_odds_of_attack: float, rng: Random) -> Ballot:
    """A vote whose confidence saturates, as language models' does."""
    if rng.random() < INVALID_SHARE:
        return Ballot(role, 1.0, VoteKind.INVALID)
    kind = VoteKind.ATTACK if log_odds_of_attack > 0 else VoteKind.BENIGN
    certainty = 1 / (1 + math.exp(-2 * abs(log_odds_of_attack)))
    return Ballot(role, 1.0, kind, max(50, min(99, round(100 * certainty))))


def rules(known: Sequence[Judged]) -> dict[str, Rule]:
    return {
        "weighted": Weighted(),
        "majority": Majority(),
        "log odds": log_odds.fit(known),
        "log odds, tempered": log_odds.fit_tempered(known),
        "stack": stack.fit(known),
    }


def measure_case(case: Case, repeats: int, test_rounds: int) -> dict[str, tuple[float, float]]:
    found: dict[str, list[tuple[float, float]]] = {}
    for repeat in range(repeats):
        rng = Random(f"{case.name} {repeat}")
        known, unknown = rounds(case, LEARN_ROUNDS, rng), rounds(case, test_rounds, rng)
        for name, rule in rules(known).items():
            scored = [(rule.score(one.ballots), one.is_attack) for one in unknown]
            bins = reliability(scored)
            error = sum(b.rounds * abs(b.mean_score - b.attack_share) for b in bins) / len(scored)
            found.setdefault(name, []).append((error, catch_at(scored, 0.05) or 0.0))
    return {
        name: (statistics.mean(e for e, _ in pairs), statistics.mean(c for _, c in pairs))
        for name, pairs in found.items()
    }


def measure(quick: bool) -> list[Row]:
    repeats, test_rounds = (4, 1_500) if quick else (20, 4_000)
    rows = []
    for position, case in enumerate(CASES):
        found = measure_case(case, repeats, test_rounds)
        for name, (error, catch) in found.items():
            theirs_error, theirs = PUBLISHED[name][position]
            rows.append(
                Row(
                    claim=f"{case.name}: {name}, catch at 5 % false alarms",
                    value=catch,
                    unit="",
                    goal="",
                    met=None,
                    peers={
                        "its calibration error": error,
                        "published, of other simulated voters": theirs,
                        "published calibration error": theirs_error,
                    },
                    n=repeats * test_rounds,
                    command=COMMAND,
                )
            )
        rows += verdicts(case, found, repeats * test_rounds)
    return rows


def verdicts(case: Case, found: dict[str, tuple[float, float]], n: int) -> list[Row]:
    best_other = max(catch for name, (_, catch) in found.items() if name != "stack")
    gain = found["stack"][1] - best_other
    mended = found["log odds"][0] - found["log odds, tempered"][0]
    return [
        Row(
            claim=f"{case.name}: the stack catches as much as the best other rule",
            value=gain,
            unit="more",
            goal="at least -0.01",
            met=gain >= -0.01,
            n=n,
            command=COMMAND,
        ),
        Row(
            claim=f"{case.name}: tempering does not hurt calibration, and mends it where errors are shared",
            value=mended,
            unit="less error",
            goal="at least -0.005",
            met=mended >= -0.005,
            n=n,
            command=COMMAND,
        ),
    ]


if __name__ == "__main__":
    sys.exit(run("wargame_consensus", measure))
