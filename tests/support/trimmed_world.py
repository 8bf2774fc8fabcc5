"""A ledger that has let the bodies of its oldest records go."""

from __future__ import annotations

import contextlib
from pathlib import Path

from ledger_world import closing, open_ledger, opening, places
from patience import until

from epad.ledger.rows import last_sequence, open_reader, trimmed_through
from epad.ledger.seal import all_seals
from epad.ledger.segment import segment_paths
from epad.ledger.trim import first_body

SEALED, KEPT = 10, 30
SMALL = {"seal_records": SEALED, "keep_records": KEPT}
TURNS = 60


async def trimmed_ledger(path: Path, turns: int = TURNS, **changes: float | str) -> None:
    """A ledger that has let bodies go, and has done so to the end."""
    await sealed_ledger(path, turns, **SMALL | changes)
    await finish(path)


async def sealed_ledger(path: Path, turns: int = TURNS, **changes: float | str) -> None:
    """A ledger of closed turns, of which no more than a segment's records are not sealed."""
    ledger = await open_ledger(path, places(path), **{"seal_records": SEALED, "keep_records": 0} | changes)
    for number in range(turns):
        await ledger.open_turn(opening(number))
        await ledger.close_turn(closing(number))
        await until(lambda: is_sealed(path))
    await ledger.close()


async def finish(path: Path) -> None:
    """Have the ledger do what is left of a trimming, and begin no other."""
    ledger = await open_ledger(path, places(path), seal_records=SEALED, keep_records=0)
    await until(lambda: is_done(path))
    await ledger.close()


def is_sealed(path: Path, most: int = SEALED) -> bool:
    with contextlib.closing(open_reader(path)) as connection:
        newest = max((seal.trailer.last for seal in all_seals(connection).values()), default=0)
        return last_sequence(connection) - newest < most


def is_done(path: Path) -> bool:
    """Whether all has gone that is to go."""
    with contextlib.closing(open_reader(path)) as connection:
        through = trimmed_through(connection)
        gone = first_body(connection, through) == through + 1
        seals = all_seals(connection).values()
        there = {each.name for each in segment_paths(places(path).segments)}
        return (
            through > 0
            and gone
            and not any(seal.name in there for seal in seals if seal.trailer.last <= through)
        )
