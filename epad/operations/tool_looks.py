"""Show the tools and who may call them, the trace of a session, and why a turn was let pass or refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal, TypeVar

import apsw

from epad.agents.agent import MOST_DEPTH
from epad.answers.decisions import Explanation
from epad.answers.tools import Standing, ToolLine, ToolList, Trace, TracedSpawn
from epad.gate.tiers import Tier
from epad.gate.tool_profile import Profile, narrowed
from epad.gate.tool_risk import ToolRisk
from epad.gate.tool_table import LOWEST, Consent, Taint, decide
from epad.ledger import session_trace
from epad.ledger.errors import LedgerError
from epad.ledger.screened import screening_of
from epad.ledger.session_trace import KnownSession, TracePage
from epad.ledger.store import Ledger
from epad.operations import turn_words
from epad.operations.protocol import ConflictError, UnknownIdError, UnknownSubsystemError
from epad.operations.undo_orders import UndoOrders
from epad.tools.catalogue import Catalogue
from epad.tools.protocol import Definition
from statemachine.phase import Phase
from statemachine.rung import Rung

T = TypeVar("T")
PAGE_TURNS: Final = 500
is_turn: Final = re.compile("[0-9a-f]{32}").fullmatch
"""Tell if a subject is the name of a turn, or of a session, which look alike."""


@dataclass(frozen=True, slots=True)
class ToolsInForce:
    """Gives the tools of the daemon: `callers` names the subsystems with tools, each with its tier and profile."""

    catalogue: Callable[[], Catalogue]
    callers: Callable[[], Mapping[str, tuple[Tier, Profile]]]


@dataclass(frozen=True, slots=True)
class ToolLooks:
    """Answers the questions about tools. `tools` is None in a daemon without. `undo` takes their changes back."""

    ledger: Ledger
    tools: ToolsInForce | None
    subsystems: Callable[[], Mapping[str, object]]
    undo: UndoOrders

    def show(self) -> ToolList:
        """Return the tools, and how each subsystem stands to each of them, in NORMAL and without a hold."""
        if self.tools is None:
            return {"enabled": False, "tiers": {}, "tools": []}
        catalogue, callers = self.tools.catalogue(), self.tools.callers()
        return {
            "enabled": True,
            "tiers": {name: tier.label for name, (tier, _) in sorted(callers.items())},
            "tools": [
                _line(one, catalogue.risks[one.name], callers) for one in catalogue.definitions.values()
            ],
        }

    async def trace(self, subject: str | None, after: int) -> Trace:
        """Return a page of a session, or of the newest one of a subsystem, or (None) of all.

        Raises UnknownSubsystemError, ConflictError.
        """
        newest = "" if subject else await self._read(session_trace.newest_session)
        wanted = subject or newest
        named = await self._read(lambda db: session_trace.session_named(db, wanted))
        subsystem = named.began.subsystem if named is not None else wanted
        sessions = await self._read(lambda db: session_trace.sessions_of(db, subsystem))
        if subject and not sessions and subsystem not in self.subsystems():
            raise UnknownSubsystemError(subject, [*self.subsystems(), "a session that `epactl trace` shows"])
        shown = named or (sessions[-1] if sessions else None)
        page = await self._page(shown, after)
        epoch = self.ledger.epoch
        return {
            "session": None if shown is None else turn_words.session(shown),
            "sessions": [turn_words.session(one) for one in sessions],
            "spawned": await self._read(partial(_spawned, shown.began.session)) if shown else [],
            "turns": [turn_words.turn(one, epoch) for one in page.turns],
            "after": page.after,
        }

    async def explain(self, turn: str) -> Explanation:
        """Return the chain of one turn: session, model, gate, call, effects. Raises UnknownIdError, ConflictError."""
        found = await self._read(lambda db: session_trace.turn_named(db, turn))
        if found is None:
            raise UnknownIdError(turn)
        name = turn_words.session_of(found)
        session = await self._read(lambda db: session_trace.session_named(db, name)) if name else None
        parent_name = turn_words.parent_of(found)
        parent = (
            await self._read(lambda db: session_trace.turn_named(db, parent_name)) if parent_name else None
        )
        labels = [] if session is None else await self._read(lambda db: session_trace.labels_of(db, session))
        by_then = [one for one in labels if one.wall_ns <= found.first_wall_ns]
        links = turn_words.chain(found, session, parent, self.ledger.epoch, by_then)
        brought = [turn_words.label_link(one) for one in labels if one.turn == turn]
        seemed = await self._read(lambda db: screening_of(db, parent_name or turn))
        intents = [] if seemed is None else [turn_words.intent(seemed)]
        return {"subject": turn, "chain": [*links, *brought, *intents]}

    async def _page(self, session: KnownSession | None, after: int) -> TracePage:
        if session is None:
            return TracePage((), 0)
        return await self._read(lambda db: session_trace.page_of(db, session, after, PAGE_TURNS))

    async def _read(self, work: Callable[[apsw.Connection], T]) -> T:
        """Read the ledger. Raises ConflictError where it cannot be read now."""
        try:
            return await self.ledger.read(work)
        except LedgerError as error:
            raise ConflictError(f"the ledger cannot be read: {error}", "epactl ledger verify") from error


def _spawned(session: str, connection: apsw.Connection, depth: int = MOST_DEPTH) -> list[TracedSpawn]:
    """Return the agents that a session has asked for, and theirs."""
    spawned: list[TracedSpawn] = []
    for asked in session_trace.spawned_by(connection, session) if depth else ():
        known = session_trace.session_named(connection, asked.child)
        spawned.append(
            {
                "session": asked.child,
                "template": asked.template,
                "reason": asked.reason,
                "by": asked.by,
                "at": turn_words.moment(asked.wall_ns),
                "agent": None if known is None else turn_words.session(known),
                "asked": _spawned(asked.child, connection, depth - 1),
            }
        )
    return spawned


def _line(definition: Definition, risk: ToolRisk, callers: Mapping[str, tuple[Tier, Profile]]) -> ToolLine:
    return {
        "name": definition.name,
        "category": definition.category,
        "description": definition.description,
        "risk": risk,
        "meaning": risk.meaning,
        "lowest_tier": LOWEST[risk].label,
        "callers": {
            name: _standing(definition, risk, tier, profile)
            for name, (tier, profile) in sorted(callers.items())
        },
    }


def _standing(definition: Definition, risk: ToolRisk, tier: Tier, profile: Profile) -> Standing:
    decision = decide(tier, risk, Phase.NORMAL, Rung.OPEN, Taint.NONE, Consent.NONE)
    decision = narrowed(decision, profile, definition.name, definition.category)
    may: Literal["yes", "no"] = "yes" if decision.allowed else "no"
    return {
        "may": "consent" if decision.needs_consent else may,
        "row": decision.row,
        "why": decision.sentence,
    }
