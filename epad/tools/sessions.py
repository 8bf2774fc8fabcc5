"""Keep the sessions of subsystems: one for each start of an agent's process, with a tier that never changes.

A session is named after its process, so a later daemon that adopts the process knows it by the same name. A client has
no process here: its session lasts as long as this run of the daemon. Labels of taint only grow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Final

from epad.gate.tiers import Tier
from epad.gate.tool_labels import each
from epad.gate.tool_table import Taint

CONFIGURED: Final = "the configuration: workspace_labels"
"""The source of a label that a session has from its beginning."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Says what brought a label: in words, and by the turn that did; empty where no tool did."""

    source: str
    turn: str = ""

    def __str__(self) -> str:
        return f"{self.source}, turn {self.turn}" if self.turn else self.source


NOT_KNOWN: Final = Origin("what it was given")


class Session:
    """Holds a session's name, its tier, and what it has read. `noted` once the ledger has its beginning.

    `scope` names what its idempotency keys belong to: the session; empty for a client's, which outlast this run.
    `origins` has what brought each label first. `told` is called once for each label, when the session gets it.
    """

    __slots__ = ("_taint", "name", "noted", "origins", "scope", "subsystem", "tier", "told")

    def __init__(
        self,
        name: str,
        subsystem: str,
        tier: Tier,
        taint: Taint = Taint.NONE,
        noted: bool = False,
        scope: str = "",
        told: Callable[[Session, Taint, Origin], None] | None = None,
    ) -> None:
        self.name = name
        self.subsystem = subsystem
        self.tier = tier
        self._taint = taint
        self.noted = noted
        self.scope = scope
        self.origins: dict[Taint, Origin] = dict.fromkeys(each(taint), NOT_KNOWN)
        self.told = told

    @property
    def taint(self) -> Taint:
        """Return its labels. To set them adds them: none is ever taken away."""
        return self._taint

    @taint.setter
    def taint(self, taint: Taint) -> None:
        self.label(taint, NOT_KNOWN)

    def label(self, taint: Taint, origin: Origin) -> Taint:
        """Add labels; return those that are new."""
        new = taint & ~self._taint
        self._taint |= new
        for one in each(new):
            self.origins[one] = origin
            if self.told is not None:
                self.told(self, one, origin)
        return new

    def recall(self, label: Taint, origin: Origin) -> None:
        """Have a label that is on record already."""
        self._taint |= label
        self.origins[label] = origin


class Sessions:
    """Finds a subsystem's session.

    `process` names its process now, empty without one; `tier` is the configured one; `labels` are those that a session
    has from its beginning. `told` hears of each label that a session gets.
    """

    def __init__(
        self,
        process: Callable[[str], str],
        tier: Callable[[str], Tier],
        run: str,
        labels: Callable[[str], Taint] = lambda _: Taint.NONE,
    ) -> None:
        self._process = process
        self._tier = tier
        self._run = run
        self._labels = labels
        self._sessions: dict[str, Session] = {}
        self.told: Callable[[Session, Taint, Origin], None] | None = None

    def of(self, subsystem: str) -> Session:
        """Return the session of a subsystem as of now; a process that was started anew has another one."""
        process = self._process(subsystem)
        name = _name(subsystem, process or self._run)
        session = self._sessions.get(subsystem)
        if session is None or session.name != name:
            session = Session(
                name, subsystem, self._tier(subsystem), scope=name if process else "", told=self.told
            )
            self._sessions[subsystem] = session
            session.label(self._labels(subsystem), Origin(CONFIGURED))
        return session

    def name_of_agent(self, agent: str) -> str:
        """Return the name of a spawned agent's session, which is known before its process is started."""
        return _name(agent, process_of_agent(agent))

    def begin_agent(self, agent: str, tier: Tier) -> Session:
        """Begin the session of a spawned agent. It has no labels yet, and no process."""
        name = self.name_of_agent(agent)
        session = self._sessions[agent] = Session(name, agent, tier, scope=name, told=self.told)
        return session

    def forget(self, subsystem: str) -> None:
        """Forget the session of a spawned agent that has ended."""
        self._sessions.pop(subsystem, None)

    def first(self, subsystem: str) -> Taint:
        """Return the labels that a session of a subsystem has from its beginning."""
        return self._labels(subsystem)

    def running(self, subsystem: str) -> Session | None:
        """Return the session of a subsystem if its process is there, or if it is a client's that has begun."""
        known = self._sessions.get(subsystem)
        if self._process(subsystem) or (known is not None and self.lives(subsystem, known.name)):
            return self.of(subsystem)
        return None

    def recall(self, subsystem: str, tier: Tier, labels: Mapping[Taint, Origin]) -> Session:
        """Return the session of a subsystem as of now, with the tier and the labels that the ledger has of it.

        Nobody is told of these labels: they are on record.
        """
        session = self.of(subsystem)
        session.tier = tier
        for label, origin in labels.items():
            session.recall(label, origin)
        return session

    def lives(self, subsystem: str, name: str) -> bool:
        """Tell if a session of this name has not ended. It begins none."""
        return name == _name(subsystem, self._process(subsystem) or self._run)


def process_of_agent(agent: str) -> str:
    """Return the name of a spawned agent's only process; an agent's name is never given again."""
    return f"agent {agent}"


@lru_cache(maxsize=256)  # it is asked for several times a call
def _name(subsystem: str, process: str) -> str:
    return sha256(f"epad/session/1\0{subsystem}\0{process}".encode()).hexdigest()[:32]
