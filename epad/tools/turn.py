"""Hold the facts of one call; make the entries of its opening and its end, and the event for the probes. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256

import msgspec

from epad.gate.tool_risk import ToolRisk
from epad.gate.tool_table import Decision
from epad.ledger.entry import CloseTool, OpenTool
from epad.ledger.record import ToolOutcome
from epad.tools import answers, labelling
from epad.tools.answers import End
from epad.tools.output_budget import Reservation
from epad.tools.protocol import NO_REPLIES, Definition, Replies
from epad.tools.repeats import Claim, Keyed
from epad.tools.sessions import Session
from probes.tool_calls import ToolCalled


@dataclass(frozen=True, slots=True)
class Turn:
    """Holds the facts of one call that both of its records have."""

    turn: str
    session: Session
    definition: Definition
    risk: ToolRisk
    decision: Decision
    arguments: Mapping[str, object]
    arguments_sha256: bytes
    key: str | None
    parent: str
    reservation: Reservation | None = None
    """The room for its result; a refused call has none."""
    claim: Claim | None = None
    """The call's key while it is under way."""
    leaves: bool = False
    """What it is given leaves the machine, though its risk does not say so."""
    replies: Replies = NO_REPLIES

    @property
    def keyed(self) -> Keyed:
        """Return the facts that its key is about."""
        tool, digest = self.definition.name, self.arguments_sha256
        return Keyed(self.session, self.turn, tool, self.risk, digest, self.key, self.parent, self.read)

    def read(self) -> None:
        """Label the session, which is given the result."""
        labelling.read(self.session, self.definition, self.risk, self.arguments, self.turn)

    @property
    def bound(self) -> tuple[str, ...]:
        """Return what a state that the client brings back is about."""
        session = self.session
        return session.subsystem, session.name, self.definition.name, self.arguments_sha256.hex()


def opening_of(turn: Turn) -> OpenTool:
    """Return the entry of a call that begins."""
    session = turn.session
    return OpenTool(
        turn=turn.turn,
        subsystem=session.subsystem,
        tool=turn.definition.name,
        session=session.name,
        tier=session.tier,
        risk=turn.risk,
        taint=session.taint,
        row=turn.decision.row,
        definition_sha256=bytes.fromhex(turn.definition.sha256),
        arguments_sha256=turn.arguments_sha256,
        parent=turn.parent,
        idempotency_key=turn.key,
        reserved_tokens=0 if turn.reservation is None else turn.reservation.tokens,
    )


def closing_of(turn: Turn, end: End) -> CloseTool:
    """Return the entry of a call's end."""
    result = b"" if end.outcome is ToolOutcome.REFUSED else msgspec.json.encode(end.content)
    result += msgspec.json.encode(end.blocks) if end.blocks else b""
    return CloseTool(
        turn=turn.turn,
        subsystem=turn.session.subsystem,
        tool=turn.definition.name,
        session=turn.session.name,
        outcome=end.outcome,
        row=turn.decision.row,
        reason=end.code or answers.CODES.get(end.outcome, ""),
        result_sha256=sha256(result).digest() if result else b"",
        result_bytes=len(result),
        charged_tokens=len(result),
        effects=end.effects,
        undo=end.undo,
        cpu_ms=end.cpu_ms,
        wall_ms=end.wall_ms,
    )


def event_of(turn: Turn, entry: CloseTool, at: float) -> ToolCalled:
    """Return the event that tells of a call's end, or of its refusal."""
    return ToolCalled(
        subsystem=entry.subsystem,
        at=at,
        turn=entry.turn,
        tool=entry.tool,
        category=turn.definition.category,
        outcome=entry.outcome.value,
        code=entry.reason,
        row=entry.row,
        arguments=turn.arguments_sha256,
        result=entry.result_sha256,
        output_bytes=entry.result_bytes,
        seconds=entry.wall_ms / 1000,
        changes=len(entry.effects),
        can_undo=bool(entry.undo),
    )
