"""Estimate how many voters five roles really are, and the worth of each."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from runners.wargame.consensus.measures import FamilyPairs, clustered_interval
from runners.wargame.consensus.rounds import Fit, Judged, Rule, by_family
from runners.wargame.outcomes import VoteKind


def error_correlation(rounds: Sequence[Judged]) -> dict[tuple[str, str], float | None]:
    """Phi between each two roles' mistakes, where both took a side; None where one of them never errs or always."""
    roles = sorted({b.role for one in rounds for b in one.ballots})
    return {
        (a, b): _phi([(x, y) for x, y in _errors(rounds, a, b)]) for a, b in itertools.combinations(roles, 2)
    }


def _errors(rounds: Sequence[Judged], first: str, second: str) -> list[tuple[bool, bool]]:
    found = []
    for one in rounds:
        sides = {b.role: (b.kind is VoteKind.ATTACK) != one.is_attack for b in one.ballots if b.counts}
        if first in sides and second in sides:
            found.append((sides[first], sides[second]))
    return found


def _phi(pairs: Sequence[tuple[bool, bool]]) -> float | None:
    both = sum(x and y for x, y in pairs)
    first, second, total = sum(x for x, _ in pairs), sum(y for _, y in pairs), len(pairs)
    product = first * second * (total - first) * (total - second)
    return (both * total - first * second) / math.sqrt(product) if product else None


def effective_voters(correlations: Mapping[tuple[str, str], float | None], voters: int) -> float | None:
    """N / (1 + (n - 1) rho) with the mean correlation: five voters at rho 0.5 are 1.67."""
    known = [value for value in correlations.values() if value is not None]
    if not known:
        return None
    rho = max(0.0, sum(known) / len(known))
    return voters / (1 + (voters - 1) * rho)


@dataclass(frozen=True, slots=True)
class Worth:
    """Holds how much the AUC falls without a role, with its 95 % interval by families."""

    drop: float
    interval: tuple[float, float] | None


def worth_of_roles(train: Sequence[Judged], test: Sequence[Judged], fit: Fit) -> dict[str, Worth]:
    """Learn and try again without each role in turn."""
    families = list(by_family(test).values())
    whole = _pairs(fit(train), families)
    worth = {}
    for role in sorted({b.role for one in train for b in one.ballots}):
        rest = fit([one.without(role) for one in train])
        fewer = [[one.without(role) for one in members] for members in families]
        found = _drop(whole, _pairs(rest, fewer))
        if found is not None:
            worth[role] = found
    return worth


def _pairs(rule: Rule, families: Sequence[Sequence[Judged]]) -> FamilyPairs:
    return FamilyPairs.of(
        [[(rule.score(one.ballots), one.is_attack) for one in members] for members in families]
    )


def _drop(whole: FamilyPairs, rest: FamilyPairs) -> Worth | None:
    def difference(drawn: Sequence[tuple[float, ...]]) -> float | None:
        numbers = [int(number) for (number,) in drawn]
        full, less = whole.auc(numbers), rest.auc(numbers)
        return None if full is None or less is None else full - less

    clusters = [[(float(number),)] for number in range(len(whole.attacks))]
    drop = difference([row for cluster in clusters for row in cluster])
    return None if drop is None else Worth(drop, clustered_interval(clusters, difference))
