"""Check the rows against the journal: a row that was changed, added or taken out around this program is found.

Whoever rewrites the journal too makes another head; the ledger has the head after each write.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import Any, Final

from runners.vault.schema import COLUMNS
from runners.vault.store import Store, digest_of

MOST_TOLD: Final = 20


def faults(store: Store, heads: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield a sentence for each row that is not as it was appended, and for heads of the ledger that are not there."""
    head, known = bytes(32), set(heads)
    journalled = dict.fromkeys(COLUMNS, 0)
    for number, table, row, digest, chained in store.connection.execute(
        "SELECT id, kind, row, digest, head FROM journal ORDER BY id"
    ):
        head = sha256(head + digest).digest()
        known.discard(head.hex())
        if chained != head:
            yield f"journal row {number}: its head does not follow from the one before"
            head = chained
        journalled[table] += 1
        if _digest(store, table, row) != digest:
            yield f"{table} row {row} is not as it was appended"
    for table, count in journalled.items():
        there = store.one(f"SELECT count(*) FROM {table}")  # noqa: S608
        if there != count:
            yield f"{table} has {there} rows, and the journal {count} of them"
    for missing in sorted(known):
        yield f"the ledger has the head {missing[:16]}, and the journal does not: rows were rewritten or lost"


def report(store: Store, heads: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the faults, at most MOST_TOLD, the number of rows, and the head."""
    found = list(faults(store, heads))
    told = found[:MOST_TOLD] + ([f"and {len(found) - MOST_TOLD} more"] if len(found) > MOST_TOLD else [])
    return {
        "faults": told,
        "rows": int(store.one("SELECT count(*) FROM journal")),
        "head": store.head().hex(),
    }


def _digest(store: Store, table: str, row: int) -> bytes:
    names = ", ".join(COLUMNS[table])
    found = store.rows(f"SELECT {names} FROM {table} WHERE id = ?", row)  # noqa: S608
    return digest_of(table, row, list(found[0])) if found else b""
