"""Provide the data that a rule learns from and is tried on: the votes of scored rounds, with their labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from runners.wargame.consensus.weighted import Ballot


@dataclass(frozen=True, slots=True)
class Judged:
    """Holds one round: the ballots in role order, and the truth."""

    is_attack: bool
    family: str
    ballots: tuple[Ballot, ...]
    index: int = 0

    def without(self, role: str) -> Judged:
        """Return the same round with one defender away."""
        return replace(self, ballots=tuple(b for b in self.ballots if b.role != role))


class Rule(Protocol):
    """A way to turn votes into the attack's probability, or into a score of its own kind."""

    def score(self, ballots: Sequence[Ballot]) -> float: ...


class Fit(Protocol):
    """Learns a rule."""

    def __call__(self, rounds: Sequence[Judged]) -> Rule: ...


def by_family(rounds: Iterable[Judged]) -> Mapping[str, list[Judged]]:
    """Rounds of one family are not independent, so they are always held out together."""
    groups: dict[str, list[Judged]] = {}
    for one in rounds:
        groups.setdefault(one.family, []).append(one)
    return groups


def held_out_scores(rounds: Sequence[Judged], fit: Fit) -> list[tuple[float, bool]]:
    """(score, is attack) of each round by a rule that never saw the round's family."""
    groups = by_family(rounds)
    if len(groups) < 2:
        rule = fit(rounds)
        return [(rule.score(one.ballots), one.is_attack) for one in rounds]
    scored = []
    for family, members in groups.items():
        rule = fit([one for one in rounds if one.family != family])
        scored += [(rule.score(one.ballots), one.is_attack) for one in members]
    return scored
