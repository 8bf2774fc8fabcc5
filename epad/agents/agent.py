"""Hold a spawned agent: what it was given, for whom and why, and how it ended."""

from __future__ import annotations

from enum import StrEnum
from hashlib import sha256
from typing import Final

from msgspec import Struct

from epad.configuration.schema import SubsystemConfig
from epad.gate.tiers import Tier
from epad.gate.tool_table import Taint
from epad.gateway.carves import Carved

MOST_DEPTH: Final = 2
"""An agent of the configuration spawns, and so does what it has spawned; no further."""
MOST_CHILDREN: Final = 4
"""Living agents of one parent."""

MOST_A_MINUTE: Final = 30
"""Agents of one subsystem and of its agents: each is a change of what is in force, on the disk and on record."""


class AgentState(StrEnum):
    """Names the states of an agent. After a crash those that ran go on, and the others are ended."""

    PREPARING = "preparing"
    RUNNING = "running"
    ENDING = "ending"
    ENDED = "ended"


class Written(Struct, frozen=True):
    """Holds what an agent has left: its answer, as data, and whether more was there than is kept."""

    text: str = ""
    is_cut: bool = False


class Agent(Struct, frozen=True):
    """Holds one spawned agent; its name is never given again. Times are seconds of the epoch.

    `taint` are the labels of its parent when it was spawned: whatever it was given comes from there. `consent` says who
    has consented, empty where nobody had to.
    """

    name: str
    template: str
    parent: str
    parent_session: str
    session: str
    tier: int
    depth: int
    reason: str
    tokens: int
    microusd: int
    spec: SubsystemConfig
    timeout_seconds: float
    begun_at: float
    command_sha256: str
    taint: int = 0
    consent: str = ""
    state: AgentState = AgentState.PREPARING
    ended_at: float = 0.0
    exit: str = ""
    why: str = ""
    ended_by: str = ""
    answer: str = ""
    is_cut: bool = False
    answer_taint: int = 0

    @property
    def carved(self) -> Carved:
        """Return the amount that it was given out of its parent's budget."""
        return Carved(self.parent, self.tokens, self.microusd)

    @property
    def is_living(self) -> bool:
        return self.state is not AgentState.ENDED

    @property
    def label(self) -> str:
        """Return the word for its tier."""
        return Tier(self.tier).label

    def labels_for(self, reader: Tier) -> Taint:
        """Return the labels that its answer gives to a session that reads it: those of a lower tier are untrusted."""
        lower = Taint.UNTRUSTED if self.tier < reader else Taint.NONE
        return Taint(self.answer_taint) | lower


def command_digest(command: tuple[str, ...]) -> str:
    """Return the digest of a command, in hex."""
    return sha256("\0".join(command).encode(errors="surrogatepass")).hexdigest()
