"""Find what a turn seemed to be for: its record stands behind that of its opening, with those of its neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import apsw

from epad.ledger.query import sound
from epad.ledger.record import Screened, Screening
from epad.storage.database import fetch

LOOKED_AT_RECORDS: Final = 20_000
"""A turn is screened within seconds of its opening, if at all."""
_BEHIND = (
    "SELECT seq, CAST(body AS BLOB), CAST(leaf AS BLOB) FROM record WHERE kind = 16 AND seq <= ?2 AND seq > ?1"
    " ORDER BY seq"
)
_OPENED = "SELECT seq FROM record WHERE turn = CAST(? AS TEXT) AND kind = 1"


@dataclass(frozen=True, slots=True)
class Found:
    """Holds a turn's screening, and the version of the classifier."""

    screening: Screening
    version: int


def screening_of(connection: apsw.Connection, turn: str) -> Found | None:
    """Return what a turn seemed to be for; None if it was not screened."""
    for (opened,) in fetch(connection, _OPENED, (turn,)):
        for sequence, body, leaf in fetch(connection, _BEHIND, (opened, opened + LOOKED_AT_RECORDS)):
            record = sound(sequence, body, leaf)
            if not isinstance(record, Screened):
                continue
            for one in record.screenings:
                if one.turn == turn:
                    return Found(one, record.version)
    return None
