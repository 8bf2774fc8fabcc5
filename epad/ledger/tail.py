"""Find the end of the chain: the newest record of a file, the link that the next one rests on, the newest epoch.

No later record vouches for the newest link, so it is compared with what its own record and the one before come to. A
damaged link or body is then blamed on its own record, and the next record does not rest on the damage.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import apsw

from epad.ledger.chain import links_before
from epad.ledger.errors import LedgerUnavailableError, RecordError
from epad.ledger.hashes import GENESIS, leaf_hash, link_hash
from epad.ledger.head import Head
from epad.ledger.record import decode
from epad.ledger.rows import last_sequence, row_at


@dataclass(frozen=True, slots=True)
class Tail:
    """Points to the end of the chain: after `seq`, continuing `link`."""

    seq: int = 0
    link: bytes = GENESIS


def read_tail(connection: apsw.Connection) -> tuple[Tail, int]:
    """Return the end of the chain and the newest epoch. Raises LedgerUnavailableError, apsw.Error."""
    sequence = last_sequence(connection)
    if sequence == 0:
        return Tail(), 0
    return Tail(sequence, _true_link(connection, sequence)), _newest_epoch(connection)


def tail_behind(head: Head | None, tail: Tail) -> Tail:
    """Return the tail behind the signed records. Missing ones in between stay a gap that can be restored."""
    return Tail(head.size, head.link) if head is not None and head.size > tail.seq else tail


def _true_link(connection: apsw.Connection, sequence: int) -> bytes:
    """Return the newest link as it was written."""
    row = row_at(connection, sequence)
    if row is None or not isinstance(row.link, bytes):
        raise LedgerUnavailableError(
            f"record {sequence}, the newest, has no link: restore the newest checkpoint"
        )
    of_body = leaf_hash(row.body) if isinstance(row.body, bytes) else None
    leaves = [leaf for leaf in (row.leaf, of_body) if isinstance(leaf, bytes)]
    computed = [
        link_hash(link, sequence, leaf) for link in links_before(connection, sequence) for leaf in leaves
    ]
    if row.link not in computed and computed and row.leaf == of_body:
        return computed[0]
    return row.link


def _newest_epoch(connection: apsw.Connection) -> int:
    for sequence, body in connection.execute("SELECT seq, CAST(body AS BLOB) FROM record ORDER BY seq DESC"):
        with contextlib.suppress(RecordError):
            if isinstance(body, bytes) and isinstance(sequence, int):
                return decode(sequence, body).epoch
    return 0
