"""Read from the ledger the roots over epad's own stores, and which turns have written to a store since the newest."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

import apsw

from epad.ledger.query import records_of_turn, sound
from epad.ledger.record import Rooted, ToolClosed, ToolOpened, ToolOutcome
from epad.storage.database import fetch

MOST_ROOTS: Final = 2_000
"""So many of the newest roots are held against a store."""
UNDER_WAY_SECONDS: Final = 45.0
"""A call that was opened longer before a root was not under way any more when that was taken."""
RESTORED: Final = "restored"
ACCEPTED: Final = "accepted"
BASELINES: Final = frozenset({RESTORED, ACCEPTED})
"""The causes of roots that earlier ones say nothing more behind: the store was put back, or taken as it is."""
_ROOTED: Final = (
    "SELECT seq, CAST(body AS BLOB), CAST(leaf AS BLOB) FROM record INDEXED BY record_rooted"
    " WHERE kind = 11 ORDER BY seq DESC LIMIT ?"
)


@dataclass(frozen=True, slots=True)
class Turn:
    """Says of a tool's turn that it was opened, if its end says done, and which state of a target it says to have left.

    An end that says anything else leaves open what was done. `is_before` tells that it was opened so long before the
    newest root that its rows are under that one.
    """

    is_opened: bool = False
    is_before: bool = False
    is_done: bool = False
    after: str = ""


def roots_of(connection: apsw.Connection, store: str) -> list[Rooted]:
    """Return the newest roots over a store, oldest first, from the newest baseline on."""
    roots: list[Rooted] = []
    for sequence, body, leaf in fetch(connection, _ROOTED, (MOST_ROOTS,)):
        record = sound(sequence, body, leaf)
        if isinstance(record, Rooted) and record.store == store:
            roots.append(record)
            if record.cause in BASELINES:
                break
    return roots[::-1]


def turns_named(connection: apsw.Connection, names: Iterable[str], store: str) -> dict[str, Turn]:
    """Return what the ledger knows of these turns, and of their effect on a store."""
    roots = roots_of(connection, store)
    return {
        name: _turn(connection, name, store, roots[-1] if roots else None) for name in dict.fromkeys(names)
    }


def restores_taken(connection: apsw.Connection, store: str) -> frozenset[str]:
    """Return who gave the roots that were taken for what a restore has left: the restores, by their names."""
    found = (sound(*row) for row in fetch(connection, _ROOTED, (MOST_ROOTS,)))
    return frozenset(
        one.by for one in found if isinstance(one, Rooted) and one.store == store and one.cause == RESTORED
    )


def _turn(connection: apsw.Connection, name: str, target: str, root: Rooted | None) -> Turn:
    turn = Turn()
    for record in records_of_turn(connection, name):
        if isinstance(record, ToolOpened):
            turn = replace(turn, is_opened=True, is_before=root is not None and _is_before(record, root))
        elif isinstance(record, ToolClosed) and record.outcome is ToolOutcome.DONE:
            states = [one.after_sha256 for one in record.effects if one.target == target and one.after_sha256]
            turn = replace(turn, is_done=True, after=states[-1].hex() if states else "")
    return turn


def _is_before(opened: ToolOpened, root: Rooted) -> bool:
    if opened.epoch != root.epoch:
        return opened.epoch < root.epoch
    return opened.monotonic_ns < root.monotonic_ns - int(UNDER_WAY_SECONDS * 1e9)
