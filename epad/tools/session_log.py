"""Record where sessions begin and end, also across the daemon's own restart.

| a session | is recorded as |
|---|---|
| has its first call decided about | begun, by the configuration |
| is an agent's that a session asked for | begun, by that one, which names it too, before its process is there |
| its process ends, or is ended | ended: by itself or by epad, with the exit and the reason |
| another session of its subsystem begins, and its end was missed | ended: its process was started anew |
| is a client's, which has no process here, and the daemon stops | ended with the daemon's run |
| gets a label of taint | labelled: with what brought it |
| its process is adopted by the next daemon | going on, with its tier and its labels |
| its process is not there any more at the next start | ended: while epad did not run |
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

import apsw
from structlog.typing import FilteringBoundLogger

from epad.gate.tiers import Tier
from epad.gate.tool_labels import each, labels_of
from epad.gate.tool_risk import ToolRisk
from epad.gate.tool_table import Taint
from epad.ledger.entry import NoteLabel, NoteSession
from epad.ledger.record import Session as Recorded
from epad.ledger.session_trace import labels_of as noted_labels
from epad.ledger.session_trace import newest_call, unended
from epad.tools.sessions import Origin, Session, Sessions
from probes.subsystems import SubsystemExited

T = TypeVar("T")
CONFIGURATION: Final = "configuration"
EPAD: Final = "epad"
ITSELF: Final = "itself"
_REASON_CHARACTERS: Final = 300
_NOT_NOTED: Final = "a call before epad noted what brings labels"


class SessionLedger(Protocol):
    """The part of the ledger that sessions are recorded in."""

    def note_session(self, session: NoteSession) -> asyncio.Future[int]: ...

    def note_label(self, label: NoteLabel) -> asyncio.Future[int]: ...


class ReadLedger(Protocol):
    """The part of the ledger that they are read back from."""

    async def read(self, work: Callable[[apsw.Connection], T]) -> T: ...


@dataclass(frozen=True, slots=True)
class Lineage:
    """Says where a session comes from: of the configuration, or asked for by another session."""

    by: str = CONFIGURATION
    parent: str = ""
    reason: str = ""
    command_sha256: bytes = b""
    template: str = ""


class SessionLog:
    """Knows the sessions whose beginning is on record and whose end is not."""

    def __init__(self, ledger: SessionLedger, log: FilteringBoundLogger) -> None:
        self._ledger = ledger
        self._log = log
        self._open: dict[str, Session] = {}
        self._labels: asyncio.Future[int] | None = None

    def begin(self, session: Session) -> None:
        """Record that a session begins, before the first record of a call of it; once."""
        if not session.noted:
            self._begin(session, Lineage())

    async def spawned(self, parent: Session, child: Session, lineage: Lineage) -> None:
        """Record in both sessions that one has asked for the other, whose process is not started yet.

        Raises LedgerError.
        """
        self.begin(parent)
        asked = NoteSession(
            parent.name,
            parent.subsystem,
            True,
            parent.tier,
            reason=lineage.reason,
            by=lineage.by,
            child=child.name,
            template=lineage.template,
        )
        await self._ledger.note_session(asked)
        await self._begin(child, lineage)

    def ended(self, subsystem: str, by: str, why: str) -> None:
        """Record that a session ends, unless its end is on record."""
        session = self._open.get(subsystem)
        if session is not None:
            self._end(session, by, why)

    def _begin(self, session: Session, lineage: Lineage) -> asyncio.Future[int]:
        former = self._open.get(session.subsystem)
        if former is not None and former.name != session.name:
            self._end(former, EPAD, "its process was started anew")
        session.noted = True
        self._open[session.subsystem] = session
        return self._note(
            NoteSession(
                session.name,
                session.subsystem,
                True,
                session.tier,
                parent=lineage.parent,
                command_sha256=lineage.command_sha256,
                reason=lineage.reason,
                by=lineage.by,
                template=lineage.template,
            )
        )

    def labelled(self, session: Session, label: Taint, origin: Origin) -> None:
        """Record a label that a session gets, behind its beginning."""
        self.begin(session)
        note = NoteLabel(
            session.name, session.subsystem, int(label), origin.turn, origin.source[:_REASON_CHARACTERS]
        )
        self._labels = self._ledger.note_label(note)
        self._watch(self._labels, session.name, session.subsystem)

    async def settled(self) -> None:
        """Wait until the newest label is on the disk, if it can be: what brought it is given out after that."""
        if self._labels is not None and not self._labels.done():
            await asyncio.wait({self._labels})

    def failed(self, session: Session) -> None:
        """Take note that nothing could be recorded, so that the next call records the beginning again."""
        session.noted = False

    def exited(self, event: SubsystemExited) -> None:
        """Record that a session ends with its process."""
        session = self._open.get(event.subsystem)
        if session is not None and session.scope:
            why = ": ".join(filter(None, (event.status, event.reason)))
            self._end(session, EPAD if event.wanted else ITSELF, why)

    def close(self) -> None:
        """Record that the sessions of clients end with this run; those of processes go on, or end by `exited`."""
        for session in list(self._open.values()):
            if not session.scope:
                self._end(session, EPAD, "the daemon has stopped")

    async def adopt(self, sessions: Sessions, ledger: ReadLedger, present: Callable[[str], bool]) -> None:
        """Go on with the sessions whose processes were adopted, and record the end of the others. Raises LedgerError.

        `present` tells if a subsystem is configured still.
        """
        for recorded, labels in await ledger.read(_left_open):
            if present(recorded.subsystem) and sessions.lives(recorded.subsystem, recorded.session):
                session = sessions.recall(recorded.subsystem, _tier(recorded.tier), labels)
                session.noted = True
                self._open[session.subsystem] = session
            elif not self._is_open(recorded):
                why = "it ended while epad did not run"
                self._note(
                    NoteSession(
                        recorded.session, recorded.subsystem, False, recorded.tier, reason=why, by=EPAD
                    )
                )

    def _is_open(self, recorded: Recorded) -> bool:
        session = self._open.get(recorded.subsystem)
        return session is not None and session.name == recorded.session

    def _end(self, session: Session, by: str, why: str) -> None:
        del self._open[session.subsystem]
        reason = why[:_REASON_CHARACTERS]
        self._note(NoteSession(session.name, session.subsystem, False, session.tier, reason=reason, by=by))

    def _note(self, note: NoteSession) -> asyncio.Future[int]:
        noted = self._ledger.note_session(note)
        self._watch(noted, note.session, note.subsystem)
        return noted

    def _watch(self, noted: asyncio.Future[int], session: str, subsystem: str) -> None:
        def done(future: asyncio.Future[int]) -> None:
            error = None if future.cancelled() else future.exception()
            if error is not None:
                self._log.error("session.not_noted", session=session, subsystem=subsystem, error=str(error))

        noted.add_done_callback(done)


def _left_open(connection: apsw.Connection) -> Sequence[tuple[Recorded, Mapping[Taint, Origin]]]:
    """Return the sessions without an end, each with the labels that it had after its newest call.

    A call that was let pass counts as if it had given its result: the end of the daemon may have come between.
    """
    found: list[tuple[Recorded, Mapping[Taint, Origin]]] = []
    for known in unended(connection):
        labels: dict[Taint, Origin] = {}
        for noted in noted_labels(connection, known):
            for label in each(Taint(noted.label)):
                labels.setdefault(label, Origin(noted.source, noted.turn))
        call = newest_call(connection, known)
        if call is not None:
            for label in each(Taint(call.taint)):
                labels.setdefault(label, Origin(_NOT_NOTED))
            for label in each(labels_of(_risk(call.risk), name=call.tool)):
                labels.setdefault(label, Origin(call.tool, call.turn))
        found.append((known.began, labels))
    return found


def _tier(number: int) -> Tier:
    return next((tier for tier in Tier if tier == number), Tier.READER)


def _risk(text: str) -> ToolRisk:
    return next((risk for risk in ToolRisk if risk == text), ToolRisk.PURE)
