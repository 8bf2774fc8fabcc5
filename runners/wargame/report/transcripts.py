"""Transcripts to be read: the only cure for numbers that look too good."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Final, Literal

from runners.wargame.store import RunRow, Store

RANDOM_SHOWN: Final = 20
DISPUTED_SHOWN: Final = 30
VOID_SHOWN: Final = 10

Which = Literal["random", "disputed", "void"]

# A dispute: the swarm was wrong, or its valid votes were split.
_CHOICES: Final[dict[Which, str]] = {
    "random": "SELECT idx FROM round WHERE run_id = ? AND state = 'scored' ORDER BY idx",
    "disputed": "SELECT idx FROM round r WHERE run_id = ? AND state = 'scored' AND (outcome IN ('miss', 'false_alarm')"
    " OR 1 < (SELECT count(DISTINCT kind) FROM vote v WHERE v.run_id = r.run_id AND v.idx = r.idx)) ORDER BY idx",
    "void": "SELECT idx FROM round WHERE run_id = ? AND state = 'void' ORDER BY idx",
}


@dataclass(frozen=True, slots=True)
class Said:
    """Holds one defender's vote, as it came."""

    role: str
    kind: str
    detail: str
    confidence: int | None
    reply: str


@dataclass(frozen=True, slots=True)
class Transcript:
    """Holds one round, whole."""

    index: int
    label: str
    category: str
    family: str
    outcome: str
    turns: tuple[str, ...]
    votes: tuple[Said, ...]


def choose(store: Store, run: RunRow, which: Which, most: int, seed: int = 0) -> list[int]:
    """Pick rounds at random among those of a kind; the same store and seed pick the same."""
    found = [idx for (idx,) in store.rows(_CHOICES[which], (run.run_id,))]
    return sorted(Random(seed).sample(found, min(most, len(found))))


def load(store: Store, run: RunRow, indices: Iterable[int]) -> list[Transcript]:
    """Read the rounds of these numbers; those that were never played are left out."""
    return [found for index in indices if (found := _one(store, run, index)) is not None]


def _one(store: Store, run: RunRow, index: int) -> Transcript | None:
    key = (run.run_id, index)
    rows = store.rows(
        "SELECT label, category, family, iif(state = 'scored', outcome, state || ':' || outcome) FROM round"
        " WHERE run_id = ? AND idx = ?",
        key,
    )
    if not rows:
        return None
    votes = store.rows(
        "SELECT v.role, v.kind, v.detail, v.confidence, coalesce(c.reply, '') FROM vote v JOIN round r"
        " USING(run_id, idx) LEFT JOIN call c ON c.run_id = v.run_id AND c.idx = v.idx AND c.purpose = v.role"
        " AND c.attempt = r.attempt WHERE v.run_id = ? AND v.idx = ? ORDER BY v.role",
        key,
    )
    label, category, family, outcome = rows[0]
    said = tuple(Said(*vote) for vote in votes)
    return Transcript(index, label, category, family, outcome, store.turns(*key), said)


def mark_read(store: Store, run: RunRow, indices: Sequence[int]) -> None:
    """Write down that a person has read these."""
    now = datetime.now(tz=UTC).isoformat(timespec="seconds")
    store.write(("INSERT OR IGNORE INTO reading VALUES(?, ?, ?)", (run.run_id, i, now)) for i in indices)


def as_text(transcript: Transcript) -> str:
    """Format one transcript for the terminal."""
    lines = [
        f"#{transcript.index} {transcript.outcome} ({transcript.label}, {transcript.category}/{transcript.family})"
    ]
    lines += [f"  {number}. {text}" for number, text in enumerate(transcript.turns, 1)]
    lines += [
        f"  {said.role:10} {said.kind} {'' if said.confidence is None else said.confidence} {said.detail or said.reply}"
        for said in transcript.votes
    ]
    return "\n".join(lines)
