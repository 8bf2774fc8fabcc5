"""Five votes to one decision. The first rule is the source's: role weight times confidence, summed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from runners.wargame.outcomes import VoteKind

RULE: Final = "blog_weighted"


@dataclass(frozen=True, slots=True)
class Ballot:
    """What the consensus needs of a vote. `confidence` is in per cent, in the verdict that was given."""

    role: str
    weight: float
    kind: VoteKind
    confidence: int = 0

    @property
    def counts(self) -> bool:
        """Whether it takes a side; an abstention, an invalid reply and an error take none."""
        return self.kind in {VoteKind.ATTACK, VoteKind.BENIGN}


@dataclass(frozen=True, slots=True)
class Decision:
    """What the defenders as one say. `score` is the attack's share of the weight: no probability."""

    rule: str
    flagged: bool
    score: float
    threshold: float
    voters: int


def decide(ballots: Sequence[Ballot], quorum: int, threshold: float) -> Decision | None:
    """Weigh the valid votes; None when there are too few. A missing vote moves neither side."""
    valid = [ballot for ballot in ballots if ballot.counts]
    total = sum(b.weight * b.confidence for b in valid)
    if len(valid) < quorum or total <= 0:
        return None
    score = sum(b.weight * b.confidence for b in valid if b.kind is VoteKind.ATTACK) / total
    return Decision(RULE, score > threshold, score, threshold, len(valid))
