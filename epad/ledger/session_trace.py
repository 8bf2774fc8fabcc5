"""Read an agent's session out of the ledger: its beginning, its end, and the turns in between, page by page.

A session's turns are those of its subsystem from its beginning on, until its end or the next session's beginning. The
record of a model's turn names no session, so those before the first call of a tool count from the end of the session
before, where that is recorded. A tool's turn names its session, and one of another session is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import apsw

from epad.ledger.query import LAST, records_of_turn, sound
from epad.ledger.record import (
    Labelled,
    Record,
    Session,
    ToolClosed,
    ToolOpened,
    ToolOutcome,
    TurnClosed,
    TurnOpened,
)
from epad.ledger.rows import last_sequence
from epad.storage.database import fetch

MOST_SESSIONS: Final = 200
"""Of a subsystem, the newest; each start of its process may be one."""
SCANNED_RECORDS: Final = 20_000
"""A page looks through so many records of all subsystems: 50 ms, not the whole history."""

_SESSIONS = (
    "SELECT seq, CAST(body AS BLOB), CAST(leaf AS BLOB) FROM record INDEXED BY record_session "
    "WHERE kind = 8 AND subsystem = CAST(? AS TEXT) ORDER BY seq DESC LIMIT ?"
)
_ALL_SESSIONS = (
    "SELECT seq, CAST(body AS BLOB), CAST(leaf AS BLOB) FROM record INDEXED BY record_session WHERE kind = 8"
)
_TURNS = (
    "SELECT seq, CAST(body AS BLOB), CAST(leaf AS BLOB) FROM record "
    "WHERE seq > ? AND seq <= ? AND subsystem = CAST(? AS TEXT) AND kind IN (1, 2, 6, 7) ORDER BY seq"
)
_CALLS = (
    "SELECT seq, CAST(body AS BLOB), CAST(leaf AS BLOB) FROM record "
    "WHERE seq >= ? AND seq <= ? AND subsystem = CAST(? AS TEXT) AND kind = 6 ORDER BY seq DESC"
)
_LABELS = (
    "SELECT seq, CAST(body AS BLOB), CAST(leaf AS BLOB) FROM record INDEXED BY record_label "
    "WHERE kind = 10 AND subsystem = CAST(? AS TEXT) AND seq >= ? AND seq <= ? ORDER BY seq"
)


@dataclass(frozen=True, slots=True)
class KnownSession:
    """Holds a session as the ledger has it. Its turns have numbers from `first` to `last`."""

    began: Session
    ended: Session | None
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class TracedTurn:
    """Holds the records of one turn: a refused one has no opening, one under way or of unknown end no closing."""

    opened: TurnOpened | ToolOpened | None
    closed: TurnClosed | ToolClosed | None

    @property
    def any(self) -> TurnOpened | ToolOpened | TurnClosed | ToolClosed:
        """Return either record, for what both have. Raises ValueError."""
        record = self.opened or self.closed
        if record is None:
            raise ValueError("a turn without a record")
        return record

    @property
    def first_wall_ns(self) -> int:
        """Return the time of its first record."""
        return self.any.wall_ns


@dataclass(frozen=True, slots=True)
class TracePage:
    """Holds turns in the order in which they began. `after` is where the next page begins, 0 at the end."""

    turns: Sequence[TracedTurn]
    after: int


def sessions_of(connection: apsw.Connection, subsystem: str) -> list[KnownSession]:
    """Return the newest sessions of a subsystem, oldest first."""
    rows = fetch(connection, _SESSIONS, (subsystem, 2 * MOST_SESSIONS))
    return _known(_sound_sessions(reversed(rows)))[-MOST_SESSIONS:]


def session_named(connection: apsw.Connection, name: str) -> KnownSession | None:
    """Return the session of a name; None if the ledger has none."""
    of = next((one.subsystem for _, one in _sound_sessions(_all(connection)) if one.session == name), None)
    if of is None:
        return None
    records = [(seq, one) for seq, one in _sound_sessions(_all(connection)) if one.subsystem == of]
    return next(
        known for known in _known(sorted(records, key=lambda each: each[0])) if known.began.session == name
    )


def newest_session(connection: apsw.Connection) -> str:
    """Return the name of the session that began last; empty if none did."""
    sound_ones = _sound_sessions(_all(connection))
    begun = [(sequence, one.session) for sequence, one in sound_ones if one.began and not one.child]
    return max(begun)[1] if begun else ""


def spawned_by(connection: apsw.Connection, name: str) -> list[Session]:
    """Return the records by which a session has asked for others, the oldest first."""
    asked = [
        (sequence, one)
        for sequence, one in _sound_sessions(_all(connection))
        if one.session == name and one.child
    ]
    return [one for _, one in sorted(asked, key=lambda each: each[0])]


def unended(connection: apsw.Connection) -> list[KnownSession]:
    """Return the sessions of all subsystems that have no end on record, in the order of their beginnings."""
    by_subsystem: dict[str, list[tuple[int, Session]]] = {}
    for sequence, one in sorted(_sound_sessions(_all(connection)), key=lambda each: each[0]):
        by_subsystem.setdefault(one.subsystem, []).append((sequence, one))
    known = [session for records in by_subsystem.values() for session in _known(records)]
    return sorted((one for one in known if one.ended is None), key=lambda one: one.first)


def newest_call(connection: apsw.Connection, session: KnownSession) -> ToolOpened | None:
    """Return the record of the session's newest call that was let pass; None without one."""
    subsystem, name = session.began.subsystem, session.began.session
    rows = connection.execute(_CALLS, (session.first, session.last, subsystem))
    for sequence, body, leaf in rows:
        record = sound(sequence, body, leaf)
        if isinstance(record, ToolOpened) and record.session == name:
            return record
    return None


