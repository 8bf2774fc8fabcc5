"""The tree grown anew from the newest seal on, when the ledger is opened and after a repair."""

from __future__ import annotations

from dataclasses import dataclass

import apsw

from epad.ledger.hashes import leaf_hash, leaf_hashes, link_hash
from epad.ledger.head import Head
from epad.ledger.head_check import is_other_history
from epad.ledger.rows import Row, Values, read_chunks, repaired_spans
from epad.ledger.seal import newest_seal
from epad.ledger.tree import LOST_LEAF, Frontier


@dataclass(frozen=True, slots=True)
class Grown:
    """The tree of all records; or why it is not one that may be signed."""

    frontier: Frontier | None
    why_not: str = ""


def grow(connection: apsw.Connection, last: int, newest: Head | None) -> Grown:
    """Build the tree of records 1 to `last`. A log must never sign a contradiction of the head before."""
    seal = newest_seal(connection, min(last, newest.size) if newest else last)
    grown = _grow(connection, last, newest, seal.trailer.frontier() if seal else Frontier())
    return _grow(connection, last, newest, Frontier()) if seal and grown.why_not else grown


def _grow(connection: apsw.Connection, last: int, newest: Head | None, frontier: Frontier) -> Grown:
    lost = repaired_spans(connection)
    previous: Row | None = None
    for item in read_chunks(connection, frontier.size + 1):
        if isinstance(item, list) and _grow_by_many(frontier, item, last, newest):
            previous = Row(*item[-1])
            continue
        rows = [Row(*values) for values in item] if isinstance(item, list) else [item]
        for row in rows:
            if not isinstance(row, Row) or row.seq > last:
                return _grown(frontier, last)
            missing = range(frontier.size + 1, row.seq)
            if not all(_is_lost(sequence, lost) for sequence in missing):
                return _grown(frontier, last)
            frontier.extend(LOST_LEAF for _ in missing)
            frontier.append(_true_leaf(previous, row))
            if (why_not := _compare(connection, frontier, newest, lost)) != "":
                return Grown(None, why_not)
            previous = row
    return _grown(frontier, last)


def _grown(frontier: Frontier, last: int) -> Grown:
    if frontier.size < last:
        return Grown(None, f"record {frontier.size + 1} is missing or damaged")
    return Grown(frontier)


def _grow_by_many(frontier: Frontier, rows: list[Values], last: int, newest: Head | None) -> bool:
    """Add rows all at once, unless one is damaged or missing, or a head speaks of one of them; whether it was done."""
    first, end = frontier.size + 1, frontier.size + len(rows)
    if end > last or (newest is not None and first <= newest.size <= end):
        return False
    if any(values[0] != sequence for sequence, values in enumerate(rows, first)):
        return False
    leaves = [values[6] for values in rows]
    try:
        if leaf_hashes([values[5] for values in rows]) != leaves:
            return False
    except TypeError:  # a body that is no bytes
        return False
    frontier.extend(leaves)
    return True


def _compare(
    connection: apsw.Connection, frontier: Frontier, newest: Head | None, lost: tuple[tuple[int, int], ...]
) -> str:
    """Say why the tree at the newest head's size differs from the signed one. Recorded lost leaves are no reason."""
    if newest is None or frontier.size != newest.size or frontier.root() == newest.root:
        return ""
    if any(first <= newest.size for first, _ in lost) and not is_other_history(connection, newest):
        return ""
    return f"the first {newest.size} records are not those that were signed"


def _true_leaf(previous: Row | None, row: Row) -> bytes:
    """Return the leaf that the link vouches for, should the stored one be damaged."""
    of_body = leaf_hash(row.body) if isinstance(row.body, bytes) else None
    if of_body is not None and of_body == row.leaf:
        return of_body
    leaves = [leaf for leaf in (row.leaf, of_body) if isinstance(leaf, bytes)]
    if previous is not None and isinstance(previous.link, bytes):
        for leaf in leaves:
            if link_hash(previous.link, row.seq, leaf) == row.link:
                return leaf
    return leaves[0] if leaves else LOST_LEAF


def _is_lost(sequence: int, lost: tuple[tuple[int, int], ...]) -> bool:
    return any(first <= sequence <= last for first, last in lost)
