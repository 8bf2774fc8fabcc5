"""Five votes to one decision. The first rule is the source's: role weight times confidence, summed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from runners.wargame.outcomes import VoteKind

RULE: Final = "blog_weighted"


@dataclass(frozen=True, slots=True)
class Ballot:
    """Holds a vote for the consensus. `confidence` is in per cent, in the given verdict."""

    role: str
    weight: float
    kind: VoteKind
    confidence: int = 0

    @property
    def counts(self) -> bool:
        """Tell if it takes a side; an abstention, an invalid reply and an error take none."""
        return self.kind in {VoteKind.ATTACK, VoteKind.BENIGN}


@dataclass(frozen=True, slots=True)
class Decision:
    """Holds the joint decision of the defenders. `score` is the attack's share of the weight: no probability."""

    rule: str
    flagged: bool
    score: float
    threshold: float
    voters: int


def weighted_share(ballots: Sequence[Ballot]) -> float | None:
    """The attack's share of role weight times confidence among the valid votes; None when nothing weighs."""
    valid = [ballot for ballot in ballots if ballot.counts]
    total = sum(b.weight * b.confidence for b in valid)
    if total <= 0:
        return None
    return sum(b.weight * b.confidence for b in valid if b.kind is VoteKind.ATTACK) / total


def decide(ballots: Sequence[Ballot], quorum: int, threshold: float) -> Decision | None:
    """Weigh the valid votes; None when there are too few. A missing vote moves neither side."""
    voters = sum(ballot.counts for ballot in ballots)
    share = weighted_share(ballots)
    if voters < quorum or share is None:
        return None
    return Decision(RULE, share > threshold, share, threshold, voters)
