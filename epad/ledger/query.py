"""Query the past: read from bodies, which the chain covers, not from copied columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import apsw

from epad.ledger.errors import RecordError
from epad.ledger.hashes import leaf_hash
from epad.ledger.record import Record, ToolOpened, TurnClosed, TurnOpened, decode
from epad.storage.database import fetch

# Cast, since a flipped bit may make text that is not UTF-8 of a blob, which could not be fetched.
# The first is answered from the index alone: turns are many, those without a closing record few.
_UNCLOSED = """
SELECT seq, CAST(body AS BLOB), CAST(leaf AS BLOB) FROM record JOIN (
    SELECT turn AS open_turn FROM record INDEXED BY record_turn
    WHERE turn IS NOT NULL GROUP BY turn HAVING max(kind) = 1) ON turn = open_turn AND kind = 1
WHERE seq <= ? ORDER BY seq
"""
_UNCLOSED_TOOLS = """
SELECT seq, CAST(body AS BLOB), CAST(leaf AS BLOB) FROM record JOIN (
    SELECT turn AS open_turn FROM record INDEXED BY record_turn
    WHERE turn IS NOT NULL GROUP BY turn HAVING max(kind) = 6) ON turn = open_turn AND kind = 6
ORDER BY seq
"""
_OF_TURN = "SELECT seq, CAST(body AS BLOB), CAST(leaf AS BLOB) FROM record WHERE turn = CAST(? AS TEXT) ORDER BY kind"
_TOOLS_OPENED = """
SELECT seq, CAST(body AS BLOB), CAST(leaf AS BLOB) FROM record
WHERE seq > (SELECT coalesce(max(seq), 0) FROM record) - ? AND kind = 6 AND wall_ns >= ? ORDER BY seq DESC LIMIT ?
"""
LAST = (1 << 63) - 1
"""No record has a larger number."""
_CLOSED_SINCE = (
    "SELECT seq, CAST(body AS BLOB), CAST(leaf AS BLOB), CAST(turn AS BLOB) FROM record "
    "WHERE kind = 2 AND wall_ns >= ? ORDER BY seq"
)
_OPENING = (
    "SELECT seq, CAST(body AS BLOB), CAST(leaf AS BLOB) FROM record WHERE turn = CAST(? AS TEXT) AND kind = 1"
)


@dataclass(frozen=True, slots=True)
class Spend:
    """Tokens spent by a subsystem at a time."""

    subsystem: str
    wall_ns: int
    tokens: int


def spending_since(connection: apsw.Connection, wall_ns: int) -> list[Spend]:
    """Return closed turns by their charge, and the others by their whole reservation.

    A turn whose closing record is damaged counts as one that never closed: spending is never guessed low.
    """
    spends = []
    for sequence, body, leaf, turn in fetch(connection, _CLOSED_SINCE, (wall_ns,)):
        closed = sound(sequence, body, leaf)
        if isinstance(closed, TurnClosed):
            spends.append(Spend(closed.subsystem, closed.wall_ns, closed.charged_tokens))
        else:
            spends.extend(_reserved(record) for record in opening(connection, turn))
    spends.extend(_reserved(record) for record in unclosed_turns(connection) if record.wall_ns >= wall_ns)
    return spends


def _reserved(record: TurnOpened) -> Spend:
    return Spend(record.subsystem, record.wall_ns, record.reserved_tokens)


def unclosed_turns(connection: apsw.Connection, last: int = LAST) -> Iterator[TurnOpened]:
    """Turns that were opened and not closed, oldest first, up to a record; those in flight now are among them."""
    for sequence, body, leaf in fetch(connection, _UNCLOSED, (last,)):
        record = sound(sequence, body, leaf)
        if isinstance(record, TurnOpened):
            yield record


def unclosed_tools(connection: apsw.Connection) -> Iterator[ToolOpened]:
    """Yield the tools' turns that were opened and not closed, oldest first.

    Whether one of a former run did anything is unknown. Those in flight now are among them.
    """
    for sequence, body, leaf in fetch(connection, _UNCLOSED_TOOLS):
        record = sound(sequence, body, leaf)
        if isinstance(record, ToolOpened):
            yield record


def tools_opened(
    connection: apsw.Connection, wall_ns: int, most_records: int, most: int
) -> Iterator[ToolOpened]:
    """Yield the tools' turns that were opened since a time, the newest first.

    No more than `most` of them, and none that lies more than `most_records` records of any kind back.
    """
    for sequence, body, leaf in fetch(connection, _TOOLS_OPENED, (most_records, wall_ns, most)):
        record = sound(sequence, body, leaf)
        if isinstance(record, ToolOpened):
            yield record


def records_of_turn(connection: apsw.Connection, turn: str) -> Iterator[Record]:
    """Yield the sound records of one turn, its opening first."""
    for sequence, body, leaf in fetch(connection, _OF_TURN, (turn,)):
        record = sound(sequence, body, leaf)
        if record is not None:
            yield record


def opening(connection: apsw.Connection, turn: object) -> Iterator[TurnOpened]:
    """Yield the record that opened a turn, where it is there and sound."""
    for sequence, body, leaf in fetch(connection, _OPENING, (turn,)):
        record = sound(sequence, body, leaf)
        if isinstance(record, TurnOpened):
            yield record


def sound(sequence: int, body: object, leaf: object) -> Record | None:
    """Return a record, or None for a damaged one: the probe reports it, sums go on."""
    if not isinstance(body, bytes) or leaf_hash(body) != leaf:
        return None
    try:
        return decode(sequence, body)
    except RecordError:
        return None