def labels_of(connection: apsw.Connection, session: KnownSession, until: int = LAST) -> list[Labelled]:
    """Return the labels that a session was given, in their order, by the record of number `until` at the latest."""
    bindings = (session.began.subsystem, session.first, min(session.last, until))
    found = (sound(*row) for row in connection.execute(_LABELS, bindings))
    return [one for one in found if isinstance(one, Labelled) and one.session == session.began.session]


def page_of(connection: apsw.Connection, session: KnownSession, after: int, most: int) -> TracePage:
    """Return at most so many turns of a session, of the records behind number `after`."""
    name, subsystem = session.began.session, session.began.subsystem
    begin = max(after, session.first - 1)
    end = min(session.last, begin + SCANNED_RECORDS)
    turns: list[TracedTurn] = []
    for sequence, body, leaf in fetch(connection, _TURNS, (begin, end, subsystem)):
        record = sound(sequence, body, leaf)
        if record is None or (isinstance(record, ToolOpened | ToolClosed) and record.session != name):
            continue
        turn = _beginning_with(connection, record)
        if turn is not None:
            turns.append(turn)
            if len(turns) == most:
                end = sequence
                break
    is_last = end >= min(session.last, last_sequence(connection))
    return TracePage(turns, 0 if is_last else end)


def turn_named(connection: apsw.Connection, turn: str) -> TracedTurn | None:
    """Return the turn of a name; None if the ledger has none, or no sound record of it."""
    opened = closed = None
    for record in records_of_turn(connection, turn):
        if isinstance(record, TurnOpened | ToolOpened):
            opened = record
        elif isinstance(record, TurnClosed | ToolClosed):
            closed = record
    return None if opened is None and closed is None else TracedTurn(opened, closed)


def _beginning_with(connection: apsw.Connection, record: Record) -> TracedTurn | None:
    """Return the turn that a record begins; None for the end of one that began before."""
    match record:
        case TurnOpened() | ToolOpened():
            return turn_named(connection, record.turn)
        case TurnClosed(outcome="refused") | ToolClosed(outcome=ToolOutcome.REFUSED):
            turn = turn_named(connection, record.turn)
            return None if turn is None or turn.opened is not None else turn
        case _:
            return None


def _all(connection: apsw.Connection) -> list[tuple[int, object, object]]:
    return [(seq, body, leaf) for seq, body, leaf in fetch(connection, _ALL_SESSIONS)]


def _sound_sessions(rows: Iterable[tuple[int, object, object]]) -> Iterator[tuple[int, Session]]:
    for sequence, body, leaf in rows:
        record = sound(sequence, body, leaf)
        if isinstance(record, Session):
            yield sequence, record


def _known(records: Iterable[tuple[int, Session]]) -> list[KnownSession]:
    """Join beginnings and ends, of one subsystem in their order; a daemon that adopts a process may note it again."""
    began: dict[str, tuple[int, Session]] = {}
    ended: dict[str, tuple[int, Session]] = {}
    for sequence, record in records:
        if record.child:
            continue
        (began if record.began else ended).setdefault(record.session, (sequence, record))
    known: list[KnownSession] = []
    before = 0
    for name, (first, beginning) in began.items():
        end = ended.get(name)
        if known and known[-1].ended is None:
            known[-1] = KnownSession(known[-1].began, None, known[-1].first, first - 1)
        if end is None:
            known.append(KnownSession(beginning, None, before or first, LAST))
            before = 0
        else:
            known.append(KnownSession(beginning, end[1], before or first, end[0]))
            before = end[0] + 1
    return known
