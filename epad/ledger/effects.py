"""Read from the ledger which states tools have left a target in."""

from __future__ import annotations

from typing import Final

import apsw

from epad.ledger.query import sound
from epad.ledger.record import Kind, ToolClosed
from epad.storage.database import fetch

MOST_RECORDS: Final = 5_000
"""So many of the newest ends of tools are read."""
_CLOSED: Final = "SELECT seq, body, leaf FROM record WHERE kind = ? ORDER BY seq DESC LIMIT ?"


def states_of(connection: apsw.Connection, target: str) -> tuple[str, ...]:
    """Return the digests in hex that the newest recorded effects have left a target in, the newest first."""
    states: list[str] = []
    for sequence, body, leaf in fetch(connection, _CLOSED, (int(Kind.TOOL_CLOSED), MOST_RECORDS)):
        record = sound(sequence, body, leaf)
        if isinstance(record, ToolClosed):
            states += [
                effect.after_sha256.hex()
                for effect in record.effects
                if effect.target == target and effect.after_sha256
            ]
    return tuple(states)
