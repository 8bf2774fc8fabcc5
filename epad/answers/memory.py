"""Define the answers about the stores that tools write to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict


class StoredEntity(TypedDict):
    """Tells of one name in memory: its scope is a session, or `shared`; `text` is the beginning of its newest text.

    `author` is the subsystem that wrote it, `tier` and `taint` those of its session then. `at`: seconds since 1970.
    """

    name: str
    type: str
    scope: str
    author: str
    tier: int
    taint: int
    at: float
    text: str


class MemoryList(TypedDict):
    """Holds the newest names in memory, the sessions whose rows are hidden, and what torn files have lost."""

    entities: Sequence[StoredEntity]
    hidden_sessions: Sequence[str]
    losses: Sequence[str]


class MemoryProof(TypedDict):
    """Holds the faults of the store's chain, a sentence for each; the number of its rows, and its head.

    The record of each write in the ledger has the head after it as its effect on `vault`.
    """

    faults: Sequence[str]
    rows: int
    head: str
